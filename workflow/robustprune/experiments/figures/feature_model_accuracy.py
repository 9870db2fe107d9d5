"""The model of robust and fragile features, simulated against its formulas (Kaufmann et al. v2, Appendix C)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast, get_args

import numpy as np

from robustprune.core.job import Job
from robustprune.core.marks import Ref
from robustprune.core.stage import StageId
from robustprune.experiments.figures.figure import (
    FigureEntry,
    FigureStage,
    SeriesStyle,
    figure_form,
    new_panels,
    open_study,
    publish_figure,
)
from robustprune.experiments.studies.feature_formulas import (
    STRONG,
    End,
    Floats,
    accuracy,
    agreement_left,
    fragile_classifier,
    robust_classifier,
    robust_share_left,
    trained_classifier,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from robustprune.experiments.studies.feature_model import FeatureModelSettings
    from robustprune.planning.context import Context

DEFINITION = {"figures.feature_model": 3}

STEPS = 100  # of a line
CLASSIFIERS = ("robust", "fragile")
ENDS: dict[End, str] = {"high_loss": "high loss dropped", "low_loss": "low loss dropped"}
ACCURACIES = {"clean": "no attack", "strong": "ε = 2η"}


@figure_form("feature_model")
class FeatureModelAccuracy(FigureEntry):
    """Accuracies of the model of robust and fragile features (Kaufmann et al. v2, Appendix C)."""

    form: Literal["feature_model"]

    def plan(self, name: str, context: Context) -> str:
        study = context.add(context.config.feature_model.study())
        return context.add(FeatureModelAccuracyStage(name=name, title=self.title, study=study))


class FeatureModelAccuracyStage(FigureStage):
    """The feature model's formulas and its simulation (Kaufmann et al. v2, Appendix C)."""

    form: Literal["feature_model"] = "feature_model"
    study: Annotated[StageId, Ref("studies")]

    def run(self, job: Job) -> dict[str, Any]:
        """Publish the figure: four panels of lines, which are formulas, and points, which are simulated."""
        study, counts = open_study(job, self.study)
        data = compare(counts, study.settings)
        publish_figure(job, _draw(data, study.settings), data, [self.title, *_sentences(data, study.settings)])
        return {"title": self.title, "points": len(data)}


def compare(counts: pd.DataFrame, model: FeatureModelSettings) -> pd.DataFrame:
    """Return a row a simulated point, with its formula and the ends ``low`` and ``high`` of its interval."""
    import pandas as pd

    rows = []
    for place, trials in counts.groupby(["quantity", "series", "x"], sort=False):
        quantity, series, x = cast(tuple[str, str, float], place)
        measured = _measure(trials, trained=quantity in ACCURACIES)
        point = {"quantity": quantity, "series": series, "x": x, "formula": formula(quantity, series, x, model)}
        counted = {"trials": len(trials), "points": int(trials["points"].sum())}
        rows.append({**point, **measured, **counted})
    return pd.DataFrame(rows)


def formula(quantity: str, series: Any, x: float, model: FeatureModelSettings) -> float:
    """Return a quantity of ``Count`` by the model's formulas, in [0, 1]."""
    match quantity:
        case "attacked":
            weights = robust_classifier(model) if series == "robust" else fragile_classifier(model)
            return accuracy(weights, x * model.mean, model)
        case "mixed":
            return model.model_copy(update={"robust_share": x}).agreement
        case "composition":
            return robust_share_left(x, series, model)
    weights = _learnt(series, x, model)
    return accuracy(weights, STRONG * model.mean if quantity == "strong" else 0.0, model)


@cache  # two curves share a classifier
def _learnt(end: End, share: float, model: FeatureModelSettings) -> Floats:
    return trained_classifier(agreement_left(share, end, model), model.training_attack * model.mean, model)


def _measure(trials: pd.DataFrame, *, trained: bool) -> dict[str, float]:
    """Return a share of all points with Wilson's interval, or the mean of trained classifiers with Student's."""
    from scipy import stats

    from robustprune.experiments.statistics import LEVEL, Summary

    if trained:
        summary = Summary.of((trials["hits"] / trials["points"]).tolist())
        width = summary.ci95 or 0.0
        return {"simulated": summary.mean, "low": summary.mean - width, "high": summary.mean + width}
    share = stats.binomtest(int(trials["hits"].sum()), int(trials["points"].sum()))
    interval = share.proportion_ci(LEVEL, method="wilson")
    return {"simulated": share.statistic, "low": interval.low, "high": interval.high}


def _draw(data: pd.DataFrame, model: FeatureModelSettings) -> Figure:
    figure, panels = new_panels(2, 2, width=3.7, height=2.9)
    (attacked, mixed), (composition, trained) = panels
    for number, series in enumerate(CLASSIFIERS):
        _draw_series(attacked, data, "attacked", series, number, model, f"{series} classifier")
    attacked.set(xlabel="attack ε / η", ylabel="accuracy", title="a. Two classifiers under attack")
    _draw_series(mixed, data, "mixed", "robust", 0, model, "derived")
    shares = np.array([0.0, 1.0])
    printed = [model.model_copy(update={"robust_share": share}).printed_agreement for share in shares]
    mixed.plot(shares, printed, color=SeriesStyle.numbered(4).color, linestyle=":", label="as printed")
    mixed.set(xlabel="share of robust points, $p_R$", ylabel="accuracy", title="b. Robust classifier, ε = 2η")
    for number, (end, name) in enumerate(ENDS.items()):
        _draw_series(composition, data, "composition", end, number, model, name)
    composition.set(xlabel="share pruned", ylabel="robust points among the rest", title="c. What pruning leaves")
    for number, (quantity, end) in enumerate(itertools.product(ACCURACIES, ENDS)):
        _draw_series(trained, data, quantity, end, number, model, f"{ENDS[end]}, {ACCURACIES[quantity]}")
    title = f"d. Trained at ε = {model.training_attack:g}η on the rest"
    trained.set(xlabel="share pruned", ylabel="accuracy", title=title, ylim=(-0.03, 1.03))
    for axes in (attacked, mixed, composition, trained):
        axes.legend(loc="best")
    figure.suptitle("lines: formulas; points: simulated, 95 % intervals", fontsize=9)
    return figure


