"""How fast training is, and what bfloat16 does to it: ``python benchmarks/training.py WHAT``; ``--help`` names each.

What it printed is in docs/benchmarks.md. Sides are timed in turn, by the processor time of their processes over the
number of threads, which other jobs on the machine disturb little, and steps by the clock, too, which counts on a free
machine; figures are medians. On a busy machine threads that wait should not count: set ``OMP_WAIT_POLICY=passive``.
"""

import argparse
import copy
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from robustprune.attacks.norms import norm_named
from robustprune.attacks.pgd import pgd
from robustprune.core.device import describe
from robustprune.core.execution import Compile, Execution
from robustprune.core.job import Job
from robustprune.core.settings import ThreatModel
from robustprune.images.formats.digits import read
from robustprune.images.formats.finding import idx_files
from robustprune.images.formats.idx import read_images, read_labels
from robustprune.images.pool import Pool, PoolInfo
from robustprune.networks.architecture import build_model
from robustprune.planning.config import load_config
from robustprune.training.fit import Training, crop_flip
from robustprune.training.losses import label_objective
from robustprune.training.model import ModelStage
from robustprune.training.recipes.base import AnyRecipe
from robustprune.training.recipes.trades import TradesRecipe
from robustprune.training.trainset import KeptImages

Images = npt.NDArray[np.uint8]


class Case(NamedTuple):
    """A training to be timed."""

    architecture: str
    shape: tuple[int, int, int]
    batch_size: int
    epsilon: str
    step_size: str
    augmentation: str
    threads: int


RESNET = Case("resnet18", (3, 32, 32), 64, "8/255", "2/255", "crop_flip", 2)
MNIST = Case("fast_cnn", (1, 28, 28), 512, "3/10", "3/40", "none", 2)
DIGITS = Case("small_cnn", (1, 8, 8), 128, "3/20", "3/80", "none", 1)
STEP_CASES = (RESNET, MNIST, DIGITS)
NETWORKS = {"resnet18": RESNET, "wrn28_10_swish": RESNET._replace(architecture="wrn28_10_swish"), "fast_cnn": MNIST}
SIDES = ["plain", "float32", "bfloat16", "float32-cuda_graphs", "bfloat16-kernels", "bfloat16-cuda_graphs"]
MATRIX = 8192  # rows and columns of the product that tells a device's peak
EPOCH_IMAGES = 5000  # of the comparison of precisions
POOL_IMAGES = 50_000_000  # of 32 x 32 pixels, 154 GB


class PlainTrades:
    """TRADES in the shape that Wang et al. (2023) published it (facts 1.3): eager float32.

    One pass gives the target of the attack and another the loss; optimiser and average go parameter by parameter.
    """

    def __init__(self, case: Case, device: str) -> None:
        self.model = build_plain(case.architecture, case.shape).to(device).train()
        self.averaged = copy.deepcopy(self.model)
        self.epsilon, self.step_size = (_number(text) for text in (case.epsilon, case.step_size))
        self.optimizer = torch.optim.SGD(
            self.model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4, nesterov=True, foreach=False
        )

    def step(self, images: Tensor, labels: Tensor) -> None:
        """Attack, update, average."""
        model = self.model
        self._track(on=False)
        with torch.no_grad():
            target = F.softmax(model(images), dim=1)
        attacked = (images + torch.empty_like(images).uniform_(-self.epsilon, self.epsilon)).clamp(0, 1)
        for _ in range(10):
            attacked.requires_grad_()
            divergence = F.kl_div(F.log_softmax(model(attacked), dim=1), target, reduction="batchmean")
            (gradient,) = torch.autograd.grad(divergence, [attacked])
            attacked = attacked.detach() + self.step_size * gradient.sign()
            attacked = torch.min(torch.max(attacked, images - self.epsilon), images + self.epsilon).clamp(0, 1)
        self._track(on=True)
        self.optimizer.zero_grad()
        natural, adversarial = model(images), model(attacked)
        loss = F.cross_entropy(natural, labels, label_smoothing=0.1)
        robust = F.kl_div(F.log_softmax(adversarial, dim=1), F.softmax(natural, dim=1), reduction="batchmean")
        (loss + 5 * robust).backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        with torch.no_grad():
            for average, value in zip(self.averaged.parameters(), model.parameters(), strict=True):
                average.mul_(0.995).add_(0.005 * value)
        loss.item()

    def _track(self, *, on: bool) -> None:
        for module in self.model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.track_running_stats = on


