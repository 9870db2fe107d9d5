"""Errors of students over alpha, with PUMA's claims (figures 1 to 4)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, cast

from pydantic import Field

from robustprune.core.job import Job
from robustprune.core.marks import Ref
from robustprune.core.settings import Line
from robustprune.core.stage import StageId
from robustprune.experiments.figures.figure import (
    FigureEntry,
    FigureStage,
    SeriesStyle,
    figure_form,
    in_words,
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
    from robustprune.experiments.studies.perceptron import InputScale, PerceptronCurve, PerceptronStage
    from robustprune.experiments.studies.perceptron_claims import ErrorCurve
    from robustprune.planning.context import Context

DEFINITION = {"figures.perceptron": 4}

MEASURES = {"angle_error": "angle error, arccos(R) / π", "correlation_error": "correlation error, 1 - R"}
STRATEGIES = {"prune_easy": "easy pruned (PE)", "prune_difficult": "difficult pruned (PD)"}
INPUTS = {"unit_variance": "features of variance 1", "unit_norm": "features of variance 1/K"}


@figure_form("perceptron")
class PerceptronErrors(FigureEntry):
    """Errors of perceptrons over alpha, under one attack (PUMA, section 2)."""

    form: Literal["perceptron"]
    claim: Line = Field(description="the paper's claim")
    epsilon: float = Field(ge=0, description="size of the attack in L-infinity, in units of the inputs")
    filtered: bool = Field(False, description="remove samples of a margin below epsilon first")
    inputs: tuple[Annotated[str, in_words(INPUTS)], ...] = Field(
        ("unit_variance", "unit_norm"), min_length=1, description="length of inputs: unit_variance | unit_norm"
    )

    def plan(self, name: str, context: Context) -> str:
        settings = context.config.perceptron

        def study(epsilon: float, inputs: str, *, filtered: bool = False) -> str:
            return context.add(settings.study(settings.curves, epsilon, cast("InputScale", inputs), filtered=filtered))

        studies = tuple(study(self.epsilon, inputs, filtered=self.filtered) for inputs in self.inputs)
        without: tuple[str, ...] = ()
        if self.filtered:
            without = tuple(study(self.epsilon, inputs) for inputs in self.inputs)
        elif self.epsilon > 0:  # without an attack, the inputs' length changes nothing
            without = (study(0.0, "unit_variance"),) * len(studies)
        return context.add(
            PerceptronErrorsStage(name=name, title=self.title, claim=self.claim, studies=studies, without=without)
        )


class Study(NamedTuple):
    """A study and its errors."""

    spec: PerceptronStage
    errors: pd.DataFrame


class PerceptronErrorsStage(FigureStage):
    """Errors of students over alpha: PUMA's figures 1 to 4.

    ``studies`` differ in the length of inputs. ``without`` has for each of them the study that it is compared with: of
    the same points, without an attack, or with the samples that a filter removes; none where there is neither.
    """

    form: Literal["perceptron"] = "perceptron"
    claim: str
    studies: tuple[Annotated[StageId, Ref("studies")], ...] = Field(min_length=1)
    without: tuple[Annotated[StageId, Ref("studies")], ...] = ()

    def run(self, job: Job) -> dict[str, Any]:
        """Publish the figure: a column of panels for each kind of inputs and pruned end, a row for each measure."""
        import pandas as pd

        studies = [Study(*open_study(job, study)) for study in self.studies]
        data = pd.concat(_points(study) for study in studies)
        caption = [self.title, f"Claimed: {self.claim}."]
        caption += [sentence for study in studies for sentence in _sentences(study)]
        others = (Study(*open_study(job, other)) for other in self.without)
        caption += [_comparison(study, other) for study, other in zip(studies, others, strict=False)]
        publish_figure(job, _draw(studies, data), data, caption)
        return {"title": self.title, "students": sum(len(study.errors) for study in studies)}


def _points(study: Study) -> pd.DataFrame:
    """Return a row a curve, load and measure: mean over the trials and its 95 % interval."""
    import pandas as pd

    from robustprune.experiments.statistics import Summary

    rows = []
    for (strategy, ratio, load), trials in study.errors.groupby(["strategy", "ratio", "load"], sort=False):
        point = {"inputs": study.spec.inputs, "strategy": strategy, "ratio": ratio, "load": load}
        for measure in MEASURES:
            summary = Summary.of(trials[measure].tolist())
            statistics = {"measure": measure, "mean": summary.mean, "ci95": summary.ci95, "n": summary.n}
            rows.append({**point, **statistics, "mislabelled": float(trials["mislabelled"].mean())})
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
    legend_below(figure, *panels[0], columns=6)
    return figure


def _draw_panel(axes: Axes, study: Study, data: pd.DataFrame, strategy: str) -> None:
    from robustprune.experiments.studies.perceptron_claims import select

    of_inputs = data[data["inputs"] == study.spec.inputs]
    ratios = sorted({curve.ratio for curve in study.spec.grid.curves})
    for curve in (curve for curve in study.spec.grid.curves if curve.strategy in ("none", strategy)):
        points = select(of_inputs, curve)
        style = SeriesStyle.numbered(ratios.index(curve.ratio))
        name = "no pruning" if curve.strategy == "none" else f"{curve.ratio:.0%} pruned"
        axes.errorbar(points["load"], points["mean"], points["ci95"], **style._asdict(), capsize=2, label=name)
    axes.set(xscale="log", yscale="log")


def _sentences(study: Study) -> Iterator[str]:
    """Yield the exponents, the errors at the largest alpha, and the places where pruning helps, of a study."""
    from robustprune.experiments.studies.perceptron_claims import NEAR, error_curves, halves

    spec = study.spec
    fitted = spec.grid.power_law_loads
    first, middle, last = halves(fitted)
    none, *pruned = error_curves(study.errors, spec.grid.curves, spec.grid.loads, fitted)
    easy = [curve for curve in pruned if curve.curve.strategy == "prune_easy"]
    power_laws = [curve for curve in (none, *pruned) if curve not in easy]
    held = all(curve.late and abs(curve.late.mean + 1) <= NEAR for curve in power_laws)
    trials = spec.grid.trials
    exponents = (
        f"{name_of(curve.curve)} {_exponent(curve.early, trials)} and {_exponent(curve.late, trials)}"
        for curve in (*power_laws, *easy)
    )
    yield (
        f"With {INPUTS[spec.inputs]}, K = {spec.features}, {trials} trials; {_convergence(study.errors)}. "
        f"Exponents over α {first:g} to "
        f"{middle:g} and over {middle:g} to {last:g}: {'; '.join(exponents)}. Over the larger α those of no pruning "
        f"and PD {'are all' if held else 'are not all'} within {NEAR:g} of -1."
    )
    yield (
        f"Error of PE at α {last:g}, in units of that without pruning: "
        + "; ".join(f"{name_of(curve.curve)} {_relative(curve)}" for curve in easy)
        + f". Least error of PE over these ratios, by α: {_envelope(study)}."
    )
    yield (
        "Against no pruning, by the 95 % interval of the difference (Welch): "
        + "; ".join(f"{name_of(curve.curve)} {_where(curve)}" for curve in pruned)
        + "."
    )


def _convergence(errors: pd.DataFrame) -> str:
    converged, students = int(errors["converged"].sum()), len(errors)
    counted = f"all {students:,}" if converged == students else f"{converged:,} of {students:,}"
    return f"{counted} students converged"


def _where(curve: ErrorCurve) -> str:
    """Return the alpha at which a curve has less error than no pruning, and those at which it has more."""
    at = {
        word: ", ".join(f"{load:g}" for load, result in curve.against_none.items() if result == word)
        for word in ("less", "more")
    }
    return " and ".join(f"{word} error at α {loads}" for word, loads in at.items() if loads) or "cannot be told apart"


def _comparison(study: Study, other: Study) -> str:
    """Return the change by the attack, or by removing samples of smaller margin, where no easy samples are pruned."""
    from robustprune.experiments.studies.perceptron_claims import change

    by = "removing samples of smaller margin" if study.spec.filtered else "the attack"
    curves = (curve for curve in study.spec.grid.curves if curve.strategy != "prune_easy")
    changes = (f"{name_of(curve)} {_changes(change(study.errors, other.errors, curve))}" for curve in curves)
    return f"Change of the angle error by {by}, {INPUTS[study.spec.inputs]}, by α: {'; '.join(changes)}."


def _changes(by_load: Mapping[float, Summary | None]) -> str:
    return ", ".join(
        f"{load:g}: " + ("from 0" if change is None else f"{change.told(1, sign='+')} %")
        for load, change in by_load.items()
    )


def _envelope(study: Study) -> str:
    """Return the smallest mean error among the ratios at each load, and the ratio."""
    import pandas as pd

    easy = study.errors[study.errors["strategy"] == "prune_easy"]
    means = easy.pivot_table("angle_error", "load", "ratio")
    best = pd.DataFrame({"error": means.min(axis=1), "ratio": means.idxmin(axis=1)})
    return ", ".join(f"{load:g}: {row.error:.2g} ({row.ratio:.0%})" for load, row in best.iterrows())


def name_of(curve: PerceptronCurve) -> str:
    """Return the name of a curve in a caption, e.g. PE 80%."""
    if curve.strategy == "none":
        return "no pruning"
    return f"{'PE' if curve.strategy == 'prune_easy' else 'PD'} {curve.ratio:.0%}"


def _exponent(exponent: Summary | None, trials: int) -> str:
    if exponent is None:
        return "none (an error is left in fewer than two trials)"
    fewer = f" (the {exponent.n} trials with an error left)" if exponent.n < trials else ""
    return f"{exponent.told(2)}{fewer}"


def _relative(curve: ErrorCurve) -> str:
    from robustprune.experiments.studies.perceptron_claims import CHANCE

    error = f"{curve.relative:.2f}" if math.isfinite(curve.relative) else f"{curve.last:.2g} against 0"
    return f"{error} (no better than chance)" if curve.last > CHANCE else error
