"""How fast margins are measured: ``python benchmarks/margins.py {mnist,resnet,classes,scale} [--data FOLDER]``.

What it printed is in docs/benchmarks.md. Sides are timed in turn, each on one thread, by the processor time of its
process, so that other jobs on the machine disturb little; figures are medians over the rounds, and each side has the
batch size of those tried at which it was fastest in a round before. The process is set up as a job's is. adv-lib and
foolbox are in the extra ``dev``.
"""

import argparse
import statistics
import sys
import time
import types
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

from robustprune.attacks.boundary_settings import BoundarySearchSettings
from robustprune.attacks.deepfool_settings import DeepFoolSettings
from robustprune.attacks.margin_method import MarginMethod
from robustprune.attacks.margins import Margins, signed_margins
from robustprune.attacks.norms import norm_named
from robustprune.core.device import prepare_device
from robustprune.images.formats.idx import read_images, read_labels
from robustprune.networks.architecture import build_model

STEPS = 50
NORMS = ["Linf", "L2"]
IMAGES = {"mnist": 2000, "resnet": 64, "classes": 64, "scale": 10**6}
WHOLE = DeepFoolSettings(max_steps=STEPS)
UNREFINED = DeepFoolSettings(max_steps=STEPS, bisection_steps=0)
NARROW = DeepFoolSettings(max_steps=STEPS, bisection_steps=0, slope_ratio=1.5)
EVERY_CLASS = DeepFoolSettings(max_steps=STEPS, bisection_steps=0, slope_ratio=None)


class Outcome(NamedTuple):
    """What a side found.

    Attributes:
        distance: (N,) sizes of the perturbations, infinite where the prediction did not change.
    """

    distance: Tensor

    def __str__(self) -> str:
        found = self.distance.isfinite()
        return f"{float(found.float().mean()):7.2%} flipped, mean {float(self.distance[found].mean()):.5f}"


Side = Callable[[int], Outcome]
"""A batch size to what was found."""

Sides = dict[str, Side]


def ours(model: nn.Module, images: Tensor, labels: Tensor, norm: str, settings: MarginMethod) -> Side:
    """Our margins, in one chunk."""
    return lambda batch_size: Outcome(measure(model, images, labels, norm, settings, batch_size).margin.abs())


def measure(
    model: nn.Module, images: Tensor, labels: Tensor, norm: str, settings: MarginMethod, batch_size: int
) -> Margins:
    """Our margins, in one chunk."""
    return signed_margins(model, images, labels, settings=settings, norm=norm_named(norm), batch_size=batch_size)