def build_plain(architecture: str, shape: tuple[int, int, int]) -> nn.Module:
    """Our network with torch's own convolutions."""
    model = build_model(architecture, image_shape=shape, classes=10)
    for name, module in list(model.named_children()):
        if isinstance(module, nn.Conv2d) and type(module) is not nn.Conv2d:
            plain = nn.Conv2d(module.in_channels, module.out_channels, 4, stride=2, padding=1)
            plain.load_state_dict(module.state_dict())
            setattr(model, name, plain)
    return model


@contextmanager
def training(
    case: Case,
    images: Images,
    labels: npt.NDArray[Any],
    device: str,
    recipe: AnyRecipe,
    *,
    seed: int = 0,
    compiled: Compile = "none",
) -> Iterator[Training]:
    """Our training of the case on these images."""
    info = PoolInfo(
        dataset="benchmark",
        source="",
        classes=10,
        image_shape=case.shape,
        count=len(images),
        class_counts=(),
        digest="",
    )
    with tempfile.TemporaryDirectory() as folder:
        job = Job(Path(folder), Execution(device=device, compile=compiled), threads=case.threads, live=False)
        job.partial.mkdir()
        spec = ModelStage(
            architecture=case.architecture,
            classes=10,
            image_shape=case.shape,
            real="benchmark-train-0123456789",
            synthetic=None,
            manifest=None,
            threat=ThreatModel.model_validate({"epsilon": case.epsilon}),
            training=recipe,
            seed=seed,
        )
        radius = np.full(len(images), _number(case.epsilon), dtype=np.float32)
        kept = KeptImages(Pool(images, labels.astype(np.int16), info), np.arange(len(images)), radius)
        yield Training(job, spec, [kept])


def trades(case: Case, **settings: Any) -> TradesRecipe:
    """Ours as ``PlainTrades`` has it."""
    usual = {
        "epochs": 1,
        "epoch_images": 10**6,
        "batch_size": case.batch_size,
        "learning_rate": 0.01,
        "step_size": case.step_size,
        "synthetic_fraction": 0,
        "augmentation": case.augmentation,
    }
    return TradesRecipe.model_validate({**usual, **settings})


class Seconds(NamedTuple):
    """What some work took: of the processor, shared out among its threads (on a GPU by the clock), and by the clock."""

    processor: float
    clock: float


def in_turn(sides: Mapping[str, Callable[[], Seconds]], *, rounds: int) -> dict[str, Seconds]:
    """Medians of the seconds that each side says it took; its first call does not count."""
    seconds: dict[str, list[Seconds]] = {name: [] for name in sides}
    for _ in range(rounds + 1):
        for name, side in sides.items():
            seconds[name].append(side())
    return {name: Seconds(*map(statistics.median, zip(*spent[1:], strict=True))) for name, spent in seconds.items()}


def seconds_of(work: Callable[[], object], device: str, threads: int = 1) -> Seconds:
    """What work takes on so many threads."""
    started, processor = time.perf_counter(), time.process_time()
    work()
    if device != "cpu":
        torch.cuda.synchronize()
    clock = time.perf_counter() - started
    return Seconds((time.process_time() - processor) / threads if device == "cpu" else clock, clock)


class PlainProcess:
    """Plain TRADES in a process of its own, as what we tell torch and malloc would help it, too."""

    step: Callable[[], None]

    def __init__(self, case: Case, device: str) -> None:
        self.device, self.threads = device, case.threads
        self.pool = multiprocessing.get_context("spawn").Pool(1, self.begin, (case, device))

    @classmethod
    def begin(cls, case: Case, device: str) -> None:
        """In that process: build the network and the batch."""
        torch.set_num_threads(case.threads)
        images, labels = noise(case.batch_size, case.shape)
        x, y = torch.from_numpy(images).to(device).float() / 255, torch.from_numpy(labels).to(device)
        cls.step = staticmethod(partial(PlainTrades(case, device).step, x, y))

    @classmethod
    def take_step(cls, device: str, threads: int) -> Seconds:
        """In that process: what a step takes."""
        return seconds_of(cls.step, device, threads)

    def seconds(self) -> Seconds:
        """What a step takes."""
        return self.pool.apply(self.take_step, (self.device, self.threads))


