"""The workflow as a user runs it: what runs, what does not run again, what a kill leaves."""

import json
import os
import re
import shutil
import signal
import time
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from checkout import Checkout, rules_in
from robustprune.core.yaml_files import merge
from robustprune.images.formats.idx import read_images, read_labels
from robustprune.planning.config import load_config
from robustprune.planning.plan import make_plan
from robustprune.scores.store.reader import open_store
from test_pools import idx_bytes
from tiny import SCORED, TABLE_1, TINY, stage_of

pytestmark = pytest.mark.slow

TABLE = "results/table1.csv"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout in which the tiny table was made once."""
    checkout = Checkout(tmp_path_factory.mktemp("checkout"), only="puma.table1")
    checkout.snakemake(TABLE)
    return checkout


@pytest.fixture
def checkout(finished: Checkout) -> Iterator[Checkout]:
    """The finished checkout, with its configuration put back afterwards."""
    yield finished
    finished.configure({})


@pytest.fixture
def remade(checkout: Checkout) -> Iterator[Checkout]:
    """The finished checkout, with its table made again afterwards, too."""
    yield checkout
    checkout.configure({})
    checkout.snakemake(TABLE)


def test_the_table_has_our_numbers_beside_the_printed_ones(finished: Checkout) -> None:
    table = pd.read_csv(finished.file(TABLE)).set_index("method")
    assert list(table.index) == ["TRADES on everything", "PUMA"]
    assert table["accuracy_mean"].between(10, 100).all()
    assert table.loc["PUMA", "images_kept"] == round(0.8 * (1197 + 300))  # without the 100 that are held out
    assert table.loc["TRADES on everything", "printed_accuracy"] == 87.87
    assert (table["accuracy_n"] == 1).all()


def test_what_withstands_autoattack_withstands_the_few_steps_of_cw(finished: Checkout) -> None:
    evaluations = finished.file("results/digits/evaluations")
    strong, weak = (sorted(evaluations.glob(f"{attack}-*/*.parquet")) for attack in ("autoattack", "cw"))
    assert len(strong) == len(weak) == 2
    for paths in zip(strong, weak, strict=True):
        stronger, weaker = map(pd.read_parquet, paths)
        both = stronger.merge(weaker, on="index")
        assert len(both) == len(stronger) == 10
        assert not (both["autoattack"] & ~both["cw"]).any()


def test_pictures_lie_next_to_pools_and_scores(finished: Checkout) -> None:
    assert len(list(finished.folder.glob("results/digits/pools/*/contact_sheet.png"))) == 3
    assert len(list(finished.folder.glob("results/digits/scores/*/scores.png"))) == 2


def test_the_quality_of_the_generated_images_needs_but_a_judge(finished: Checkout) -> None:
    assert finished.jobs("results/quality.csv") == Counter({"model": 1, "quality": 1, "quality_target": 1})


def test_the_report_takes_seconds_once_the_table_is_there(finished: Checkout) -> None:
    report = "results/report.html"
    assert finished.jobs(report) == Counter({"gallery": 1, "report_page": 1, "report_target": 1})
    finished.snakemake(report)
    page = finished.file(report).read_text()
    assert "<strong>PUMA</strong> drops <strong>299 of 1,497 (20.0 %)</strong>" in page
    assert "Nothing to be done" in finished.snakemake(report).stdout


def test_the_quality_of_another_configuration_is_another_copy(checkout: Checkout) -> None:
    target = "results/quality.csv"
    checkout.snakemake(target)
    first = checkout.file(target).read_text()
    checkout.configure({"quality": {"images": 60}})
    checkout.snakemake(target)
    assert checkout.file(target).read_text() != first
    checkout.configure({})
    assert rules_run(checkout, target) == Counter({"quality_target": 1})
    assert checkout.file(target).read_text() == first


def test_snakemakes_own_report_has_the_table_with_its_caption(finished: Checkout, tmp_path: Path) -> None:
    finished.snakemake(TABLE, "--report", str(tmp_path / "report.zip"))
    with zipfile.ZipFile(tmp_path / "report.zip") as report:
        names = report.namelist()
        text = "".join(report.read(name).decode(errors="replace") for name in names if name.endswith((".html", ".js")))
        assert any(Path(name).name == "table1.csv" for name in names)
        assert any(Path(name).name == "table1.md" for name in names)
    assert "says whether" in text  # of the caption
    assert "a target of its own" in text  # of what stands above all of it


AFTER_PRUNING = Counter({"manifest": 1, "model": 1, "evaluation": 2, "table": 1, "target": 1})


def test_a_new_ratio_prunes_trains_and_evaluates_anew_and_setting_it_back_costs_nothing(checkout: Checkout) -> None:
    checkout.configure({"pruning": {"ratio": 0.3}})
    assert rules_run(checkout) == AFTER_PRUNING
    assert pd.read_csv(checkout.file(TABLE))["images_kept"].tolist() == [1497, 1048]
    checkout.configure({})
    assert rules_run(checkout) == Counter({"target": 1})  # a copy
    assert pd.read_csv(checkout.file(TABLE))["images_kept"].tolist() == [1497, 1198]


def test_a_new_step_limit_of_deepfool_scores_anew_and_what_follows(remade: Checkout) -> None:
    remade.configure({"margins": {"deepfool": {"max_steps": 20}}})
    assert rules_run(remade) == AFTER_PRUNING + Counter({"score": 2})


def test_threads_batch_size_device_and_times_of_files_rerun_nothing(checkout: Checkout) -> None:
    resources = {"models": {"threads": 2, "mem_mb": 900}, "evaluations": {"threads": 2}}
    execution = {"batch_size": 7, "device": "cpu", "checkpoint_seconds": 5}
    checkout.configure({"execution": execution, "resources": resources})
    for path in checkout.folder.glob("results/digits/pools/*/*"):
        path.touch()
    assert "Nothing to be done" in checkout.snakemake(TABLE).stdout
    assert "Nothing to be done" in checkout.snakemake("-n", "--executor", "slurm", "--jobs", "1", TABLE).stdout


def test_a_deleted_stage_is_made_again_alone(checkout: Checkout) -> None:
    plan = make_plan(load_config(TINY), TABLE_1)
    target = str(plan.record(stage_of(plan, "scores", "train")))
    checkout.file(target).unlink()
    before = {path: path.read_text() for path in checkout.folder.glob("results/digits/*/*/record.json")}
    assert rules_run(checkout, target) == Counter({"score": 1})
    assert all(path.read_text() == text for path, text in before.items())


IN_PARTS: dict[str, Any] = {"execution": {"part_rows": 128, "batch_size": 8}}


def test_a_large_pool_is_scored_in_parts_and_their_size_reruns_nothing(checkout: Checkout) -> None:
    checkout.configure(IN_PARTS)
    plan = make_plan(load_config(merge(TINY, IN_PARTS)), TABLE_1)
    score = stage_of(plan, "scores", "generated")
    stage, target = checkout.file(str(plan.directory(score))), str(plan.record(score))
    whole = open_store(stage / "scores.zarr").read("margin")
    shutil.rmtree(stage)
    assert rules_run(checkout, target) == Counter({"part": 3, "score": 1})
    assert "going on from 300 of 300 images" in (stage / "job.log").read_text()
    np.testing.assert_allclose(open_store(stage / "scores.zarr").read("margin"), whole, rtol=1e-4)
    assert not list((stage / "parts").glob("*.json"))
    assert not (stage / "partial").exists()
    written = (stage / "scores.zarr" / "zarr.json").stat().st_mtime_ns
    checkout.configure({"execution": {"part_rows": 64, "batch_size": 8}})
    checkout.snakemake(target)
    assert (stage / "scores.zarr" / "zarr.json").stat().st_mtime_ns == written


def test_a_jobs_own_snakemake_asks_for_no_part_that_nobody_was_asked_for(remade: Checkout) -> None:
    remade.configure(IN_PARTS)
    plan = make_plan(load_config(merge(TINY, IN_PARTS)), TABLE_1)
    target = str(plan.record(stage_of(plan, "scores", "generated")))
    remade.file(target).unlink()
    assert remade.jobs(target) == Counter({"part": 3, "score": 1})
    assert remade.jobs("--mode", "remote", target) == Counter({"score": 1})


def test_the_threads_of_jobs_elsewhere_are_not_bounded_by_this_machine(checkout: Checkout) -> None:
    checkout.configure({"resources": {"models": {"threads": 5}}})
    asked = ("-n", "-p", "--forcerun", "model", "--cores", "2", TABLE)
    assert "--threads 2" in checkout.snakemake(*asked).stdout
    assert "--threads 5" in checkout.snakemake(*asked, "--profile", "slurm").stdout


def test_imagenet_in_a_hundred_classes_passes_a_dry_run(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path)
    checkout.file("config.yaml").write_text("preset: imagenet100\n")
    checkout.file("data/imagenet21k/n02084071").mkdir(parents=True)
    checkout.file("data/imagenet21k/wordnet.is_a.txt").write_text("n00001740 n02084071\n")
    expected = {"class_list": 1, "pool": 2, "score": 1, "manifest": 1, "model": 2, "evaluation": 4, "table": 1}
    assert checkout.jobs(TABLE) == {**expected, "target": 1}


def test_the_table_of_scores_is_planned_where_the_recordings_allow_it(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path)
    said = checkout.fails("-n", "results/scores.csv")
    assert "results/scores.csv cannot be made: score uncertainty is unavailable" in said
    assert checkout.jobs(TABLE)["table"] == 1  # what one table lacks is no matter to another

    checkout.file("config.yaml").write_text(yaml.safe_dump(SCORED))
    jobs = checkout.jobs("results/scores.csv")
    # Recorded: TRADES once, standard training for each seed. Plain: TRADES and twelve pruned ones a seed; without
    # synthetic images there is nothing to extrapolate to, so that row's models are those of the margins.
    assert (jobs["score"], jobs["manifest"], jobs["model"]) == (12, 12, 1 + 2 + 2 * 13)


def test_a_mistake_in_the_config_stops_before_anything_runs(checkout: Checkout) -> None:
    checkout.configure({"prunning": {"ratio": 0.3}})
    said = checkout.fails(TABLE)
    assert "did you mean 'pruning'" in said
    assert "Traceback" not in said


def test_an_unknown_table_is_refused(checkout: Checkout) -> None:
    assert "results/table9.csv is neither" in checkout.fails("results/table9.csv")


def test_a_key_that_is_written_twice_is_refused(checkout: Checkout) -> None:
    with checkout.file("config.yaml").open("a") as file:
        file.write("training: {trades: {epochs: 1}}\n")
    assert "config.yaml is not valid YAML: the key training is written twice" in checkout.fails("-n", TABLE)


def test_a_checkout_runs_its_own_code_whichever_is_installed(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path, only="puma.table1")
    with checkout.file("workflow/robustprune/cli/main.py").open("a") as file:
        file.write('\nraise SystemExit("this checkout")\n')
    pool = re.findall(r"results/digits/pools/\S+/record.json", checkout.snakemake("-n", TABLE).stdout)[0]
    assert "this checkout" in checkout.fails(pool)


def test_killed_with_snakemake_it_goes_on_after_unlock(checkout: Checkout) -> None:
    short = {"trades": {"epochs": 12, "validate_every": 0}}
    checkout.configure({"training": short, "execution": {"checkpoint_seconds": 0}})
    records = re.findall(r"results/digits/models/trades-\S+/record.json", checkout.snakemake("-n", TABLE).stdout)
    process = checkout.start(records[0])
    checkpoint = wait_for(checkout.folder, "results/digits/models/*/partial/checkpoint.pt")
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (checkpoint.parents[1] / "record.json").exists()
    assert "Directory cannot be locked" in checkout.fails(records[0])
    checkout.snakemake("--unlock")
    checkout.configure({"training": short, "execution": {"checkpoint_seconds": 1e9}})
    checkout.snakemake(records[0])
    assert "going on from" in (checkpoint.parents[1] / "job.log").read_text()


def test_where_a_job_outlives_snakemake_the_next_run_makes_what_was_asked_for(checkout: Checkout) -> None:
    checkout.configure({"training": {"trades": {"epochs": 3, "validate_every": 0}}})
    planned = checkout.snakemake("-n", TABLE).stdout
    model, evaluation = (
        re.findall(rf"results/digits/{kind}-\S+/record.json", planned)[0]
        for kind in ("models/trades", "evaluations/cw-trades")
    )
    process = checkout.start(evaluation)
    wait_for(checkout.folder, str(Path(model).with_name(".lock")))
    process.kill()  # Snakemake alone; its job goes on
    process.wait()
    wait_for(checkout.folder, model)
    assert not checkout.file(evaluation).exists()
    checkout.snakemake("--unlock")
    checkout.snakemake(evaluation)
    assert checkout.file(evaluation).exists()


def wait_for(folder: Path, pattern: str) -> Path:
    """The first file that matches, once it is there."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        for path in folder.glob(pattern):
            return path
        time.sleep(0.05)
    raise AssertionError(f"no {pattern} within two minutes")


