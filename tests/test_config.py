"""config.yaml is closed: a typo or a bad value is one sentence that names key, value and what is allowed."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from robustprune.core.errors import UserError
from robustprune.core.paths import PRESETS
from robustprune.core.yaml_files import merge
from robustprune.planning.config import Config, load_config, read_config_file

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class BadConfig:
    """Overrides that must be refused, and what the message must say."""

    id: str
    overrides: dict[str, Any]
    says: tuple[str, ...] = field(default=())


BAD = [
    BadConfig(
        "typo in a section",
        {"training": {"trades": {"epohcs": 3}}},
        ("training.trades.epohcs = 3", "did you mean 'epochs'"),
    ),
    BadConfig("typo at the top", {"prunning": {}}, ("prunning", "did you mean 'pruning'")),
    BadConfig("typo three deep", {"synthetic": {"sampler": {"stepz": 4}}}, ("synthetic.sampler.stepz", "'steps'")),
    BadConfig("unknown preset", {"preset": "mist"}, ("'mist'", "did you mean 'mnist'")),
    BadConfig(
        "below a bound",
        {"training": {"trades": {"beta": -1}}},
        ("training.trades.beta = -1", "greater than or equal to 0"),
    ),
    BadConfig(
        "GPU where nothing computes on one",
        {"resources": {"manifests": {"gpu": 1}}},
        ("resources.manifests.gpu = 1 should be 0",),
    ),
    BadConfig("ratio of one", {"pruning": {"ratio": 1}}, ("pruning.ratio = 1", "less than 1")),
    BadConfig(
        "text for a number",
        {"training": {"trades": {"epochs": "many"}}},
        ("training.trades.epochs = 'many'", "integer"),
    ),
    BadConfig("radius in words", {"threat": {"epsilon": "eight"}}, ("threat.epsilon = 'eight'", "8/255")),
    BadConfig("radius over zero", {"threat": {"epsilon": "8/0"}}, ("threat.epsilon = '8/0'", "8/255")),
    BadConfig("unknown norm", {"threat": {"norm": "L7"}}, ("threat.norm = 'L7'", "'Linf' or 'L2'")),
    BadConfig("unknown source", {"data": {"source": "ftp:x"}}, ("data.source = 'ftp:x'",)),
    BadConfig("the same seed twice", {"seeds": [1, 1]}, ("seeds = [1, 1]", "different")),
    BadConfig("a seed alone", {"seeds": 3}, ("seeds = 3: should be a list",)),
    BadConfig("a section without keys", {"data": None}, ("data = None: should be a section of keys",)),
    BadConfig("a key with a dot", {"threat.epsilon": "8/255"}, ("is given as 'threat={epsilon: ...}'",)),
    BadConfig("keys with dots", {"training.trades.epochs": 3}, ("as 'training={trades: {epochs: ...}}'",)),
    BadConfig("no seed", {"seeds": []}, ("seeds = []",)),
    BadConfig(
        "a huge step",
        {"training": {"trades": {"step_size": 0.9}}},
        ("training.trades.step_size = 9/10", "threat.epsilon"),
    ),
    BadConfig(
        "typo in a method's key",
        {"margins": {"deepfool": {"max_stepz": 9}}},
        ("margins.deepfool.max_stepz = 9", "'max_steps'"),
    ),
    BadConfig("unknown method", {"margins": {"method": "fgsm"}}, ("margins.method = 'fgsm'", "boundary_search")),
    BadConfig(
        "halvings finer than float32",
        {"margins": {"deepfool": {"bisection_steps": 24}}},
        ("margins.deepfool.bisection_steps = 24", "23"),
    ),
    BadConfig(
        "another method's key",
        {"margins": {"boundary_search": {"overshoot": 0.1}}},
        ("margins.boundary_search.overshoot = 0.1", "allowed are method, step_size, max_steps, bisection_steps"),
    ),
    BadConfig(
        "epoch schedule too short",
        {"training": {"trades": {"schedule": "onecycle_epoch", "epochs": 40}}},
        ("epochs = 40",),
    ),
    BadConfig(
        "guidance without a way to go without a class",
        {"synthetic": {"sampler": {"guidance": 2}}},
        ("sampler.guidance = 2.0 needs", "set generator.label_dropout"),
    ),
    BadConfig("sigmas crossed", {"synthetic": {"sampler": {"sigma_min": 90}}}, ("sigma_min = 90",)),
    BadConfig(
        "halved too often", {"synthetic": {"generator": {"channel_multipliers": [1] * 5}}}, ("cannot be halved",)
    ),
    BadConfig("no room for an attack", {"threat": {"epsilon": 0}}, ("threat.epsilon = 0", "greater than 0")),
    BadConfig(
        "a radius of 8 in 255", {"threat": {"epsilon": 8}}, ("threat.epsilon = 8", "below 1 in Linf; write 8/255")
    ),
    BadConfig("another radius of 128 in 255", {"other_threat": {"epsilon": 128}}, ("other_threat.epsilon = 128", "8")),
    BadConfig(
        "a radius beyond all images",
        {"threat": {"norm": "L2", "epsilon": 9}, "other_threat": None},
        ("threat.epsilon = 9 should be at most 8,", "[1, 8, 8]"),
    ),
    BadConfig(
        "an attack that stays where it is",
        {"training": {"pgd_at": {"step_size": 0}}},
        ("training.pgd_at.step_size = 0", "greater than 0"),
    ),
    BadConfig(
        "shares of a BatchNorm that is not there",
        {"training": {"trades": {"batchnorm_shares": 4}}},
        ("training.trades.batchnorm_shares = 4", "architecture = small_cnn has no BatchNorm"),
    ),
    BadConfig(
        "attention at no resolution",
        {"synthetic": {"generator": {"attention_resolutions": [16]}}},
        ("attention_resolutions = [16]", "[8, 4]"),
    ),
    BadConfig("too few classes for AutoAttack", {"data": {"classes": 3}}, ("data.classes = 3",)),
    BadConfig("wrong shape of digits", {"data": {"image_shape": [1, 10, 10]}}, ("image_shape: [1, 8, 8]",)),
    BadConfig("unknown device", {"execution": {"device": "tpu"}}, ("execution.device = 'tpu'",)),
    BadConfig(
        "GPUs that no process uses",
        {"resources": {"generators": {"gpu": 2}, "models": {"gpu": 4}}, "execution": {"processes": 2}},
        ("resources.models.gpu = 4", "execution.processes = 2", "0 or 2"),
    ),
    BadConfig("a GPU too many", {"resources": {"scores": {"gpu": 2}}}, ("resources.scores.gpu = 2", "0 or 1")),
    BadConfig("a section that is a number", {"training": 3}, ("training = 3",)),
]


@pytest.mark.parametrize("case", BAD, ids=lambda case: case.id)
def test_bad_config_is_refused_with_key_value_and_what_is_allowed(case: BadConfig) -> None:
    with pytest.raises(UserError) as caught:
        load_config(case.overrides)
    for text in case.says:
        assert text in str(caught.value)


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(UserError) as caught:
        load_config({"training": {"trades": {"epohcs": 3, "beta": -1}}})
    assert len(str(caught.value).splitlines()) == 2


@pytest.mark.parametrize("preset", sorted(path.stem for path in PRESETS.glob("*.yaml")))
def test_every_preset_is_valid(preset: str) -> None:
    assert load_config({"preset": preset}).preset == preset


def test_overrides_go_over_the_preset_key_by_key() -> None:
    config = load_config({"training": {"trades": {"epochs": 7}}})
    assert config.training.trades.epochs == 7
    assert config.training.trades.batch_size == load_config({}).training.trades.batch_size


def test_merge_replaces_lists_and_leaves_its_arguments_alone() -> None:
    base = {"a": {"b": [1, 2], "c": 3}}
    assert merge(base, {"a": {"b": [4]}}) == {"a": {"b": [4], "c": 3}}
    assert base == {"a": {"b": [1, 2], "c": 3}}


def test_spellings_of_a_radius_are_one_radius() -> None:
    spellings = ("0.25", 0.25, "1/4", "2/8")
    assert len({load_config({"threat": {"epsilon": spelling}}).threat.epsilon for spelling in spellings}) == 1


def test_the_shipped_config_only_names_the_default_preset() -> None:
    assert yaml.safe_load((ROOT / "config.yaml").read_text()) == {"preset": "digits"}


def test_the_shipped_config_comments_every_key() -> None:
    text = (ROOT / "config.yaml").read_text()
    missing = [key for key in _keys(Config) if not re.search(rf"^[# ]*{key}:|\b{key}\b", text, re.MULTILINE)]
    assert missing == []


def test_every_key_has_a_description() -> None:
    assert [name for name, info in _leaves(Config) if not info.description] == []


def test_a_missing_or_broken_config_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        read_config_file(tmp_path / "config.yaml")
    broken = tmp_path / "config.yaml"
    broken.write_text("preset: [digits")
    with pytest.raises(UserError, match="not valid YAML"):
        read_config_file(broken)
    broken.write_bytes("größe: 1".encode("latin-1"))
    with pytest.raises(UserError, match=r"config.yaml is not valid YAML"):
        read_config_file(broken)
    broken.write_text("- digits")
    with pytest.raises(UserError, match="holds a list"):
        read_config_file(broken)


def test_another_file_is_put_over_config_yaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("config.yaml").write_text("preset: mnist\nseeds: [5]\nevaluation: {images: 30}\n")
    Path("other.yaml").write_text("evaluation: {autoattack_images: 20}\n")
    config = read_config_file(Path("other.yaml"), {"seeds": [7]})
    assert (config.preset, config.seeds) == ("mnist", (7,))
    assert (config.evaluation.images, config.evaluation.autoattack_images) == (30, 20)
    assert read_config_file(Path("config.yaml")).seeds == (5,)
    Path("other.yaml").write_text("evaluation: {pictures: 20}\n")
    with pytest.raises(UserError, match=r"other.yaml over config.yaml: evaluation.pictures = 20: there is no such key"):
        read_config_file(Path("other.yaml"))


def _leaves(model: type[BaseModel]) -> list[tuple[str, Any]]:
    leaves: list[tuple[str, Any]] = []
    for name, info in model.model_fields.items():
        kind = info.annotation
        section = isinstance(kind, type) and issubclass(kind, BaseModel)
        leaves += _leaves(kind) if section else [(name, info)]  # type: ignore[arg-type]
    return leaves


def _keys(model: type[BaseModel]) -> set[str]:
    return {name for name, _ in _leaves(model)} | set(model.model_fields)