def adv_lib(model: nn.Module, images: Tensor, labels: Tensor, norm: str) -> Side:
    """adv-lib's ``df``; it imports visdom for a live view, for which a stand-in does."""
    sys.modules.setdefault("visdom", types.ModuleType("visdom")).__dict__.setdefault("Visdom", None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        from adv_lib.attacks.deepfool import df
    order = float("inf") if norm == "Linf" else 2
    return _attack(model, images, labels, norm, lambda part, own: df(model, part, own, steps=STEPS, norm=order))


def foolbox(model: nn.Module, images: Tensor, labels: Tensor, norm: str) -> Side:
    """Foolbox's DeepFool with ten candidates."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        from foolbox.attacks.deepfool import L2DeepFoolAttack, LinfDeepFoolAttack
        from foolbox.criteria import Misclassification
        from foolbox.models.pytorch import PyTorchModel
    wrapped = PyTorchModel(model, bounds=(0, 1), device="cpu")
    kind = LinfDeepFoolAttack if norm == "Linf" else L2DeepFoolAttack
    attack = kind(steps=STEPS, candidates=10)
    return _attack(model, images, labels, norm, lambda part, own: attack.run(wrapped, part, Misclassification(own)))


def _attack(model: nn.Module, images: Tensor, labels: Tensor, norm: str, attack: Callable[..., Tensor]) -> Side:
    def run(batch_size: int) -> Outcome:
        parts = zip(torch.split(images, batch_size), torch.split(labels, batch_size), strict=True)
        points = torch.cat([attack(part, own) for part, own in parts])
        with torch.no_grad():
            flipped = model(points).argmax(1) != labels
        return Outcome(norm_named(norm).size(points - images).where(flipped, torch.inf))

    return run


def seconds(function: Callable[[], Any]) -> float:
    """Processor time of one call."""
    started = time.process_time()
    function()
    return time.process_time() - started


def compare(sides: Sides, images: int, batch_sizes: tuple[int, ...], rounds: int, *, once: Sides | None = None) -> None:
    """Time the sides in turn and print each beside the first; those of ``once`` one time, at the last batch size."""
    slow = once or {}
    sizes = {name: fastest(side, batch_sizes) for name, side in sides.items()} | dict.fromkeys(slow, batch_sizes[-1])
    times: dict[str, list[float]] = {name: [] for name in sizes}
    found: dict[str, Outcome] = {}
    for number in range(rounds):
        for name, side in (sides if number else sides | slow).items():
            started = time.process_time()
            found[name] = side(sizes[name])
            times[name].append(time.process_time() - started)
    rates = {name: images / statistics.median(spent) for name, spent in times.items()}
    for name, outcome in found.items():
        ratio = rates[name] / rates[next(iter(sides))]
        print(
            f"{name:32} {rates[name]:7.1f} images/s, ratio {ratio:5.2f}, batch {sizes[name]:4}, {outcome}", flush=True
        )


def fastest(side: Side, batch_sizes: tuple[int, ...]) -> int:
    """The batch size at which a side is fastest in one round; it takes none to tell of one."""
    if len(batch_sizes) == 1:
        return batch_sizes[0]
    return min(batch_sizes, key=lambda size: seconds(lambda: side(size)))


def fgsm_model(data: Path, *, plain: bool) -> nn.Module:
    """The public FGSM-trained MNIST model of Wong et al. (2020), with our convolutions or torch's."""
    model = build_model("fast_cnn", image_shape=(1, 28, 28), classes=10)
    if plain:
        layers = list(model.children())
        layers[0], layers[2] = nn.Conv2d(1, 16, 4, 2, 1), nn.Conv2d(16, 32, 4, 2, 1)
        model = nn.Sequential(*layers)
    path = data / "models" / "fast_adversarial_mnist" / "fgsm.pth"
    model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return model.eval().requires_grad_(False)


def mnist_test(data: Path, count: int) -> tuple[Tensor, Tensor]:
    """The first MNIST test images in [0, 1], and their labels."""
    raw = data / "mnist" / "MNIST" / "raw"
    images, labels = raw / "t10k-images-idx3-ubyte.gz", raw / "t10k-labels-idx1-ubyte.gz"
    pixels = torch.tensor(read_images(images)[:count]).float() / 255
    return pixels, torch.tensor(read_labels(labels)[:count]).long()


def mnist(count: int, rounds: int, data: Path, norms: list[str]) -> None:
    """A trained network, 10 classes; foolbox once, as it takes minutes. In L2, where walks are long, of a quarter."""
    model, plain = fgsm_model(data, plain=False), fgsm_model(data, plain=True)
    for norm in norms:
        used = count if norm == "Linf" else count // 4
        print(norm)
        images, _ = mnist_test(data, used)
        labels = predictions(plain, images)
        sides = {
            "adv-lib": adv_lib(plain, images, labels, norm),
            "adv-lib, our convolutions": adv_lib(model, images, labels, norm),
            "ours, every class": ours(model, images, labels, norm, EVERY_CLASS),
            "ours, slope_ratio 1.75": ours(model, images, labels, norm, UNREFINED),
            "ours, slope_ratio 1.5": ours(model, images, labels, norm, NARROW),
            "the same, torch's convolutions": ours(plain, images, labels, norm, NARROW),
            "ours, slope_ratio 1.75, bisected": ours(model, images, labels, norm, WHOLE),
        }
        compare(sides, used, (used // 4, used), rounds, once={"foolbox": foolbox(plain, images, labels, norm)})
    if "Linf" not in norms:
        return
    images, labels = mnist_test(data, count)
    deepfool = measure(model, images, labels, "Linf", WHOLE, count)
    search = measure(model, images, labels, "Linf", BoundarySearchSettings(max_steps=255), count)
    both = deepfool.converged & search.converged
    correlation = spearmanr(deepfool.margin[both], search.margin[both]).statistic
    print(f"Algorithm 1 and DeepFool, Linf: rank correlation {correlation:.3f} over {int(both.sum())} images")


@torch.no_grad()
def predictions(model: nn.Module, images: Tensor) -> Tensor:
    """(N,) classes to lead the images out of: a misclassified one is not done at once, as it would be by its label."""
    logits: Tensor = model(images)
    return logits.argmax(1)


def random_resnet(classes: int, count: int) -> tuple[nn.Module, Tensor, Tensor]:
    """A ResNet-18 as initialised, random images, and what it takes them for."""
    torch.manual_seed(0)
    model = build_model("resnet18", image_shape=(3, 32, 32), classes=classes).eval().requires_grad_(False)
    images = torch.rand(count, 3, 32, 32)
    return model, images, predictions(model, images)


def resnet(count: int, rounds: int, _data: Path, norms: list[str]) -> None:
    """A large network, 10 classes."""
    model, images, labels = random_resnet(10, count)
    for norm in norms:
        print(norm)
        sides = {
            "adv-lib": adv_lib(model, images, labels, norm),
            "ours, slope_ratio 1.75": ours(model, images, labels, norm, UNREFINED),
            "ours, slope_ratio 1.75, bisected": ours(model, images, labels, norm, WHOLE),
        }
        compare(sides, count, (count,), rounds)


def classes(count: int, rounds: int, _data: Path, _norms: list[str]) -> None:
    """A large network, 100 classes."""
    model, images, labels = random_resnet(100, count)
    sides = {
        "DeepFool, every class": ours(
            model, images, labels, "Linf", EVERY_CLASS.model_copy(update={"bisection_steps": 10})
        ),
        "DeepFool, slope_ratio 1.75": ours(model, images, labels, "Linf", WHOLE),
        "Algorithm 1": ours(model, images, labels, "Linf", BoundarySearchSettings()),
    }
    compare(sides, count, (count,), rounds)


def scale(count: int, _rounds: int, _data: Path, _norms: list[str]) -> None:
    """Ever more images of one kind, in chunks of 8 batches of 512."""
    torch.manual_seed(0)
    model = build_model("small_cnn", image_shape=(1, 8, 8), classes=10).eval().requires_grad_(False)
    pixels = np.random.default_rng(0).integers(0, 256, (count, 1, 8, 8), dtype=np.uint8)
    spent, chunk, sizes = 0.0, 8 * 512, [10**power for power in range(4, 10) if 10**power < count] + [count]
    for start in range(0, count, chunk):
        started = time.process_time()
        images = torch.from_numpy(pixels[start : start + chunk]).float() / 255
        measure(model, images, torch.zeros(len(images), dtype=torch.int64), "Linf", WHOLE, 512)
        spent += time.process_time() - started
        while sizes and start + len(images) >= sizes[0]:
            done = start + len(images)
            print(f"{sizes.pop(0):9,} images: {spent / done * 1e6:6.1f} microseconds each", flush=True)


def main() -> None:
    """Run one of the benchmarks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=IMAGES)
    parser.add_argument("--images", type=int)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--norms", nargs="+", choices=NORMS, default=NORMS, help="of mnist and resnet")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="MNIST and the public checkpoint")
    arguments = parser.parse_args()
    prepare_device("cpu", threads=1)
    run = {"mnist": mnist, "resnet": resnet, "classes": classes, "scale": scale}[arguments.what]
    run(arguments.images or IMAGES[arguments.what], arguments.rounds, arguments.data, arguments.norms)


if __name__ == "__main__":
    main()
