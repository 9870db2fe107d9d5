"""Which strategy wins, and where pruning easy samples collapses: beyond PUMA's figures 1 to 4."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field

from robustprune.core.job import Job
from robustprune.core.marks import Ref
from robustprune.core.stage import StageId
from robustprune.experiments.figures.figure import FigureForm, FigureStage, figure
from robustprune.experiments.figures.perceptron import study_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from robustprune.experiments.figures.perceptron import Study
    from robustprune.experiments.statistics import Summary
    from robustprune.planning.context import Context


DEFINITION = {"figures.phase_map": 3}

OUTCOMES = {
    "prune_easy": "easy pruned (PE) is best",
    "prune_difficult": "difficult pruned (PD) is best",
    "none": "no pruning is best",
    "undecided": "the best two cannot be told apart",
    "collapsed": "PE is no better than chance",
}


class PhaseMapStage(FigureStage):
    """Which strategy wins, over the attack and the ratio, for some alpha: a study for each attack."""

    form: Literal["phase_map"] = "phase_map"
    studies: tuple[Annotated[StageId, Ref("studies")], ...] = Field(min_length=2)

    def run(self, job: Job) -> dict[str, Any]:
        """Publish the map: a panel per alpha, with the error over the share that the attack mislabels."""
        import pandas as pd

        from robustprune.experiments.figures.perceptron import open_study
        from robustprune.experiments.figures.style import publish_figure

        studies = [open_study(job, study) for study in self.studies]
        data = pd.concat(_cells(study) for study in studies)
        publish_figure(job, _draw(studies, data), data, [self.title, *_sentences(data)])
        return {"title": self.title, "cells": len(data)}


@figure("phase_map")
class PhaseMap(FigureForm):
    """Which strategy wins, over attack, share pruned and alpha."""

    form: Literal["phase_map"]

    def plan(self, context: Context, name: str) -> str:
        """Plan the self's stage and what it reads, and return its id."""
        settings = context.config.perceptron
        studies = tuple(study_of(context, settings.phases, epsilon, "unit_norm") for epsilon in settings.phase_epsilons)
        return context.add(PhaseMapStage(name=name, title=self.title, studies=studies))


def _cells(study: Study) -> pd.DataFrame:
    """A row a load and ratio: angle errors of no pruning, PE and PD, and which is smallest."""
    import pandas as pd

    from robustprune.experiments.studies.perceptron_claims import CHANCE, summaries
    from robustprune.experiments.studies.teacher import mislabelled_share

    found = {(curve.strategy, curve.ratio): summaries(study.errors, curve) for curve in study.spec.grid.curves}
    rows = []
    for load in study.spec.grid.loads:
        for ratio in study.spec.grid.easy_ratios:
            errors = {
                "none": found["none", 0.0][load],
                "prune_easy": found["prune_easy", ratio][load],
                "prune_difficult": found["prune_difficult", ratio][load],
            }
            share = mislabelled_share(study.spec.epsilon, ratio, scale=study.spec.scale)
            where = {"load": load, "epsilon": study.spec.epsilon, "ratio": ratio, "mislabelled": share}
            told = {name: error.mean for name, error in errors.items()}
            widths = {f"{name}_ci95": error.ci95 for name, error in errors.items()}
            outcome = {"best": _best(errors), "collapsed": errors["prune_easy"].mean > CHANCE}
            rows.append({**where, **told, **widths, **outcome, "trials": study.spec.grid.trials})
    return pd.DataFrame(rows)


def _best(errors: Mapping[str, Summary]) -> str:
    """The strategy of the smallest error, where the 95 % interval of its difference to the next one leaves out 0."""
    from robustprune.experiments.studies.perceptron_claims import compare

    best, second, *_ = sorted(errors, key=lambda name: errors[name].mean)
    return best if compare(errors[best], errors[second]) == "less" else "undecided"


def _draw(studies: list[Study], data: pd.DataFrame) -> Figure:
    from robustprune.experiments.figures.style import legend_below, new_panels

    loads = studies[0].spec.grid.loads
    figure, panels = new_panels(1, len(loads) + 1, width=3.0, height=3.0)
    for axes, load in zip(panels[0], loads, strict=False):
        _draw_map(axes, data[data["load"] == load], studies)
        axes.set(title=f"α = {load:g}", xlabel="ε √K (features' standard deviations)")
    panels[0][0].set_ylabel("share pruned")
    _draw_collapse(panels[0][-1], data, loads)
    legend_below(figure, panels[0][0], columns=3)
    return figure


def _draw_map(axes: Axes, cells: pd.DataFrame, studies: list[Study]) -> None:
    """Markers are outcomes; the line is where half of the samples that PE keeps are mislabelled."""
    from robustprune.experiments.figures.style import Series
    from robustprune.experiments.studies.teacher import mislabelled_share

    scale = studies[0].spec.scale
    for number, (outcome, name) in enumerate(OUTCOMES.items()):
        chosen = cells[cells["collapsed"]] if outcome == "collapsed" else cells[cells["best"] == outcome]
        style = Series.numbered(number + 1)
        hollow = outcome == "collapsed"
        axes.scatter(
            chosen["epsilon"] / scale,
            chosen["ratio"],
            s=90 if hollow else 28,
            marker=style.marker,
            facecolors="none" if hollow else style.color,
            edgecolors="black" if hollow else style.color,
            label=name,
        )
    epsilons = np.linspace(0, float(cells["epsilon"].max()), 400)
    half = [1 - 2 * mislabelled_share(epsilon, 0.0, scale=scale) for epsilon in epsilons]
    axes.plot(epsilons / scale, half, color="black", linewidth=1, label="half of what PE keeps is mislabelled")
    smallest = float(cells.loc[cells["epsilon"] > 0, "epsilon"].min()) / scale
    axes.set_xscale("symlog", linthresh=smallest)
    decades = range(math.ceil(math.log10(smallest)), math.floor(math.log10(float(epsilons[-1]) / scale)) + 1)
    axes.set_xticks([0.0, *(10.0**decade for decade in decades)])  # one below linthresh would touch the 0
    axes.set(ylim=(float(cells["ratio"].min()) - 0.1, 1.0), xlim=(-smallest / 4, None))


def _draw_collapse(axes: Axes, data: pd.DataFrame, loads: tuple[float, ...]) -> None:
    from robustprune.experiments.figures.style import Series

    for number, load in enumerate(loads):
        style, cells = Series.numbered(number), data[data["load"] == load]
        axes.plot(
            cells["mislabelled"],
            cells["prune_easy"],
            linestyle="none",
            marker=style.marker,
            color=style.color,
            label=f"α = {load:g}",
        )
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
