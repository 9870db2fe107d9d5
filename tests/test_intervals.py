"""Intervals over seeds and test images, and verdicts by them, against SciPy, plain loops and simulations."""

import itertools
import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from robustprune.experiments.claims import SIDE, Finding, judged, measured, verdicts_of
from robustprune.experiments.intervals import Interval, Sample, interval_between, interval_of
from robustprune.experiments.tables.row_specs import Check

Outcomes = npt.NDArray[np.int8]


def sample(*values: float, start: int = 0) -> Sample:
    return Sample(dict(enumerate(values, start)))


def accuracies(right: Outcomes) -> Sample:
    return Sample(dict(enumerate(100 * right.mean(1))), right)


def drawn(seeds: int, images: int, *, draws: int = 0) -> Sample:
    """Outcomes that depend on the image, and a little on the seed."""
    generator = np.random.default_rng(draws)
    ease = np.random.default_rng(99).normal(0.5, 1, images) + generator.normal(0, 0.3, (seeds, 1))
    return accuracies((ease + generator.normal(0, 0.5, (seeds, images)) > 0).astype(np.int8))


def check(**relation: Any) -> Check:
    return Check(quantity="accuracy", row="a", **relation)


def between(cell: Any, other: Any) -> Interval:
    interval = interval_between(cell, other)
    assert interval is not None
    return interval


def bounds(interval: Interval) -> tuple[float, float]:
    return interval.middle - interval.half(), interval.middle + interval.half()


def verdict(cell: Any, other: Any, **relation: Any) -> str:
    return verdicts_of([Finding(check(**relation), "", interval_between(cell, other))])[0]


def test_differences_by_seed_are_scipys() -> None:
    first, second = {0: 90.0, 1: 95.0, 2: 92.0, 8: 0.0}, {2: 99.0, 0: 80.0, 1: 81.0, 9: 0.0}
    expected = stats.ttest_rel([90, 95, 92], [80, 81, 99]).confidence_interval(0.95)
    assert bounds(between(Sample(first), Sample(second))) == pytest.approx(tuple(expected))


def test_differences_of_other_seeds_are_welchs() -> None:
    interval = between(sample(90, 95, 92), sample(80, 81, 99, start=4))
    expected = stats.ttest_ind([90, 95, 92], [80, 81, 99], equal_var=False).confidence_interval(0.95)
    assert bounds(interval) == pytest.approx(tuple(expected))


def plain_half(table: npt.NDArray[Any], level: float) -> float:
    """The formula of the module's docstring, in loops: ``table`` is in percent, (S, N)."""
    seeds, images = table.shape
    mean = table.mean()
    of_seeds = sum((table[s].mean() - mean) ** 2 for s in range(seeds)) / (seeds - 1) / seeds
    of_images = sum((table[:, i].mean() - mean) ** 2 for i in range(images)) + 100**2
    noise = sum(
        (table[s, i] - table[s].mean() - table[:, i].mean() + mean) ** 2 for s in range(seeds) for i in range(images)
    )
    noise = (noise + 100**2) / ((seeds - 1) * (images - 1) * seeds * images)
    squares = max(of_seeds, noise) * stats.t.ppf((1 + level) / 2, seeds - 1) ** 2
    squares += of_images / (images * (images - 1)) * stats.t.ppf((1 + level) / 2, images - 1) ** 2
    return math.sqrt(squares)


@pytest.mark.parametrize(("seeds", "images"), [(2, 40), (3, 100), (10, 60)])
def test_accuracies_have_an_interval_over_seeds_and_images(seeds: int, images: int) -> None:
    first, second = drawn(seeds, images), drawn(seeds, images, draws=1)
    assert first.outcomes is not None
    assert second.outcomes is not None
    for level in (0.95, 0.99):
        assert interval_of(first).half(level) == pytest.approx(plain_half(100.0 * first.outcomes, level))
        differences = 100.0 * (first.outcomes.astype(float) - second.outcomes)
        assert between(first, second).half(level) == pytest.approx(plain_half(differences, level))
    assert between(first, second).middle == pytest.approx(first.summary.mean - second.summary.mean)


def test_the_p_value_is_where_the_interval_ends() -> None:
    interval = between(drawn(4, 80), 40.0)
    for level in (0.5, 0.9, 0.999):
        bound = interval.middle - interval.half(level)
        assert interval.p_above(bound) == pytest.approx((1 - level) / 2, rel=2e-3)
    assert interval.p_above(interval.middle + 1) == 1


def test_runs_that_do_not_spread_are_no_certainty() -> None:
    """{98.33, 98.33} against {98.06, 98.06} is no difference of 0.27 +- 0.00."""
    assert verdict(sample(98.33, 98.33), sample(98.06, 98.06), above="b") == "cannot tell"
    assert verdict(sample(88.0, 88.4), sample(87.8, 88.2), above="b") == "cannot tell"  # ties in steps of an image
    assert verdict(sample(88.0, 88.4), sample(57.8, 58.2), above="b") == "agrees"  # by the spread of the runs
    right = np.ones((2, 100), np.int8)
    wrong = right.copy()
    wrong[:, :2] = 0
    assert verdict(accuracies(right), accuracies(wrong), above="b") == "cannot tell"
    assert verdict(sample(5, 5), sample(3, 3.01, start=2), above="b") == "cannot tell"  # of other seeds, too
    exact = Sample({0: 2.0, 1: 2.0}, exact=True)
    assert verdict(exact, 1.5, above=1.5) == "agrees"
    assert verdict(exact, 1.0, near=1.0, within=1.0) == "agrees"  # what is at the distance is within it
    assert verdict(exact, 2.5, above=2.5, within=0.5) == "agrees"
    assert verdict(exact, 2.0, above=2.0) == "cannot tell"


