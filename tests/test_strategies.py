"""Strategies and radii against plain Python on lists."""

from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from robustprune.core.errors import UserError
from robustprune.pruning.candidates import Candidates
from robustprune.pruning.radius import RADIUS_RULES, Measured, RadiusRule, RadiusSettings
from robustprune.pruning.settings import ENDS, Among, DropBeyond, DropShare, Per, Strategy
from robustprune.pruning.strategies import Amount, choose

POOLS = ("toy-train-0000000000", "toy-generated-1111111111")

floats = st.floats(-1, 1, width=32) | st.sampled_from([np.float32(np.inf), np.float32(-np.inf), np.float32(0.5)])


Scores = npt.NDArray[np.floating]


def of_scores(scores: Scores | int, labels: Any = None, **changes: Any) -> Candidates:
    """Images of one pool with these scores, or so many without any."""
    count = scores if isinstance(scores, int) else len(scores)
    values: dict[str, Any] = {
        "pools": POOLS[:1],
        "first": (0,),
        "counts": (count,),
        "labels": np.zeros(count, np.int16) if labels is None else np.asarray(labels, np.int16),
        "score": None if isinstance(scores, int) else scores.astype(np.float32),
    }
    return Candidates(**values | changes)


def share_of(strategy: Strategy, share: float) -> DropShare:
    """This share to drop, the same at each end."""
    ends = len(ENDS[strategy])
    return DropShare(shares=(share / ends,) * ends)


@st.composite
def candidates(draw: st.DrawFn) -> Candidates:
    first_count, second_count = draw(st.integers(0, 30)), draw(st.integers(1, 30))
    total = first_count + second_count
    return Candidates(
        pools=POOLS,
        first=(draw(st.integers(0, 5)), 0),
        counts=(first_count, second_count),
        labels=draw(hnp.arrays(np.int16, total, elements=st.integers(0, 3))),
        score=draw(hnp.arrays(np.float32, total, elements=floats)),
        easy=draw(st.sampled_from(["high", "low"])),
    )


def plain_ranks(images: Candidates, end: str, positions: list[int], seed: int) -> list[float]:
    """What an end ranks the images by, lowest first to go, one by one."""
    assert images.score is not None
    score = [float(images.score[position]) for position in positions]
    if end == "chance":
        return [int(images.keys(np.array([position]), seed)[0]) for position in positions]
    if end == "middle":
        finite = [value for value in score if np.isfinite(value)]
        mean = np.float32(sum(finite) / len(finite)) if finite else np.float32(0)
        return [float(abs(np.float32(value) - mean)) for value in score]
    drops_high = end == "high" or end == {"high": "easy", "low": "difficult"}[images.easy]
    return [-value if drops_high else value for value in score]


