"""Scores of images in figures: the base of their entries, their measures, and the claims on these."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from robustprune.core.declarations import Declarations, Named
from robustprune.core.errors import UserError
from robustprune.core.job import Job
from robustprune.core.paths import STORE_NAME
from robustprune.core.settings import Settings
from robustprune.core.stage import ScoreId
from robustprune.experiments.claim_settings import Claim, Relation
from robustprune.experiments.figures.figure import FigureEntry, publish_figure, refuse_duplicates

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from robustprune.experiments.claims import Finding
    from robustprune.experiments.row import Row
    from robustprune.planning.context import Context

DEFINITION = {"figures.claims": 3, "figures.measures": 3}

Scores = npt.NDArray[np.float32]
Measured = Mapping[str, float]
"""The measures of a series, by name."""
Function = TypeVar("Function", bound=Callable[..., float | None])
Series = TypeVar("Series", bound=Hashable)

LOW = 0.1  # of the highest score of all series
ONE_TRAINING = "Scores are of one training each, so their numbers have no interval, and no claim is judged by them."
SEVERAL_TRAININGS = "Shown are the scores of the first seed; claims are judged over those of {} trainings."


class Measure(NamedTuple):
    """A number that sums up scores: its name in captions, how many decimals are shown, and its function.

    The function takes what a figure measures, e.g. ``Compared``, and returns None where it is not defined.
    """

    words: str
    decimals: int
    of: Callable[..., float | None]


MEASURES: Declarations[Measure] = Declarations("measure", "robustprune.experiments.figures")


def measure(name: str, *, words: str, decimals: int = 3) -> Callable[[Function], Function]:
    """Declare a measure: a decorator of its function."""

    def declare(function: Function) -> Function:
        MEASURES.declare(name, Measure(words, decimals, function))
        return function

    return declare


@dataclass(frozen=True)
class Compared:
    """Scores, and those that they are compared with.

    Attributes:
        scores: (N,), infinite where a search ended without a value, not everywhere.
        reference: (M,) scores of the first series, or the true ones.
        highest: the highest finite score of all series.
        same_images: True if both are of the same images, so that they can be correlated.
    """

    scores: Scores
    reference: Scores
    highest: float = np.inf
    same_images: bool = True

    @property
    def finite(self) -> Scores:
        """The finite scores."""
        return self.scores[np.isfinite(self.scores)]

    @property
    def quantiles(self) -> list[float]:
        """The quantiles 0.01, 0.5 and 0.99 of the finite scores."""
        return [float(value) for value in np.quantile(self.finite, [0.01, 0.5, 0.99]).tolist()]

    @property
    def exact(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Reference and scores in float64."""
        return self.reference.astype(np.float64), self.scores.astype(np.float64)

    @property
    def both_vary(self) -> bool:
        """True if neither is constant."""
        return bool(min(np.ptp(self.reference), np.ptp(self.scores)) > 0)


@measure("median", words="median", decimals=5)
def median(compared: Compared) -> float:
    """Return the median of the finite scores."""
    return compared.quantiles[1]


@measure("censored", words="share not finite")
def censored_share(compared: Compared) -> float:
    """Return the share of scores that are not finite."""
    return 1 - len(compared.finite) / len(compared.scores)


@measure("low", words="share below a tenth of the highest")
def low_share(compared: Compared) -> float | None:
    """Return the share of the finite scores below a tenth of the highest; None where some are negative."""
    finite = compared.finite
    return float((finite < LOW * compared.highest).mean()) if finite.min() >= 0 else None


@measure("tail", words="tail ratio, (99 % - 50 %) / (50 % - 1 %)")
def tail_ratio(compared: Compared) -> float | None:
    """Return the length of the upper tail over that of the lower one; None where that has no length."""
    low, middle, high = compared.quantiles
    return (high - middle) / (middle - low) if middle > low else None


@measure("distance", words="largest difference of cumulative shares to the first's")
def largest_distance(compared: Compared) -> float | None:
    """Return the statistic of Kolmogorov and Smirnov, infinite scores included; None for the first series."""
    if compared.scores is compared.reference:
        return None
    both = (compared.scores, compared.reference)
    places = np.unique(np.concatenate(both))
    shares = [np.searchsorted(np.sort(values), places, side="right") / len(values) for values in both]
    return float(np.abs(shares[0] - shares[1]).max())


@measure("rank_correlation", words="rank correlation")
def rank_correlation(compared: Compared) -> float | None:
    """Return Spearman's correlation; None for other images, for the first series, or where one is constant."""
    from scipy import stats

    if compared.scores is compared.reference or not compared.same_images or not compared.both_vary:
        return None
    return float(stats.spearmanr(compared.reference, compared.scores).statistic)


@measure("mae", words="mean absolute error", decimals=5)
def mean_absolute_error(compared: Compared) -> float:
    """Return the mean absolute difference from the reference."""
    truth, scores = compared.exact
    return float(np.abs(scores - truth).mean())


@measure("slope", words="slope of the straight line through the points")
def slope(compared: Compared) -> float | None:
    """Return the slope of the scores over the reference; None where that is constant."""
    from scipy import stats

    return float(stats.linregress(*compared.exact).slope) if np.ptp(compared.reference) > 0 else None


@measure("spread", words="standard deviation over that of the truth")
def relative_spread(compared: Compared) -> float | None:
    """Return the standard deviation over that of the reference; None where that is constant."""
    truth, scores = compared.exact
    return float(scores.std() / truth.std()) if np.ptp(truth) > 0 else None