@pytest.mark.parametrize("seeds", [2, 3, 10])
def test_few_verdicts_are_false(seeds: int) -> None:
    """Of two methods that are equally good on all images, but not on these; over seeds alone it is up to a half."""
    generator = np.random.default_rng(seeds)
    false = alone = 0
    for _ in range(400):
        ease = generator.normal(0.5, 1, 100)
        first, second = (
            accuracies((ease + generator.normal(0, 0.7, 100) + generator.normal(0, 0.3, (seeds, 100)) > 0).astype("i1"))
            for _ in range(2)
        )
        interval = between(first, second)
        false += abs(interval.middle) > interval.half()
        over_seeds = first.minus(second).summary.ci95
        alone += over_seeds is not None and abs(interval.middle) > over_seeds
    assert false <= 0.06 * 400
    assert alone > (0.08 if seeds > 2 else 0.04) * 400


def test_many_checks_do_not_fail_a_claim_by_chance() -> None:
    worst = drawn(3, 60)
    interval = between(worst, 0.0)
    at_two_percent = interval.middle + interval.half(0.96)
    checks = [measured(check(above=place), ("a", "b"), worst, place, decimals=1) for place in [at_two_percent] * 8]
    assert judged("one", checks[:1]).verdict == "disagrees"
    assert judged("eight", checks).verdict == "cannot tell"
    far = interval.middle + interval.half(1 - 2 * SIDE / 8) + 0.1
    assert judged("eight", [*checks[:7], measured(check(above=far), ("a", "b"), worst, far, decimals=1)]).verdict == (
        "disagrees"
    )


def test_holms_verdicts_are_those_of_the_step_down_table() -> None:
    """The k-th smallest p is held against 0.025 over what is left; the first that is larger ends it."""
    interval = between(drawn(3, 60), 0.0)
    places = {p: interval.middle + interval.half(1 - 2 * p) for p in (0.004, 0.008, 0.012, 0.02, 0.2)}
    for order in itertools.permutations(places):
        found = [measured(check(above=places[p]), ("a", "b"), drawn(3, 60), places[p], decimals=1) for p in order]
        against = {p for p, verdict in zip(order, verdicts_of(found), strict=True) if verdict == "disagrees"}
        assert against == {0.004}  # 0.004 < 0.025 / 5, 0.008 > 0.025 / 4


@pytest.mark.parametrize("relation", [{"above": 0.0}, {"below": 0.0}, {"near": 0.0, "within": 12.0}], ids=str)
def test_the_seeds_that_would_decide_are_those_of_a_plain_search(relation: dict[str, Any]) -> None:
    first, second = drawn(3, 2000), drawn(3, 2000, draws=1)
    found = measured(check(**relation), ("a", "b"), first, second, decimals=2)
    assert verdicts_of([found]) == ["cannot tell"]
    assert found.interval is not None
    middle, within = found.interval.middle, relation.get("within", 0.0)
    distance = abs(abs(middle) - within) if "near" in relation else abs(middle)
    wanted = found.seeds_to_decide(1)
    assert wanted is not None
    halves = {seeds: found.interval.with_more(seeds / 3).half() for seeds in (wanted - 1, wanted)}
    assert halves[wanted] < distance <= halves[wanted - 1]
    judgement = judged("c", [found])
    assert judgement.seeds == wanted
    assert str(wanted - 3) in judgement.found[0]


def test_more_seeds_and_images_make_an_interval_as_narrow_as_a_larger_draw_does() -> None:
    few = [interval_of(drawn(5, 400, draws=draws)).with_more(4, 4).half() ** 2 for draws in range(40)]
    many = [interval_of(drawn(20, 1600, draws=draws)).half() ** 2 for draws in range(40)]
    assert np.mean(few) == pytest.approx(np.mean(many), rel=0.15)


def test_where_no_number_of_seeds_decides_more_images_may() -> None:
    first = drawn(10, 60)
    assert first.outcomes is not None
    second = first.outcomes.copy()
    second[:, np.flatnonzero(second.all(0))[:3]] = 0
    found = measured(check(above="b"), ("a", "b"), first, accuracies(second), decimals=2)
    assert verdicts_of([found]) == ["cannot tell"]
    assert found.seeds_to_decide(1) is None
    images = found.images_to_decide(1)
    assert images is not None
    assert 60 < images < 600
    assert f"{images:,} test images" in judged("c", [found]).found[0]


def test_one_training_cannot_tell() -> None:
    judgement = judged("c", [measured(check(above=50.0), ("a", "50"), sample(95), 50.0, decimals=1)])
    assert (judgement.verdict, judgement.seeds) == ("cannot tell", None)  # perhaps a checkpoint: there is no second
    assert "one training" in judgement.found[0]