def _draw_series(
    axes: Axes, data: pd.DataFrame, quantity: str, series: str, number: int, model: FeatureModelSettings, name: str
) -> None:
    """Draw a line for the formula, and the simulated points on it."""
    points = data[(data["quantity"] == quantity) & (data["series"] == series)]
    style = SeriesStyle.numbered(number)
    grid = np.linspace(points["x"].min(), points["x"].max(), STEPS)
    axes.plot(
        grid, [formula(quantity, series, float(x), model) for x in grid], color=style.color, linestyle=style.linestyle
    )
    reach = [points["simulated"] - points["low"], points["high"] - points["simulated"]]
    dots = style._replace(linestyle="none")._asdict()
    axes.errorbar(points["x"], points["simulated"], reach, **dots, capsize=2, label=name)


def _sentences(data: pd.DataFrame, model: FeatureModelSettings) -> Iterator[str]:
    yield (
        f"d = {model.fragile_features} fragile features of mean η y, η = 3/√d = {model.mean:g}, and one robust "
        f"feature, y in {model.robust_agreement:.0%} of the points of D_robust ({model.robust_share:.0%} of all) and "
        f"in {model.fragile_agreement:.0%} of those of D_fragile. The paper gives η alone; the other numbers are ours."
    )
    yield _of_classifiers(data)
    yield _of_print(data, model)
    yield _of_composition(data)
    yield from _of_training(data, model)
    direct = data[~data["quantity"].isin(ACCURACIES)].drop_duplicates(["quantity", "x", "simulated"])
    inside = int(((direct["low"] <= direct["formula"]) & (direct["formula"] <= direct["high"])).sum())
    yield (
        f"In panels a to c the formula is within the 95 % interval of {inside} of {len(direct)} points "
        f"({model.test_points} draws a point in a and b; in c what is left of the same {model.trials} times "
        f"{model.training_points} points, so its points err together)."
    )


def _at(data: pd.DataFrame, quantity: str, series: str, x: float) -> float:
    chosen = (data["quantity"] == quantity) & (data["series"] == series) & (data["x"] == x)
    return float(data.loc[chosen, "simulated"].iloc[0])


def _of_classifiers(data: pd.DataFrame) -> str:
    clean, strong = ([_at(data, "attacked", series, x) for series in CLASSIFIERS] for x in (0.0, STRONG))
    return (
        "Claimed: a classifier of the fragile features alone is over 99 % right, and under 1 % against ε = 2η; one of "
        f"the robust feature alone stays above 50 %. Measured: {clean[1]:.2%} and {strong[1]:.2%}; the robust one "
        f"{clean[0]:.1%} and {strong[0]:.1%}."
    )


def _of_print(data: pd.DataFrame, model: FeatureModelSettings) -> str:
    mixed = data[data["quantity"] == "mixed"]
    printed = np.array([model.model_copy(update={"robust_share": x}).printed_agreement for x in mixed["x"]])
    outside = int(((printed < mixed["low"]) | (printed > mixed["high"])).sum())
    return (
        "The robust classifier's accuracy is printed as p_R p_fragile + (1 - p_R) p_robust. By the law of total "
        f"probability it is p_R p_robust + (1 - p_R) p_fragile, here {model.agreement:.1%} and not "
        f"{model.printed_agreement:.1%}: the two are swapped in print. The printed line is outside the interval of "
        f"{outside} of {len(mixed)} points of panel b (at p_R = 1/2 both say the same)."
    )


def _of_composition(data: pd.DataFrame) -> str:
    first, last = (float(data.loc[data["quantity"] == "composition", "x"].agg(name)) for name in ("min", "max"))
    before = _at(data, "composition", "high_loss", first)
    high, low = (_at(data, "composition", end, last) for end in get_args(End))
    return (
        "Claimed: dropping high loss leaves a higher share of robust points, dropping low loss a lower one. Measured: "
        f"{before:.1%} of all points; {high:.1%} and {low:.1%} once {last:.0%} are dropped."
    )


def _of_training(data: pd.DataFrame, model: FeatureModelSettings) -> Iterator[str]:
    shares = data.loc[data["quantity"] == "clean", "x"]
    first, last = float(shares.min()), float(shares.max())
    wrong = 1 - model.agreement
    changes = {
        end: ", ".join(
            f"{name} {_at(data, quantity, end, first):.1%} to {_at(data, quantity, end, last):.1%}"
            for quantity, name in ACCURACIES.items()
        )
        for end in get_args(End)
    }
    yield (
        f"Claimed: dropping high loss costs standard accuracy and not robust accuracy, which it can improve; dropping "
        f"low loss makes robust features harder to learn. Measured, for classifiers trained at ε = "
        f"{model.training_attack:g}η, from nothing dropped to {last:.0%}: high loss, {changes['high_loss']}; low loss, "
        f"{changes['low_loss']}. In the formulas no point is left whose robust feature is wrong from {wrong:.0%} on."
    )
    trained = data[data["quantity"].isin(ACCURACIES)]
    gap = float((trained["formula"] - trained["simulated"]).abs().max())
    yield (
        f"The lines of panel d are for infinitely many training points; {model.training_points} (mean of "
        f"{model.trials} trials) come within {100 * gap:.1f} points of them everywhere."
    )