def plain_choice(images: Candidates, strategy: Strategy, drop: Amount, per: Per, seed: int) -> list[int]:
    kept: list[int] = []
    for name, members in plain_groups(images, per).items():
        rest, ends = list(members), ENDS[strategy]
        for number, end in enumerate(ends):
            ranks = dict(zip(rest, plain_ranks(images, end, rest, seed), strict=True))
            if isinstance(drop, DropBeyond):
                at = float(np.float32(drop.thresholds[number]))
                drops_high = end == "high" or end == {"high": "easy", "low": "difficult"}[images.easy]
                limit = -at if drops_high else at
                rest = [p for p in rest if not (ranks[p] <= limit if end == "difficult" else ranks[p] < limit)]
                continue
            if isinstance(drop, DropShare):
                so_far = [round(sum(drop.shares[:stop]) * len(members)) for stop in (number, number + 1)]
            else:
                so_far = [drop[name] * part // len(ends) for part in (number, number + 1)]
            count = so_far[1] - so_far[0]
            order = sorted(rest, key=lambda p: (ranks[p], int(images.keys(np.array([p]), seed)[0])))
            rest = sorted(order[count:])
        kept += rest
    return sorted(kept)


def plain_groups(images: Candidates, per: Per) -> dict[str, list[int]]:
    groups: dict[str, list[int]] = {}
    for position, label in enumerate(images.labels.tolist()):
        pool = POOLS[0] if position < images.counts[0] else POOLS[1]
        groups.setdefault({"all": "all", "class": str(label), "source": pool}[per], []).append(position)
    return groups


@st.composite
def cases(draw: st.DrawFn) -> tuple[Candidates, Strategy, Amount, Per]:
    images = draw(candidates())
    per: Per = draw(st.sampled_from(["all", "class", "source"]))
    strategy: Strategy = draw(st.sampled_from(sorted(set(ENDS) - {"none", "random_with_replacement"})))
    ends = len(ENDS[strategy])
    dropped = {name: draw(st.integers(0, len(rows))) for name, rows in plain_groups(images, per).items()}
    amounts: list[st.SearchStrategy[Amount]] = [
        st.tuples(*[st.floats(0, 0.99 / ends)] * ends).map(lambda shares: DropShare(shares=shares)),
        st.just(dropped),
    ]
    if not {"chance", "middle"} & set(ENDS[strategy]):
        numbers = st.sampled_from([Fraction(-1, 4), Fraction(0), Fraction(1, 2), Fraction(26, 255)])
        amounts.append(st.tuples(*[numbers] * ends).map(lambda thresholds: DropBeyond(thresholds=thresholds)))
    return images, strategy, draw(st.one_of(amounts)), per


@given(cases(), st.integers(0, 3))
@settings(max_examples=200)
def test_every_strategy_chooses_as_sorted_lists_do(case: tuple[Candidates, Strategy, Amount, Per], seed: int) -> None:
    images, strategy, drop, per = case
    kept = choose(images, strategy=strategy, drop=drop, per=per, seed=seed)
    assert kept.tolist() == plain_choice(images, strategy, drop, per, seed)


@pytest.mark.parametrize("count", [0, 7, 10_001])
@pytest.mark.parametrize("share", [0.2, 1 / 3])
@pytest.mark.parametrize("strategy", sorted(set(ENDS) - {"none"}))
def test_shares_are_exact_to_one_image(strategy: Strategy, share: float, count: int) -> None:
    images = of_scores(np.round(np.random.default_rng(0).normal(size=count), 1))
    kept = choose(images, strategy=strategy, drop=share_of(strategy, share), per="all", seed=0)
    assert abs(count - len(kept) - share * count) <= 0.5


@pytest.mark.parametrize("strategy", sorted(set(ENDS) - {"none"}))
def test_the_choice_does_not_depend_on_the_order_of_the_pools(strategy: Strategy) -> None:
    score = np.round(np.random.default_rng(1).normal(size=500), 1)  # many ties
    swapped = np.concatenate([score[200:], score[:200]])
    kept = []
    for images in (
        of_scores(score, pools=POOLS, first=(3, 0), counts=(200, 300)),
        of_scores(swapped, pools=POOLS[::-1], first=(0, 3), counts=(300, 200)),
    ):
        positions = choose(images, strategy=strategy, drop=share_of(strategy, 0.3), per="all", seed=5)
        pools = [images.pools[number] for number in images.pool_numbers(positions)]
        kept.append(set(zip(pools, images.indices(positions).tolist(), strict=True)))
    assert kept[0] == kept[1]
    assert len(kept[0]) == 350 or strategy == "random_with_replacement"


@pytest.mark.parametrize("strategy", ["puma", "random"])
def test_chance_and_ties_go_by_the_seed_and_are_spread_evenly(strategy: Strategy) -> None:
    images, drop = of_scores(np.zeros(10_000)), DropShare(shares=(0.5,))
    first, second = (choose(images, strategy=strategy, drop=drop, per="all", seed=seed) for seed in (0, 1))
    counts: list[Any] = [len(np.intersect1d(first, second))]  # the two are independent
    for kept in (first, second):
        counts += [np.sum(kept < 5000), np.sum(kept % 2)]
    assert np.abs(np.array(counts) - 2500).max() < 5 * np.sqrt(10_000 / 16)


def test_keys_look_uniform_and_no_two_images_share_one() -> None:
    images = of_scores(100_000, pools=POOLS, first=(7, 0), counts=(50_000, 50_000))
    keys = images.keys(np.arange(100_000), 0)
    assert len(np.unique(keys)) == 100_000
    counts = np.bincount((keys >> np.uint64(56)).astype(np.int64), minlength=256)
    assert np.sum((counts - 100_000 / 256) ** 2 / (100_000 / 256)) < 255 + 5 * np.sqrt(2 * 255)  # chi squared
    assert np.all(np.abs([np.mean(keys >> np.uint64(bit) & np.uint64(1)) - 0.5 for bit in range(64)]) < 0.01)


def test_with_replacement_leaves_the_published_share_of_distinct_images() -> None:
    images, drop = of_scores(np.zeros(48_976)), DropShare(shares=(0.25,))
    kept = choose(images, strategy="random_with_replacement", drop=drop, per="all", seed=0)
    assert len(kept) == round(0.75 * 48_976)
    assert len(np.unique(kept)) / 48_976 == pytest.approx(1 - np.exp(-0.75), abs=0.01)  # 52.8 %
    assert (np.diff(kept) >= 0).all()


def test_with_replacement_each_class_draws_by_itself() -> None:
    images = of_scores(np.zeros(20_000), np.repeat([0, 1], 10_000))
    drop = DropShare(shares=(0.25,))
    kept = choose(images, strategy="random_with_replacement", drop=drop, per="class", seed=0)
    times = [np.bincount(kept[images.labels[kept] == label] % 10_000, minlength=10_000) for label in range(2)]
    assert [int(one.sum()) for one in times] == [7500, 7500]
    assert sorted(times[0]) != sorted(times[1])  # not the same ranks in either
    assert abs(np.mean((times[0] - 0.75) * (times[1] - 0.75))) < 0.05  # the variance of each is 0.75


def test_classes_keep_their_shares() -> None:
    labels = np.repeat(np.arange(4), [10, 100, 1000, 3])
    images = of_scores(np.random.default_rng(0).normal(size=1113) + labels, labels)
    kept = choose(images, strategy="keep_highest", drop=DropShare(shares=(0.5,)), per="class", seed=0)
    assert np.bincount(labels[kept]).tolist() == [5, 50, 500, 1]


def test_pe_and_pd_by_threshold_are_those_of_puma() -> None:
    """PE: CD < 0.02; PD: CD = 1 (papers.md, P13); the images at 0.02 stay."""
    images = of_scores(np.array([0, 0.01, 0.02, 0.5, 0.98, 1, 1]), easy="low")
    drop = DropBeyond(thresholds=(Fraction("0.02"), Fraction(1)))
    kept = choose(images, strategy="prune_easy_and_difficult", drop=drop, per="all", seed=0)
    assert kept.tolist() == [2, 3, 4]


@pytest.mark.parametrize("strategy", ["low_distance", "high_distance", "low_high_distance"])
def test_distance_strategies_rank_a_distance_like_the_loss_it_is_made_of(strategy: Strategy) -> None:
    loss = np.random.default_rng(0).exponential(size=1000).astype(np.float32)
    by_loss, by_distance = (
        choose(images, strategy=strategy, drop=share_of(strategy, 0.4), per="all", seed=0).tolist()
        for images in (of_scores(loss, easy="low"), of_scores(1 / loss))
    )
    assert by_loss == by_distance


def test_low_distance_drops_the_high_losses() -> None:
    images = of_scores(np.array([0.1, 0.9, 0.5]))
    kept = choose(images, strategy="low_distance", drop=DropShare(shares=(1 / 3,)), per="all", seed=0)
    assert kept.tolist() == [1, 2]


def test_an_end_of_a_score_needs_a_score() -> None:
    with pytest.raises(ValueError, match="high end"):
        choose(of_scores(3), strategy="puma", drop=DropShare(shares=(0.5,)), per="all", seed=0)


@pytest.mark.parametrize("strategy", ["puma", "random", "random_with_replacement"])
def test_more_than_there_are_cannot_be_dropped(strategy: Strategy) -> None:
    drop_of = partial(choose, of_scores(np.arange(10.0)), strategy=strategy, per="all", seed=0, among="real")
    with pytest.raises(UserError, match=r"same_size_as: 11 images .* group 'all' .* among = real .* only 10"):
        drop_of(drop={"all": 11})
    assert not len(drop_of(drop={"all": 10}))


@pytest.mark.parametrize(("per", "group"), [("source", POOLS[0]), ("class", "3")])
def test_images_to_drop_of_a_group_that_is_spared_are_refused(per: Per, group: str) -> None:
    """All real images are of class 3, and only synthetic ones may be dropped."""
    images = of_scores(20, np.repeat([3, 0], 10), pools=POOLS, first=(0, 0), counts=(10, 10))
    allowed = {"source": POOLS[1], "class": "0"}[per]
    drop_of = partial(choose, images, strategy="random", per=per, seed=0, among="synthetic")
    with pytest.raises(UserError, match=rf"2 images .* '{group}' \(per = {per}\), .* among = synthetic .* only 0"):
        drop_of(drop={group: 2, allowed: 1})
    assert len(drop_of(drop={group: 0, allowed: 1})) == 19


MARGINS = np.array([-np.inf, -0.2, -0.05, 0, 0.07, 0.3, np.inf], np.float32)
CD = np.array([1, 0.98, 1, 0, 1, 0, 1], np.float32)
BY_HAND = {
    "constant": [0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1],
    "margin": [-0.1, -0.1, -0.05, 0, 0.07, 0.1, 0.1],
    "weak_if_difficult": [0.0125, 0.1, 0.0125, 0.1, 0.0125, 0.1, 0.0125],
    "margin_if_difficult": [-0.1, 0.1, -0.05, 0.1, 0.07, 0.1, 0.1],
}


@pytest.mark.parametrize("rule", list(RADIUS_RULES))
def test_radii_by_hand(rule: RadiusRule) -> None:
    settings = RadiusSettings(rule=rule, epsilon=Fraction(1, 10), gap=Fraction(0))
    radii = RADIUS_RULES[settings.rule](Measured(7, MARGINS, CD), settings)
    assert radii.dtype == np.float32
    np.testing.assert_array_equal(radii, np.array(BY_HAND[rule], np.float32))


@given(
    hnp.arrays(np.float32, st.integers(0, 20), elements=st.floats(-2, 2, width=32)),
    st.sampled_from([Fraction(1, 255), Fraction(1, 20), Fraction(0)]),
)
def test_the_gap_is_that_of_equation_3(margins: npt.NDArray[np.float32], gap: Fraction) -> None:
    epsilon = 8 / 255
    settings = RadiusSettings(rule="margin", epsilon=Fraction(8, 255), gap=gap)
    radii = RADIUS_RULES["margin"](Measured(len(margins), margins, np.empty(0, np.float32)), settings)
    for margin, radius in zip(margins.tolist(), radii.tolist(), strict=True):
        if margin <= -epsilon + gap:
            expected = -epsilon
        elif margin < epsilon + gap:
            expected = margin - float(gap)
        else:
            expected = epsilon
        assert radius == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("per", ["all", "class", "source"])
@pytest.mark.parametrize(("among", "rows"), [("real", np.arange(40)), ("synthetic", np.arange(40, 100))])
def test_images_outside_the_candidates_are_kept(among: Among, rows: npt.NDArray[np.int64], per: Per) -> None:
    labels = np.tile(np.arange(5), 20)
    pools = ("real-0000000000", "synthetic-0000000000")
    images = of_scores(np.arange(100.0)[::-1], labels, pools=pools, first=(3, 0), counts=(40, 60))
    kept = choose(images, strategy="keep_highest", drop=DropShare(shares=(0.5,)), per=per, seed=0, among=among)
    groups = [rows] if per != "class" else [rows[labels[rows] == label] for label in range(5)]
    halves = [group[: len(group) // 2] for group in groups]  # the highest scores come first
    assert kept.tolist() == sorted([*np.setdiff1d(np.arange(100), rows), *np.concatenate(halves)])
