"""Galleries against brute force: counts by bin, class and fate, where manifests cut, and which images are shown."""

import time
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from robustprune.report.gallery_bins import BINS, OF_A_BIN, OF_AN_END, Bins, first_of_each_class, of_bins, of_ends
from robustprune.report.gallery_cuts import Cut, cuts
from robustprune.report.gallery_stage import BLOCK, LARGEST_SIDE, draw_sprite

Scores = np.ndarray[Any, np.dtype[np.float32]]
FLOATS = st.floats(-1e6, 1e6, width=32) | st.sampled_from([np.inf, -np.inf, np.nan, 0.0])


def some_scores(rows: int = 3000) -> Scores:
    values = np.random.default_rng(0).normal(0.1, 0.1, rows).astype(np.float32)
    values[::50], values[1::90], values[7] = np.inf, -np.inf, np.nan
    return values


def some_labels(rows: int = 3000, classes: int = 7) -> "np.ndarray[Any, np.dtype[np.int16]]":
    return np.random.default_rng(1).integers(0, classes, rows).astype(np.int16)


@given(values=arrays(np.float32, st.integers(1, 200), elements=FLOATS))
@example(values=np.array([np.finfo(np.float32).max, *[0.1] * 5000], np.float32))
@example(values=np.array([1 / 16] + [-1] * 99, np.float32))
@example(values=np.array([-1 / 16] + [1] * 99, np.float32))
def test_every_score_is_in_the_bin_whose_edges_are_around_it(values: Scores) -> None:
    bins = Bins.over(values)
    edges = bins.edges
    assert 0.0 in edges
    assert len(edges) == bins.count + 1 <= BINS + 3
    for value, number in zip(values.astype(np.float64), bins.of(values), strict=True):
        if np.isnan(value):
            assert number == -1
        elif np.isinf(value):
            assert number == (bins.count + 1 if value > 0 else 0)
        else:
            slack = 1e-9 * max(abs(edges[0]), abs(edges[-1]))
            assert edges[number - 1] <= value + slack or number == 1
            assert value - slack <= edges[number] or number == bins.count
            assert (edges[number - 1] >= 0) == (value >= 0) or abs(value) <= slack


def test_the_counts_are_those_of_counting_one_by_one() -> None:
    values, labels = some_scores(), some_labels()
    bins = Bins.over(values)
    numbers = bins.of(values)
    expected = np.zeros((7, bins.count + 2), int)
    for number, label in zip(numbers, labels, strict=True):
        if number >= 0:
            expected[label, number] += 1
    assert bins.counts(numbers, labels, 7) == expected.tolist()
    assert expected.sum() == 2999
    assert expected[:, -1].sum() == np.sum(values == np.inf)
    inner = (values >= 0) & (values < bins.width)
    assert expected[:, 1 - bins.first].sum() == np.sum(inner)


def test_a_few_far_scores_do_not_empty_the_histogram() -> None:
    values = np.append(np.random.default_rng(0).uniform(0, 1, 5000), [500.0, -300.0]).astype(np.float32)
    bins = Bins.over(values)
    assert bins.edges[-1] < 1.1
    assert bins.edges[0] > -0.1
    assert bins.of(values)[-2:].tolist() == [bins.count, 1]


ALL = {"per": "all", "among": "all", "names": ("real-0000000000", "drawn-0000000000")}


def found(values: Scores, dropped: Any, labels: Any = None, candidates: Any = None, **settings: str) -> list[Cut]:
    half = len(values) // 2
    labels = np.zeros(len(values), np.int16) if labels is None else labels
    candidates = np.ones(len(values), bool) if candidates is None else candidates
    pools = [slice(0, half), slice(half, len(values))]
    return cuts(values, np.asarray(dropped), candidates, labels, pools, **{**ALL, **settings})  # type: ignore[arg-type]


VALUES = np.array([3, 1, 4, 1, 5, 9, 2, 6], np.float32)


def test_a_cut_is_the_dropped_score_nearest_to_the_kept_ones() -> None:
    assert found(VALUES, VALUES >= 5) == [Cut(group="all", side="above", at=5)]
    assert found(VALUES, VALUES <= 2) == [Cut(group="all", side="below", at=2)]
    both = [Cut(group="all", side="above", at=6), Cut(group="all", side="below", at=1)]
    assert found(VALUES, (VALUES <= 1) | (VALUES >= 6)) == both


def test_where_ties_are_partly_dropped_the_cut_is_at_their_score() -> None:
    assert found(VALUES, np.arange(8) == 1) == [Cut(group="all", side="below", at=1, partly=True)]


def test_what_is_dropped_at_random_or_in_the_middle_has_no_cut() -> None:
    assert found(VALUES, np.isin(np.arange(8), [0, 6])) == []
    assert found(VALUES, (VALUES > 2) & (VALUES < 6)) == []
    assert found(VALUES, np.zeros(8, bool)) == []


def test_infinite_scores_alone_have_no_finite_cut() -> None:
    values = np.append(VALUES, [np.inf, np.inf]).astype(np.float32)
    assert found(values, np.isinf(values)) == [Cut(group="all", side="above", at=None)]


def test_each_group_has_its_own_cut() -> None:
    labels, dropped = np.array([0, 0, 0, 0, 1, 1, 1, 1], np.int16), np.isin(VALUES, [4, 9])
    by_class = found(VALUES, dropped, labels=labels, per="class")
    assert by_class == [Cut(group="0", side="above", at=4), Cut(group="1", side="above", at=9)]
    by_source = found(VALUES, dropped, per="source")
    assert [cut.group for cut in by_source] == list(ALL["names"])


