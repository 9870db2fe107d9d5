"""A pool drawn from a generator: image i is of class i modulo the number of classes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from pydantic import Field

from robustprune.core.errors import UserError
from robustprune.core.job import Job
from robustprune.core.rows import Columns, RowPass, compute_rows
from robustprune.core.stage import GeneratorId, SharedRows
from robustprune.core.stage_file import read_spec
from robustprune.core.work import Work, bytes_of_image
from robustprune.generation.settings import SamplerSettings
from robustprune.images.pool import PoolStage, Stages

if TYPE_CHECKING:
    import torch

    from robustprune.generation.generator import GeneratorStage
    from robustprune.generation.network import UNet
    from robustprune.images.formats.stream import Block
    from robustprune.planning.plan import Plan


DEFINITION = {"pools.generated": 1}


class GeneratedPoolStage(PoolStage):
    """Images drawn from a generator, the classes in turn."""

    origin: Literal["generated"] = "generated"
    generator: GeneratorId
    count: int = Field(gt=0)
    sampler: SamplerSettings

    @property
    def slug(self) -> str:
        return f"{self.dataset}-generated"

    def planned_count(self, stages: Stages) -> int:
        """Return the number of images that are drawn."""
        return self.count

    def planned_class_counts(self) -> tuple[int, ...]:
        """Return the number of images of each class: the classes come in turn."""
        whole, rest = divmod(self.count, self.classes)
        return tuple(whole + (label < rest) for label in range(self.classes))

    @property
    def shared_rows(self) -> SharedRows:
        return SharedRows(most=self.count)

    def works(self, plan: Plan) -> tuple[Work, ...]:
        """Return the evaluations of the network by the sampler."""
        generator = cast("GeneratorStage", plan.stages[self.generator])
        network = generator.network(self.sampler.precision)
        return (Work(network, forwards=self.count * self.sampler.evaluations),)

    def bytes_left(self, plan: Plan, parameters: Mapping[str, int]) -> int:
        """Return the size of the pixels and labels."""
        return self.count * bytes_of_image(self.image_shape)

    def row_pass(self, job: Job) -> RowPass:
        """Return how some or all images are drawn. Raises UserError as ``run``."""
        network = load_generator(job.upstream("generators", self.generator), self, job.device)
        return partial(compute_rows, job, self.count, partial(_draw, job, self, network), what="drawing images")

    def run(self, job: Job) -> dict[str, Any]:
        """Draw the images, write them as a pool, and publish it with a contact sheet.

        Returns:
            count, class_counts and digest of the pool, and that nothing of what was drawn was left out.

        Raises:
            UserError: when the generator is damaged or draws other images than the pool's.
            Interrupted: after a signal, with the images drawn so far saved.
        """
        from robustprune.images.writing import fill_pool, publish_pool

        drawn = self.row_pass(job)()
        fill_pool(
            job,
            lambda first: _from_row(first, drawn),
            count=self.count,
            image_shape=self.image_shape,
            classes=self.classes,
            dataset=self.dataset,
            source=f"drawn from {self.generator} in {self.sampler.steps} steps, seed {self.sampler.seed}",
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
    from robustprune.generation.network import build_network
    from robustprune.networks.weights import WEIGHTS_FILE, load_weights

    trained = read_spec(directory)
    if trained.kind != "generators":
        raise UserError(f"{directory} holds a stage of kind {trained.kind}, not a generator")
    trained = cast("GeneratorStage", trained)
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
    import torch

    from robustprune.generation.sampler import draw_images

    ids = torch.arange(start, stop)
    labels = ids % spec.classes
    images = draw_images(network, ids, labels.to(job.device), spec.sampler, spec.image_shape)
    return {"images": images.cpu().numpy(), "labels": labels.numpy()}
