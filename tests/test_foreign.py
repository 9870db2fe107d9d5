"""Checkpoints of other projects: known layouts are read, other files refused in a sentence, nothing is executed."""

import argparse
import io
import json
import os
import pickle
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from robustprune.attacks.pgd import pgd_from_own_starts
from robustprune.core.errors import UserError
from robustprune.core.execution import Execution
from robustprune.core.files import sha256
from robustprune.core.job import Job, run_stage
from robustprune.core.settings import ThreatModel
from robustprune.core.stage_file import write_spec
from robustprune.core.yaml_files import merge
from robustprune.evaluation.outcome import balanced_subset, is_right
from robustprune.experiments.row import Row
from robustprune.experiments.tables.forms import AnyTable, Table
from robustprune.experiments.tables.row_specs import Printed
from robustprune.experiments.tables.table import TableStage
from robustprune.networks.architecture import ARCHITECTURES, Architecture, build_model, normalization_of
from robustprune.networks.foreign import load_foreign
from robustprune.networks.imported import ImportedModelStage, NormalizationSettings
from robustprune.networks.normalization import Normalization
from robustprune.networks.weights import load_model, save_weights
from robustprune.planning.config import Config, load_config
from robustprune.planning.plan import Plan, make_plan
from robustprune.scores.margin import MarginStage
from robustprune.training.model import ModelStage
from tiny import TINY