def noise(count: int, shape: tuple[int, int, int]) -> tuple[Images, npt.NDArray[Any]]:
    """Images and labels that mean nothing."""
    rng = np.random.default_rng(0)
    return rng.integers(256, size=(count, *shape), dtype=np.uint8), rng.integers(10, size=count)


def time_steps(device: str, rounds: int, threads: int | None) -> None:
    """A whole step of ours (batch, augmentation, attack, update, average) against the plain one on a ready batch."""
    for usual in STEP_CASES:
        case = usual._replace(threads=threads or usual.threads)
        plain = PlainProcess(case, device)
        for precision in ("float32", "bfloat16"):
            with training(case, *noise(4096, case.shape), device, trades(case, precision=precision)) as ours:
                sides: dict[str, Callable[[], Seconds]] = {
                    "plain": plain.seconds,
                    "ours": partial(seconds_of, ours.one_step, device, case.threads),
                }
                found = in_turn(sides, rounds=rounds)
            print(f"{case.architecture}, batch {case.batch_size}, {precision}, {case.threads} threads")
            for kind, plain_seconds, our_seconds in zip(Seconds._fields, found["plain"], found["ours"], strict=True):
                rates = case.batch_size / plain_seconds, case.batch_size / our_seconds
                print(
                    f"    {kind:9}: plain {rates[0]:6.1f} images/s, ours {rates[1]:6.1f}, "
                    f"ratio {rates[1] / rates[0]:.2f}",
                    flush=True,
                )
        plain.pool.terminate()


def time_network(device: str, rounds: int, network: str, batch_sizes: Sequence[int], sides: Sequence[str]) -> None:
    """TRADES of one network by the clock: images a second, and the share of the device's own bfloat16 matrix product.

    A step counts as 26 forward passes, 20 of them for the gradients of the attack and 6 for the loss there and back.
    """
    peak = matrix_product(device, rounds)
    machine = describe(torch.device(device))
    print(f"{machine}, torch {torch.__version__}: {peak / 1e12:.2f} TFLOP/s of a product of bfloat16 matrices")
    for size in batch_sizes:
        case = NETWORKS[network]._replace(batch_size=size)
        work = 26 * forward_operations(case)
        for side in sides:
            began = time.perf_counter()
            seconds, said = time_side(case, device, side, rounds)
            print(
                f"    {network}, batch {size}, {side:20}: {size / seconds:8,.0f} images/s, "
                f"{work / seconds / peak:6.1%} of the peak; {time.perf_counter() - began:.0f} s with its start{said}",
                flush=True,
            )


def time_side(case: Case, device: str, side: str, rounds: int) -> tuple[float, str]:
    """Seconds of a step of one of ``SIDES``, and what became of its compilation."""
    if side == "plain":
        plain = PlainProcess(case, device)
        try:
            return steps_alone(plain.seconds, rounds), ""
        finally:
            plain.pool.terminate()
    precision, _, asked = side.partition("-")
    compiled = cast(Compile, asked or "none")
    recipe = trades(case, precision=precision)
    with training(case, *noise(4096, case.shape), device, recipe, compiled=compiled) as ours:
        seconds = steps_alone(partial(seconds_of, ours.one_step, device), rounds)
        return seconds, f", compiled: {ours.compiled}" if asked else ""


def forward_operations(case: Case) -> int:
    """Floating-point operations of a forward pass of a batch."""
    model = build_plain(case.architecture, case.shape).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, *case.shape))
    return case.batch_size * int(counter.get_total_flops())


