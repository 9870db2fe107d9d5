"""config.yaml is closed: a typo or a bad value is one sentence that names key, value and what is allowed."""

import re
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


# A name, the content of config.yaml, and what the message must say.
BAD: list[tuple[Any, ...]] = [
    ("typo in a section", "training: {trades: {epohcs: 3}}", "training.trades.epohcs = 3", "'epochs'"),
    ("typo at the top", "prunning: {}", "prunning", "did you mean 'pruning'"),
    ("typo three deep", "synthetic: {sampler: {stepz: 4}}", "synthetic.sampler.stepz", "'steps'"),
    ("unknown preset", "preset: mist", "'mist'", "did you mean 'mnist'"),
    ("below a bound", "training: {trades: {beta: -1}}", "training.trades.beta = -1", "or equal to 0"),
    ("GPU where nothing computes on one", "resources: {manifests: {gpu: 1}}", "manifests.gpu = 1 should be 0"),
    ("ratio of one", "pruning: {ratio: 1}", "pruning.ratio = 1", "less than 1"),
    ("text for a number", "training: {trades: {epochs: many}}", "training.trades.epochs = 'many'", "integer"),
    ("radius in words", "threat: {epsilon: eight}", "threat.epsilon = 'eight'", "8/255"),
    ("radius over zero", "threat: {epsilon: 8/0}", "threat.epsilon = '8/0'", "8/255"),
    ("unknown norm", "threat: {norm: L7}", "threat.norm = 'L7'", "'Linf' or 'L2'"),
    ("unknown source", "data: {source: 'ftp:x'}", "data.source = 'ftp:x'"),
    ("the same seed twice", "seeds: [1, 1]", "seeds = [1, 1]", "different"),
    ("a seed alone", "seeds: 3", "seeds = 3: should be a list"),
    ("a section without keys", "data: null", "data = None: should be a section of keys"),
    ("a key with a dot", "threat.epsilon: 8/255", "is given as 'threat={epsilon: ...}'"),
    ("keys with dots", "training.trades.epochs: 3", "training={trades: {epochs: ...}}"),
    ("no seed", "seeds: []", "seeds = []"),
    ("a huge step", "training: {trades: {step_size: 0.9}}", "training.trades.step_size = 9/10", "threat.epsilon"),
    ("typo in a method's key", "margins: {deepfool: {max_stepz: 9}}", "margins.deepfool.max_stepz = 9", "'max_steps'"),
    ("unknown method", "margins: {method: fgsm}", "margins.method = 'fgsm'", "boundary_search"),
    ("too many halvings", "margins: {deepfool: {bisection_steps: 24}}", "deepfool.bisection_steps = 24", "23"),
    ("another method's key", "margins: {boundary_search: {overshoot: 0.1}}", "search.overshoot = 0.1", "step_size"),
    ("epoch schedule too short", "training: {trades: {epochs: 40, schedule: onecycle_epoch}}", "epochs = 40"),
    ("guidance without label dropout", "synthetic: {sampler: {guidance: 2}}", "guidance = 2.0", "label_dropout"),
    ("sigmas crossed", "synthetic: {sampler: {sigma_min: 90}}", "sigma_min = 90"),
    ("halved too often", "synthetic: {generator: {channel_multipliers: [1, 1, 1, 1, 1]}}", "cannot be halved"),
    ("no room for an attack", "threat: {epsilon: 0}", "threat.epsilon = 0", "greater than 0"),
    ("a radius of 8 in 255", "threat: {epsilon: 8}", "threat.epsilon = 8", "8/255"),
    ("another radius of 128 in 255", "other_threat: {epsilon: 128}", "other_threat.epsilon = 128", "8"),
    ("beyond all images", "threat: {epsilon: 9, norm: L2}, other_threat: null", "threat.epsilon = 9", "at most 8"),
    ("an attack that stays", "training: {pgd_at: {step_size: 0}}", "training.pgd_at.step_size = 0", "greater than 0"),
    ("no BatchNorm", "training: {trades: {batchnorm_shares: 4}}", "trades.batchnorm_shares = 4", "small_cnn"),
    ("attention at no resolution", "synthetic: {generator: {attention_resolutions: [16]}}", "= [16]", "[8, 4]"),
    ("too few classes for AutoAttack", "data: {classes: 3}", "data.classes = 3"),
    ("wrong shape of digits", "data: {image_shape: [1, 10, 10]}", "image_shape: [1, 8, 8]"),
    ("unknown device", "execution: {device: tpu}", "execution.device = 'tpu'"),
    (
        "unused GPUs",
        "execution: {processes: 2}, resources: {models: {gpu: 4}, generators: {gpu: 2}}",
        "gpu = 4",
        "0 or 2",
    ),
    ("a GPU too many", "resources: {scores: {gpu: 2}}", "resources.scores.gpu = 2", "0 or 1"),
    ("a section that is a number", "training: 3", "training = 3"),
]


@pytest.mark.parametrize("case", BAD, ids=lambda case: case[0])
def test_bad_config_is_refused_with_key_value_and_what_is_allowed(case: tuple[Any, ...]) -> None:
    _, text, *says = case
    with pytest.raises(UserError) as caught:
        load_config(yaml.safe_load(f"{{{text}}}"))
    assert [part for part in says if part not in str(caught.value)] == []


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
    path = tmp_path / "config.yaml"
    with pytest.raises(UserError, match=r"config.yaml does not exist"):
        read_config_file(path)
    latin = "größe: 1".encode("latin-1")
    for content, says in ((b"preset: [digits", "not valid YAML"), (latin, "not valid YAML"), (b"- digits", "a list")):
        path.write_bytes(content)
        with pytest.raises(UserError, match=rf"config.yaml .*{says}"):
            read_config_file(path)


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