def test_images_that_could_not_be_dropped_do_not_count() -> None:
    among_drawn = found(VALUES, [False] * 5 + [True, False, True], among="synthetic")
    assert among_drawn == [Cut(group="all", side="above", at=6)]
    candidates = VALUES != 9  # held out for validation, so neither kept nor dropped
    assert found(VALUES, VALUES == 6, candidates=candidates) == [Cut(group="all", side="above", at=6)]


@given(labels=arrays(np.int16, st.integers(1, 60), elements=st.integers(0, 5)), most=st.integers(1, 40), data=st.data())
def test_classes_take_turns_and_the_lowest_keys_come_first(labels: Any, most: int, data: st.DataObject) -> None:
    keys = np.array(data.draw(st.permutations(range(len(labels)))))
    rows = np.arange(len(labels)) * 3
    shown = first_of_each_class(rows, labels, keys, most) // 3
    assert len(shown) == min(most, len(labels))
    assert keys[shown].tolist() == sorted(keys[shown])
    turns = [int(np.sum((labels == labels[one]) & (keys < keys[one]))) for one in range(len(labels))]
    left_out = set(range(len(labels))) - set(shown.tolist())
    assert max(turns[one] for one in shown) <= min((turns[one] for one in left_out), default=len(labels))
    for label in set(labels[shown].tolist()):
        chosen = sorted(keys[shown[labels[shown] == label]])
        assert chosen == sorted(keys[labels == label])[: len(chosen)]


def test_every_bin_that_has_images_shows_some_of_it_and_no_more_than_its_share() -> None:
    values, labels = some_scores(), some_labels()
    numbers = Bins.over(values).of(values)
    shown = of_bins(numbers, labels)
    assert [int(numbers[rows[0]]) for rows in shown] == sorted(set(numbers[numbers >= 0].tolist()))
    for rows in shown:
        assert len(set(numbers[rows].tolist())) == 1
        assert len(rows) == len(set(rows.tolist())) == min(OF_A_BIN, int(np.sum(numbers == numbers[rows[0]])))


def test_the_ends_are_those_of_a_sort() -> None:
    values, labels = some_scores(), some_labels()
    ends = of_ends(values, labels)
    each = OF_AN_END // 7
    finite = np.flatnonzero(np.isfinite(values))
    for label in range(7):
        rows = finite[labels[finite] == label]
        order = rows[np.argsort(values[rows])]
        positive, negative = order[values[order] >= 0], order[values[order] < 0]
        for name, expected in (("highest", order[::-1]), ("lowest", positive), ("negative", negative)):
            shown = [row for row in ends[name].tolist() if labels[row] == label]
            assert len(shown) >= min(each, len(expected)), name
            assert values[shown].tolist() == values[expected[: len(shown)]].tolist()
    assert values[ends["highest"]].tolist() == sorted(values[ends["highest"]], reverse=True)
    assert set(ends["endless"].tolist()) == set(np.flatnonzero(np.isinf(values)).tolist())


def test_scores_without_an_end_show_nothing_there() -> None:
    ends = of_ends(np.array([0.5, 1.5], np.float32), np.array([0, 1], np.int16))
    assert {name: len(rows) for name, rows in ends.items()} == {"highest": 2, "lowest": 2, "negative": 0, "endless": 0}


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 8, 12), (3, 32, 32), (1, 28, 28)])
def test_a_small_image_is_in_its_place_as_it_was(shape: tuple[int, int, int]) -> None:
    images = np.random.default_rng(0).integers(0, 256, (7, *shape)).astype(np.uint8)
    sheet, grid, lossless = draw_sprite(images)
    assert lossless == (max(shape[1:]) < 32)
    pixels = np.asarray(sheet)
    for number, image in enumerate(images):
        left, top = number % grid.columns * grid.pitch[0], number // grid.columns * grid.pitch[1]
        found = pixels[top : top + grid.size[1], left : left + grid.size[0]]
        assert (found == (image[0] if shape[0] == 1 else image.transpose(1, 2, 0))).all()


def test_a_large_image_is_scaled_down_and_begins_at_a_block() -> None:
    sheet, grid, lossless = draw_sprite(np.zeros((5, 3, 224, 112), np.uint8))
    assert (grid.size, lossless) == ((LARGEST_SIDE // 2, LARGEST_SIDE), False)
    assert {side % BLOCK for side in grid.pitch} == {0}
    assert sheet.size == (grid.columns * grid.pitch[0], 2 * grid.pitch[1])


def test_a_million_scores_take_seconds() -> None:
    rows = 2**20
    values = np.random.default_rng(0).normal(0.1, 0.1, rows).astype(np.float32)
    labels = some_labels(rows, 100)
    began = time.process_time()
    bins = Bins.over(values)
    numbers = bins.of(values)
    counts = bins.counts(numbers, labels, 100)
    shown = np.unique(np.concatenate([*of_bins(numbers, labels), *of_ends(values, labels).values()]))
    dropped = values > np.quantile(values, 0.8)
    pools = [slice(0, 50_000), slice(50_000, rows)]
    assert len(cuts(values, dropped, np.ones(rows, bool), labels, pools, **ALL)) == 1  # type: ignore[arg-type]
    assert time.process_time() - began < 20
    assert np.sum(counts) == rows
    assert len(shown) <= (bins.count + 2) * OF_A_BIN + 4 * OF_AN_END
