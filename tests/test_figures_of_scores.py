"""Figures of scores: data and measures against numpy and scipy, on stores, recordings and manifests made by hand."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from scipy import stats

from made_up import Results, read_figure
from robustprune.core.errors import UserError
from robustprune.core.job import Job
from robustprune.core.paths import GRID_FILE, dynamics_name
from robustprune.experiments.figures.distributions import Distributions, DistributionsStage
from robustprune.experiments.figures.measures import LOW, Compared, MeasureClaim, ScoreSeries, defined
from robustprune.experiments.figures.neighbour_errors import NeighbourErrorsStage
from robustprune.experiments.figures.overlaps import ManifestPair, OverlapsStage
from robustprune.experiments.figures.scatter import Scatter, ScatterStage
from robustprune.experiments.figures.trajectories import TrajectoriesStage, TrajectorySeries, magnitudes
from robustprune.experiments.papers import load_figures
from robustprune.planning.config import load_config
from robustprune.planning.plan import Plan, make_plan
from robustprune.pruning.facts import Facts, Rows
from robustprune.pruning.manifest import MANIFEST_FILE, write_manifest
from robustprune.scores.distribution import Histogram
from robustprune.scores.store.writer import StoreWriter, write_store
from robustprune.training.model import ModelStage
from test_pruning import pool
from tiny import all_tables, write_experiments

Values = npt.NDArray[np.float32]


class Scores(Results):
    """Scores, recordings and manifests, put in place by hand."""

    def next_id(self, kind: str) -> str:
        self.made += 1
        return f"{kind}-{self.made:010x}"

    def score(self, values: npt.ArrayLike) -> str:
        """The id of a score stage with these values."""
        column, stage = np.asarray(values, dtype=np.float32), self.next_id("score")
        meaning = {"column": "margin", "unit": "1", "easy": "high", "sign": "large is easy"}
        path = self.put("scores", stage, {}) / "scores.zarr"
        write_store(path, [{"margin": column}], len(column), {"score": meaning, "pool_digest": "0" * 64})
        return stage


@pytest.fixture
def scores(make_job: Callable[..., Job]) -> Scores:
    return Scores(make_job("figures", "figure-0000000000"))


def claims(*checks: Mapping[str, Any]) -> tuple[MeasureClaim, ...]:
    return tuple(MeasureClaim.model_validate({"claim": "A claim", "checks": [check]}) for check in checks)


def drawn(shift: float = 0.0, count: int = 1000, seed: int = 0) -> Values:
    return (np.random.default_rng(seed).normal(size=count) + shift).astype(np.float32)


def spread_of(scores: Values, first: Values, highest: float = 1, *, same_images: bool = True) -> dict[str, float]:
    return defined(Distributions.measures, Compared(scores, first, highest, same_images))


def prediction_of(true: Values, predicted: Values) -> dict[str, float]:
    return defined(Scatter.measures, Compared(predicted, true))


def test_measures_of_scores_are_numpys_and_scipys() -> None:
    first, second = drawn(), drawn(0.3, seed=1) ** 2
    measured = spread_of(second, first, float(second.max()))
    low, middle, high = np.quantile(second, [0.01, 0.5, 0.99])
    assert measured["median"] == pytest.approx(np.median(second))
    assert measured["tail"] == pytest.approx((high - middle) / (middle - low))
    assert (second >= 0).all()
    assert measured["low"] == pytest.approx((second < LOW * second.max()).mean())
    assert measured["distance"] == pytest.approx(stats.ks_2samp(first, second).statistic)
    assert measured["rank_correlation"] == pytest.approx(stats.spearmanr(first, second).statistic)


def test_the_first_scores_are_not_compared_with_themselves() -> None:
    first = drawn()
    assert set(spread_of(first, first)) == {"median", "censored", "tail"}  # no low one, as there are negative ones


def test_scores_that_are_not_finite_are_censored_and_the_largest() -> None:
    scores = np.array([0, 1, 2, np.inf], np.float32)
    assert spread_of(scores, scores, 2)["censored"] == 0.25
    assert spread_of(scores, np.array([0, 1, 2, 2], np.float32), 2)["distance"] == 0.25


def test_measures_of_a_prediction_are_numpys() -> None:
    true = drawn()
    guess = (0.4 * true + 0.1 + 0.2 * drawn(seed=2)).astype(np.float32)
    measured = prediction_of(true, guess)
    slope = np.polyfit(true.astype(float), guess.astype(float), 1)[0]
    assert measured["slope"] == pytest.approx(slope)
    assert measured["spread"] == pytest.approx(guess.std() / true.std(), rel=1e-5)
    assert measured["correlation"] == pytest.approx(np.corrcoef(true, guess)[0, 1])
    assert measured["mae"] == pytest.approx(np.abs(true - guess).mean(), rel=1e-5)
    constant = np.abs(true - true.mean()).mean()
    assert measured["mae_ratio"] == pytest.approx(np.abs(true - guess).mean() / constant, rel=1e-5)


def test_constants_have_no_correlation() -> None:
    assert prediction_of(np.ones(5, np.float32), np.zeros(5, np.float32)) == {"mae": 1.0}
    flat = prediction_of(np.arange(5, dtype=np.float32), np.zeros(5, np.float32))
    assert (flat["slope"], "correlation" in flat) == (0, False)


def test_scores_of_other_images_are_not_correlated_nor_are_constants() -> None:
    first, second = drawn(), drawn(seed=1)
    assert "rank_correlation" not in spread_of(second, first, same_images=False)
    assert "rank_correlation" not in spread_of(np.ones(1000, np.float32), first)


def distributions_spec(scores: Scores, **series: tuple[Values, ...]) -> DistributionsStage:
    return DistributionsStage(
        name="puma.figure9", title="Figure 9", axis="margin", epsilon="8/255", same_images=True,
        series=tuple(
            ScoreSeries(method=name, scores=tuple(map(scores.score, parts))) for name, parts in series.items()
        ),
        claims=claims(
            {"measure": "distance", "row": "other", "below": 0.1}, {"measure": "median", "row": "other", "above": "one"}
        ),
    )  # fmt: skip


def test_scores_that_are_all_censored_have_no_distribution(scores: Scores) -> None:
    spec = distributions_spec(scores, one=(drawn(),), other=(np.full(9, np.inf, np.float32),))
    with pytest.raises(UserError, match="other: no image has a finite score"):
        spec.run(scores.job)


def test_bins_of_a_distribution_are_the_same_and_count_every_image(scores: Scores) -> None:
    one, other = drawn(), drawn(1)
    facts = distributions_spec(scores, one=(one[:300], one[300:]), other=(other,)).run(scores.job)
    picture, data, caption = read_figure(scores.job.directory)
    bins = {name: rows.reset_index() for name, rows in data.groupby("series")}
    assert (bins["one"][["low", "high"]] == bins["other"][["low", "high"]]).all(axis=None)
    inside = np.concatenate([one, other]) <= np.quantile(np.concatenate([one, other]), 0.999)
    assert data["images"].sum() == inside.sum()
    third = bins["one"].iloc[30]
    assert third["images"] == ((one >= third["low"]) & (one < third["high"])).sum()
    assert third["share"] == third["images"] / 1000
    assert [claim["verdict"] for claim in facts["claims"]] == ["cannot tell"] * 2
    assert "n = 1,000 images: median" in caption
    assert "ε" in picture


def test_claims_of_scores_are_judged_over_the_trainings_of_all_seeds(scores: Scores) -> None:
    def series(shift: float) -> tuple[ScoreSeries, ...]:
        spread = np.linspace(0, 1, 101, dtype=np.float32)
        one, other = (scores.score(spread + level) for level in (shift, 1 + shift + shift**2))
        return ScoreSeries(method="one", scores=(one,)), ScoreSeries(method="other", scores=(other,))

    check = claims(
        {"measure": "median", "row": "other", "above": "one"}, {"measure": "median", "row": "one", "above": 9}
    )
    first, *again = (series(shift) for shift in (0.0, 0.1, 0.2))
    spec = DistributionsStage(
        name="f",
        title="F",
        axis="score",
        epsilon=None,
        series=first,
        again=tuple(again),
        same_images=True,
        claims=check,
    )
    facts = spec.run(scores.job)
    assert [claim["verdict"] for claim in facts["claims"]] == ["agrees", "disagrees"]
    assert [of["other"]["median"] for of in facts["of_each_seed"]] == pytest.approx([1.5, 1.61, 1.74])
    assert facts["measured"] == facts["of_each_seed"][0]
    assert {stage for _, stage in spec.upstream} == {
        score for one in (first, *again) for of in one for score in of.scores
    }
    assert "3 trainings" in read_figure(scores.job.directory)[2]


def test_infinite_scores_are_in_no_bin_and_in_the_caption(scores: Scores) -> None:
    one = drawn()
    one[:100] = np.inf
    distributions_spec(scores, one=(one,), other=(drawn(),)).run(scores.job)
    _, data, caption = read_figure(scores.job.directory)
    assert data[data["series"] == "one"]["images"].sum() <= 900
    assert "share not finite 0.100" in caption


def test_a_scatter_counts_each_image_once_and_measures_shrinking(scores: Scores) -> None:
    true = drawn()
    guess = (0.3 * true).astype(np.float32)
    guess[0] = np.inf
    spec = ScatterStage(
        name="nieth.figure5", title="Figure 5",
        first=ScoreSeries(method="true", scores=(scores.score(true),)),
        second=ScoreSeries(method="extrapolated", scores=(scores.score(guess),)),
        claims=claims({"measure": "spread", "row": "extrapolated", "below": 1}),
    )  # fmt: skip
    facts = spec.run(scores.job)
    _, data, caption = read_figure(scores.job.directory)
    assert data["images"].sum() == 999
    cell = data.iloc[int(data["images"].argmax())]
    inside = (true >= cell["first_low"]) & (true < cell["first_high"]) & (guess >= cell["second_low"])
    assert cell["images"] == (inside & (guess < cell["second_high"])).sum()
    assert facts["measured"]["extrapolated"]["spread"] == pytest.approx(0.3, rel=1e-4)
    assert facts["claims"][0]["verdict"] == "cannot tell"
    assert "n = 999 images" in caption


def test_scores_of_other_images_are_refused(scores: Scores) -> None:
    first, second = (ScoreSeries(method=str(n), scores=(scores.score(drawn(count=n)),)) for n in (5, 6))
    with pytest.raises(UserError, match="5 and 6 are of 5 and of 6 images"):
        ScatterStage(name="a", title="A", first=first, second=second, claims=()).run(scores.job)


def manifest(scores: Scores, kept: list[int], images: int = 20) -> str:
    rows = Rows(
        np.zeros(len(kept), np.int32), np.array(kept, np.int64), np.zeros(len(kept), np.int16), None,
        np.full(len(kept), 0.1, np.float32),
    )  # fmt: skip
    facts = Facts(
        images=images, kept=len(kept), dropped=images - len(kept), share_kept=len(kept) / images,
        share_dropped=1 - len(kept) / images, kept_by_pool={"real": len(kept)}, dropped_by_pool={},
        kept_by_class={"0": len(kept)}, dropped_by_class={}, kept_with_negative_radius=0,
        epsilon_histogram=Histogram(1.0, 0, (1,)),
    )  # fmt: skip
    stage = scores.next_id("manifest")
    path = scores.put("manifests", stage, {}) / MANIFEST_FILE
    write_manifest(path, [rows], pools={"real": pool(images, "a" * 64)}, spec={}, facts=facts)
    return stage


def test_an_overlap_is_counted_by_all_measures(scores: Scores) -> None:
    first, second = manifest(scores, list(range(10))), manifest(scores, list(range(4, 14)))
    pair = ManifestPair(method="Linf", names=("U", "U~"), first=first, second=second)
    check = {"measure": "same_decision", "row": "Linf", "near": 0.667, "within": 0.05}
    facts = OverlapsStage(name="a", title="A", pairs=(pair,), claims=claims(check)).run(scores.job)
    _, data, caption = read_figure(scores.job.directory)
    row = data.iloc[0]
    assert (row["both"], row["first_alone"], row["second_alone"], row["neither"]) == (6, 4, 4, 6)
    expected = {"same_decision": 0.6, "of_first": 0.6, "jaccard": 6 / 14, "of_all": 0.3}
    assert facts["measured"]["Linf"] == pytest.approx(expected)
    assert facts["claims"][0]["verdict"] == "cannot tell"
    assert "n = 20 images" in caption


def test_errors_over_neighbours_are_those_of_the_grid(scores: Scores) -> None:
    grid = pd.DataFrame(
        [
            {"sources": sources, "metric": "cosine", "k": k, "weighting": "mean", "mae": mae, "choosing_mae": mae,
             "constant_mae": 0.2, "spearman": 0.5, "images": 50}
            for sources, errors in {"real": (0.19, 0.18), "synthetic": (0.17, 0.16), "all": (0.15, 0.17)}.items()
            for k, mae in zip((5, 13), errors, strict=True)
        ]
    )  # fmt: skip
    stage = "score-00000000ff"
    grid.to_csv(scores.put("scores", stage, {}) / GRID_FILE, index=False)
    found = claims(
        {"measure": "mae", "row": "DU, real", "above": "DU, generated"},
        {"measure": "mae_ratio", "row": "DU, real and generated", "below": 0.7},
    )
    series = (ScoreSeries(method="DU", scores=(stage,)),)
    facts = NeighbourErrorsStage(name="a", title="A", series=series, claims=found).run(scores.job)
    picture, data, caption = read_figure(scores.job.directory)
    assert [claim["verdict"] for claim in facts["claims"]] == ["cannot tell"] * 2
    assert facts["measured"]["DU, real and generated"] == {"mae": 0.15, "mae_ratio": pytest.approx(0.75)}
    assert data["mae"].tolist() == grid["mae"].tolist()
    assert "n = 50 held-out generated images" in caption
    assert "neighbours k" in picture


def test_a_sinusoid_is_slow_or_fast_by_its_period() -> None:
    epochs = np.arange(60)
    slow, fast = (0.5 + 0.4 * np.sin(2 * np.pi * epochs * number / 60) for number in (2, 20))
    low, high, highest = magnitudes(np.stack([slow, fast], axis=1).astype(np.float32), window=10)
    assert highest == 2  # periods of 60 and 30 epochs: three windows or more
    assert low == pytest.approx([60 * 0.2 / 2, 0], abs=1e-4)
    assert high == pytest.approx([0, 60 * 0.2 / 28], abs=1e-4)


def test_too_short_a_recording_is_refused() -> None:
    with pytest.raises(UserError, match="3 recorded epochs"):
        magnitudes(np.zeros((3, 4), np.float32), window=2)


def recorded(scores: Scores, certainty: Values) -> tuple[str, str]:
    """The ids of a model with these (T, N) certainties, and of the pool."""
    model, pool = scores.next_id("model"), "pool-00000000aa"
    path = scores.put("models", model, {}) / dynamics_name(pool)
    writer = StoreWriter(path, {"clean_confidence": "float16"}, certainty.shape[1], epochs=len(certainty))
    for epoch, row in enumerate(certainty):
        writer.write({"clean_confidence": row.astype(np.float16)}, epoch=epoch)
    writer.finish({"pool_digest": "0" * 64, "recorded_after": list(range(1, len(certainty) + 1))})
    return model, pool


def test_uncertainty_is_set_against_how_fast_predictions_move(scores: Scores) -> None:
    generator = np.random.default_rng(0)
    sizes = np.linspace(0, 0.4, 50)
    certainty = (0.5 + sizes * generator.uniform(-1, 1, (40, 50))).astype(np.float32)
    model, pool = recorded(scores, certainty)
    series = TrajectorySeries(
        method="standard", model=model, pool=pool, score=scores.score(sizes), trajectory="clean", window=10
    )
    check = {"measure": "fast_over_slow", "row": "standard", "above": 0}
    facts = TrajectoriesStage(name="a", title="A", series=(series,), claims=claims(check)).run(scores.job)
    picture, data, caption = read_figure(scores.job.directory)
    spectrum = np.abs(np.fft.fft(certainty.astype(np.float16).astype(float), axis=0))
    slow, fast = spectrum[1], spectrum[2:21].mean(axis=0)
    found = facts["measured"]["standard"]
    assert found["correlation_low"] == pytest.approx(stats.pearsonr(sizes, slow).statistic, abs=1e-3)
    assert found["correlation_high"] == pytest.approx(stats.pearsonr(sizes, fast).statistic, abs=1e-3)
    assert facts["claims"][0]["verdict"] == "cannot tell"
    shown = data[data["panel"] == "course"]
    assert set(shown.groupby("group")["image"].unique().map(len)) == {3}
    assert set(shown[shown["group"] == "low"]["image"]) == {0, 1, 2}
    image = shown[shown["image"] == 0].sort_values("epoch")["certainty"]
    assert image.to_numpy() == pytest.approx(certainty[:, 0], abs=1e-3)
    assert "n = 50 images, 40 epochs recorded, slow are frequencies up to 1, of 20" in caption
    assert "certainty of the label" in picture


def plan_of(name: str, overrides: Mapping[str, Any] | None = None) -> Plan:
    return make_plan(load_config(overrides or {}), {}, {name: load_figures()[name]})


@pytest.mark.parametrize("name", ["nieth.figure2", "nieth.figure3", "nieth.figure4", "nieth.figure5", "puma.figure9"])
def test_figures_of_scores_need_nothing_that_tables_do_not(name: str) -> None:
    """What the first seed's trainings scored; claims are judged over the others, too."""
    plan, tables = plan_of(name, {"seeds": [0]}), all_tables("digits")
    (figure,) = plan.targets.values()
    assert set(plan.needed_for([figure])) - set(tables.stages) == {figure}
    every = plan_of(name)
    extra = set(every.needed_for(every.targets.values())) - set(plan.stages) - set(tables.stages)
    trained = [stage for stage in (every.stages[name] for name in extra) if isinstance(stage, ModelStage)]
    assert {stage.seed for stage in trained} <= {1, 2}