def rules_run(checkout: Checkout, target: str = TABLE) -> Counter[str]:
    return rules_in(checkout.snakemake(target).stdout)


def put_some_of_mnist(raw: Path, folder: Path) -> None:
    for split, count in (("train", 1400), ("t10k", 500)):
        for read, kind in ((read_images, "images-idx3-ubyte"), (read_labels, "labels-idx1-ubyte")):
            values = np.asarray(read(raw / f"{split}-{kind}.gz")[:count], np.uint8).squeeze()
            (folder / f"{split}-{kind}").write_bytes(idx_bytes(values))


SMALL_MNIST = """
preset: mnist
seeds: [0]
data: {source: "idx:raw"}
synthetic:
  count: 100
  generator:
    {base_channels: 8, channel_multipliers: [1], attention_resolutions: [], blocks: 1, steps: 5, batch_size: 16}
  sampler: {steps: 4}
training:
  trades: {epochs: 2, epoch_images: 2560, batch_size: 128, attack_steps: 2, validation_images: 400, validate_every: 0}
margins: {method: boundary_search, boundary_search: {step_size: 0.1, max_steps: 5}}
evaluation: {images: 50, cw: {steps: 15}, attacks: [cw]}
"""


def test_mnist_runs_on_idx_files(shared: Path, tmp_path: Path) -> None:
    checkout = Checkout(tmp_path, only="puma.table1")
    (tmp_path / "raw").mkdir()
    put_some_of_mnist(shared / "data" / "mnist" / "MNIST" / "raw", tmp_path / "raw")
    checkout.file("config.yaml").write_text(SMALL_MNIST)
    checkout.snakemake(TABLE)
    table = pd.read_csv(checkout.file(TABLE))
    assert table["images_kept"].tolist() == [1100, 880]
    pools = [json.loads(path.read_text()) for path in checkout.folder.glob("results/mnist/pools/*/pool.json")]
    assert sorted(pool["count"] for pool in pools) == [100, 500, 1400]


def test_a_missing_data_file_says_where_to_get_it_and_which_key_points_to_it(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path, only="puma.table1")
    checkout.file("config.yaml").write_text("preset: mnist\ndata: {source: 'idx:nowhere'}\n")
    said = checkout.fails(TABLE)
    assert "data.source = idx:nowhere" in said
    assert "http" in said
    assert "Traceback" not in said
