"""A pool drawn from a generator: image i is of class i modulo the number of classes."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch

from robustprune.core.errors import UserError
from robustprune.core.job import Job
from robustprune.core.rows import Columns, RowPass, compute_rows
from robustprune.core.stage_file import read_spec
from robustprune.generation.network import UNet, build_network
from robustprune.generation.sampler import draw_images
from robustprune.images.specs import GeneratedPoolStage, GeneratorStage
from robustprune.images.writing import Block, fill_pool, publish_pool
from robustprune.networks.checkpoint import WEIGHTS_FILE, load_weights

DEFINITION = {"pools.generated": 1}


def row_pass(job: Job, spec: GeneratedPoolStage) -> RowPass:
    """How some or all images are drawn. Raises UserError as ``run_generated``."""
    network = load_generator(job.upstream("generators", spec.generator), spec, job.device)
    return partial(compute_rows, job, spec.count, partial(_draw, job, spec, network), what="drawing images")


def run_generated(job: Job, spec: GeneratedPoolStage) -> dict[str, Any]:
    """Draw the images, write them as a pool, and publish it with a contact sheet.

    Returns:
        count, class_counts and digest of the pool, and that nothing of what was drawn was left out.

    Raises:
        UserError: when the generator is damaged or draws other images than the pool's.
        Interrupted: after a signal, with the images drawn so far saved.
    """
    drawn = row_pass(job, spec)()
    fill_pool(
        job,
        lambda first: _from_row(first, drawn),
        count=spec.count,
        image_shape=spec.image_shape,
        classes=spec.classes,
        dataset=spec.dataset,
        source=f"drawn from {spec.generator} in {spec.sampler.steps} steps, seed {spec.sampler.seed}",
    )
    return {**publish_pool(job), "selected": []}


def _from_row(first: int, blocks: Iterator[Columns]) -> Iterator[Block]:
    """Images and labels from row ``first`` on."""
    start = 0
    for columns in blocks:
        skipped = max(0, first - start)
        start += len(columns["labels"])
        if skipped < len(columns["labels"]):
            yield columns["images"][skipped:], columns["labels"][skipped:]


def load_generator(directory: Path, spec: GeneratedPoolStage, device: torch.device) -> UNet:
    """The averaged network of a complete generator stage, in eval mode, its parameters frozen."""
    trained = read_spec(directory)
    if not isinstance(trained, GeneratorStage):
        raise UserError(f"{directory} holds a stage of kind {trained.kind}, not a generator")
    if trained.image_shape != spec.image_shape or trained.classes != spec.classes:
        raise UserError(
            f"{directory} draws images of shape {trained.image_shape} in {trained.classes} classes, but the pool has "
            f"{spec.image_shape} in {spec.classes}"
        )
    network = build_network(trained.settings, trained.image_shape, trained.classes)
    try:
        network.load_state_dict(load_weights(directory / WEIGHTS_FILE))
    except RuntimeError as error:
        raise UserError(f"{directory / WEIGHTS_FILE} does not fit the generator's settings: {error}") from None
    return network.to(device).eval().requires_grad_(False)


def _draw(job: Job, spec: GeneratedPoolStage, network: UNet, start: int, stop: int) -> Columns:
    ids = torch.arange(start, stop)
    labels = ids % spec.classes
    images = draw_images(network, ids, labels.to(job.device), spec.sampler, spec.image_shape)
    return {"images": images.cpu().numpy(), "labels": labels.numpy()}
