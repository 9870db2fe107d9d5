"""The benchmarks run, on the smallest cases, and print what docs/benchmarks.md shows."""

import importlib
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from robustprune.networks.architecture import build_model

ROOT = Path(__file__).parents[1]

PRINTED = {
    "step": r"(small_cnn, batch 16, b?float(32|16), 1 threads\n"
    r"( {4}(processor|clock    ): plain +\d.* images/s, ours +\d.*, ratio \d+\.\d\d\n){2}){2}",
    "data": r"batch of 16 from 1,000 images \(0 GB\): \d+\.\d\d ms, \d+\.\d\d% of a step; memory of .*: \d\.\d GiB\n",
    "precision": r"(\w+ +clean \d+\.\d\d \+- \d+\.\d\d %, PGD-40 \d+\.\d\d \+- \d+\.\d\d %, 2 seeds\n){2}",
    "rs_fgsm": r"(RS-FGSM, 10 epochs of 200 images, seed [01], 1 threads: .* by the clock; clean .* of 200\n){2}",
    "network --batch-sizes 16 --sides plain bfloat16 float32-cuda_graphs": r"cpu, .*, torch .* TFLOP/s of a .*\n"
    r"    resnet18, batch 16, plain .* images/s, .*% of the peak; \d+ s with its start\n"
    r"    resnet18, batch 16, bfloat16 .* with its start\n"
    r"    resnet18, batch 16, float32-cuda_graphs .*, compiled: no: CUDA graphs are for GPUs, and this is cpu\n",
    "seeds": r"16 networks, batch 100 each: sequence \d+ ms, vmap \d+ ms, ratio \d+\.\d\d\n",
}


