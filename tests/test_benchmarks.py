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


class Benchmark:
    """A script of ``benchmarks/``, some of its constants changed."""

    def __init__(self, patch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.patch, self.capsys = patch, capsys
        patch.syspath_prepend(str(ROOT / "benchmarks"))

    def load(self, name: str, **changes: Any) -> Any:
        module = importlib.import_module(name)
        for constant, value in changes.items():
            self.patch.setattr(module, constant, value)
        return module

    def run(self, module: Any, *arguments: str) -> str:
        """What the script prints when it is called with these arguments."""
        self.patch.setattr(sys, "argv", [f"{module.__name__}.py", *arguments])
        module.main()
        return self.capsys.readouterr().out


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Benchmark:
    return Benchmark(monkeypatch, capsys)


@pytest.mark.parametrize("what", PRINTED)
def test_benchmarks_of_training(what: str, benchmark: Benchmark) -> None:
    training = benchmark.load("training")
    small = training.DIGITS._replace(batch_size=16)
    benchmark.load(
        "training", RESNET=small, DIGITS=small, STEP_CASES=(small,), NETWORKS={"resnet18": small}, MATRIX=64,
        EPOCH_IMAGES=32, POOL_IMAGES=1000, read_mnist=lambda *_: training.noise(200, training.MNIST.shape),
    )  # fmt: skip
    rounds = "2" if what in ("precision", "rs_fgsm") else "1"
    assert re.fullmatch(PRINTED[what], benchmark.run(training, *what.split(), "--rounds", rounds))


EVALUATION = {
    "pgd": r"PGD-50-10: \d+\.\d\d % of 10 images, reported 88\.77 %; \d+ s of processor time\n",
    "autoattack": r"(.{36} +\d+\.\d s of processor time, +\d+\.\d s by the clock, ratios .*, right \d+ of 10\n){3}",
}


@pytest.mark.parametrize("what", EVALUATION)
def test_benchmarks_of_evaluation(what: str, benchmark: Benchmark, shared: Path) -> None:
    evaluation = benchmark.load("evaluation")
    benchmark.load("evaluation", in_shards=lambda *_, **__: evaluation.Cost(1.0, 1.0, 10))
    benchmark.patch.setattr(  # AutoAttack takes seconds for a single image
        evaluation.AutoAttack, "run_standard_evaluation", lambda attack, images, labels, **_: (images, labels)
    )
    printed = benchmark.run(evaluation, what, "--images", "10", "--data", str(shared / "data"))
    assert re.fullmatch(EVALUATION[what], printed)


def test_benchmark_of_tables(benchmark: Benchmark) -> None:
    tables = benchmark.load("tables")
    one = {name: table for name, table in tables.load_experiments().items() if name == "kaufmann_v2.table1"}
    benchmark.load("tables", load_experiments=lambda: one)
    printed = r"a plan of all tables: \d+\.\d s\n\d+ results made up of \d+ stages\n"
    printed += r"1 tables, by Snakemake on two cores: \d+\.\d s\n"
    assert re.fullmatch(printed, benchmark.run(tables))


def test_benchmark_of_the_store(tmp_path: Path, benchmark: Benchmark) -> None:
    benchmark.load("store", ROWS=70_000, REPEATS=1).main(tmp_path)
    _, *lines = benchmark.capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    assert all(re.fullmatch(r"\w.* +\d+ ms +\d+\.\d\d x", line) for line in lines)


@pytest.mark.parametrize(
    ("what", "count", "printed"),
    [
        ("views", 100, r"subset of 20 of 100 images: made in .* batch of 512: \d+\.\d\d ms, .* parent: \d+\.\d\d ms\n"),
        ("encoded", 12, r"12 JPEGs of \d+ kB: brought in at \d+ images/s, .* index, \d+\.\d ms by its row group\n"),
    ],
)
def test_benchmarks_of_pools(what: str, count: int, printed: str, benchmark: Benchmark) -> None:
    assert re.fullmatch(printed, benchmark.run(benchmark.load("pools", ROUNDS=1), what, str(count)))


LINE = r".{32} +\d+\.\d images/s, ratio +\d+\.\d\d, batch +\d+, +\d+\.\d\d% flipped, mean \d\.\d{5}\n"
MARGINS: dict[str, tuple[int, str]] = {
    "mnist": (16, rf"(L(inf|2)\n({LINE}){{8}}){{2}}Algorithm 1 and DeepFool, Linf: rank correlation 0\.\d+ .*\n"),
    "resnet": (2, rf"(L(inf|2)\n({LINE}){{3}}){{2}}"),
    "classes": (2, rf"({LINE}){{3}}"),
    "scale": (100, r" +100 images: +\d+\.\d microseconds each\n"),
}


def build_small_model(name: str, **shape: Any) -> nn.Module:
    return build_model("small_cnn" if name == "resnet18" else name, **shape)


@pytest.mark.parametrize("what", MARGINS)
def test_benchmarks_of_margins(what: str, benchmark: Benchmark, shared: Path) -> None:
    # The steps are of adv-lib and foolbox; with fewer, foolbox finds nothing in L2.
    margins = benchmark.load("margins", STEPS=20, build_model=build_small_model)
    images, printed = MARGINS[what]
    options = ("--images", str(images), "--rounds", "1", "--data", str(shared / "data"))
    assert re.fullmatch(printed, benchmark.run(margins, what, *options))


def test_benchmark_of_a_manifest(benchmark: Benchmark) -> None:
    cost = r" +\d+\.\d s, processor +\d+\.\d s, peak \d\.\d\d GiB; +\d+\.\d and +\d+\.\d times ours\n"
    printed = benchmark.run(benchmark.load("manifest"), "10000")
    assert re.fullmatch(rf"10,000 margins, 8,000 rows kept\n  ours {cost}  pandas {cost}", printed)


def test_benchmark_of_sharing(tmp_path: Path, benchmark: Benchmark) -> None:
    benchmark.load("sharing", ROWS=70_000, REPEATS=1, STORES_EACH=10).main(tmp_path)
    _, *lines = benchmark.capsys.readouterr().out.splitlines()
    assert len(lines) == 6
    assert all(re.fullmatch(r"\S.* +\d+ ms +\d+ MB/s +\d+\.\d\d of cp's rate", line) for line in lines[:3])
    assert all(re.fullmatch(r"looking up with .* +\d+\.\d ms", line) for line in lines[3:])


def test_benchmark_of_generation(shared: Path, benchmark: Benchmark) -> None:
    generation = benchmark.load("generation")
    generator = {**generation.GENERATOR, "base_channels": 8, "steps": 2}
    synthetic = {"count": 10, "generator": generator, "sampler": {"steps": 2}}
    training = {"standard": {"epochs": 1, "epoch_images": 512, "validation_images": 0}}
    small = {"synthetic": synthetic, "training": training, "quality": {"images": 10}}
    benchmark.load("generation", SETTINGS={**generation.SETTINGS, **small})
    options = ("--mnist", str(shared / "data" / "mnist"), "--threads", "1")
    lines = benchmark.run(generation, *options).splitlines()
    kinds = [match[1] for line in lines if (match := re.fullmatch(r"(\w+) +\d+ s of processor, +\d+ s", line))]
    assert kinds == ["pools", "pools", "generators", "pools", "models", "qualities", *["pools", "qualities"] * 2]
    found = [json.loads(line) for line in lines if line.startswith("{")]
    assert [(one["guidance"], one["images"]) for one in found] == [(1, 10), (1.5, 10), (2, 10)]


def test_benchmark_of_ingest(tmp_path: Path, benchmark: Benchmark) -> None:
    benchmark.patch.chdir(tmp_path)
    ingest = benchmark.load("ingest", REPEATS=1)
    npz = tmp_path / "2000.npz"
    ingest.make_npz(npz, 2000)
    directory = ingest.plan_pool(npz, tmp_path / "results" / "bench")
    ingest.against_copy(npz, directory)
    ingest.reading(directory)
    copied, opened = benchmark.capsys.readouterr().out.splitlines()[-2:]
    assert re.match(r" +2,000 images, 0\.01 GB: copy .* ingest .* of the copy's speed, .* peak memory \d+ MB$", copied)
    assert re.match(r"opening 2,000 images: \d+\.\d\d ms; a random batch of 512: \d+\.\d\d ms$", opened)


def test_benchmark_of_verdicts(benchmark: Benchmark) -> None:
    printed = benchmark.run(benchmark.load("false_verdicts", IMAGES=(100,)), "--trials", "1")
    lines = r"^\| (seeds|images|both|easy) \| \d+ \| [\d,]+ (\| \d+\.\d ){4}\|$"
    assert len(re.findall(lines, printed, re.MULTILINE)) == 16
    assert len(re.findall(r"^16 checks, \d+ seeds: .* by chance", printed, re.MULTILINE)) == 4
