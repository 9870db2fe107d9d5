"""The perceptron study (PUMA, section 2): students of a teacher perceptron on every point of a grid.

See papers.md, P17, P18.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Self

import numpy as np
import numpy.typing as npt
from pydantic import AfterValidator, Field, model_validator

from robustprune.core.files import replacing
from robustprune.core.job import Job
from robustprune.core.rows import Columns, collect, compute_rows
from robustprune.core.settings import Settings
from robustprune.core.stage import Stage

if TYPE_CHECKING:
    import pandas as pd

DEFINITION = {"perceptron.stage": 1, "perceptron.teacher": 1}

Floats = npt.NDArray[np.float64]

ERRORS_FILE = "errors.parquet"
"""A row a student: strategy, ratio, load, trial, angle_error, correlation_error, mislabelled (share of its samples
nearer to the boundary than epsilon), fits (all attacked samples), converged."""


InputScale = Literal["unit_variance", "unit_norm"]
"""Length of an input: features of variance 1, as PUMA prints it, or of variance 1/K, as in perceptron theory."""

FROM_LOAD = 2.0
"""Least alpha of the power laws that are fitted; errors below it follow none."""


def _rising(values: tuple[float, ...]) -> tuple[float, ...]:
    if list(values) != sorted(set(values)):
        raise ValueError("should rise, each value once")
    return values


Ratios = Annotated[tuple[Annotated[float, Field(gt=0, lt=1)], ...], Field(min_length=1), AfterValidator(_rising)]
Loads = Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1), AfterValidator(_rising)]
Epsilons = Annotated[tuple[Annotated[float, Field(ge=0)], ...], Field(min_length=2), AfterValidator(_rising)]


class PerceptronCurve(Settings):
    """A pruning: of nothing, or of a share of the samples, of highest (easy) or lowest (difficult) margin."""

    strategy: Literal["none", "prune_easy", "prune_difficult"]
    ratio: float = Field(0.0, ge=0, lt=1)


class PerceptronGrid(Settings):
    """The points of a study: every curve at every load, in some trials."""

    trials: int = Field(ge=2, description="independent trials of a point")
    loads: Loads = Field(description="samples that are kept for each feature, alpha; above 0, rising")
    easy_ratios: Ratios = Field(description="shares of easy samples that are pruned; above 0, below 1, rising")
    difficult_ratios: Ratios = Field(description="the same of difficult ones")

    @property
    def power_law_loads(self) -> tuple[float, ...]:
        """The loads over which exponents are fitted."""
        return tuple(load for load in self.loads if load >= FROM_LOAD)

    @property
    def curves(self) -> tuple[PerceptronCurve, ...]:
        """No pruning, and each ratio of each strategy."""
        easy = (PerceptronCurve(strategy="prune_easy", ratio=ratio) for ratio in self.easy_ratios)
        difficult = (PerceptronCurve(strategy="prune_difficult", ratio=ratio) for ratio in self.difficult_ratios)
        return (PerceptronCurve(strategy="none"), *easy, *difficult)


class PerceptronSettings(Settings):
    """The scale of the study. The defaults are the paper's K, and a few minutes of one core for each of its figures."""

    features: int = Field(200, ge=2, description="features of an input, K")
    seed: int = Field(0, ge=0, description="of all draws")
    curves: PerceptronGrid = Field(
        PerceptronGrid(
            trials=20, loads=(0.5, 1, 2, 4, 8, 20, 50), easy_ratios=(0.5, 0.8, 0.95), difficult_ratios=(0.5, 0.8)
        ),
        description="of PUMA's figures 1 to 4",
    )
    phases: PerceptronGrid = Field(
        PerceptronGrid(
            trials=5,
            loads=(2, 8, 32),
            easy_ratios=(0.3, 0.5, 0.7, 0.8, 0.9, 0.95),
            difficult_ratios=(0.3, 0.5, 0.7, 0.8, 0.9, 0.95),
        ),
        description="of the map of which strategy wins",
    )
    phase_epsilons: Epsilons = Field(
        (0.0, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.04),
        description="attacks on that map, for inputs of unit norm; at least 0, rising",
    )

    def study(
        self, grid: PerceptronGrid, epsilon: float, inputs: InputScale, *, filtered: bool = False
    ) -> PerceptronStage:
        """Return the stage that trains the students of a grid under an attack of that size."""
        return PerceptronStage(
            features=self.features, grid=grid, epsilon=epsilon, filtered=filtered, inputs=inputs, seed=self.seed
        )

    @model_validator(mode="after")
    def _exponents_have_two_halves(self) -> Self:
        if len(self.curves.power_law_loads) < 3:
            raise ValueError(
                f"curves.loads = {list(self.curves.loads)} should have three values of at least {FROM_LOAD:g}, over "
                "the halves of which exponents are fitted"
            )
        return self

    @model_validator(mode="after")
    def _every_student_has_samples(self) -> Self:
        for name, grid in (("curves", self.curves), ("phases", self.phases)):
            if round(grid.loads[0] * self.features) < 1:
                raise ValueError(
                    f"{name}.loads = {list(grid.loads)} should each keep a sample at least of {self.features} features"
                )
        return self

    @model_validator(mode="after")
    def _phases_compare_equal_shares(self) -> Self:
        if self.phases.easy_ratios != self.phases.difficult_ratios:
            raise ValueError("phases.easy_ratios and phases.difficult_ratios should be the same, as they are compared")
        return self


