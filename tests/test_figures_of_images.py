"""Figures of images before and after pruning: loss against distance, and layouts in a plane with their measures."""

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
from robustprune.experiments.papers import load_figures
from robustprune.experiments.studies.tsne import plane, standardised
from robustprune.experiments.studies.tsne_classes import (
    LAYOUT_FILE,
    TsneSettings,
    classes_with_area,
    density,
    purity,
    separation,
    without_tail,
)
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
    assert f"The paper has 0.68 on this data set. Measured: Pearson r = {expected:.2f}." in caption
    assert "by chance it were 40 %" in caption
    assert "Correlations are over all images, of one seed." in caption
    assert (job.directory / FIGURE_FILE).stat().st_size < 500_000


def test_images_on_the_boundary_itself_are_in_the_caption(make_job: Callable[..., Job]) -> None:
    job = make_job("figures", scatter_spec().id)
    _, distance = scatter(job)
    distance[:3] = 0
    make_model(job.upstream("models", DISTANCE), distance, distance > np.quantile(distance, 0.4))
    scatter_spec().run(job)
    assert "on the very boundary (3 by seed)" in (job.directory / CAPTION_FILE).read_text()


def test_correlations_of_known_scores() -> None:
    inverse = np.array([1.0, 2.0, 4.0, 8.0, np.inf])
    dropped = {"dropped_by_loss": np.isin(range(5), [2, 3]), "dropped_by_distance": np.isin(range(5), [1, 3])}
    scores = pd.DataFrame({"loss": [1.0, 2.0, 3.0, 4.0, 9.0], "inverse_distance": inverse, **dropped})
    found = correlations(scores)
    assert found["spearman"] == pytest.approx(1)
    assert found["pearson"] == pytest.approx(stats.pearsonr([1, 2, 3, 4], inverse[:4]).statistic)
    assert found["pearson_of_logarithms"] == pytest.approx(stats.pearsonr(np.log([1, 2, 3, 4]), [0, 1, 2, 3]).statistic)
    assert found["pearson_but_nearest"] == pytest.approx(stats.pearsonr([1, 2, 3], inverse[:3]).statistic)
    assert found["shared"] == 0.5
    with pytest.raises(UserError, match=r"2 images .* 3"):
        correlations(scores[:2])


def test_scores_of_two_different_networks_are_refused(make_job: Callable[..., Job]) -> None:
    job = make_job("figures", scatter_spec().id)
    scatter(job, images=100)
    make_model(job.upstream("models", DISTANCE), np.ones(100), np.ones(100, bool), first_loss=1.1)
    with pytest.raises(UserError, match="other losses in epochs 1 to 1"):
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


def test_purity_is_the_share_of_neighbours_of_the_same_class() -> None:
    pairs = np.repeat(np.arange(6)[:, None] * 100.0, 11, axis=0) + np.arange(66)[:, None] % 11
    points = np.column_stack([pairs[:, 0], np.zeros(66)]).astype(np.float32)  # six groups of eleven, far apart
    groups = np.arange(66) // 11
    assert purity(points, groups) == 1
    assert purity(points, np.zeros(66, int)) == 1
    half = groups.copy()
    half[groups == 0] = np.arange(11) % 2  # of eleven, six and five
    assert purity(points, half) == pytest.approx((55 + (6 * 5 + 5 * 4) / 10) / 66)
    assert purity(points[:3], np.array([0, 0, 1])) == pytest.approx((0.5 + 0.5 + 0) / 3)


SQUARE = np.array([(0, 0), (0, 2), (2, 0), (2, 2), (1, 1)], np.float32)  # 5 points, area 4


def test_the_density_is_points_per_area() -> None:
    assert density([SQUARE], 5) == pytest.approx(5 / 4)
    assert density([SQUARE, 2 * SQUARE], 5) == pytest.approx((5 / 4 + 5 / 16) / 2)


