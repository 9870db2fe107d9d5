"""Measures how fast this machine takes images through the networks of a plan."""

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import cast

import torch
from torch import Tensor, nn

from robustprune.core.errors import UserError
from robustprune.core.randomness import BatchNoise, generator
from robustprune.core.settings import Precision
from robustprune.generation.generated_pool import GeneratedPoolStage
from robustprune.generation.generator import GeneratorStage
from robustprune.generation.network import UNet, build_network
from robustprune.generation.settings import AUGMENTATION_LABELS
from robustprune.networks.architecture import build_model
from robustprune.networks.imported import ImportedModelStage
from robustprune.networks.precision import arithmetic, memory_format
from robustprune.planning.plan import Plan
from robustprune.planning.throughput import Rates
from robustprune.training.model import ModelStage

NetworkSpec = ModelStage | ImportedModelStage | GeneratorStage

logger = logging.getLogger(__name__)

FIRST_BATCH, GROWTH = 8, 4
Pass = Callable[[Tensor], object]


def calibrate(plan: Plan, device: torch.device, *, batch_size: int, seconds: float) -> dict[str, Rates]:
    """Return the rates of each network of a plan, with fresh weights, in each arithmetic that something computes in.

    Batches of up to ``batch_size`` images are tried, each for ``seconds`` on each kind of pass. The device is prepared.
    """
    found, rates = networks(plan), {}
    for position, (name, (spec, precision)) in enumerate(found.items()):
        rates[name] = _measure(spec, precision, device, batch_size=batch_size, seconds=seconds)
        ways = rates[name].model_dump(include={"forwards", "gradients", "updates"}, exclude_none=True)
        speeds = ", ".join(f"{rate:.4g} {way}" for way, rate in ways.items())
        logger.info("%d of %d, %s: %s a second", position + 1, len(found), name, speeds)
    return rates


def networks(plan: Plan) -> dict[str, tuple[NetworkSpec, Precision]]:
    """Each network of the plan's own that images go through, with the arithmetic of what they go through it for.

    Torchvision's are not among them: their weights lie where the jobs run, so they cannot be built for a measurement.
    """
    found: list[tuple[NetworkSpec, Precision]] = []  # a model looks at images in float32, however it learns
    for spec in plan.stages.values():
        match spec:
            case ModelStage(training=recipe):
                found += [(spec, recipe.precision), (spec, "float32")]
            case ImportedModelStage():
                found.append((spec, "float32"))
            case GeneratorStage(settings=settings):
                found.append((spec, settings.precision))
            case GeneratedPoolStage(generator=generator, sampler=sampler):
                found.append((cast(GeneratorStage, plan.stages[generator]), sampler.precision))
    return {spec.network(precision): (spec, precision) for spec, precision in found}


def _measure(
    spec: NetworkSpec, precision: Precision, device: torch.device, *, batch_size: int, seconds: float
) -> Rates:
    if isinstance(spec, GeneratorStage):
        denoiser = build_network(spec.settings, spec.image_shape, spec.classes)
        network: nn.Module = denoiser
        function = _as_denoiser(denoiser, augmented=spec.settings.augmentation_probability > 0)
    else:
        network = build_model(spec.architecture, image_shape=spec.image_shape, classes=spec.classes)
        function = network
    network.to(device).to(memory_format=memory_format(network, precision, device))

    def call(images: Tensor) -> Tensor:
        with arithmetic(precision, device):
            outputs: Tensor = function(images)
        return outputs

    def fastest(way: Pass) -> float:
        return _fastest(way, spec.image_shape, device, batch_size=batch_size, seconds=seconds)

    parameters = list(network.parameters())
    updates = fastest(lambda images: torch.autograd.grad(call(images).square().sum(), parameters))
    network.eval().requires_grad_(False)
    gradients = None if isinstance(spec, GeneratorStage) else fastest(lambda images: _to_pixels(call, images))
    with torch.no_grad():
        forwards = fastest(call)
    return Rates(
        forwards=forwards,
        gradients=gradients,
        updates=updates,
        parameters=sum(parameter.numel() for parameter in parameters),
        torch=torch.__version__,
        measured=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _as_denoiser(network: UNet, *, augmented: bool) -> Callable[[Tensor], Tensor]:
    """The network as a function of images alone; in training with dropout and, if augmented, augmentation labels."""

    def call(images: Tensor) -> Tensor:
        count = len(images)
        network.drop_by(BatchNoise(generator(0, "calibration", device=images.device), count))
        augmentation = images.new_zeros(count, AUGMENTATION_LABELS) if augmented and network.training else None
        labels = images.new_zeros(count, dtype=torch.int64)
        denoised: Tensor = network(images, images.new_zeros(count), labels, augmentation)
        return denoised

    return call


def _to_pixels(call: Callable[[Tensor], Tensor], images: Tensor) -> None:
    images = images.detach().requires_grad_()
    torch.autograd.grad(call(images).square().sum(), images)


def _fastest(
    way: Pass, image_shape: tuple[int, int, int], device: torch.device, *, batch_size: int, seconds: float
) -> float:
    """Images a second at the best of growing batches, up to one that is slower, too large, or takes too long."""
    best, size = 0.0, min(FIRST_BATCH, batch_size)
    while True:
        try:
            rate, one_pass = _rate(way, torch.rand(size, *image_shape, device=device), seconds)
        except torch.cuda.OutOfMemoryError:
            if best == 0:
                raise UserError(f"a batch of {size} images does not fit the memory of {device}") from None
            return best
        if rate <= best:
            return best
        best = rate
        if size == batch_size or GROWTH * one_pass > seconds:
            return best
        size = min(GROWTH * size, batch_size)


def _rate(way: Pass, images: Tensor, seconds: float) -> tuple[float, float]:
    """Images a second, and the seconds of a pass, after one to warm up; a pass at least."""
    way(images)
    _wait(images.device)
    began, passes = time.monotonic(), 0
    while passes == 0 or time.monotonic() - began < seconds:
        way(images)
        _wait(images.device)
        passes += 1
    taken = time.monotonic() - began
    return passes * len(images) / taken, taken / passes


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
