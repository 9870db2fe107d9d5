"""Loss against 1 / distance in the middle of a training (Kaufmann et al. v2, Figure 6)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from robustprune.core.errors import UserError
from robustprune.core.job import Job
from robustprune.core.paths import HISTORY_FILE, MID_TRAINING_FILE
from robustprune.core.settings import Line
from robustprune.core.stage import ModelId
from robustprune.experiments.figures.figure import (
    FigureEntry,
    FigureStage,
    SeriesStyle,
    figure_form,
    make_logarithmic,
    new_panels,
    publish_figure,
)
from robustprune.experiments.row import Row
from robustprune.images.settings import DataName

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from robustprune.planning.context import Context

DEFINITION = {"figures.loss_distance": 5}

SHOWN = 4000  # most images that are drawn
NEAREST = 0.05  # share of the images that is left out of one correlation, since 1 / d has no bound
FEWEST = 3  # images of a correlation


@figure_form("loss_distance")
class LossDistance(FigureEntry):
    """Loss against 1 / distance of the images, under the network that is pruned by either in its training."""

    form: Literal["loss_distance"]
    claim: Line = Field(description="the paper's claim")
    loss: Row
    distance: Row
    printed: dict[DataName, float] = Field({}, description="the paper's correlation, by the name of the data set")

    @model_validator(mode="after")
    def _one_training_with_two_scores(self) -> LossDistance:
        loss, distance = self.loss.mid_training, self.distance.mid_training
        if loss is None or distance is None or (loss.score, distance.score) != ("loss", "deepfool"):
            raise ValueError("loss and distance are rows with mid_training, by score: loss and score: deepfool")
        if "random" in (loss.strategy, distance.strategy):
            raise ValueError("loss and distance are rows that prune by their scores, not at random")
        same = self.loss.recipe == self.distance.recipe and self.loss.conditions == self.distance.conditions
        if not same or (loss.after_epoch, loss.keep) != (distance.after_epoch, distance.keep):
            raise ValueError("loss and distance are one training until it prunes: they differ in score alone")
        return self

    def plan(self, name: str, context: Context) -> str:
        midway, seeds = self.loss.mid_training, context.config.seeds
        assert midway is not None
        loss, distance = (context.trained(row, None, seeds) for row in (self.loss, self.distance))
        return context.add(
            LossDistanceStage(
                name=name,
                title=self.title,
                claim=self.claim,
                after_epoch=midway.after_epoch,
                dropped=1 - midway.keep,
                printed=self.printed.get(context.config.data.name),
                runs=tuple((seed, loss[seed], distance[seed]) for seed in seeds),
            )
        )


class LossDistanceStage(FigureStage):
    """Two scores of the same images under one half-trained network: loss and distance to the boundary.

    Each run is a seed and two models that are the same until they prune, one by loss, one by distance.
    """

    form: Literal["loss_distance"] = "loss_distance"
    claim: str
    after_epoch: int
    dropped: float = Field(description="share of the images that both would drop")
    printed: float | None = Field(description="the paper's r on this data set")
    runs: tuple[tuple[int, ModelId, ModelId], ...] = Field(min_length=1)

    def run(self, job: Job) -> dict[str, Any]:
        """Publish the figure: both scores of images drawn at random, on the paper's axes and on logarithmic ones."""
        import pandas as pd

        runs = {seed: read_both(job, *models, after_epoch=self.after_epoch) for seed, *models in self.runs}
        by_seed = pd.DataFrame([{"seed": seed, **correlations(scores)} for seed, scores in runs.items()])
        shown = _shown(next(iter(runs.values())), self)
        figure = _draw(shown, self, float(by_seed["pearson"].iloc[0]))
        means = {str(name): float(value) for name, value in by_seed.drop(columns="seed").mean().items()}
        images = min(len(scores) for scores in runs.values())
        infinite = [len(scores) - len(_finite(scores)) for scores in runs.values()]
        caption = [self.title, _of_images(self, images, infinite, shown=len(shown)), *_of_correlations(by_seed, self)]
        publish_figure(job, figure, shown, caption)
        return {"title": self.title, "images": images, **means}


def read_both(job: Job, loss: str, distance: str, *, after_epoch: int) -> pd.DataFrame:
    """Return both scores of each image, and True for each of the two that would drop it.

    Raises:
        UserError: when the histories of the two models differ before the pruning.
    """
    import pandas as pd

    directories = [job.upstream("models", model) for model in (loss, distance)]
    histories = [pd.read_parquet(directory / HISTORY_FILE).head(after_epoch)["loss"] for directory in directories]
    if not histories[0].equals(histories[1]):
        raise UserError(
            f"{loss} and {distance} had other losses in epochs 1 to {after_epoch}, so their scores are not of one "
            "network; make both on one machine, with the same threads"
        )
    by_loss, by_distance = (pd.read_parquet(directory / MID_TRAINING_FILE) for directory in directories)
    both = by_loss.merge(by_distance, on=["pool", "index"], suffixes=("_loss", "_distance"), validate="one_to_one")
    return pd.DataFrame(
        {
            "index": both["index"],
            "loss": both["score_loss"],
            "inverse_distance": 1 / both["score_distance"].astype(np.float64),
            "dropped_by_loss": ~both["kept_loss"],
            "dropped_by_distance": ~both["kept_distance"],
        }
    )


