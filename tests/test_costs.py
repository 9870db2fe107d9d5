"""What a plan says it costs: counts against passes counted in real attacks and trainings, sums by hand."""

import json
import subprocess
import sys
import tarfile
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robustprune.cli.main import main
from robustprune.cli.plan_view import NO_RATES, describe_plan, in_units
from robustprune.core.errors import UserError
from robustprune.core.settings import ThreatModel
from robustprune.core.work import UnknownSizeError, Work
from robustprune.evaluation.autoattack import STANDARD, withstands_one
from robustprune.evaluation.pgd import withstands_pgd
from robustprune.evaluation.settings import Pgd
from robustprune.experiments.papers import load_experiments
from robustprune.experiments.row import Row
from robustprune.networks.precision import memory_format
from robustprune.planning.calibration import calibrate, networks
from robustprune.planning.config import load_config
from robustprune.planning.plan import Plan, make_plan
from robustprune.planning.throughput import THROUGHPUT_FILE, Rates, add_rates, read_throughput
from robustprune.scores.embedding import EmbeddingStage, TorchvisionEncoder
from robustprune.training.model import ModelStage
from robustprune.training.online import OnlinePuma
from tiny import plan_rows, specs_of, stage_of

THREAT = ThreatModel(norm="Linf", epsilon=Fraction("1e-4"))  # so small that everything is withstood to the end
COUNT = 8
SMALL_CNN = "small_cnn, 10 classes, 1x8x8"


