"""Errors of students over alpha, and what PUMA claims of them (figures 1 to 4)."""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from robustprune.figures.files import publish_figure
from robustprune.figures.style import Series, legend_below, new_panels
from robustprune.job import Job
from robustprune.perceptron.claims import CHANCE, FROM_LOAD, NEAR, Course, courses, select
from robustprune.perceptron.stage import ERRORS_FILE
from robustprune.settings.perceptron import PerceptronCurve
from robustprune.specs import PerceptronFigureSpec, PerceptronSpec
from robustprune.stagefile import read_spec
from robustprune.tables.statistics import Summary

DEFINITION = 2

MEASURES = {"angle_error": "angle error, arccos(R) / π", "correlation_error": "correlation error, 1 - R"}
STRATEGIES = {"prune_easy": "easy pruned (PE)", "prune_difficult": "difficult pruned (PD)"}
INPUTS = {"unit_variance": "features of variance 1", "unit_norm": "features of variance 1/K"}


class Study(NamedTuple):
    """A study's spec and its errors."""

    spec: PerceptronSpec
    errors: pd.DataFrame


def run(job: Job, spec: PerceptronFigureSpec) -> dict[str, Any]:
    """Publish the figure: a column of panels for each kind of inputs and pruned end, a row for each measure."""
    studies = [open_study(job, study) for study in spec.studies]
    data = pd.concat(_points(study) for study in studies)
    caption = [spec.title, *(sentence for study in studies for sentence in _sentences(study))]
    caption += list(_comparison(studies[0], open_study(job, spec.clean)))
    publish_figure(job, _draw(studies, data), data, caption)
    return {"title": spec.title, "students": sum(len(study.errors) for study in studies)}


def open_study(job: Job, study_id: str) -> Study:
    """A study that this figure reads."""
    directory = job.upstream("studies", study_id)
    spec = read_spec(directory)
    if not isinstance(spec, PerceptronSpec):
        raise TypeError(f"{study_id} is no study of perceptrons")
    return Study(spec, pd.read_parquet(directory / ERRORS_FILE))


def _points(study: Study) -> pd.DataFrame:
    """A row a curve, load and measure: mean over the trials and its 95 % interval."""
    rows = []
    for (strategy, ratio, load), trials in study.errors.groupby(["strategy", "ratio", "load"], sort=False):
        for measure in MEASURES:
            summary = Summary.of(trials[measure].tolist())
            point = {"strategy": strategy, "ratio": ratio, "load": load, "measure": measure}
            told = {"mean": summary.mean, "ci95": summary.ci95, "n": summary.n}
            mislabelled = float(trials["mislabelled"].mean())
            rows.append({"inputs": study.spec.inputs, **point, **told, "mislabelled": mislabelled})
    return pd.DataFrame(rows)


def _draw(studies: list[Study], data: pd.DataFrame) -> Figure:
    figure, panels = new_panels(len(MEASURES), len(STRATEGIES) * len(studies))
    for row, (measure, label) in enumerate(MEASURES.items()):
        columns = iter(panels[row])
        for study in studies:
            for strategy, name in STRATEGIES.items():
                axes = next(columns)
                _draw_panel(axes, study, data[data["measure"] == measure], strategy)
                axes.set(xlabel="α, samples kept per feature", title=f"{name},\n{INPUTS[study.spec.inputs]}")
        panels[row][0].set_ylabel(label)
    trials = studies[0].spec.grid.trials
    figure.suptitle(f"attack ε = {studies[0].spec.epsilon:g}, mean and 95 % interval of {trials} trials", fontsize=9)
    legend_below(figure, panels[0][0], columns=6)
    return figure


def _draw_panel(axes: Axes, study: Study, data: pd.DataFrame, strategy: str) -> None:
    curves = [curve for curve in study.spec.grid.curves if curve.strategy in ("none", strategy)]
    for number, curve in enumerate(curves):
        chosen = data[data["inputs"] == study.spec.inputs]
        points = select(chosen, curve)
        style = Series.numbered(number)
        name = "no pruning" if curve.strategy == "none" else f"{curve.ratio:.0%} pruned"
        axes.errorbar(
            points["load"],
            points["mean"],
            points["ci95"],
            color=style.color,
            marker=style.marker,
            linestyle=style.line,
            capsize=2,
            label=name,
        )
    axes.set(xscale="log", yscale="log")


def _sentences(study: Study) -> Iterator[str]:
    """What PUMA claims of no pruning, of PD and of PE, with what this study says of it."""
    spec = study.spec
    none, *pruned = courses(study.errors, spec.grid.curves)
    where = f"With {INPUTS[spec.inputs]}, K = {spec.features}, {spec.grid.trials} trials, α from {FROM_LOAD:g}"
    power_laws = [course for course in (none, *pruned) if course.curve.strategy != "prune_easy"]
    held = all(course.late and abs(course.late.mean + 1) <= NEAR for course in power_laws)
    yield (
        f"{where}. Claimed: no pruning and PD follow a power law of exponent -1. Measured, exponent over the lower and "
        f"the upper half of these α: {'; '.join(_exponents(course) for course in power_laws)}. In the upper half it "
        f"{'holds' if held else 'does not hold for all'} (within {NEAR:g} of -1)."
    )
    easy = [course for course in pruned if course.curve.strategy == "prune_easy"]
    yield (
        f"Claimed: PE falls faster than any power law, which would get steeper and steeper. Measured, in the same way: "
        f"{'; '.join(_exponents(course) for course in easy)}."
    )
    yield (
        "Error of PE at the largest α, in units of that without pruning: "
        + "; ".join(f"{_name(course)} {_relative(course)}{_collapsed(course)}" for course in easy)
        + "."
    )
    yield f"Least error of PE over these ratios, by α: {_envelope(study)}."


def _comparison(study: Study, clean: Study) -> Iterator[str]:
    """What the attack does to a student without pruning."""
    if study.spec.epsilon == 0:
        return
    none = PerceptronCurve(strategy="none")
    attacked, unattacked = (select(one.errors, none).groupby("load")["angle_error"].mean() for one in (study, clean))
    change = 100 * (attacked / unattacked - 1)
    yield (
        "Angle error without pruning against that without an attack, by α ("
        + INPUTS[study.spec.inputs]
        + "): "
        + ", ".join(f"{load:g}: {value:+.1f} %" for load, value in change.items())
        + "."
    )


def _envelope(study: Study) -> str:
    """The smallest mean error among the ratios at each load, and the ratio."""
    easy = study.errors[study.errors["strategy"] == "prune_easy"]
    means = easy.pivot_table("angle_error", "load", "ratio")
    best = pd.DataFrame({"error": means.min(axis=1), "ratio": means.idxmin(axis=1)})
    return ", ".join(f"{load:g}: {row.error:.2g} ({row.ratio:.0%})" for load, row in best.iterrows())


def _name(course: Course) -> str:
    names = {"none": "no pruning", "prune_easy": "PE", "prune_difficult": "PD"}
    share = "" if course.curve.strategy == "none" else f" {course.curve.ratio:.0%}"
    return names[course.curve.strategy] + share


def _exponents(course: Course) -> str:
    return f"{_name(course)} {_of(course.early)} and {_of(course.late)}"


def _of(exponent: Summary | None) -> str:
    return "no error left" if exponent is None else f"{exponent.mean:.2f} ± {exponent.ci95 or 0:.2f}"


def _relative(course: Course) -> str:
    return f"{course.relative:.2f}" if math.isfinite(course.relative) else f"{course.last:.2g} against 0"


def _collapsed(course: Course) -> str:
    return " (no better than chance)" if course.last > CHANCE else ""
