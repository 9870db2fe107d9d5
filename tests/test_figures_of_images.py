"""Figures of images before and after pruning: loss against distance, and layouts in a plane."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.text import Text
from pydantic import ValidationError
from scipy import stats

from robustprune.core.errors import UserError
from robustprune.core.job import Job
from robustprune.core.paths import CAPTION_FILE, FIGURE_DATA_FILE, FIGURE_FILE
from robustprune.experiments.figures.figure import make_logarithmic, new_panels
from robustprune.experiments.figures.loss_distance import SHOWN, LossDistance, LossDistanceStage, correlations
from robustprune.experiments.figures.tsne_panels import TsnePanel, TsnePanelsStage, _draw, measures_of
from robustprune.experiments.files import load_figures
from robustprune.experiments.studies.tsne_classes import LAYOUT_FILE, TsneSettings, purity
from tiny import all_figures, all_tables

SEED = np.random.default_rng(0)
LOSS, DISTANCE = (f"midway-lowdistance-rsfgsm-fastcnn-seed0-{digit * 10}" for digit in "01")


def make_model(folder: Path, score: np.ndarray, kept: np.ndarray, *, first_loss: float = 1.0) -> None:
    """What a training that pruned in its middle leaves, as far as a figure reads it."""
    folder.mkdir(parents=True, exist_ok=True)
    pd.DataFrame({"epoch": [1, 2], "loss": [first_loss, score.mean()]}).to_parquet(folder / "history.parquet")
    table = {"pool": "train", "index": np.arange(len(score)), "score": score.astype(np.float32), "kept": kept}
    pd.DataFrame(table).to_parquet(folder / "mid_training.parquet")


def scatter(job: Job, images: int = 5000) -> tuple[np.ndarray, np.ndarray]:
    """Two models with scores that are known."""
    loss = SEED.exponential(size=images)
    distance = 1 / (0.5 + loss + SEED.exponential(size=images))
    make_model(job.upstream("models", LOSS), loss, loss < np.quantile(loss, 0.6))
    make_model(job.upstream("models", DISTANCE), distance, distance > np.quantile(distance, 0.4))
    return loss, distance


def scatter_spec(**changes: object) -> LossDistanceStage:
    values = {
        "name": "kaufmann_v2.figure6", "title": "Figure 6", "after_epoch": 1, "dropped": 0.4, "printed": 0.68,
        "claim": "they correlate", "runs": ((0, LOSS, DISTANCE),), **changes,
    }  # fmt: skip
    return LossDistanceStage.model_validate(values)


def test_the_scatter_has_the_correlation_of_all_images_and_shows_some(make_job: Callable[..., Job]) -> None:
    job = make_job("figures", scatter_spec().id)
    loss, distance = scatter(job)
    facts = scatter_spec().run(job)
    expected = stats.pearsonr(loss.astype(np.float32), 1 / distance.astype(np.float32)).statistic
    assert facts["images"] == 5000
    assert facts["pearson"] == pytest.approx(expected, abs=1e-6)
    shown = pd.read_csv(job.directory / FIGURE_DATA_FILE)
    assert len(shown) == SHOWN == len(shown["index"].unique())
    first = shown.iloc[0]
    assert first["loss"] == pytest.approx(loss[int(first["index"])], abs=1e-4)
    assert first["inverse_distance"] == pytest.approx(1 / distance[int(first["index"])], rel=1e-4)
    caption = (job.directory / CAPTION_FILE).read_text()
    assert (
        f"Claimed: they correlate. The paper has 0.68 on this data set. Measured: Pearson r = {expected:.2f}."
        in caption
    )
    assert "by chance it were 40 %" in caption
    assert "Correlations are over all images, of one seed." in caption
    assert (job.directory / FIGURE_FILE).stat().st_size < 500_000


def test_images_on_the_very_boundary_are_told_of(make_job: Callable[..., Job]) -> None:
    job = make_job("figures", scatter_spec().id)
    _, distance = scatter(job)
    distance[:3] = 0
    make_model(job.upstream("models", DISTANCE), distance, distance > np.quantile(distance, 0.4))
    scatter_spec().run(job)
    caption = (job.directory / CAPTION_FILE).read_text()
    assert "Correlations are over all images but those on the very boundary (3 by seed), of one seed." in caption


def test_correlations_of_known_scores() -> None:
    inverse = np.array([1.0, 2.0, 4.0, 8.0, np.inf])
    scores = pd.DataFrame(
        {
            "loss": [1.0, 2.0, 3.0, 4.0, 9.0],
            "inverse_distance": inverse,
            "dropped_by_loss": [False, False, True, True, False],
            "dropped_by_distance": [False, True, False, True, False],
        }
    )
    found = correlations(scores)
    assert found["spearman"] == pytest.approx(1)
    assert found["pearson"] == pytest.approx(stats.pearsonr([1, 2, 3, 4], inverse[:4]).statistic)
    assert found["pearson_of_logarithms"] == pytest.approx(stats.pearsonr(np.log([1, 2, 3, 4]), [0, 1, 2, 3]).statistic)
    assert found["pearson_but_nearest"] == pytest.approx(stats.pearsonr([1, 2, 3], inverse[:3]).statistic)
    assert found["shared"] == 0.5
    with pytest.raises(UserError, match="2 images have a finite loss and distance; there should be 3"):
        correlations(scores[:2])


def test_scores_of_two_different_networks_are_refused(make_job: Callable[..., Job]) -> None:
    job = make_job("figures", scatter_spec().id)
    scatter(job, images=100)
    make_model(job.upstream("models", DISTANCE), np.ones(100), np.ones(100, bool), first_loss=1.1)
    with pytest.raises(UserError, match="had other losses in epochs 1 to 1, so their scores are not of one network"):
        scatter_spec().run(job)


def figure6() -> dict[str, object]:
    return load_figures()["kaufmann_v2.figure6"].model_dump()


def test_rows_that_are_not_one_training_are_refused() -> None:
    figure = figure6()
    figure["distance"]["mid_training"]["keep"] = 0.5  # type: ignore[index]
    with pytest.raises(ValidationError, match="loss and distance are one training until it prunes"):
        LossDistance.model_validate(figure)
    with pytest.raises(ValidationError, match="loss and distance are rows with mid_training, by score: loss"):
        LossDistance.model_validate({**figure6(), "distance": figure6()["loss"]})


def test_purity_is_the_share_of_neighbours_of_the_own_class() -> None:
    pairs = np.repeat(np.arange(6)[:, None] * 100.0, 11, axis=0) + np.arange(66)[:, None] % 11
    points = np.column_stack([pairs[:, 0], np.zeros(66)]).astype(np.float32)  # six groups of eleven, far apart
    groups = np.arange(66) // 11
    assert purity(points, groups) == 1
    assert purity(points, np.zeros(66, int)) == 1
    half = groups.copy()
    half[groups == 0] = np.arange(11) % 2  # of eleven, six and five
    assert purity(points, half) == pytest.approx((55 + (6 * 5 + 5 * 4) / 10) / 66)
    assert purity(points[:3], np.array([0, 0, 1])) == pytest.approx((0.5 + 0.5 + 0) / 3)


def layout(spread: float, images: int = 60) -> pd.DataFrame:
    """Three classes, so far apart."""
    labels = np.arange(images) % 3
    points = spread * labels[:, None] + np.random.default_rng(1).normal(size=(images, 2))
    return pd.DataFrame({"index": range(images), "label": labels, "x": points[:, 0], "y": points[:, 1]})


def test_layouts_are_side_by_side_with_their_measures(make_job: Callable[..., Job]) -> None:
    ids = [f"layout-train-{digit * 10}" for digit in "0123"]
    panels = (
        TsnePanel(method="All images", layouts=(ids[0], ids[1])),
        TsnePanel(method="Low distance by loss", layouts=(ids[2], ids[3])),
    )
    spec = TsnePanelsStage(
        name="kaufmann_v2.figure2", title="Figure 2", claim="it is clearer", rows=panels, settings=TsneSettings()
    )
    job = make_job("figures", spec.id)
    layouts = [layout(spread) for spread in (1.0, 1.2, 5.0, 6.0)]
    for stage, table in zip(ids, layouts, strict=True):
        folder = job.upstream("layouts", stage)
        folder.mkdir(parents=True)
        table.to_parquet(folder / LAYOUT_FILE)
    spec.run(job)
    data = pd.read_csv(job.directory / FIGURE_DATA_FILE)
    assert data["panel"].value_counts().to_dict() == {"All images": 60, "Low distance by loss": 60}
    before, after = (np.mean([measures_of(one, 20)["purity"] for one in pair]) for pair in (layouts[:2], layouts[2:]))
    assert before < after
    caption = (job.directory / CAPTION_FILE).read_text()
    assert f"Measured, All images: neighbours of the same class, % {before:.1f} ±" in caption
    assert f"Measured, Low distance by loss: neighbours of the same class, % {after:.1f}" in caption
    assert "Claimed: it is clearer." in caption


def test_a_class_has_its_color_where_another_is_missing() -> None:
    names = ("all", "some")
    rows = tuple(TsnePanel(method=name, layouts=("layout-train-0123456789",)) for name in names)
    spec = TsnePanelsStage(name="f", title="f", claim="c", rows=rows, settings=TsneSettings())
    whole = layout(1.0)
    shown = pd.concat([whole.assign(panel="all"), whole[whole["label"] != 1].assign(panel="some")])
    first, second = (
        {text.get_text(): text.get_bbox_patch().get_edgecolor() for text in axes.texts}  # type: ignore[union-attr]
        for axes in _draw(shown, spec).axes
    )
    assert len(set(first.values())) == 3
    assert second == {label: first[label] for label in ("0", "2")}


@pytest.mark.parametrize("preset", ["digits", "mnist", "cifar10"])
def test_these_figures_are_planned_at_every_preset_with_the_runs_of_the_tables(preset: str) -> None:
    plan, tables = all_figures(preset), all_tables(preset)
    figures = [plan.targets[f"results/{name}.svg"] for name in ("kaufmann_v2/figure2", "kaufmann_v2/figure6")]
    table = tables.targets["results/kaufmann_v2/table1.csv"]
    assert set(plan.upstream(figures[1])) <= set(tables.upstream(table))
    layouts = set(plan.upstream(plan.targets["results/kaufmann_v1/figure8.svg"]))
    assert set(tables.upstream(tables.targets["results/kaufmann_v1/table2.csv"])) <= layouts
    assert len(plan.upstream(figures[0])) == 3 * len(plan.config.seeds)


@pytest.mark.parametrize("ends", [(1.75, 2.75), (0.9, 8.0), (2.301, 2.303), (0.03, 400.0)])
def test_labels_of_a_logarithmic_axis_do_not_touch_however_little_it_spans(ends: tuple[float, float]) -> None:
    figure, panels = new_panels(1, 1)
    panels[0][0].plot(ends, ends)
    make_logarithmic(panels[0][0])
    figure.canvas.draw()
    axis = panels[0][0].xaxis
    labels = [label for label in axis.get_ticklabels(which="both") if label.get_text()]
    shown = [label for label in labels if axes_hold(panels[0][0], label)]
    boxes = sorted((label.get_window_extent() for label in shown), key=lambda box: box.x0)
    assert boxes
    assert all(first.x1 < second.x0 for first, second in pairwise(boxes))


def axes_hold(axes: Axes, label: Text) -> bool:
    low, high = axes.get_xlim()
    return low <= label.get_position()[0] <= high
