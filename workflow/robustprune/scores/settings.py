"""Settings of the scores: margins and what else is measured of a training image."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from robustprune.core.settings import COLUMN_PATTERN, Settings

ScoreFormat = Literal["csv", "npy", "parquet", "zarr"]
INDEX = "index"  # the column of a table that says which image


class ImportedScores(Settings):
    """A score for each training image, in files: what a column of them says.

    Files are CSV or Parquet with the columns ``index``, the image's row in its pool, and ``column``; npy with one
    number an image, in the pool's order; or a store's folder, such as 'robustprune store pull' brings.
    """

    train: str = Field(description="file for the real training images: .csv | .npy | .parquet | .zarr")
    synthetic: str | None = Field(None, description="file for the generated images; null where none are learnt from")
    column: str = Field("score", pattern=COLUMN_PATTERN, description="the column with the score")
    unit: str = Field(pattern=r"^[^<>`\\\n]{1,200}$", description="what a value of 1 is, for people")
    easy: Literal["high", "low"] = Field(description="the end at which the easy images are")
    margins: bool = Field(
        False,
        description="whether they are signed margins in the norm of the threat model, which radii can follow",
    )

    @field_validator("column")
    @classmethod
    def _is_not_the_index(cls, column: str) -> str:
        if column == INDEX:
            raise ValueError(f"{INDEX} is the column that says which image; name the one with the score")
        return column


Metric = Literal["cosine", "euclidean"]
Weighting = Literal["mean", "distance"]
Sources = Literal["all", "real", "synthetic"]


class EmbeddingSettings(Settings):
    """What an image is described by."""

    source: str = Field(
        "ours",
        pattern=r"^(ours|torchvision:[a-z0-9_]+:.+|file:.+)$",
        description="ours (last features of the model that scored) | torchvision:MODEL:WEIGHTS_FILE (no download) | "
        "file:FOLDER (train.npy, synthetic.npy and, where extrapolation.source is not none, source.npy: one row an "
        "image)",
    )
    dtype: Literal["float32", "float16"] = Field("float32", description="how a number is stored")
    resize: int = Field(
        224, ge=8, le=1024, description="side, pixels, to which images are brought for a torchvision model"
    )


class NeighbourSettings(Settings):
    """The k-nearest-neighbour regression of Nieth et al. (2024, section 2).

    Every combination of ``k``, ``metric``, ``weighting`` and ``sources`` is tried on the held-out images; the one of
    lowest mean absolute error is used.
    """

    k: tuple[Annotated[int, Field(ge=1)], ...] = Field((5, 13, 35), min_length=1, description="numbers of neighbours")
    metric: tuple[Metric, ...] = Field(("cosine",), min_length=1, description="cosine | euclidean")
    weighting: tuple[Weighting, ...] = Field(
        ("mean",), min_length=1, description="mean of the neighbours' scores, or weighted by 1 / distance"
    )
    sources: tuple[Sources, ...] = Field(
        ("all",), min_length=1, description="directly scored images that neighbours are looked for in"
    )
    held_out: float = Field(0.1, gt=0, lt=1, description="share of the last source on which the choice is made")
    allow_overlap: bool = Field(False, description="allow images that are both scored directly and extrapolated to")
    seed: int = Field(0, ge=0, description="which images are held out")

    @field_validator("k", "metric", "weighting", "sources")
    @classmethod
    def _distinct(cls, value: tuple[object, ...]) -> tuple[object, ...]:
        if len(set(value)) != len(value):
            raise ValueError("should have each value once")
        return value


DynamicsScoreName = Literal[
    "difficulty",
    "uncertainty",
    "uncertainty_adversarial",
    "uncertainty_tilde",
    "frequency",
    "frequency_adversarial",
    "el2n",
    "forgetting",
]
"""Scores made from what a training recorded of each image, epoch after epoch."""

LossScoreName = Literal["loss", "loss_adversarial"]
"""Scores made from the loss of a trained model."""

ScoreName = Literal["margin", LossScoreName, DynamicsScoreName]
"""What an experiment's row can prune by. Each is described in docs/scores.md."""


Trajectory = Literal["clean", "adversarial", "clean_averaged", "adversarial_averaged"]
"""What is recorded after an epoch: predictions for clean or attacked images, by the raw or the averaged weights."""


class DifficultySettings(Settings):
    """CD of PUMA, Eq. 1: how often an image is misclassified over the epochs. See papers.md, P13."""

    metric: Literal["difficulty"] = Field("difficulty", description="the metric's own name")
    weights: Literal["raw", "averaged"] = Field("averaged", description="the recorded model whose answers count")
    checkpoints: int | None = Field(
        None, ge=1, description="recorded epochs looked at, evenly spaced; null for all (PUMA: CD < 0.02 needs 50)"
    )


class UncertaintySettings(Settings):
    """DU of He et al. (2023) and Nieth et al.: how much the confidence moves within windows. See papers.md, N1."""

    metric: Literal["uncertainty"] = Field("uncertainty", description="the metric's own name")
    window: int = Field(10, ge=2, description="recorded epochs in a window, J")
    last_window: bool = Field(
        default=False, description="count the window that ends in the last epoch, which the published code leaves out"
    )


class FrequencySettings(Settings):
    """FP of Nieth et al.: the magnitudes of the confidence's Fourier transform over the epochs. See papers.md, N2."""

    metric: Literal["frequency"] = Field("frequency", description="the metric's own name")


class El2nSettings(Settings):
    """EL2N of Paul et al. (2021): the size of the error early in training, averaged over the seeds' models."""

    metric: Literal["el2n"] = Field("el2n", description="the metric's own name")
    after: float = Field(
        0.1, gt=0, le=1, description="share of the epochs after which it is measured (Paul et al.: 20 of 200)"
    )


class ForgettingSettings(Settings):
    """Forgetting events of Toneva et al. (2019): how often a right answer turns wrong."""

    metric: Literal["forgetting"] = Field("forgetting", description="the metric's own name")


AnyMetric = Annotated[
    DifficultySettings | UncertaintySettings | FrequencySettings | El2nSettings | ForgettingSettings,
    Field(discriminator="metric"),
]
"""How a recorded trajectory becomes a score; the functions are in ``scores.metrics``."""


def evenly_spaced(total: int, count: int) -> tuple[int, ...]:
    """``count`` of the numbers 1 ... ``total``, evenly spaced, the last among them. Raises ValueError for too many."""
    if count > total:
        raise ValueError(f"there are no {count} different numbers from 1 to {total}")
    return tuple((position + 1) * total // count for position in range(count))
