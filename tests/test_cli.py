"""The command line as a user types it: exit codes, messages, what is shown."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from robustprune.cli.main import main
from robustprune.cli.verdicts import with_more
from robustprune.core.execution import Execution
from robustprune.core.job import run_stage
from robustprune.core.record import make_record
from robustprune.experiments.papers import load_experiments
from robustprune.planning.config import load_config
from robustprune.planning.plan import make_plan
from tiny import TINY, run_upstream, stage_of, tiny_plan

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def in_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def test_plan_lists_stages_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "results/table1.csv", "--config", "seeds=[0]"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any("generators" in line and "edm-digits-" in line for line in lines)
    assert any(line.startswith("14 stages:") for line in lines)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["plan", "results/table9.csv"], "results/table9.csv is neither"),
        (["plan", "--config", "preset"], "should be key=value"),
        (["plan", "--config", "preset=mist"], "did you mean 'mnist'"),
        (["plan", "--configfile", "nowhere.yaml"], "nowhere.yaml does not exist"),
        (["plan", "--config", "seeds=[0"], "not valid YAML"),
        (["plan", "--config", "pruning={ratio: 0.1, ratio: 0.5}"], "the key ratio is written twice"),
        (["run", "nowhere", "--log", "."], "--log .: Is a directory"),
        (["run", "nowhere", "--device", "tpu"], "--device tpu"),
        (["calibrate", "--device", "gpu"], "--device gpu"),
        (["plan", "--config", "preset=mnist", "preset=digits"], "--config preset=digits: preset was given before"),
        (["run", "nowhere", "--batch-size", "0"], "--batch-size 0"),
        (["run", "nowhere", "--threads", "0"], "--threads 0"),
        (["run", "nowhere/spec.json"], "nowhere/spec.json does not exist"),
        (["show", "nowhere"], "nowhere is neither"),
        (["show", "nowhere.csv"], "not a readable table"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(
    arguments: list[str], says: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert main(arguments) == 2
    assert says in caplog.messages[-1]
    assert len(caplog.messages[-1].splitlines()) == 1


def test_a_stage_whose_inputs_are_missing_says_which(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    plan = tiny_plan(tmp_path / "results")
    stage = plan.directory(stage_of(plan, "models"))
    assert main(["run", str(stage), "--device", "cpu"]) == 2
    assert "digits-train" in caplog.messages[-1]
    assert "is not complete" in caplog.messages[-1]


def test_show_tells_what_a_stage_is_and_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = tiny_plan(tmp_path / "results")
    model = stage_of(plan, "models")
    assert main(["show", str(plan.directory(model))]) == 0
    assert "not complete: not begun" in capsys.readouterr().out
    run_upstream(plan, model)
    run_stage(plan.directory(model), Execution(device="cpu"))
    assert main(["show", str(plan.directory(model))]) == 0
    text = capsys.readouterr().out
    assert model in text
    assert "training_seconds" in text
    assert "history.parquet: 2 rows" in text


def test_what_was_made_by_earlier_definitions_is_shown_and_not_run(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    directory = tiny_plan(tmp_path / "results").directory(stage_of(tiny_plan(tmp_path / "results"), "models"))
    monkeypatch.setattr("robustprune.core.stage.definitions_of", lambda modules: {"randomness": 99})
    assert main(["show", str(directory)]) == 0
    assert directory.name in capsys.readouterr().out
    assert main(["run", str(directory)]) == 2
    assert "under the installed definitions" in caplog.messages[-1]
    spec = json.loads((directory / "spec.json").read_text())
    spec["definitions"]["randomness"] += 1
    (directory / "spec.json").write_text(json.dumps(spec))
    assert main(["show", str(directory)]) == 2
    assert "under its own definitions" in caplog.messages[-1]


def test_show_tells_of_methods_by_the_names_that_they_have(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "table.csv").write_text("method,momentum,accuracy\nNone,n/a,90\nRandom,0.9,\n")
    assert main(["show", str(tmp_path / "table.csv")]) == 0
    header, momentum, accuracy = capsys.readouterr().out.splitlines()
    assert (header.split(), momentum.split()) == (["method", "None", "Random"], ["momentum", "n/a", "0.9"])
    assert accuracy.split() == ["accuracy", "90.0"]  # an empty cell stays empty


def test_a_log_file_holds_the_log(tmp_path: Path) -> None:
    plan = tiny_plan(tmp_path / "results")
    stage = plan.directory(stage_of(plan, "pools", "test"))
    log = tmp_path / "logs" / "job.log"
    command = [sys.executable, "-m", "robustprune", "run", str(stage), "--device", "cpu", "--log", str(log)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert log.read_text() == done.stderr
    assert "digits-test" in log.read_text()


def test_a_reader_that_stops_early_is_no_error_to_complain_of() -> None:
    command = f"{sys.executable} -m robustprune plan | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "")


def test_another_pipe_that_breaks_is_told_of(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def broken(*_: object) -> None:
        raise BrokenPipeError("a follower is gone")

    monkeypatch.setattr("robustprune.cli.main._configured_plan", broken)
    assert main(["plan"]) == 1
    assert "a follower is gone" in caplog.text


def test_plan_write_puts_specs_where_run_finds_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text(f"preset: digits\nseeds: {TINY['seeds']}\n")
    assert main(["plan", "results/table1.csv", "--write"]) == 0
    kinds = {path.parent.name for path in (tmp_path / "results" / "digits").glob("*/*")}
    assert kinds == {"pools", "generators", "models", "scores", "manifests", "evaluations", "tables"}
    specs = sorted((tmp_path / "results" / "digits" / "pools").glob("digits-test-*/spec.json"))
    assert len(specs) == 1
    assert main(["run", str(specs[0]), "--device", "cpu"]) == 0


@pytest.fixture
def judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder in which Table 1 is made, with three claims."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text("preset: digits\nseeds: [0, 3]\n")
    plan = make_plan(load_config({"preset": "digits", "seeds": [0, 3]}), load_experiments())
    directory = tmp_path / plan.directory(plan.targets["results/table1.csv"])
    claims = [
        {"claim": "one", "found": ["a above b: +1.00"], "verdict": "cannot tell", "seeds": 6},
        {"claim": "two", "found": ["a | b"], "verdict": "cannot tell", "seeds": None},
        {"claim": "three", "found": [], "verdict": "agrees", "seeds": None},
    ]
    directory.mkdir(parents=True)
    made: dict[str, Any] = {"seconds": 1, "device": "cpu", "peak_gpu_memory_mb": 0, "known": {}}
    make_record(directory.name, [], **made, facts={"claims": claims}).write(directory)


@pytest.mark.usefixtures("judged")
def test_plan_decide_says_how_many_seeds_would_decide_and_what_they_cost(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "results/table1.csv", "--decide"]) == 0
    one, two, three, *costs = capsys.readouterr().out.splitlines()
    assert "6 seeds would decide" in one
    assert "no number of seeds" in two
    assert three.endswith("agrees")
    assert costs[0] == "with 6 seeds:"
    assert any(line.startswith("evaluations") and f"{6 * 4:>11}" in line for line in costs)


@pytest.mark.usefixtures("judged")
def test_claims_lists_what_became_of_each_claim(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["claims"]) == 0
    _, _, one, two, three, _, counts = capsys.readouterr().out.splitlines()
    assert [cell.strip() for cell in one.strip("|").split(" | ")] == [
        "PUMA", "digits", "table1", "one", "a above b: +1.00", "cannot tell",
    ]  # fmt: skip
    assert r"a \| b" in two
    assert three.endswith("| agrees |")
    assert counts == "1 agrees, 0 disagrees, 2 cannot tell"


@pytest.mark.parametrize("targets", [[], ["results/table1.csv"], ["results/table1"]], ids=str)
def test_plan_decide_wants_made_tables(
    targets: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text("preset: digits\n")
    assert main(["plan", *targets, "--decide"]) == 2
    assert "--decide" in caplog.messages[-1]


def test_claims_wants_something_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text("preset: digits\n")
    assert main(["claims"]) == 2
    assert "made" in caplog.messages[-1]


def test_more_seeds_are_the_smallest_that_are_not_there() -> None:
    assert with_more((0, 3), 5) == (0, 3, 1, 2, 4)
    assert with_more((7,), 1) == (7,)