def matrix_product(device: str, rounds: int) -> float:
    """Floating-point operations a second of a large product of bfloat16 matrices."""
    left, right = (torch.randn(MATRIX, MATRIX, device=device, dtype=torch.bfloat16) for _ in range(2))
    return 2 * MATRIX**3 / steps_alone(partial(seconds_of, lambda: left @ right, device), rounds)


def steps_alone(step: Callable[[], Seconds], rounds: int) -> float:
    """Median seconds of a step by the clock, after three that do not count."""
    return statistics.median([step().clock for _ in range(3 + rounds)][3:])


def time_data(device: str, rounds: int) -> None:
    """The share of a step that its batch takes, drawn from a pool larger than the memory, read and augmented."""
    with tempfile.TemporaryFile() as file:
        images: Images = np.memmap(file, dtype=np.uint8, mode="w+", shape=(POOL_IMAGES, *RESNET.shape))
        with training(RESNET, images, np.zeros(POOL_IMAGES, dtype=np.int16), device, trades(RESNET)) as ours:

            def draw() -> None:
                batch = ours.batches._take(int(torch.randint(ours.total, ())))
                crop_flip(batch.images, ours._noise("augmentation", len(batch.images)))

            works = {"step": ours.one_step, "batch": draw}
            found = in_turn(
                {name: partial(seconds_of, work, device, RESNET.threads) for name, work in works.items()}, rounds=rounds
            )
        batch, step = found["batch"].processor, found["step"].processor
        print(
            f"batch of {RESNET.batch_size} from {POOL_IMAGES:,} images ({images.nbytes / 1e9:.0f} GB): "
            f"{batch * 1e3:.2f} ms, {batch / step:.2%} of a step; "
            f"memory of the process, without mapped files: {anonymous_memory() / 2**30:.1f} GiB"
        )


def anonymous_memory() -> int:
    """Bytes of this process that no file backs; those of mapped files go when others need the memory."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["RssAnon"].split()[0]) * 1024


def compare_precisions(device: str, seeds: int) -> None:
    """Accuracy on 500 test digits, clean and under PGD-40, of networks trained in each precision."""
    digits = {split: read_digits(split) for split in ("train", "test")}
    x = torch.from_numpy(digits["test"][0]).to(device).float() / 255
    y = torch.from_numpy(digits["test"][1].astype(np.int64)).to(device)
    for precision in ("float32", "bfloat16"):
        found = []
        for seed in range(seeds):
            recipe = trades(DIGITS, epochs=8, epoch_images=EPOCH_IMAGES, learning_rate=0.2, precision=precision)
            with training(DIGITS, *digits["train"], device, recipe, seed=seed) as run:
                model = finished(run)
            found.append((accuracy(model, x, y), accuracy(model, attack(model, x, y), y)))
        columns = list(zip(*found, strict=True))
        text = [f"{statistics.mean(column):.2f} +- {statistics.stdev(column):.2f}" for column in columns]
        print(f"{precision:8} clean {text[0]} %, PGD-40 {text[1]} %, {seeds} seeds", flush=True)


def finished(run: Training) -> nn.Module:
    """The averaged model after all steps."""
    while run.step < run.total:
        run.one_step()
    return run.average.averaged_model().eval()


def time_rs_fgsm(device: str, seeds: int, data: Path, threads: int | None) -> None:
    """RS-FGSM on full MNIST as in the preset, 10 epochs without validation: seconds, and accuracies."""
    threads = threads or 1
    recipe = load_config({"preset": "mnist"}).training.rs_fgsm.model_copy(update={"validate_every": 0})
    case, splits = MNIST._replace(threads=threads), {split: read_mnist(data, split) for split in ("train", "test")}
    x = torch.from_numpy(splits["test"][0]).to(device).float() / 255
    y = torch.from_numpy(splits["test"][1].astype(np.int64)).to(device)
    for seed in range(seeds):
        with training(case, *splits["train"], device, recipe, seed=seed) as run:
            seconds, model = seconds_of(partial(finished, run), device), run.average.averaged_model().eval()
        print(
            f"RS-FGSM, {recipe.epochs} epochs of {len(splits['train'][0]):,} images, seed {seed}, {threads} threads: "
            f"{seconds.processor * threads:.1f} s of processors, {seconds.clock:.1f} s by the clock; "
            f"clean {accuracy(model, x, y):.2f} % of {len(x):,}",
            flush=True,
        )


def read_mnist(data: Path, split: str) -> tuple[Images, npt.NDArray[Any]]:
    """Images and labels of a split of MNIST."""
    images, labels = idx_files(data / "mnist" / "MNIST" / "raw", split)
    return read_images(images), read_labels(labels)


def read_digits(split: str) -> tuple[Images, npt.NDArray[Any]]:
    """Images and labels of scikit-learn's digits."""
    return read(split)


