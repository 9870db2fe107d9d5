"""Strategies and radii against plain Python on lists."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
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
    """The same choice by sorting lists."""
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
    ends = len(ENDS[strategy])
    kept = choose(images, strategy=strategy, drop=DropShare(shares=(share / ends,) * ends), per="all", seed=0)
    assert abs(count - len(kept) - share * count) <= 0.5


def of_scores(score: "np.ndarray[tuple[int, ...], np.dtype[np.float64]]") -> Candidates:
    return Candidates(
        pools=POOLS[:1],
        first=(0,),
        counts=(len(score),),
        labels=np.zeros(len(score), np.int16),
        score=score.astype(np.float32),
    )


def chosen(images: Candidates, positions: "np.ndarray[tuple[int, ...], np.dtype[np.int64]]") -> set[tuple[str, int]]:
    """Pool and row of the images at ``positions``."""
    pools = [images.pools[number] for number in images.pool_numbers(positions)]
    return set(zip(pools, images.indices(positions).tolist(), strict=True))


@pytest.mark.parametrize("strategy", sorted(set(ENDS) - {"none"}))
def test_the_choice_does_not_depend_on_the_order_of_the_pools(strategy: Strategy) -> None:
    score = np.round(np.random.default_rng(1).normal(size=500), 1).astype(np.float32)  # many ties
    labels = np.zeros(500, np.int16)
    forward = Candidates(pools=POOLS, first=(3, 0), counts=(200, 300), labels=labels, score=score)
    turned = np.concatenate([score[200:], score[:200]])
    backward = Candidates(pools=POOLS[::-1], first=(0, 3), counts=(300, 200), labels=labels, score=turned)
    ends = len(ENDS[strategy])
    drop = DropShare(shares=(0.3 / ends,) * ends)
    sets = [
        chosen(images, choose(images, strategy=strategy, drop=drop, per="all", seed=5))
        for images in (forward, backward)
    ]
    assert sets[0] == sets[1]
    assert len(sets[0]) == 350 or strategy == "random_with_replacement"


@pytest.mark.parametrize("strategy", ["puma", "random"])
def test_chance_and_ties_go_by_the_seed_and_are_spread_evenly(strategy: Strategy) -> None:
    images = of_scores(np.zeros(10_000))
    first, second = (
        choose(images, strategy=strategy, drop=DropShare(shares=(0.5,)), per="all", seed=seed) for seed in (0, 1)
    )
    assert abs(len(set(first.tolist()) & set(second.tolist())) - 2500) < 5 * np.sqrt(10_000 / 16)  # independent
    for kept in (first, second):
        assert abs(np.sum(kept < 5000) - 2500) < 5 * np.sqrt(10_000 / 16)
        assert abs(np.sum(kept % 2) - 2500) < 5 * np.sqrt(10_000 / 16)


def test_keys_look_uniform_and_no_two_images_share_one() -> None:
    images = Candidates(pools=POOLS, first=(7, 0), counts=(50_000, 50_000), labels=np.zeros(100_000, np.int16))
    keys = images.keys(np.arange(100_000), 0)
    assert len(np.unique(keys)) == 100_000
    counts = np.bincount((keys >> np.uint64(56)).astype(np.int64), minlength=256)
    assert np.sum((counts - 100_000 / 256) ** 2 / (100_000 / 256)) < 255 + 5 * np.sqrt(2 * 255)  # chi squared
    assert np.all(np.abs([np.mean(keys >> np.uint64(bit) & np.uint64(1)) - 0.5 for bit in range(64)]) < 0.01)


def test_with_replacement_leaves_the_share_of_distinct_images_that_was_published() -> None:
    kept = choose(
        of_scores(np.zeros(48_976)),
        strategy="random_with_replacement",
        drop=DropShare(shares=(0.25,)),
        per="all",
        seed=0,
    )
    assert len(kept) == round(0.75 * 48_976)
    assert len(np.unique(kept)) / 48_976 == pytest.approx(1 - np.exp(-0.75), abs=0.01)  # 52.8 %
    assert (np.diff(kept) >= 0).all()


def test_with_replacement_each_class_draws_by_itself() -> None:
    images = of_scores(np.zeros(20_000))
    images = replace(images, labels=np.repeat(np.arange(2, dtype=np.int16), 10_000))
    drop = DropShare(shares=(0.25,))
    kept = choose(images, strategy="random_with_replacement", drop=drop, per="class", seed=0)
    times = [np.bincount(kept[images.labels[kept] == label] % 10_000, minlength=10_000) for label in range(2)]
    assert [int(one.sum()) for one in times] == [7500, 7500]
    assert sorted(times[0]) != sorted(times[1])  # not the same ranks in either
    assert abs(np.mean((times[0] - 0.75) * (times[1] - 0.75))) < 0.05  # the variance of each is 0.75


def test_classes_keep_their_shares() -> None:
    labels = np.repeat(np.arange(4, dtype=np.int16), [10, 100, 1000, 3])
    images = Candidates(
        pools=POOLS[:1],
        first=(0,),
        counts=(1113,),
        labels=labels,
        score=np.random.default_rng(0).normal(size=1113).astype(np.float32) + labels,
    )
    kept = choose(images, strategy="keep_highest", drop=DropShare(shares=(0.5,)), per="class", seed=0)
    assert np.bincount(labels[kept]).tolist() == [5, 50, 500, 1]


def test_pe_and_pd_by_threshold_are_those_of_puma() -> None:
    """PE: CD < 0.02; PD: CD = 1 (papers.md, P13); the images at 0.02 stay."""
    difficulty = np.array([0, 0.01, 0.02, 0.5, 0.98, 1, 1])
    images = Candidates(
        pools=POOLS[:1],
        first=(0,),
        counts=(7,),
        labels=np.zeros(7, np.int16),
        score=difficulty.astype(np.float32),
        easy="low",
    )
    drop = DropBeyond(thresholds=(Fraction("0.02"), Fraction(1)))
    kept = choose(images, strategy="prune_easy_and_difficult", drop=drop, per="all", seed=0)
    assert kept.tolist() == [2, 3, 4]


def test_distance_strategies_rank_a_distance_and_the_loss_it_is_made_of_alike() -> None:
    loss = np.random.default_rng(0).exponential(size=1000)
    for strategy in ("low_distance", "high_distance", "low_high_distance"):
        by_loss = Candidates(
            pools=POOLS[:1],
            first=(0,),
            counts=(1000,),
            labels=np.zeros(1000, np.int16),
            score=loss.astype(np.float32),
            easy="low",
        )
        by_distance = of_scores(1 / loss.astype(np.float32))
        shares = (0.4 / len(ENDS[strategy]),) * len(ENDS[strategy])
        kept = [
            choose(images, strategy=strategy, drop=DropShare(shares=shares), per="all", seed=0).tolist()
            for images in (by_loss, by_distance)
        ]
        assert kept[0] == kept[1]


def test_low_distance_drops_the_high_losses() -> None:
    images = of_scores(np.array([0.1, 0.9, 0.5]))
    kept = choose(images, strategy="low_distance", drop=DropShare(shares=(1 / 3,)), per="all", seed=0)
    assert kept.tolist() == [1, 2]


def test_an_end_of_a_score_needs_a_score() -> None:
    images = Candidates(pools=POOLS[:1], first=(0,), counts=(3,), labels=np.zeros(3, np.int16))
    with pytest.raises(ValueError, match="high end"):
        choose(images, strategy="puma", drop=DropShare(shares=(0.5,)), per="all", seed=0)


@pytest.mark.parametrize("strategy", ["puma", "random", "random_with_replacement"])
def test_more_than_there_are_cannot_be_dropped(strategy: Strategy) -> None:
    images = of_scores(np.arange(10.0))
    says = r"same_size_as: 11 images are to be dropped of group 'all' .* among = real there are only 10"
    with pytest.raises(UserError, match=says):
        choose(images, strategy=strategy, drop={"all": 11}, per="all", seed=0, among="real")
    kept = choose(images, strategy=strategy, drop={"all": 10}, per="all", seed=0, among="real")
    assert not len(kept)


@pytest.mark.parametrize(("per", "group"), [("source", POOLS[0]), ("class", "3")])
def test_what_the_other_row_drops_of_a_group_that_is_spared_is_not_forgotten(per: Per, group: str) -> None:
    """All real images are of class 3, and only synthetic ones may be dropped."""
    labels = np.repeat(np.array([3, 0], np.int16), 10)
    images = Candidates(pools=POOLS, first=(0, 0), counts=(10, 10), labels=labels)
    visited = {"source": POOLS[1], "class": "0"}[per]
    says = rf"2 images are to be dropped of group '{group}' \(per = {per}\), .* among = synthetic there are only 0"
    with pytest.raises(UserError, match=says):
        choose(images, strategy="random", drop={group: 2, visited: 1}, per=per, seed=0, among="synthetic")
    kept = choose(images, strategy="random", drop={group: 0, visited: 1}, per=per, seed=0, among="synthetic")
    assert len(kept) == 19


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
def test_the_gap_is_that_of_equation_3(margins: "np.ndarray[tuple[int], np.dtype[np.float32]]", gap: Fraction) -> None:
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
@pytest.mark.parametrize("among", ["real", "synthetic"])
def test_images_that_are_not_among_the_candidates_are_all_kept(among: Among, per: Per) -> None:
    labels = np.tile(np.arange(5, dtype=np.int16), 20)
    images = Candidates(
        pools=("real-0000000000", "synthetic-0000000000"),
        first=(3, 0),
        counts=(40, 60),
        labels=labels,
        score=np.arange(100, dtype=np.float32)[::-1].copy(),
    )
    drop = DropShare(shares=(0.5,))
    kept = choose(images, strategy="keep_highest", drop=drop, per=per, seed=0, among=among)
    inside = slice(0, 40) if among == "real" else slice(40, 100)
    rows = np.arange(100)[inside]
    alone = [rows] if per != "class" else [rows[labels[rows] == label] for label in range(5)]
    expected = {int(row) for group in alone for row in group[: len(group) // 2]}  # the highest scores come first
    assert set(kept[np.isin(kept, rows)].tolist()) == expected
    assert set(np.setdiff1d(np.arange(100), rows).tolist()) <= set(kept.tolist())