@pytest.mark.parametrize(("preset", "searches"), [("cifar10", 0), ("digits", 1)])
def test_the_grid_of_figure_1_is_that_of_cifar10_and_elsewhere_another_search(preset: str, searches: int) -> None:
    plan = plan_of("nieth.figure1", {"preset": preset, "seeds": [0]})
    assert len(set(plan.needed_for(plan.targets.values())) - set(all_tables(preset).stages)) == 1 + searches


def test_neighbours_need_generated_images_that_are_scored() -> None:
    with pytest.raises(UserError, match=r"Linf, DU: extrapolation.source = none"):
        plan_of("nieth.figure1", {"extrapolation": {"source": "none"}})


SERIES = [{"method": "DeepFool", "strategy": "puma"}]
SPREAD = {"form": "distributions", "axis": "m", "series": SERIES}


def claim(**changes: str) -> list[dict[str, Any]]:
    check = {"measure": "median", "row": "DeepFool", "above": 0, **changes}
    return [{"claim": "A claim", "checks": [check]}]


@pytest.mark.parametrize(
    ("figure", "says"),
    [
        ({**SPREAD, "series": SERIES * 2}, "the same name: DeepFool, DeepFool"),
        ({**SPREAD, "claims": claim(row="A")}, "claims: there is no 'A'; there are DeepFool"),
        ({**SPREAD, "claims": claim(measure="mae")}, "claims: mae is not measured here, but median, censored, low"),
        ({"form": "neighbours", "k": [1, 2], "series": SERIES}, "'DeepFool' lacks extrapolated: true"),
        ({"form": "trajectories", "series": SERIES}, "score = margin of 'DeepFool'"),
        ({"form": "overlaps", "pairs": [{"method": "p", "first": SERIES[0], "second": {"method": "n"}}]}, "'n' drops"),
    ],
)
def test_a_bad_figure_of_scores_is_refused_in_one_sentence(tmp_path: Path, figure: dict[str, Any], says: str) -> None:
    write_experiments(tmp_path, figures={"first": {"title": "Mine", "target": "mine/first.svg", **figure}})
    with pytest.raises(UserError) as caught:
        load_figures(tmp_path)
    assert says in str(caught.value)
    assert str(caught.value).startswith("mine.yaml: figures.first")
    assert "\n" not in str(caught.value)