def correlations(scores: pd.DataFrame) -> dict[str, float]:
    """Return Pearson's r of all images, of all but the nearest, of logarithms, and Spearman's; and ``shared``.

    ``shared`` is the share of the images dropped by distance that are dropped by loss.

    Raises:
        UserError: where there are too few images with both scores finite.
    """
    from scipy import stats

    finite = _finite(scores)
    if len(finite) < FEWEST:
        raise UserError(f"{len(finite)} images have a finite loss and distance; there should be {FEWEST}")
    apart = finite[finite["inverse_distance"] <= finite["inverse_distance"].quantile(1 - NEAREST)]
    positive = finite[(finite["loss"] > 0) & (finite["inverse_distance"] > 0)]
    return {
        "pearson": _pearson(finite["loss"], finite["inverse_distance"]),
        "pearson_but_nearest": _pearson(apart["loss"], apart["inverse_distance"]),
        "pearson_of_logarithms": _pearson(np.log(positive["loss"]), np.log(positive["inverse_distance"])),
        "spearman": float(stats.spearmanr(finite["loss"], finite["inverse_distance"]).statistic),
        "shared": float(scores.loc[scores["dropped_by_distance"], "dropped_by_loss"].mean()),
    }


def _finite(scores: pd.DataFrame) -> pd.DataFrame:
    """Return the images that are not on the very boundary, where 1 / d is infinite."""
    finite: pd.Series[bool] = scores[["loss", "inverse_distance"]].apply(np.isfinite).all(axis=1)
    return scores[finite]


def _pearson(first: Any, second: Any) -> float:
    return float(np.corrcoef(np.asarray(first, np.float64), np.asarray(second, np.float64))[0, 1])


def _shown(scores: pd.DataFrame, spec: LossDistanceStage) -> pd.DataFrame:
    """Draw some images of the first seed at random."""
    import pandas as pd

    from robustprune.core.randomness import derive_seed

    finite, seed = _finite(scores), spec.runs[0][0]
    draw = np.random.default_rng(derive_seed(seed, "shown"))
    chosen: npt.NDArray[np.int64] = draw.choice(len(finite), min(SHOWN, len(finite)), replace=False)
    return pd.DataFrame(finite.iloc[np.sort(chosen)].round({"loss": 5, "inverse_distance": 5}))


def _draw(shown: pd.DataFrame, spec: LossDistanceStage, pearson: float) -> Figure:
    figure, panels = new_panels(1, 2, width=3.6, height=3.0)
    linear, logarithmic = panels[0]
    for axes in (linear, logarithmic):
        _draw_points(axes, shown)
    highest, widest = shown["inverse_distance"].quantile(1 - NEAREST), shown["loss"].quantile(1 - NEAREST / 10)
    linear.set(title=f"a. Pearson r = {pearson:.2f}, of all images", ylabel="1 / d, 1 / L2 distance")
    linear.set(ylim=(0, 1.02 * highest), xlim=(0, 1.02 * widest))
    make_logarithmic(logarithmic)
    logarithmic.set(title="b. the same, logarithmic")
    logarithmic.legend(loc="upper left", markerscale=2)
    beyond = int(((shown["inverse_distance"] > highest) | (shown["loss"] > widest)).sum())
    shown_of = f"after epoch {spec.after_epoch}, seed {spec.runs[0][0]}; {len(shown)} images drawn at random"
    figure.suptitle(f"{shown_of}, {beyond} of them beyond the axes of a", fontsize=9)
    return figure


def _draw_points(axes: Axes, shown: pd.DataFrame) -> None:
    """Draw the images in three groups: dropped by both scores, by one, by none."""
    drops = shown["dropped_by_loss"].astype(int) + shown["dropped_by_distance"]
    for number, (drop, name) in enumerate({0: "kept by both", 1: "dropped by one", 2: "dropped by both"}.items()):
        style, chosen = SeriesStyle.numbered(number), shown[drops == drop]
        drawn: dict[str, Any] = {"marker": style.marker, "color": style.color, "label": name}
        axes.scatter(chosen["loss"], chosen["inverse_distance"], s=4, linewidths=0, rasterized=True, **drawn)
    axes.set(xlabel="loss, nats")


def _of_images(spec: LossDistanceStage, images: int, infinite: Sequence[int], *, shown: int) -> str:
    over = f"mean and 95 % interval of {len(spec.runs)} seeds" if len(spec.runs) > 1 else "of one seed"
    left_out = f" but those on the very boundary ({', '.join(map(str, infinite))} by seed)" if any(infinite) else ""
    return (
        f"Loss after an RS-FGSM step and DeepFool's distance (L2, unsigned) of the clean image, after epoch "
        f"{spec.after_epoch}, of all {images:,} training images that both trainings score; {shown:,} of the first "
        f"seed are shown and in the data. Correlations are over all images{left_out}, {over}."
    )


def _of_correlations(by_seed: pd.DataFrame, spec: LossDistanceStage) -> Iterator[str]:
    printed = f" The paper has {spec.printed:.2f} on this data set." if spec.printed is not None else ""
    yield f"Claimed: {spec.claim}.{printed} Measured: Pearson r = {_mean(by_seed['pearson'])}."
    yield (
        f"r depends on the few images next to the boundary, whose 1 / d has no bound. Without the {NEAREST:.0%} that "
        f"are nearest it is {_mean(by_seed['pearson_but_nearest'])}, that of the logarithms "
        f"{_mean(by_seed['pearson_of_logarithms'])}, that of ranks (Spearman) {_mean(by_seed['spearman'])}. Of the "
        f"images that distance would drop, loss would drop {_mean(100 * by_seed['shared'], 0)} %; "
        f"by chance it were {100 * spec.dropped:.0f} %."
    )


def _mean(values: pd.Series[float], decimals: int = 2) -> str:
    from robustprune.experiments.statistics import Summary

    return Summary.of(values.tolist()).told(decimals)