class Counting(nn.Module):
    """A linear network that counts the images that go through it, with a gradient to come back or without."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(16, 10))
        self.seen: Counter[str] = Counter()

    def forward(self, images: Tensor) -> Tensor:
        self.seen["gradients" if images.requires_grad else "forwards"] += len(images)
        logits: Tensor = self.layers(images)
        return logits


def a_network() -> tuple[Counting, Tensor, Tensor]:
    """With images far from its boundaries, and their classes."""
    torch.manual_seed(0)
    network, images = Counting().eval().requires_grad_(False), torch.rand(100, 1, 4, 4)
    top = network(images).topk(2).values
    images = images[(top[:, 0] - top[:, 1]).topk(COUNT).indices]
    labels = network(images).argmax(1)
    network.seen.clear()
    return network, images, labels


def plan_of(row: Row, **overrides: Any) -> Plan:
    return plan_rows(row, overrides=overrides)


def work(plan: Plan, kind: str, word: str = "") -> Work:
    return total(plan, stage_of(plan, kind, word))


def total(plan: Plan, stage: str) -> Work:
    """All that a stage costs, under the name of its first network."""
    works = plan.stages[stage].works(plan)
    return sum(works, start=Work(works[0].network if works else ""))


def test_pgd_takes_what_is_planned() -> None:
    network, images, labels = a_network()
    settings = Pgd(objective="margin", steps=6, restarts=3)
    assert withstands_pgd(network, images, labels, torch.arange(COUNT), threat=THREAT, settings=settings, seed=0).all()
    row = Row(method="all", recipe="standard")
    evaluation = {"attacks": ["cw"], "images": 40, "cw": {"steps": 6, "restarts": 3}}
    planned = work(plan_of(row, evaluation=evaluation), "evaluations")
    # An evaluation also looks at the clean images, and for gradients of zero.
    assert planned.gradients * COUNT == 40 * (network.seen["gradients"] + COUNT)
    assert planned.forwards * COUNT == 40 * (network.seen["forwards"] + COUNT)


def test_autoattack_takes_what_is_planned() -> None:
    network, images, labels = a_network()
    for name in STANDARD:
        assert withstands_one(name, network, images, labels, 0, threat=THREAT, seed=0).all()
    planned = work(plan_of(Row(method="all"), evaluation={"attacks": ["autoattack"], "images": 40}), "evaluations")
    assert planned.gradients / 40 == pytest.approx(network.seen["gradients"] / COUNT, rel=0.01)
    assert planned.forwards / 40 == pytest.approx(network.seen["forwards"] / COUNT, rel=0.05)


def test_trainings_by_hand() -> None:
    """The digits: 1,197 real images to learn from and 100 to validate on, 40 batches of 128 an epoch, 20 epochs."""
    epochs, images = 20, 20 * 40 * 128
    validations = Work(forwards=epochs * 100 * 2, gradients=epochs * 100 * 40)
    expected = {
        "standard": Work(forwards=epochs * 100, updates=images),
        "pgd_at": Work(gradients=10 * images, updates=images) + validations,
        "trades": Work(gradients=10 * images, updates=2 * images) + validations,
    }
    # RS-FGSM passes over 1,297 real images in each of 30 epochs, 200 of which it also validates on.
    expected["rs_fgsm"] = Work(forwards=30 * 200 * 2, gradients=30 * (1297 + 200 * 40), updates=30 * 1297)
    for recipe, by_hand in expected.items():
        found = work(plan_of(Row.model_validate({"method": "m", "recipe": recipe})), "models")
        assert found == replace(by_hand, network=SMALL_CNN)


def test_online_margins_take_what_is_planned() -> None:
    network, images, labels = a_network()
    for threshold in (None, Fraction(1)):
        online = OnlinePuma(threshold=threshold, bisection_steps=5)
        network.seen.clear()
        online.moved(network, images, images, labels)
        row = Row(method="m", recipe="trades")
        plain, planned = (work(plan_of(one), "models") for one in (row, row.model_copy(update={"online": online})))
        added = (planned.forwards - plain.forwards, planned.gradients - plain.gradients)
        shown = 20 * 40 * 128
        assert added == (shown * network.seen["forwards"] // COUNT, 0)
        assert set(network.seen) == {"forwards"}


def test_pruning_midway_saves_what_it_drops() -> None:
    midway: dict[str, Any] = {"keep": 0.6, "strategy": "random", "after_epoch": 3}
    row = Row.model_validate({"method": "m", "recipe": "rs_fgsm", "mid_training": midway})
    assert work(plan_of(row), "models").updates == round(1297 * (3 + 27 * 0.6))
    scored = row.model_copy(update={"mid_training": row.mid_training.model_copy(update={"strategy": "low_distance"})})  # type: ignore[union-attr]
    extra = work(plan_of(scored), "models")
    assert extra.gradients - work(plan_of(row), "models").gradients == 1297  # one step before the loss is taken
    assert extra.forwards - work(plan_of(row), "models").forwards == 1297


def test_an_epoch_of_one_pass_shows_as_many_images_as_real_ones_are_kept() -> None:
    """Synthetic images take the place of real ones in a batch and make no epoch longer (``training.sampler``)."""
    shown = {}
    for among in ("all", "real", "synthetic"):
        row = {"method": "m", "recipe": "pgd_at", "strategy": "puma", "ratio": 0.25, "among": among, "one_pass": True}
        plan = plan_of(Row.model_validate(row), training={"pgd_at": {"synthetic_fraction": 0.75}})
        shown[among] = work(plan, "models", "puma").updates
    assert shown == {"all": round(20 * 1197 * 0.75), "real": round(20 * 1197 * 0.75), "synthetic": 20 * 1197}


def test_networks_of_another_patch_have_other_rates() -> None:
    row = Row(method="PUMA", strategy="puma")
    plans = [plan_of(row, synthetic={"generator": {"patch": patch}}) for patch in (1, 2)]
    assert len({work(plan, "generators").network for plan in plans}) == 2


def test_pools_scores_and_generators_by_hand() -> None:
    plan = plan_of(Row(method="PUMA", strategy="puma"))
    generator = work(plan, "generators")
    assert generator.updates == 2500 * 64
    assert work(plan, "pools", "generated") == Work(generator.network, forwards=5000 * (2 * 18 - 1))
    scores = work(plan, "scores", "generated")
    assert (scores.gradients, scores.forwards) == (5000 * 10, 5000 * 10)
    searched = plan_of(Row(method="m", strategy="puma", margins="boundary_search"))
    assert work(searched, "scores", "generated").gradients == 5000 * 64
    recorded = plan_of(Row(method="m", strategy="puma", score="frequency"))
    extra = work(recorded, "models", "recorded").gradients - work(recorded, "models", "puma").gradients
    assert extra == 20 * 10 * (1297 + 5000)  # every epoch, ten steps at each image of both pools
    assert work(recorded, "scores") == Work()


def test_embedding_by_torchvision_takes_a_pass_of_a_network_of_its_own() -> None:
    plan = plan_of(Row(method="PUMA", strategy="puma", extrapolated=True))
    stage = next(spec.id for spec in specs_of(plan, EmbeddingStage) if "train" in spec.pool)
    encoder = TorchvisionEncoder(name="resnet50", digest="0" * 64, resize=224, location="resnet50.pth")
    other = plan.stages[stage].model_copy(update={"encoder": encoder})
    plan = replace(plan, stages={**plan.stages, stage: other})
    assert total(plan, stage) == Work("torchvision's resnet50", forwards=1297)


def test_bytes_by_hand() -> None:
    plan = plan_of(Row(method="PUMA", strategy="puma"))
    rates = {SMALL_CNN: RATES.parameters}
    assert plan.stages[stage_of(plan, "pools", "generated")].bytes_left(plan, {}) == 5000 * (64 + 2)
    assert plan.stages[stage_of(plan, "scores", "generated")].bytes_left(plan, {}) == 5000 * 9
    assert plan.stages[stage_of(plan, "models")].bytes_left(plan, rates) == 3 * 4 * 1000
    extrapolated = plan_of(Row(method="PUMA", strategy="puma", extrapolated=True))
    with pytest.raises(UnknownSizeError):
        extrapolated.stages[stage_of(extrapolated, "embeddings")].bytes_left(extrapolated, rates)
    assert [in_units(size) for size in (0, 999, 1234, 3.5e9, 1e16)] == ["0 B", "999 B", "1.23 kB", "3.5 GB", "10 PB"]


RATES = Rates(forwards=100, gradients=10, updates=20, parameters=1000, torch="2", measured="2026")


def test_hours_by_hand() -> None:
    assert RATES.hours(Work("n", forwards=36_000, gradients=7_200, updates=3_600)) == pytest.approx(
        (360 + 720 + 180) / 3600
    )
    generator = RATES.model_copy(update={"gradients": None})
    assert generator.hours(Work("n", updates=72_000)) == 1


def test_the_view_has_hours_where_something_was_calibrated_and_says_so_where_not(tmp_path: Path) -> None:
    plan = make_plan(load_config({}), load_experiments(), results=tmp_path)
    target = str(tmp_path / "table1.csv")
    assert describe_plan(plan, [target]).splitlines()[-1] == NO_RATES
    assert SMALL_CNN in {spec.network() for spec in specs_of(plan, ModelStage)}
    add_rates(tmp_path, "one GPU", {SMALL_CNN: RATES})
    last = describe_plan(plan, [target]).splitlines()[-1]
    assert last.startswith("hours of one one GPU: at least ")
    assert "without what was not calibrated there: edm of 16-32 channels" in last
    counted = [work for stage in plan.needed_for([plan.targets[target]]) for work in plan.stages[stage].works(plan)]
    hours = sum(RATES.hours(one) for one in counted if one.network == SMALL_CNN)
    assert float(last.split("at least ")[1].split(",")[0]) == pytest.approx(hours, rel=0.01)
    (other,) = {name for name in networks(plan) if name.startswith("edm")}
    add_rates(tmp_path, "other GPU", {other.replace("16-32", "17-32"): RATES})
    *_, known, unknown = describe_plan(plan, [target]).splitlines()
    assert known == last
    assert unknown.startswith("hours of one other GPU: not known, without what was not calibrated there: edm of 16-")
    record = plan.record(stage_of(plan, "models", "puma"))
    record.parent.mkdir(parents=True)
    record.touch()
    models = next(line for line in describe_plan(plan, [target]).splitlines() if line.startswith("models"))
    assert models.split()[1:4] == ["6", "1", "5"]


def test_a_damaged_table_of_rates_is_refused_by_name(tmp_path: Path) -> None:
    add_rates(tmp_path, "a", {"n": RATES})
    add_rates(tmp_path, "a", {"m": RATES})
    add_rates(tmp_path, "b", {"n": RATES})
    assert {device: set(known) for device, known in read_throughput(tmp_path).items()} == {"a": {"n", "m"}, "b": {"n"}}
    content = json.loads((tmp_path / THROUGHPUT_FILE).read_text())
    content["a"]["n"]["forwards"] = 0
    (tmp_path / THROUGHPUT_FILE).write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"throughput.json .*greater than 0"):
        read_throughput(tmp_path)


def test_a_generator_is_measured_as_it_is_trained(tmp_path: Path) -> None:
    small = {"base_channels": 8, "channel_multipliers": [1], "attention_resolutions": [], "blocks": 1}
    generator = {**small, "dropout": 0.1, "augmentation_probability": 0.15}
    plan = plan_of(Row(method="all"), synthetic={"generator": generator})
    rates = calibrate(plan, torch.device("cpu"), batch_size=8, seconds=0)
    (edm,) = [rate for name, rate in rates.items() if name.startswith("edm")]
    assert min(edm.forwards, edm.updates) > 0
    assert edm.gradients is None


def test_each_arithmetic_of_a_network_has_rates_of_its_own() -> None:
    training = {"training": {"trades": {"precision": "bfloat16"}}}
    drawing = {"synthetic": {"generator": {"precision": "bfloat16"}}}
    plan = plan_of(Row(method="all", recipe="trades"), **training, **drawing)
    assert {name.partition("8x8")[2] for name in networks(plan) if name.startswith("small_cnn")} == {"", ", bfloat16"}
    assert [name.rpartition(", ")[2] for name in networks(plan) if name.startswith("edm")] == ["bfloat16", "1x8x8"]
    used = {
        kind: [work.network.endswith("bfloat16") for work in plan.stages[stage_of(plan, kind)].works(plan)]
        for kind in ("generators", "evaluations")
    }
    assert used == {"generators": [True], "evaluations": [False]}
    shown = 20 * 40 * 128
    assert plan.stages[stage_of(plan, "models")].works(plan) == (
        Work(f"{SMALL_CNN}, bfloat16", gradients=10 * shown, updates=2 * shown),
        Work(SMALL_CNN, forwards=20 * 100 * 2, gradients=20 * 100 * 40),  # it is validated in float32
    )
    assert {work.network for stage in plan.stages for work in plan.stages[stage].works(plan)} <= set(networks(plan))
    rates = calibrate(plan, torch.device("cpu"), batch_size=8, seconds=0)
    assert set(rates) == set(networks(plan))
    parameters = {name: rate.parameters for name, rate in rates.items()}
    (edm,) = (count for name, count in parameters.items() if name.startswith("edm") and "bfloat16" in name)
    assert plan.stages[stage_of(plan, "generators")].bytes_left(plan, parameters) == 4 * edm


def test_the_order_of_tensors_is_the_faster_one() -> None:
    linear, norm, cpu, gpu = nn.Linear(1, 1), nn.BatchNorm2d(1), torch.device("cpu"), torch.device("cuda")
    assert memory_format(linear, "bfloat16", gpu) == memory_format(norm, "float32", cpu) == torch.channels_last
    assert memory_format(linear, "bfloat16", cpu) == memory_format(norm, "float32", gpu) == torch.preserve_format


def test_the_size_of_a_pool_that_is_made_is_in_the_costs(tmp_path: Path) -> None:
    shards = tmp_path / "synthetic-00000-of-00001.tar"
    with tarfile.open(shards, "w"):
        pass
    row = Row(method="all", strategy="puma")
    plan = replace(plan_of(row, synthetic={"source": f"webdataset:{shards}"}), results=tmp_path)
    score = stage_of(plan, "scores", "synthetic")
    with pytest.raises(UnknownSizeError):
        plan.stages[score].works(plan)
    pool = plan.directory(stage_of(plan, "pools", "synthetic"))
    pool.mkdir(parents=True)
    (pool / "pool.json").write_text('{"count": 5000}')
    assert total(plan, score).gradients == 5000 * 10


def test_only_what_computes_on_a_gpu_asks_for_one() -> None:
    resources = {"resources": {"scores": {"gpu": 1, "threads": 8}, "embeddings": {"gpu": 1}}}
    for score, gpu in (("frequency", 0), ("margin", 1)):
        plan = plan_of(Row.model_validate({"method": "m", "strategy": "puma", "score": score}), **resources)
        needed = plan.resources(stage_of(plan, "scores"))
        assert (needed.gpu, needed.threads) == (gpu, 8)


def test_calibrated_by_command_the_plan_knows_hours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("config.yaml").write_text("preset: digits\nexecution: {batch_size: 16}\n")
    assert main(["calibrate", "--seconds", "0", "--device", "cpu"]) == 0
    assert "networks on cpu, 1 threads, written to results/.throughput.json" in capsys.readouterr().out
    (rates,) = read_throughput(Path("results")).values()
    assert {"edm", "small_cnn,"} <= {network.split(" ")[0] for network in rates}
    assert rates[SMALL_CNN].parameters == 38_282  # as tests/test_models.py has it
    assert main(["plan", "results/table1.csv"]) == 0
    text = capsys.readouterr().out
    assert "disk: the estimate excludes" not in text
    assert float(text.splitlines()[-1].removeprefix("hours of one cpu, 1 threads: about ")) > 0
    assert main(["calibrate", "--seconds", "-1"]) == 2


def test_everything_at_paper_scale_and_a_hundred_seeds_are_planned_in_seconds_and_without_torch() -> None:
    code = (
        "import sys, time; from robustprune.planning.config import load_config; "
        "from robustprune.experiments.papers import load_experiments; "
        "from robustprune.planning.plan import make_plan; from robustprune.cli.plan_view import describe_plan; "
        "tables = load_experiments(); describe_plan(make_plan(load_config({'preset': 'cifar10'}), tables)); "
        "assert not {'torch', 'snakemake', 'zarr', 'pandas'} & set(sys.modules); "
        "everything = time.process_time(); one = {'puma.table1': tables['puma.table1']}; "
        "make_plan(load_config({'preset': 'cifar10', 'seeds': list(range(100))}), one); "
        "print(everything, time.process_time() - everything)"
    )
    # Seconds of the child process, as measuring coverage slows this one; three times what a slow core takes.
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    everything, hundred_seeds = map(float, done.stdout.split())
    assert everything < 5
    assert hundred_seeds < 2
