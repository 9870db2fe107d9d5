"""A map of the strategy that wins, and of where pruning easy samples collapses: beyond PUMA's figures 1 to 4."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field

from robustprune.core.job import Job
from robustprune.core.marks import Ref
from robustprune.core.stage import StageId
from robustprune.experiments.figures.figure import (
    FigureEntry,
    FigureStage,
    SeriesStyle,
    figure_form,
    legend_below,
    new_panels,
    open_study,
    publish_figure,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from robustprune.experiments.statistics import Summary
    from robustprune.experiments.studies.perceptron import PerceptronStage
    from robustprune.planning.context import Context

DEFINITION = {"figures.phase_map": 3, "perceptron.teacher": 1}

OUTCOMES = {
    "prune_easy": "easy pruned (PE) is best",
    "prune_difficult": "difficult pruned (PD) is best",
    "none": "no pruning is best",
    "undecided": "the best two cannot be told apart",
    "collapsed": "PE is no better than chance",
}


@figure_form("phase_map")
class PhaseMap(FigureEntry):
    """The strategy that wins, over attack, share pruned and alpha."""

    form: Literal["phase_map"]

    def plan(self, name: str, context: Context) -> str:
        settings = context.config.perceptron
        studies = tuple(
            context.add(settings.study(settings.phases, epsilon, "unit_norm")) for epsilon in settings.phase_epsilons
        )
        return context.add(PhaseMapStage(name=name, title=self.title, studies=studies))


class PhaseMapStage(FigureStage):
    """The strategy that wins, over the attack and the ratio, for some alpha: a study for each attack."""

    form: Literal["phase_map"] = "phase_map"
    studies: tuple[Annotated[StageId, Ref("studies")], ...] = Field(min_length=2)

    def run(self, job: Job) -> dict[str, Any]:
        """Publish the map: a panel per alpha, with the error over the share that the attack mislabels."""
        import pandas as pd

        studies = [open_study(job, study) for study in self.studies]
        data = pd.concat(_cells(study, errors) for study, errors in studies)
        publish_figure(job, _draw([study for study, _ in studies], data), data, [self.title, *_sentences(data)])
        return {"title": self.title, "cells": len(data)}


def mislabelled_share(epsilon: float, ratio: float, *, scale: float) -> float:
    """Return the share of the samples kept by pruning easy ones that an attack can carry over the teacher's boundary.

    Of many unfiltered samples, P(margin < ``epsilon``) among the 1 - ``ratio`` that are kept, at most all of them.
    """
    from scipy import stats

    below = 1 - 2 * stats.norm.sf(epsilon / scale)
    return min(1.0, float(below) / (1 - ratio))


def _cells(study: PerceptronStage, errors: pd.DataFrame) -> pd.DataFrame:
    """Return a row a load and ratio: angle errors of no pruning, PE and PD, and the strategy of the smallest."""
    import pandas as pd

    from robustprune.experiments.studies.perceptron_claims import CHANCE, summaries

    means = {(str(curve.strategy), curve.ratio): summaries(errors, curve) for curve in study.grid.curves}
    rows = []
    for load in study.grid.loads:
        for ratio in study.grid.easy_ratios:
            strategies = {"none": 0.0, "prune_easy": ratio, "prune_difficult": ratio}
            here = {strategy: means[strategy, pruned][load] for strategy, pruned in strategies.items()}
            share = mislabelled_share(study.epsilon, ratio, scale=study.scale)
            place = {"load": load, "epsilon": study.epsilon, "ratio": ratio, "mislabelled": share}
            heights = {name: error.mean for name, error in here.items()}
            widths = {f"{name}_ci95": error.ci95 for name, error in here.items()}
            outcome = {"best": _best(here), "collapsed": here["prune_easy"].mean > CHANCE}
            rows.append({**place, **heights, **widths, **outcome, "trials": study.grid.trials})
    return pd.DataFrame(rows)


def _best(errors: Mapping[str, Summary]) -> str:
    """Return the strategy of the smallest error, if the 95 % interval of its difference to the next leaves out 0."""
    from robustprune.experiments.studies.perceptron_claims import compare

    best, second, *_ = sorted(errors, key=lambda name: errors[name].mean)
    return best if compare(errors[best], errors[second]) == "less" else "undecided"


def _draw(studies: list[PerceptronStage], data: pd.DataFrame) -> Figure:
    loads = studies[0].grid.loads
    figure, panels = new_panels(1, len(loads) + 1, width=3.0, height=3.0)
    for axes, load in zip(panels[0], loads, strict=False):
        _draw_map(axes, data[data["load"] == load], studies)
        axes.set(title=f"α = {load:g}", xlabel="ε √K (features' standard deviations)")
    panels[0][0].set_ylabel("share pruned")
    _draw_collapse(panels[0][-1], data, loads)
    legend_below(figure, panels[0][0], columns=3)
    return figure


def _draw_map(axes: Axes, cells: pd.DataFrame, studies: list[PerceptronStage]) -> None:
    """Draw outcomes as markers, and the line at which half of the samples that PE keeps are mislabelled."""
    scale = studies[0].scale
    for number, (outcome, name) in enumerate(OUTCOMES.items()):
        hollow = outcome == "collapsed"
        chosen = cells[cells["collapsed"]] if hollow else cells[cells["best"] == outcome]
        style = SeriesStyle.numbered(number + 1)
        size, face, edge = (90, "none", "black") if hollow else (28, style.color, style.color)
        colors: dict[str, Any] = {"facecolors": face, "edgecolors": edge}
        axes.scatter(chosen["epsilon"] / scale, chosen["ratio"], s=size, marker=style.marker, **colors, label=name)
    epsilons = np.linspace(0, float(cells["epsilon"].max()), 400)
    half = [1 - 2 * mislabelled_share(epsilon, 0.0, scale=scale) for epsilon in epsilons]
    axes.plot(epsilons / scale, half, color="black", linewidth=1, label="half of what PE keeps is mislabelled")
    smallest = float(cells.loc[cells["epsilon"] > 0, "epsilon"].min()) / scale
    axes.set_xscale("symlog", linthresh=smallest)
    decades = range(math.ceil(math.log10(smallest)), math.floor(math.log10(float(epsilons[-1]) / scale)) + 1)
    axes.set_xticks([0.0, *(10.0**decade for decade in decades)])  # one below linthresh would touch the 0
    axes.set(ylim=(float(cells["ratio"].min()) - 0.1, 1.0), xlim=(-smallest / 4, None))


def _draw_collapse(axes: Axes, data: pd.DataFrame, loads: tuple[float, ...]) -> None:
    for number, load in enumerate(loads):
        cells, dots = data[data["load"] == load], SeriesStyle.numbered(number)._replace(linestyle="none")._asdict()
        axes.plot(cells["mislabelled"], cells["prune_easy"], **dots, label=f"α = {load:g}")
    axes.axvline(0.5, color="black", linewidth=1)
    axes.set(xlabel="mislabelled share of what PE keeps", ylabel="angle error of PE, arccos(R) / π", ylim=(-0.02, 0.56))
    axes.legend(loc="center left")


def _sentences(data: pd.DataFrame) -> list[str]:
    from robustprune.experiments.studies.perceptron_claims import CHANCE

    above, below = data[data["mislabelled"] > 0.5], data[data["mislabelled"] <= 0.5]
    learnt = below[below["load"] == below["load"].max()]
    counts = data["best"].value_counts()
    wins = ", ".join(f"{OUTCOMES[str(name)]} in {count}" for name, count in counts.items())
    rule = "The best is told where the 95 % interval of its difference to the next (Welch) leaves out 0."
    return [
        f"Mean of {data['trials'].iloc[0]} trials, inputs of unit norm. Of {len(data)} cells {wins}. {rule}",
        f"PE is no better than chance (angle error above {CHANCE:g}) in {int(above['collapsed'].sum())} of the "
        f"{len(above)} cells where the attack can mislabel more than half of the samples that it keeps, and at the "
        f"largest α in {int(learnt['collapsed'].sum())} of the {len(learnt)} others.",
    ]
