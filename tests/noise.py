"""Trainings on images of noise, whose classes differ in brightness alone."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from robustprune.core.execution import Execution
from robustprune.core.job import Job
from robustprune.core.settings import ThreatModel
from robustprune.core.team import Team
from robustprune.images.pool import Pool, open_pool
from robustprune.images.writing import write_pool
from robustprune.training.fit import Training
from robustprune.training.model import ModelStage
from robustprune.training.recipes.base import AnyRecipe
from robustprune.training.trainset import KeptImages

CPU = Execution(device="cpu")
COUNT = 60


def write_noise(folder: Path, seed: int = 0) -> Pool:
    """A pool of 60 images of 8x8 pixels, of ten classes."""
    (folder / "partial").mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    labels = rng.integers(10, size=COUNT)
    images = rng.integers(60, size=(COUNT, 1, 8, 8)) + 19 * labels[:, None, None, None]
    job = Job(folder, CPU, threads=1, live=False)
    write_pool(job, images.astype(np.uint8), labels, dataset="noise", source="a test", classes=10)
    return open_pool(folder)


def kept_of(pool: Pool, radii: tuple[float, float] = (0.1, 0.1)) -> KeptImages:
    """Two of three of its rows; the radii go from the first to the second."""
    rows = np.flatnonzero(np.arange(COUNT) % 3)
    return KeptImages(pool, rows, np.linspace(*radii, len(rows), dtype=np.float32))


def training(
    folder: Path,
    recipe: AnyRecipe,
    *kept: KeptImages,
    team: Team | None = None,
    execution: Execution = CPU,
    **how: Any,
) -> Training:
    """A training on real images, and where there are two of ``kept``, on synthetic ones, not begun."""
    content = {
        "architecture": "small_cnn",
        "classes": 10,
        "image_shape": (1, 8, 8),
        "real": "noise-train-0123456789",
        "synthetic": "noise-synthetic-0123456789" if len(kept) > 1 else None,
        "manifest": None,
        "threat": ThreatModel(epsilon=Fraction(1, 10)),
        "training": recipe,
        "seed": 0,
    }
    spec = ModelStage.model_validate({**content, **how})
    job = Job(folder, execution, threads=1, live=False)
    job.partial.mkdir(parents=True, exist_ok=True)
    return Training(job, spec, list(kept), team or Team())


def finish(trained: Training) -> dict[str, Tensor]:
    """Take all steps that are left; returns the state of the network."""
    while trained.step < trained.total:
        trained.one_step()
    return trained.model.state_dict()