class Point(NamedTuple):
    """One student: its pruning, samples per feature, and trial."""

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
    filtered: bool = Field(description="remove samples of a margin below epsilon before the pruning")
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
        """Publish ``errors.parquet``, and return the numbers of students, of those that fit, and of converged ones."""
        import pandas as pd
        from threadpoolctl import threadpool_limits

        wanted = points(self)

        def train(start: int, stop: int) -> Columns:
            rows = [_measure(self, point) for point in wanted[start:stop]]
            return {name: np.array([row[name] for row in rows]) for name in rows[0]}

        with threadpool_limits(limits=1, user_api="blas"):  # a student is too small to share
            blocks = compute_rows(job, len(wanted), train, what="training students", unit="students", batch_size=1)
        places = [{**point.curve.model_dump(), "load": point.load, "trial": point.trial} for point in wanted]
        errors = pd.DataFrame(places).assign(**collect(blocks))
        with replacing(job.partial / ERRORS_FILE) as temporary:
            errors.to_parquet(temporary, index=False)
        job.publish(ERRORS_FILE)
        return {"students": len(errors), **{name: int(errors[name].sum()) for name in ("fits", "converged")}}

    def results(self, directory: Path) -> pd.DataFrame:
        """Return the errors that the stage has made, a row a student."""
        import pandas as pd

        return pd.read_parquet(directory / ERRORS_FILE)


def points(spec: PerceptronStage) -> list[Point]:
    """Return every student of a study, in the order of its rows."""
    grid = spec.grid
    return [Point(*point) for point in itertools.product(grid.curves, grid.loads, range(grid.trials))]


def _measure(spec: PerceptronStage, point: Point) -> dict[str, float | bool]:
    """Train one student. Its samples depend on the point alone, so that studies of other attacks have the same ones."""
    from robustprune.core.randomness import derive_seed
    from robustprune.experiments.studies.student import train_student

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


def draw_samples(
    random: np.random.Generator, count: int, curve: PerceptronCurve, *, features: int, scale: float, floor: float
) -> Floats:
    """Draw ``count`` samples that are left after pruning, of features with standard deviation ``scale``.

    Samples of a margin below ``floor`` are removed before the pruning.

    Returns:
        (count, features) float64, y x: the first column is the margin, in ascending order.
    """
    candidates = round(count / (1 - curve.ratio))
    margins = np.sort(draw_margins(random, candidates, scale=scale, floor=floor))
    kept = margins[:count] if curve.strategy == "prune_easy" else margins[-count:]
    others = random.standard_normal((count, features - 1)) * scale
    return np.column_stack([kept, others])


def draw_margins(random: np.random.Generator, count: int, *, scale: float, floor: float) -> Floats:
    """Draw (count,) margins |x_1| of normal features that are at least ``floor``, by the inverse of the tail."""
    from scipy import stats

    tail = random.uniform(0, stats.norm.sf(floor / scale), size=count)
    margins: Floats = stats.norm.isf(tail) * scale
    return margins