StateDict = dict[str, Tensor]
CIFAR = NormalizationSettings(mean=(0.4914, 0.4822, 0.4465), std=(0.2471, 0.2435, 0.2616))
OTHER = NormalizationSettings(mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
RGB = (3, 32, 32)
SHAPES: dict[str, tuple[int, int, int]] = {"small_cnn": (1, 8, 8), "fast_cnn": (1, 28, 28)}


def spec_of(path: Path, architecture: Architecture = "small_cnn", **settings: Any) -> ImportedModelStage:
    shape = SHAPES.get(architecture, RGB)
    usual = {"entry": None, "normalization": None, "classes": 10, "image_shape": shape, "digest": "0" * 64}
    return ImportedModelStage(architecture=architecture, location=str(path), **{**usual, **settings})


def loaded(path: Path, architecture: Architecture = "small_cnn", **settings: Any) -> nn.Module:
    return load_foreign(spec_of(path, architecture, **settings), path)


def network(architecture: str = "small_cnn") -> nn.Module:
    torch.manual_seed(1)
    return build_model(architecture, image_shape=SHAPES.get(architecture, RGB), classes=10).eval()


def prefixed(prefix: str, state: StateDict) -> StateDict:
    return {prefix + name: value for name, value in state.items()}


def other(state: StateDict) -> StateDict:
    return {name: value + 1 for name, value in state.items()}


LAYOUTS: dict[str, Callable[[StateDict], object]] = {
    "a state dict": dict,
    "of DataParallel": lambda state: prefixed("module.", state),
    "of RobustBench, Carmon et al.": lambda state: {"epoch": 3, "state_dict": prefixed("module.", state)},
    "of RobustBench, Chen et al.": lambda state: {"state_dict": prefixed("model.", state)},
    "of Wang et al.": lambda state: {
        "model_state_dict": prefixed("module.0.", state),
        "unaveraged_model_state_dict": prefixed("module.0.", other(state)),
    },
    "of Wang et al., to resume": lambda state: {
        "model_state_dict": prefixed("module.0.", state),
        "unaveraged_model_state_dict": prefixed("module.0.", other(state)),
        "optimizer_state_dict": {"state": {0: {"momentum_buffer": torch.ones(3)}}, "param_groups": [{"lr": 0.1}]},
        "epoch": 7,
    },
    "in float64": lambda state: {name: value.double() for name, value in state.items()},
}


def assert_same_weights(model: nn.Module, expected: nn.Module) -> None:
    ours, theirs = model.state_dict(), expected.state_dict()
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_every_layout_gives_the_same_model(layout: str, zipped: bool, tmp_path: Path) -> None:
    path, original = tmp_path / "weights.pt", network()
    torch.save(LAYOUTS[layout](original.state_dict()), path, _use_new_zipfile_serialization=zipped)
    assert_same_weights(loaded(path), original)


def test_an_entry_can_be_named(tmp_path: Path) -> None:
    path, original = tmp_path / "weights-best.pt", network()
    torch.save(LAYOUTS["of Wang et al."](original.state_dict()), path)
    state = loaded(path, entry="unaveraged_model_state_dict").state_dict()
    assert all(torch.equal(state[name], value) for name, value in other(original.state_dict()).items())


def test_safetensors_of_ours_are_read(tmp_path: Path) -> None:
    path, original = tmp_path / "weights.safetensors", network()
    save_weights(original.state_dict(), path)
    assert_same_weights(loaded(path), original)


def test_batch_counters_may_be_absent_and_a_wrappers_constants_are_compared(tmp_path: Path) -> None:
    """As in RobustBench's files of the networks with Swish, which keep mean and std."""
    path, original = tmp_path / "model.pt", network("preact_resnet18_swish")
    state = {name: value for name, value in original.state_dict().items() if "num_batches" not in name}
    constants = {"mean": torch.tensor(CIFAR.mean).view(3, 1, 1), "std": torch.tensor(CIFAR.std).view(3, 1, 1)}
    torch.save(prefixed("module.", {**state, **constants}), path)
    assert_same_weights(loaded(path, "preact_resnet18_swish"), original)
    with pytest.raises(UserError, match=r"normalization: \{mean: \[0.4914, 0.4822, 0.4465\], std: \[0.2471, "):
        loaded(path, "preact_resnet18_swish", normalization=OTHER)


def test_a_normalising_layer_in_front_must_be_configured(make_job: Callable[..., Job], tmp_path: Path) -> None:
    """As Wang et al.'s code saves a ResNet-18 with --normalize."""
    path, original = tmp_path / "weights-last.pt", network("resnet18")
    torch.save({"model_state_dict": prefixed("module.1.", original.state_dict())}, path)
    with pytest.raises(UserError, match=r"names begin with '1.'.* the key 'normalization'"):
        loaded(path, "resnet18")
    spec = spec_of(path, "resnet18", normalization=OTHER, digest=sha256(path))
    job = make_job("models", spec.id)
    spec.run(job)
    write_spec(job.directory / "spec.json", spec)
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        logits = load_model(job.directory, torch.device("cpu"))(images)
        torch.testing.assert_close(logits, original((images - 0.5) / 0.25))


class Malicious:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_code_is_refused_by_its_name_and_not_run(zipped: bool, tmp_path: Path) -> None:
    path, mark = tmp_path / "weights.pt", tmp_path / "executed"
    torch.save({"w": torch.ones(2), "x": Malicious(mark)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(UserError, match=r"weights.pt is a pickle that calls posix.mkdir, .* torch.save\(model"):
        loaded(path)
    path.write_bytes(pickle.dumps(Malicious(mark)))
    with pytest.raises(UserError, match=r"weights.pt is"):
        loaded(path)
    assert not mark.exists()


def test_objects_that_are_no_tensors_are_refused_by_their_name(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    torch.save({"args": argparse.Namespace(), "state_dict": network().state_dict()}, path)
    with pytest.raises(UserError, match=r"calls argparse.Namespace"):
        loaded(path)
    torch.save(network(), path)
    with pytest.raises(UserError, match=r"calls torch.nn.modules\.\w+\.\w+, so it is not opened"):
        loaded(path)


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    files = {name: io.BytesIO() for name in ("half.pt", "half-legacy.pt")}
    for name, file in files.items():
        torch.save(network().state_dict(), file, _use_new_zipfile_serialization="legacy" not in name)
    whole = {name: file.getvalue() for name, file in files.items()}
    whole["half.safetensors"] = safetensors.torch.save(network().state_dict())
    contents = {name: content[: len(content) // 2] for name, content in whole.items()} | {
        "empty.pt": b"",
        "empty.safetensors": b"",
        "page.pt": b"<!DOCTYPE html><title>Sign in</title>",
        "pointer.safetensors": b"version https://git-lfs.github.com/spec/v1\noid sha256:aa\n",
    }
    for name, content in contents.items():
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(UserError, match=rf"{name} is (no|not a)") as caught:
            loaded(path)
        assert "\n" not in str(caught.value)
        assert "weights_only" not in str(caught.value)


def test_a_far_too_large_file_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state.pt"
    with path.open("wb") as file:
        file.truncate(200 * 2**20)
    monkeypatch.setattr(torch, "load", lambda *arguments, **options: pytest.fail("opened"))
    with pytest.raises(UserError, match=r"has 200 MiB, but the weights of small_cnn have 0.1 MiB"):
        loaded(path)


WEIGHTS = network().state_dict()
NO_STATE_DICT = "any other state dict"
USUAL_ENTRY = "an entry that is usual; entries with one are"
MISMATCHES: dict[str, tuple[object, dict[str, Any], str]] = {
    "weight missing": (dict(list(WEIGHTS.items())[:-1]), {}, r"small_cnn .*\[1, 8, 8\] and 10 .* e.g. 7.bias"),
    "weight too many": ({**WEIGHTS, "extra": torch.ones(1)}, {}, "1 that the network has not, e.g. extra"),
    "other classes": (WEIGHTS, {"classes": 7}, r"7.weight has the shape \[10, 64\], not \[7, 64\]$"),
    "integers": ({**WEIGHTS, "0.weight": WEIGHTS["0.weight"].long()}, {}, "0.weight has the type torch.int64"),
    "not finite": ({**WEIGHTS, "0.bias": WEIGHTS["0.bias"] / 0}, {}, "0.bias holds values that are not finite"),
    "no tensors": ({"epoch": 3}, {}, NO_STATE_DICT),
    "list": ([1, 2], {}, NO_STATE_DICT),
    "unusual entry": ({"net": WEIGHTS}, {}, f"{USUAL_ENTRY} net"),
    "two usual entries": ({"state_dict": WEIGHTS, "model": WEIGHTS}, {}, f"{USUAL_ENTRY} state_dict, model"),
    "another entry": ({"last": WEIGHTS}, {"entry": "best"}, "an entry 'best' .* are last"),
    "another network": (WEIGHTS, {"architecture": "fast_cnn", "image_shape": (1, 8, 8)}, "; it fits small_cnn$"),
}


@pytest.mark.parametrize(("content", "settings", "message"), MISMATCHES.values(), ids=MISMATCHES)
def test_each_mismatch_is_named(content: object, settings: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save(content, path)
    with pytest.raises(UserError, match=message) as caught:
        loaded(path, **settings)
    assert "\n" not in str(caught.value)


def test_the_settings_know_which_networks_normalise() -> None:
    with torch.device("meta"):
        models = {name: build_model(name, image_shape=RGB, classes=10) for name in ARCHITECTURES}
    for name, model in models.items():
        layer = getattr(model, "normalize", None)
        assert (normalization_of(name) == "own") == isinstance(layer, Normalization)
        assert (normalization_of(name) == "none") == (not hasattr(model, "normalize"))
    with pytest.raises(ValueError, match="fast_cnn has no place for a normalisation"):
        spec_of(Path("x"), "fast_cnn", normalization=OTHER).prepared(models["fast_cnn"])


# From the configuration to the model.

ROWS = (Row(method="theirs", checkpoint="theirs"), Row(method="PUMA", strategy="puma", radius="margin"))


def table_of(*rows: Row) -> dict[str, AnyTable]:
    return {"mine.t": Table(title="t", target="t.csv", rows=rows)}


def config_with(path: Path, overrides: dict[str, Any] | None = None, **settings: Any) -> Config:
    checkpoint = {"path": str(path), "sha256": sha256(path), "architecture": "small_cnn", **settings}
    return load_config(merge(TINY, {"checkpoints": {"theirs": checkpoint}, **(overrides or {})}))


@pytest.fixture
def small_checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "weights-best.pt"
    torch.save(LAYOUTS["of Wang et al."](network().state_dict()), path)
    return path


def imported_stages(plan: Plan) -> list[str]:
    return [stage for stage, spec in plan.stages.items() if isinstance(spec, ImportedModelStage)]


def test_a_checkpoint_is_evaluated_and_measures_margins_without_training_anything_else(small_checkpoint: Path) -> None:
    plan = make_plan(config_with(small_checkpoint, {"margin_model": "theirs"}), table_of(*ROWS))
    (stage,) = imported_stages(plan)
    assert stage.startswith("imported-smallcnn-")
    assert plan.resources(stage) == plan.config.resources["ingest"]
    kinds = Counter(spec.kind for spec in plan.stages.values())
    readers = Counter(spec.kind for spec in plan.stages.values() if ("models", stage) in spec.upstream)
    assert kinds["models"] == 2  # itself and PUMA's student
    assert readers["scores"] == kinds["scores"] == 2
    assert readers["evaluations"] == len(plan.config.evaluation.attacks)


def test_a_checkpoint_is_paired_with_no_run(small_checkpoint: Path) -> None:
    rows = (Row(method="theirs", checkpoint="theirs"), Row(method="ours"))
    plan = make_plan(config_with(small_checkpoint, {"seeds": [0, 1]}), table_of(*rows))
    (table,) = (spec for spec in plan.stages.values() if isinstance(spec, TableStage))
    theirs, ours = ({run.seed for run in row.runs} for row in table.rows)
    assert (len(theirs), len(ours)) == (1, 2)
    assert not theirs & ours
    measured = Row(method="PUMA", strategy="puma", radius="margin", margin_model=rows[0])
    plan = make_plan(config_with(small_checkpoint), table_of(measured))
    models = {spec.model for spec in plan.stages.values() if isinstance(spec, MarginStage)}
    assert models == {table.rows[0].runs[0].model}


def test_a_row_can_have_a_margin_model_of_its_own(small_checkpoint: Path) -> None:
    rows = [row.model_copy(update={"method": "by theirs", "margin_model": "theirs"}) for row in ROWS[1:]]
    both = make_plan(config_with(small_checkpoint), table_of(*ROWS[1:], *rows))
    assert len(imported_stages(both)) == 1
    assert sum(spec.kind == "scores" for spec in both.stages.values()) == 4


def test_the_place_of_a_checkpoint_is_no_part_of_its_id(small_checkpoint: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved.pt"
    moved.write_bytes(small_checkpoint.read_bytes())
    plans = [make_plan(config_with(path), table_of(*ROWS)) for path in (small_checkpoint, moved)]
    assert imported_stages(plans[0]) == imported_stages(plans[1])
    torch.save(LAYOUTS["a state dict"](network().state_dict()), moved)
    assert imported_stages(make_plan(config_with(moved), table_of(*ROWS))) != imported_stages(plans[0])


def test_a_stage_publishes_the_model_it_was_given(small_checkpoint: Path, tmp_path: Path) -> None:
    plan = make_plan(config_with(small_checkpoint), table_of(*ROWS), results=tmp_path)
    plan.write_specs()
    (stage,) = imported_stages(plan)
    run_stage(plan.directory(stage), Execution(device="cpu"))
    model = load_model(plan.directory(stage), torch.device("cpu"))
    assert_same_weights(model, network())
    assert json.loads(plan.record(stage).read_text())["facts"] == {"parameters": 38_282}


def test_another_file_than_the_digest_says_is_refused(small_checkpoint: Path, make_job: Callable[..., Job]) -> None:
    found = sha256(small_checkpoint)
    config = config_with(small_checkpoint, sha256="a" * 64)
    with pytest.raises(UserError, match=rf"checkpoints.theirs.sha256 = a{{64}} is not that of .*, which is {found}"):
        make_plan(config, table_of(*ROWS))
    spec = spec_of(small_checkpoint, digest=found)
    small_checkpoint.write_bytes(small_checkpoint.read_bytes() + b" ")
    with pytest.raises(UserError, match="the content changed since the plan was made"):
        spec.run(make_job("models", spec.id))
    small_checkpoint.unlink()
    with pytest.raises(UserError, match="is gone now"):
        spec.run(make_job("models", spec.id + "a"))
    with pytest.raises(UserError, match=r"checkpoints.theirs.path = .*weights-best.pt: there is no such file"):
        make_plan(config, table_of(*ROWS))


def test_a_checkpoint_that_is_not_configured_is_named(small_checkpoint: Path) -> None:
    with pytest.raises(UserError, match=r"'nobodys', which is not one of the configured ones: theirs"):
        make_plan(config_with(small_checkpoint), table_of(Row(method="m", checkpoint="nobodys")))
    with pytest.raises(UserError, match=r"margin_model = 'nobodys' is not one of the checkpoints: theirs"):
        config_with(small_checkpoint, {"margin_model": "nobodys"})
    with pytest.raises(ValueError, match="trains nothing"):
        Row(method="m", checkpoint="theirs", strategy="puma")
    with pytest.raises(ValueError, match="goes by a margin or a loss"):
        Row(method="m", margin_model="theirs", strategy="random")


BAD_SETTINGS: list[tuple[dict[str, Any], str]] = [
    ({"sha": "0"}, r"checkpoints.theirs.sha = '0': .* 'sha256'"),
    ({"sha256": "0"}, r"checkpoints.theirs.sha256 = '0'"),
    ({"architecture": "resnet"}, r"checkpoints.theirs.architecture = 'resnet': .*resnet18"),
    ({"normalization": {"mean": [0.5], "std": [0.5]}}, r"small_cnn takes pixels in \[0, 1\] as they are"),
    ({"normalization": {"mean": [0.5], "sdt": [0.5]}}, r"normalization.sdt = .*did you mean 'std'"),
    ({"architecture": "wrn28_10_swish"}, r"checkpoints.theirs: wrn28_10_swish normalises its input"),
    (
        {"architecture": "resnet18", "normalization": {"mean": [0.5] * 3, "std": [0.5] * 3}},
        r"checkpoints.theirs.normalization: .* 1 values each",
    ),
]


@pytest.mark.parametrize(("settings", "message"), BAD_SETTINGS, ids=str)
def test_bad_settings_of_a_checkpoint_are_refused(
    settings: dict[str, Any], message: str, small_checkpoint: Path
) -> None:
    with pytest.raises(UserError, match=message):
        config_with(small_checkpoint, **settings)


# The public checkpoint of Wong et al. (2020), whose authors report 98.50 % clean and 88.77 % under PGD with 50 steps of
# 0.01 and the worst of 10 restarts. One restart leaves 91.13 % of all 10,000 images right (91.23 % on the CW margin);
# measured with the code below, as the numbers of the first images are.

WITHSTAND_PGD = 444  # of the first 500, on the cross-entropy
WITHSTAND_CW = 185  # of the 200 that an evaluation takes, on the CW margin
ROUNDING = 3  # images that another processor may tip over


def test_pgd_50_of_the_public_checkpoint(fgsm_model: nn.Module, mnist_test: tuple[Tensor, Tensor]) -> None:
    images, labels = mnist_test[0][:500], mnist_test[1][:500]
    attacked = pgd_from_own_starts(
        fgsm_model,
        images,
        torch.arange(500),
        threat=ThreatModel(norm="Linf", epsilon=Fraction("0.3")),
        steps=50,
        step_size=0.01,
        objective=partial(nn.functional.cross_entropy, target=labels, reduction="none"),
        seed=0,
        purpose="pgd",
    )
    assert abs(int(is_right(fgsm_model, attacked, labels).sum()) - WITHSTAND_PGD) <= ROUNDING


def test_the_public_checkpoint_from_the_configuration_to_its_accuracy(
    shared: Path, tmp_path: Path, fgsm_model: nn.Module, mnist_test: tuple[Tensor, Tensor]
) -> None:
    path = shared / "data" / "models" / "fast_adversarial_mnist" / "fgsm.pth"
    overrides = {
        "preset": "mnist",
        "data": {"source": f"idx:{shared / 'data' / 'mnist' / 'MNIST' / 'raw'}"},
        "checkpoints": {"fgsm": {"path": str(path), "sha256": sha256(path), "architecture": "fast_cnn"}},
        "evaluation": {"images": 200, "cw": {"steps": 50, "step": "1/30"}, "attacks": ["cw"]},
    }
    plan = make_plan(load_config(overrides), table_of(Row(method="Wong et al.", checkpoint="fgsm")), results=tmp_path)
    plan.write_specs()
    stages = plan.needed_for(plan.targets.values())
    for stage in stages:
        run_stage(plan.directory(stage), Execution(device="cpu"))
    assert len(stages) == 4  # test images, model, evaluation, table
    line = pd.read_csv(plan.directory(stages[-1]) / "table.csv").iloc[0]
    chosen = torch.from_numpy(balanced_subset(mnist_test[1].numpy(), 200, classes=10))
    right = int(is_right(fgsm_model, mnist_test[0][chosen], mnist_test[1][chosen]).sum())
    assert line["accuracy_mean"] == pytest.approx(100 * right / 200)
    assert abs(line["robustness_cw_mean"] * 2 - WITHSTAND_CW) <= ROUNDING


def test_a_printed_row_of_a_model_nobody_can_train_here_wants_its_checkpoint(small_checkpoint: Path) -> None:
    """PUMA's Table 9 has margin models that learnt from 50 million images."""
    printed = Printed(file="puma_table9.csv", setting="CIFAR-10", beside={"accuracy": "accuracy"})
    row = Row(
        method="by theirs", strategy="puma", margin_model=Row(method="wide", architecture="fast_cnn"),
        margin_checkpoint="theirs", printed="WRN-28 TRADES on CIFAR10+50M (NC)",
    )  # fmt: skip
    table: dict[str, AnyTable] = {"mine.t": Table(title="t", target="t.csv", rows=(row,), printed=printed)}
    for config, measures in ((config_with(small_checkpoint), ImportedModelStage), (load_config(TINY), ModelStage)):
        plan = make_plan(config, table)
        (margins,) = {spec.model for spec in plan.stages.values() if isinstance(spec, MarginStage)}
        assert isinstance(plan.stages[margins], measures)
        (made,) = (spec for spec in plan.stages.values() if isinstance(spec, TableStage))
        assert (made.rows[0].printed is not None) == (measures is ImportedModelStage)
