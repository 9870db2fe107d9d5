"""The stage that trains students on every point of a grid."""

import itertools
from typing import Any, Literal, NamedTuple

import numpy as np
from pydantic import Field

from robustprune.core.files import replacing
from robustprune.core.job import Job
from robustprune.core.paths import ERRORS_FILE
from robustprune.core.rows import Columns, collect, compute_rows
from robustprune.core.stage import Stage
from robustprune.experiments.studies.settings import (
    InputScale,
    PerceptronCurve,
    PerceptronGrid,
)

DEFINITION = {"perceptron.stage": 1}


"""A row a student: strategy, ratio, load, trial, angle_error, correlation_error, mislabelled (share of its samples
nearer to the boundary than epsilon), fits (all attacked samples), converged."""


class Point(NamedTuple):
    """One student: what is pruned, samples a feature, and which trial."""

    curve: PerceptronCurve
    load: float
    trial: int


class PerceptronStage(Stage):
    """Students of a perceptron teacher on every point of a grid, attacked with one epsilon (PUMA, section 2)."""

    sentence = "small models, such as a perceptron and its teacher, that show what pruning does without images"
    uses_device = False
    kind: Literal["studies"] = "studies"
    study: Literal["perceptron"] = "perceptron"
    features: int = Field(ge=2)
    grid: PerceptronGrid
    epsilon: float = Field(ge=0, description="size of the attack in L-infinity, in units of the inputs")
    filtered: bool = Field(description="whether samples of a margin below epsilon are removed before the pruning")
    inputs: InputScale
    seed: int = Field(ge=0)

    @property
    def scale(self) -> float:
        """Standard deviation of a feature."""
        return 1.0 if self.inputs == "unit_variance" else float(self.features**-0.5)

    @property
    def slug(self) -> str:
        filtered = "-filtered" if self.filtered else ""
        return f"perceptron-{self.inputs.replace('_', '-')}-{format(self.epsilon, 'g').replace('.', 'p')}{filtered}"

    def run(self, job: Job) -> dict[str, Any]:
        """Publish ``errors.parquet``; returns how many students there are and how many converged."""
        import pandas as pd
        from threadpoolctl import threadpool_limits

        wanted = points(self)

        def train(start: int, stop: int) -> Columns:
            rows = [_measure(self, point) for point in wanted[start:stop]]
            return {name: np.array([row[name] for row in rows]) for name in rows[0]}

        with threadpool_limits(limits=1, user_api="blas"):  # a student is too small to share
            blocks = compute_rows(job, len(wanted), train, what="training students", unit="students", batch_size=1)
        errors = pd.DataFrame(
            {
                "strategy": [point.curve.strategy for point in wanted],
                "ratio": [point.curve.ratio for point in wanted],
                "load": [point.load for point in wanted],
                "trial": [point.trial for point in wanted],
                **collect(blocks),
            }
        )
        with replacing(job.partial / ERRORS_FILE) as temporary:
            errors.to_parquet(temporary, index=False)
        job.publish(ERRORS_FILE)
        return {"students": len(errors), **{name: int(errors[name].sum()) for name in ("fits", "converged")}}


def points(spec: PerceptronStage) -> list[Point]:
    """Every student of a study, in the order of its rows."""
    grid = spec.grid
    return [Point(*point) for point in itertools.product(grid.curves, grid.loads, range(grid.trials))]


def _measure(spec: PerceptronStage, point: Point) -> dict[str, float | bool]:
    """Train one student; its samples depend on the point alone, so that studies of other attacks see the same ones."""
    from robustprune.core.randomness import derive_seed
    from robustprune.experiments.studies.student import train_student
    from robustprune.experiments.studies.teacher import draw_samples

    curve, load, trial = point
    seed = derive_seed(spec.seed, "samples", curve.strategy, str(curve.ratio), str(load), trial)
    samples = draw_samples(
        np.random.default_rng(seed),
        round(load * spec.features),
        curve,
        features=spec.features,
        scale=spec.scale,
        floor=spec.epsilon if spec.filtered else 0.0,
    )
    student = train_student(samples, spec.epsilon)
    return {
        "angle_error": student.angle_error,
        "correlation_error": student.correlation_error,
        "mislabelled": float((samples[:, 0] < spec.epsilon).mean()),
        "fits": student.fits,
        "converged": student.converged,
    }