def test_the_density_does_not_depend_on_how_many_images_there_are() -> None:
    """Of one distribution: images per area of the whole hull would be ten times as many."""
    many = np.random.default_rng(0).normal(size=(2000, 2)).astype(np.float32)
    assert density([many], 40) == pytest.approx(density([many[:200]], 40), rel=0.1)
    assert density([many[:39]], 40) is None
    assert density([many[:39], SQUARE], 5) is not None


def test_the_separation_is_the_mean_squared_distance_to_the_nearest_centroid() -> None:
    shifts = np.array([(0, 0), (3, 0), (3, 5)], np.float32)
    assert separation([SQUARE + shift for shift in shifts]) == pytest.approx((9 + 9 + 25) / 3)


def test_the_farthest_hundredth_is_cut() -> None:
    points = np.zeros((200, 2), np.float32)
    points[:, 0] = np.arange(200) / 1000
    points[[7, 90]] = (50, 60)
    kept = without_tail(points)
    assert len(kept) == 198
    assert kept.max() < 1
    assert len(without_tail(points[:99])) == 99


def test_a_class_of_too_few_images_has_no_area_and_is_left_out() -> None:
    points = np.concatenate([SQUARE, SQUARE + 10, SQUARE[:3] + 20])
    labels = np.repeat([3, 5, 7], [5, 5, 3])
    classes = classes_with_area(points, labels)
    assert [len(one) for one in classes] == [5, 5]
    assert density(classes, 5) == pytest.approx(5 / 4)
    assert separation(classes) == pytest.approx(200)


def test_axes_are_standardised() -> None:
    points = standardised(np.random.default_rng(0).normal(5, 3, (100, 2)))
    np.testing.assert_allclose(points.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(points.std(0), 1, atol=1e-6)


def test_classes_far_apart_lie_far_apart_and_a_seed_decides() -> None:
    chance = np.random.default_rng(0)
    images = chance.integers(0, 40, (60, 1, 6, 6)).astype(np.uint8)
    images[30:] += 200
    settings = TsneSettings(perplexity=10, components=5)
    points = plane(images, settings, seed=0)
    one, other = points[:30], points[30:]
    between = np.linalg.norm(one.mean(0) - other.mean(0))
    assert between > 2 * max(part.std(0).max() for part in (one, other))
    np.testing.assert_array_equal(points, plane(images, settings, seed=0))


def layout(spread: float, images: int = 60) -> pd.DataFrame:
    """Three classes, so far apart."""
    labels = np.arange(images) % 3
    points = spread * labels[:, None] + np.random.default_rng(1).normal(size=(images, 2))
    return pd.DataFrame({"index": range(images), "label": labels, "x": points[:, 0], "y": points[:, 1]})


def test_layouts_are_side_by_side_with_their_measures(make_job: Callable[..., Job]) -> None:
    ids = [f"layout-train-{digit * 10}" for digit in "0123"]
    names = ("All images", "Low distance by loss")
    rows = tuple(TsnePanel(method=name, layouts=pair) for name, pair in zip(names, (ids[:2], ids[2:]), strict=True))
    spec = TsnePanelsStage(name="f.f", title="f", claim="it is clearer", rows=rows, settings=TsneSettings())
    job = make_job("figures", spec.id)
    layouts = [layout(spread) for spread in (1.0, 1.2, 5.0, 6.0)]
    for stage, table in zip(ids, layouts, strict=True):
        folder = job.upstream("layouts", stage)
        folder.mkdir(parents=True)
        table.to_parquet(folder / LAYOUT_FILE)
    spec.run(job)
    data = pd.read_csv(job.directory / FIGURE_DATA_FILE)
    assert data["panel"].value_counts().to_dict() == dict.fromkeys(names, 60)
    before, after = (np.mean([measures_of(one, 20)["purity"] for one in pair]) for pair in (layouts[:2], layouts[2:]))
    assert before < after
    caption = (job.directory / CAPTION_FILE).read_text()
    for name, purities in zip(names, (before, after), strict=True):
        assert f"Measured, {name}: neighbours of the same class, % {purities:.1f}" in caption
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