@pytest.mark.parametrize("what", PRINTED)
def test_benchmarks_of_training(what: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    training = importlib.import_module("training")
    small = training.DIGITS._replace(batch_size=16)
    monkeypatch.setattr(training, "RESNET", small)
    monkeypatch.setattr(training, "DIGITS", small)
    monkeypatch.setattr(training, "STEP_CASES", (small,))
    monkeypatch.setattr(training, "NETWORKS", {"resnet18": small})
    monkeypatch.setattr(training, "MATRIX", 64)
    monkeypatch.setattr(training, "EPOCH_IMAGES", 32)
    monkeypatch.setattr(training, "POOL_IMAGES", 1000)
    monkeypatch.setattr(training, "read_mnist", lambda *_: training.noise(200, training.MNIST.shape))
    rounds = "2" if what in ("precision", "rs_fgsm") else "1"
    monkeypatch.setattr(sys, "argv", ["training.py", *what.split(), "--rounds", rounds])
    training.main()
    assert re.fullmatch(PRINTED[what], capsys.readouterr().out)


EVALUATION = {
    "pgd": r"PGD-50-10: \d+\.\d\d % of 10 images, reported 88\.77 %; \d+ s of processor time\n",
    "autoattack": r"(.{36} +\d+\.\d s of processor time, +\d+\.\d s by the clock, ratios .*, right \d+ of 10\n){3}",
}


@pytest.mark.parametrize("what", EVALUATION)
def test_benchmarks_of_evaluation(
    what: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], shared: Path
) -> None:
    """AutoAttack, which takes seconds for a single image, is put in place of by what leaves every image as it is."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    evaluation = importlib.import_module("evaluation")
    monkeypatch.setattr(
        evaluation.AutoAttack, "run_standard_evaluation", lambda attack, images, labels, **_: (images, labels)
    )
    monkeypatch.setattr(evaluation, "in_shards", lambda plan, stage, images: evaluation.Cost(1.0, 1.0, 10))
    monkeypatch.setattr(sys, "argv", ["evaluation.py", what, "--images", "10", "--data", str(shared / "data")])
    evaluation.main()
    assert re.fullmatch(EVALUATION[what], capsys.readouterr().out)


def test_benchmark_of_tables(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    tables = importlib.import_module("tables")
    one = {name: table for name, table in tables.load_experiments().items() if name == "kaufmann_v2.table1"}
    monkeypatch.setattr(tables, "load_experiments", lambda: one)
    tables.main()
    printed = r"a plan of all tables: \d+\.\d s\n\d+ results made up of \d+ stages\n"
    assert re.fullmatch(printed + r"1 tables, by Snakemake on two cores: \d+\.\d s\n", capsys.readouterr().out)


def test_benchmark_of_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    store = importlib.import_module("store")
    monkeypatch.setattr(store, "ROWS", 70_000)
    monkeypatch.setattr(store, "REPEATS", 1)
    store.main(tmp_path)
    _, *lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    assert all(re.fullmatch(r"\w.* +\d+ ms +\d+\.\d\d x", line) for line in lines)


@pytest.mark.parametrize(
    ("what", "printed"),
    [
        ("views", r"subset of 20 of 100 images: made in .* batch of 512: \d+\.\d\d ms, .* parent: \d+\.\d\d ms\n"),
        ("encoded", r"12 JPEGs of \d+ kB: brought in at \d+ images/s, .* by the index, \d+\.\d ms by its row group\n"),
    ],
)
def test_benchmarks_of_pools(
    what: str, printed: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    pools = importlib.import_module("pools")
    monkeypatch.setattr(pools, "ROUNDS", 1)
    monkeypatch.setattr(sys, "argv", ["pools.py", what, "100" if what == "views" else "12"])
    pools.main()
    assert re.fullmatch(printed, capsys.readouterr().out)


LINE = r".{32} +\d+\.\d images/s, ratio +\d+\.\d\d, batch +\d+, +\d+\.\d\d% flipped, mean \d\.\d{5}\n"
MARGINS: dict[str, tuple[int, str]] = {
    "mnist": (
        16,
        rf"(L(inf|2)\n({LINE}){{8}}){{2}}Algorithm 1 and DeepFool, Linf: rank correlation 0\.\d+ over \d+ .*\n",
    ),
    "resnet": (2, rf"(L(inf|2)\n({LINE}){{3}}){{2}}"),
    "classes": (2, rf"({LINE}){{3}}"),
    "scale": (100, r" +100 images: +\d+\.\d microseconds each\n"),
}


def build_small_model(name: str, **shape: Any) -> nn.Module:
    """What is asked for, but for a ResNet-18 a small network."""
    return build_model("small_cnn" if name == "resnet18" else name, **shape)


@pytest.mark.parametrize("what", MARGINS)
def test_benchmarks_of_margins(
    what: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], shared: Path
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    margins = importlib.import_module("margins")
    monkeypatch.setattr(margins, "STEPS", 20)  # of adv-lib and foolbox; with fewer, foolbox finds nothing in L2
    monkeypatch.setattr(margins, "build_model", build_small_model)
    images, printed = MARGINS[what]
    options = ["--images", str(images), "--rounds", "1", "--data", str(shared / "data")]
    monkeypatch.setattr(sys, "argv", ["margins.py", what, *options])
    margins.main()
    assert re.fullmatch(printed, capsys.readouterr().out)


def test_benchmark_of_a_manifest(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    manifest = importlib.import_module("manifest")
    monkeypatch.setattr(sys, "argv", ["manifest.py", "10000"])
    manifest.main()
    cost = r" +\d+\.\d s, processor +\d+\.\d s, peak \d\.\d\d GiB; +\d+\.\d and +\d+\.\d times ours\n"
    assert re.fullmatch(rf"10,000 margins, 8,000 rows kept\n  ours {cost}  pandas {cost}", capsys.readouterr().out)


def test_benchmark_of_sharing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    sharing = importlib.import_module("sharing")
    for name, small in (("ROWS", 70_000), ("REPEATS", 1), ("STORES_EACH", 10)):
        monkeypatch.setattr(sharing, name, small)
    sharing.main(tmp_path)
    _, *lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6
    assert all(re.fullmatch(r"\S.* +\d+ ms +\d+ MB/s +\d+\.\d\d of cp's rate", line) for line in lines[:3])
    assert all(re.fullmatch(r"looking up with .* +\d+\.\d ms", line) for line in lines[3:])


def test_benchmark_of_generation(
    shared: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    generation = importlib.import_module("generation")
    generator = {**generation.GENERATOR, "base_channels": 8, "steps": 2}
    synthetic = {"count": 10, "generator": generator, "sampler": {"steps": 2}}
    training = {"standard": {"epochs": 1, "epoch_images": 512, "validation_images": 0}}
    small = {"synthetic": synthetic, "training": training, "quality": {"images": 10}}
    monkeypatch.setattr(generation, "SETTINGS", {**generation.SETTINGS, **small})
    monkeypatch.setattr(sys, "argv", ["generation.py", "--mnist", str(shared / "data" / "mnist"), "--threads", "1"])
    generation.main()
    lines = capsys.readouterr().out.splitlines()
    kinds = [match[1] for line in lines if (match := re.fullmatch(r"(\w+) +\d+ s of processor, +\d+ s", line))]
    assert kinds == ["pools", "pools", "generators", "pools", "models", "qualities", *["pools", "qualities"] * 2]
    found = [json.loads(line) for line in lines if line.startswith("{")]
    assert [(one["guidance"], one["images"]) for one in found] == [(1, 10), (1.5, 10), (2, 10)]


def test_benchmark_of_ingest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.chdir(tmp_path)
    ingest = importlib.import_module("ingest")
    monkeypatch.setattr(ingest, "REPEATS", 1)
    npz = tmp_path / "2000.npz"
    ingest.make_npz(npz, 2000)
    directory = ingest.plan_pool(npz, tmp_path / "results" / "bench")
    ingest.against_copy(npz, directory)
    ingest.reading(directory)
    printed = capsys.readouterr().out
    assert re.search(
        r"^ +2,000 images, 0\.01 GB: copy .* ingest .* of the copy's speed, .* peak memory \d+ MB$", printed, re.M
    )
    assert re.search(r"^opening 2,000 images: \d+\.\d\d ms; a random batch of 512: \d+\.\d\d ms$", printed, re.M)


def test_benchmark_of_verdicts(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    verdicts = importlib.import_module("false_verdicts")
    monkeypatch.setattr(sys, "argv", ["false_verdicts.py", "--trials", "1"])
    monkeypatch.setattr(verdicts, "IMAGES", (100,))
    verdicts.main()
    printed = capsys.readouterr().out
    lines = r"^\| (seeds|images|both|easy) \| \d+ \| [\d,]+ (\| \d+\.\d ){4}\|$"
    assert len(re.findall(lines, printed, re.MULTILINE)) == 16
    assert len(re.findall(r"^16 checks, \d+ seeds: .* by chance", printed, re.MULTILINE)) == 4
