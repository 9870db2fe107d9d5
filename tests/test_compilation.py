"""Networks compiled for training: the same training up to rounding; where compiling fails, the very same."""

import shutil
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from torch import Tensor, nn

import noise
from noise import finish, kept_of, write_noise
from robustprune.core.execution import Execution
from robustprune.core.job import run_stage
from robustprune.core.record import read_record
from robustprune.training.compilation import compiled
from robustprune.training.fit import Training
from robustprune.training.mid_training import MidTraining
from robustprune.training.recipes.trades import TradesRecipe
from tiny import run_upstream, stage_of, tiny_plan

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="torch compiles for CPUs by g++")


class Normalised(nn.Sequential):
    """A network with BatchNorm that is quick to compile."""

    def __init__(self) -> None:
        super().__init__(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))


@pytest.fixture(autouse=True)
def _own_compiler_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What other runs have compiled is compiled anew."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "compiled"))
    torch.compiler.reset()
    monkeypatch.setattr("robustprune.training.fit.build_model", lambda *_, **__: Normalised())


def training(folder: Path, compile: str, **how: Any) -> Training:  # noqa: A002  # as the setting is called
    recipe = {"epochs": 2, "epoch_images": 40, "batch_size": 16, "step_size": 0.02, "attack_steps": 2}
    trades = TradesRecipe.model_validate({**recipe, "synthetic_fraction": 0, "statistics_momentum": 0.1})
    execution = Execution.model_validate({"device": "cpu", "compile": compile})
    return noise.training(folder, trades, kept_of(write_noise(folder / "pool")), execution=execution, **how)


@needs_compiler
def test_a_compiled_training_is_the_eager_one_up_to_rounding_and_resumes_in_the_same_bits(tmp_path: Path) -> None:
    how = {"mid_training": MidTraining(keep=0.6, strategy="low_distance")}
    first = training(tmp_path / "first", "kernels", **how)
    assert first.compiled == "kernels"
    assert first.network is not first.model
    eager = training(tmp_path / "eager", "none", **how)
    for name, value in eager.model.state_dict().items():  # the trial has left nothing
        assert torch.equal(value, first.model.state_dict()[name])
    first.one_step()
    first.save()
    broken = training(tmp_path / "first", "kernels", **how)
    broken._resume()
    whole, expected = finish(first), finish(eager)
    for name, value in finish(broken).items():
        assert torch.equal(value, whole[name])
        torch.testing.assert_close(value, expected[name], rtol=1e-3, atol=1e-4)


def test_where_there_is_no_compiler_the_training_is_the_eager_one_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from torch._inductor import config

    monkeypatch.setattr(config.cpp, "cxx", ("no-such-compiler",))
    real_alone = {"synthetic": {"source": "none"}, "training": {"trades": {"synthetic_fraction": 0}}}
    plan = tiny_plan(tmp_path / "results", real_alone)
    stage = plan.directory(stage_of(plan, "models", "trades"))
    run_upstream(plan, stage.name)
    shutil.copytree(tmp_path / "results", tmp_path / "eager")
    run_stage(stage, Execution(device="cpu", compile="kernels"))
    eager = tmp_path / "eager" / stage.relative_to(tmp_path / "results")
    run_stage(eager, Execution(device="cpu"))
    assert read_record(stage).facts["compiled"].startswith("no: ")
    assert "compiler" in read_record(stage).facts["compiled"].lower()
    assert "the network is not compiled" in caplog.text
    assert read_record(eager).facts["compiled"] == "no"
    assert read_record(stage).digests == read_record(eager).digests


def test_a_trial_that_fails_late_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class FailsAtTheFourth(nn.Module):
        def __init__(self, model: nn.Module) -> None:
            super().__init__()
            self.model, self.calls = model, 0

        def forward(self, images: Tensor) -> Tensor:
            self.calls += 1
            if self.calls == 4:
                raise RuntimeError("out of registers")
            return torch.as_tensor(self.model(images))

    monkeypatch.setattr(torch, "compile", lambda model, **_: FailsAtTheFourth(model))
    tried = training(tmp_path / "tried", "kernels")
    assert tried.compiled == "no: RuntimeError: out of registers"
    assert tried.network is tried.model
    expected = finish(training(tmp_path / "eager", "none"))
    assert all(torch.equal(value, expected[name]) for name, value in finish(tried).items())


@pytest.mark.parametrize(
    ("asked", "processes", "said"),
    [
        ("none", 1, "no"),
        ("kernels", 2, "no: several processes train it"),
        ("cuda_graphs", 1, "no: CUDA graphs are for GPUs, and this is cpu"),
    ],
)
def test_what_is_not_even_tried(asked: Any, processes: int, said: str) -> None:
    model, cpu = nn.Linear(2, 2), torch.device("cpu")
    found = compiled(model, asked, device=cpu, processes=processes, trial=lambda _: pytest.fail("it was tried"))
    assert found == (model, said)


def test_graphs_are_torchs_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    modes: list[str] = []

    def compile_pretended(model: nn.Module, *, mode: str) -> nn.Module:
        modes.append(mode)
        return nn.Sequential(model)

    monkeypatch.setattr(torch, "compile", compile_pretended)
    model, gpu = nn.Linear(2, 2), torch.device("cuda")
    network, said = compiled(model, "cuda_graphs", device=gpu, processes=1, trial=lambda network: network)
    assert (network[0], said, modes) == (model, "cuda_graphs", ["reduce-overhead"])  # type: ignore[index]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RuntimeError("output of CUDAGraphs\nby a subsequent run"), "RuntimeError: output of CUDAGraphs"),
        (NotImplementedError(), "NotImplementedError: no reason given"),
    ],
)
def test_an_error_in_the_trial_means_eager(error: Exception, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda model, **_: nn.Sequential(model))
    model, trial = nn.Linear(2, 2), Mock(side_effect=error)
    assert compiled(model, "kernels", device=torch.device("cpu"), processes=1, trial=trial) == (model, f"no: {reason}")


def test_the_trial_adds_no_gradient_to_an_older_one_and_says_where_it_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What graphs need: a gradient that is kept is an output of one, and the next step writes over it."""

    class WithoutGradients(nn.Module):
        def __init__(self, model: nn.Module) -> None:
            super().__init__()
            self.model = model

        def forward(self, images: Tensor) -> Tensor:
            assert all(value.grad is None for value in self.parameters())
            return torch.as_tensor(self.model(images))

    began: list[None] = []
    monkeypatch.setattr(torch.compiler, "cudagraph_mark_step_begin", lambda: began.append(None))
    monkeypatch.setattr(torch, "compile", lambda model, **_: WithoutGradients(model))
    tried = training(tmp_path / "tried", "kernels")
    assert (tried.compiled, len(began)) == ("kernels", 2)
    tried.take_step()
    assert len(began) == 3
    training(tmp_path / "eager", "none").take_step()
    assert len(began) == 3