@measure("mae_ratio", words="mean absolute error over that of the mean score")
def relative_error(compared: Compared) -> float | None:
    """Return the error over that of predicting the mean of the reference; None where that is constant."""
    truth, _ = compared.exact
    constant = float(np.abs(truth - truth.mean()).mean())
    return mean_absolute_error(compared) / constant if np.ptp(truth) > 0 else None


@measure("correlation", words="correlation")
def correlation(compared: Compared) -> float | None:
    """Return Pearson's correlation; None where one of the two is constant."""
    from scipy import stats

    return float(stats.linregress(*compared.exact).rvalue) if compared.both_vary else None


class MeasureCheck(Relation):
    """One inequality between two series of scores, or between one and a number."""

    measure: Annotated[str, Named(MEASURES)]
    row: str = Field(description="name of the series")


MeasureClaim = Claim[MeasureCheck]


class FigureOfScores(FigureEntry):
    """The keys of figures that show scores of images, of one model each."""

    measures: ClassVar[tuple[str, ...]]
    claims: tuple[MeasureClaim, ...] = ()

    @property
    def measured(self) -> tuple[str, ...]:
        """Names of the series, of whose measures a paper can claim something."""
        rows: tuple[Row, ...] = getattr(self, "series", ())
        return tuple(row.method for row in rows)

    @model_validator(mode="after")
    def _claims_are_of_the_figure(self) -> FigureOfScores:
        refuse_duplicates(self.measured, "series")
        for check in (check for claim in self.claims for check in claim.checks):
            for name in (check.row, check.other):
                if isinstance(name, str) and name not in self.measured:
                    raise ValueError(f"claims: there is no {name!r}; there are {', '.join(self.measured)}")
            if check.measure not in self.measures:
                raise ValueError(f"claims: {check.measure} is not measured here, but {', '.join(self.measures)}")
        return self


class ScoreSeries(Settings):
    """A method, and its scores of each pool that it learns from."""

    method: str
    scores: tuple[ScoreId, ...] = Field(min_length=1)


def plan_scores(context: Context, row: Row) -> ScoreSeries:
    """Plan the scores of a row."""
    return ScoreSeries(method=row.method, scores=context.scored(row))


def plan_seeds(context: Context, claims: Sequence[Any], plan: Callable[[Context], Series]) -> tuple[Series, ...]:
    """Plan what a figure measures for the first seed and, where a paper claims something of it, for the others.

    What rests on no training of its own, such as imported scores, is the same for all seeds, and is there once.
    """
    seeds = context.config.seeds if claims else context.config.seeds[:1]
    return tuple(dict.fromkeys(plan(context.from_seed(seed)) for seed in seeds))


def scored_pools(context: Context, series: ScoreSeries) -> tuple[str, ...]:
    """Return the pool whose images each of the scores is of."""
    return tuple(dict(reversed(context.stages[score].upstream))["pools"] for score in series.scores)


def read_scores(job: Job, scores: Sequence[str]) -> Scores:
    """Return the concatenated scores of some stages. Raises UserError when a store is damaged."""
    from robustprune.scores.score import Meaning
    from robustprune.scores.store.reader import open_store

    stores = [open_store(job.upstream("scores", score) / STORE_NAME) for score in scores]
    return np.concatenate([store.read(Meaning(**store.attributes["score"]).column) for store in stores])


def refuse_unlike(first: npt.NDArray[Any], second: npt.NDArray[Any], *, names: Sequence[str]) -> None:
    """Raise UserError where two scores are not of as many images."""
    if len(first) != len(second):
        raise UserError(f"{' and '.join(names)} are of {len(first)} and of {len(second)} images, so not of the same")


def defined(measures: Sequence[str], of: Any) -> dict[str, float]:
    """Return the measures of ``of``, the argument of their functions, without those that are not defined."""
    return {name: value for name in measures if (value := MEASURES[name].of(of)) is not None}


def measures_in_words(measured: Measured) -> str:
    """Return all measures of a series as a list for a sentence."""
    return ", ".join(f"{MEASURES[name].words} {value:.{MEASURES[name].decimals}f}" for name, value in measured.items())


def publish_measured(
    job: Job,
    stage: Any,
    figure: Figure,
    data: pd.DataFrame,
    shown: Sequence[str],
    seeds: Sequence[Mapping[str, Measured]],
) -> dict[str, Any]:
    """Publish a figure of scores; ``shown`` are the sentences of its caption on what was measured.

    ``seeds`` are the measures of each series, by each seed's training; the first seed's are shown.

    Returns:
        title, the measures by the first seed's training and by each, and for each claim its checks in words and its
        verdict.
    """
    from robustprune.experiments.claims import judged, sentences

    claims = [judged(one.claim, [_measured(check, seeds) for check in one.checks]) for one in stage.claims]
    trainings = ONE_TRAINING if len(seeds) == 1 else SEVERAL_TRAININGS.format(len(seeds))
    publish_figure(job, figure, data, [stage.title, *shown, trainings, *sentences(claims)])
    every = {"of_each_seed": list(seeds)} if len(seeds) > 1 else {}
    return {"title": stage.title, "measured": seeds[0], **every, "claims": [asdict(claim) for claim in claims]}


def _measured(check: MeasureCheck, seeds: Sequence[Mapping[str, Measured]]) -> Finding:
    from robustprune.experiments import claims
    from robustprune.experiments.intervals import Sample

    def over_trainings(name: str) -> Sample | None:
        values = {seed: of[name][check.measure] for seed, of in enumerate(seeds) if check.measure in of[name]}
        return Sample(values) if values else None

    other = over_trainings(check.other) if isinstance(check.other, str) else float(check.other)
    compared = MEASURES[check.measure]
    words = f"{compared.words} of {check.row}", str(check.other)
    return claims.measured(check, words, over_trainings(check.row), other, decimals=compared.decimals)