def attack(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """PGD-40 on the cross-entropy, from the image."""
    radius = torch.full((len(images),), _number(DIGITS.epsilon), device=images.device)
    return pgd(
        model,
        images,
        radius=radius,
        step_size=radius / 10,
        steps=40,
        objective=partial(label_objective, labels=labels, towards_label=radius < 0),
        norm=norm_named("Linf"),
        start=torch.zeros_like(images),
    )


def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Percent classified rightly."""
    with torch.no_grad():
        return 100 * float((model(images).argmax(1) == labels).double().mean())


def time_seeds(device: str, rounds: int) -> None:
    """One RS-FGSM step of 16 MNIST networks, one after the other and all in one ``torch.func.vmap``."""
    models = [build_plain(MNIST.architecture, MNIST.shape).to(device) for _ in range(16)]
    parameters, _ = torch.func.stack_module_state(models)
    x, y = torch.rand(16, 100, *MNIST.shape, device=device), torch.randint(10, (16, 100), device=device)

    def loss(values: dict[str, Tensor], images: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(torch.func.functional_call(models[0], values, (images,)), labels)

    def together() -> None:
        by_image = torch.func.vmap(torch.func.grad(loss, argnums=1))(parameters, x, y)
        torch.func.vmap(torch.func.grad(loss))(parameters, (x + 0.375 * by_image.sign()).clamp(0, 1), y)

    def in_sequence() -> None:
        for model, images, labels in zip(models, x, y, strict=True):
            images.requires_grad_()
            (by_image,) = torch.autograd.grad(F.cross_entropy(model(images), labels), images)
            attacked = (images.detach() + 0.375 * by_image.sign()).clamp(0, 1)
            torch.autograd.grad(F.cross_entropy(model(attacked), labels), list(model.parameters()))

    works = {"sequence": in_sequence, "vmap": together}
    found = in_turn({name: partial(seconds_of, work, device) for name, work in works.items()}, rounds=rounds)
    spent = {name: seconds.processor for name, seconds in found.items()}
    text = ", ".join(f"{name} {seconds * 1e3:.0f} ms" for name, seconds in spent.items())
    print(f"16 networks, batch 100 each: {text}, ratio {spent['sequence'] / spent['vmap']:.2f}")


def _number(fraction: str) -> float:
    numerator, denominator = fraction.split("/")
    return int(numerator) / int(denominator)


def main() -> None:
    """Run one benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    benchmarks: dict[str, Callable[..., None]] = {
        "step": time_steps,
        "network": time_network,
        "data": time_data,
        "precision": compare_precisions,
        "rs_fgsm": time_rs_fgsm,
        "seeds": time_seeds,
    }
    parser.add_argument("what", choices=benchmarks)
    parser.add_argument("--rounds", type=int, default=5, help="steps timed, or seeds trained (default: %(default)s)")
    parser.add_argument("--threads", type=int, help="of step and rs_fgsm (default: each case's own, and 1)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="MNIST, for rs_fgsm")
    parser.add_argument("--network", choices=NETWORKS, default="resnet18", help="of network (default: %(default)s)")
    parser.add_argument(
        "--batch-sizes", type=int, nargs="+", default=[512, 1024], help="of network (default: %(default)s)"
    )
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=SIDES, help="of network (default: all)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    network = (options.network, options.batch_sizes, options.sides)
    more = {"step": (options.threads,), "network": network, "rs_fgsm": (options.data, options.threads)}
    benchmarks[options.what](options.device, options.rounds, *more.get(options.what, ()))


if __name__ == "__main__":
    main()
