"""How scores are spread: streamed block by block, against NumPy on all of them at once."""

import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from robustprune.scores.distribution import (
    GROUP_QUANTILES,
    QUANTILES,
    Histogram,
    by_class,
    by_run,
    describe_scores,
    histogram,
    order_statistics,
)
from robustprune.scores.score_files import draw_scores
from robustprune.scores.store.reader import open_store
from robustprune.scores.store.writer import write_store

Scores = np.ndarray[Any, np.dtype[np.float32]]


def in_blocks(values: Scores, length: int = 37) -> Callable[[], Iterator[Scores]]:
    return lambda: (values[start : start + length] for start in range(0, len(values), length))


def labels_of(values: Scores, classes: int) -> "np.ndarray[Any, np.dtype[np.int16]]":
    return (np.arange(len(values)) % classes).astype(np.int16)


FLOATS = st.floats(width=32, allow_nan=True, allow_infinity=True)


@given(values=arrays(np.float32, st.integers(1, 300), elements=FLOATS), groups=st.integers(1, 20), data=st.data())
def test_order_statistics_are_those_of_a_sort(values: Scores, groups: int, data: st.DataObject) -> None:
    labels = data.draw(arrays(np.int16, len(values), elements=st.integers(0, groups - 1)))
    finite = [np.sort(values[np.isfinite(values) & (labels == group)]) for group in range(groups)]
    ranks = [
        sorted(data.draw(st.lists(st.integers(0, len(part) - 1), max_size=5))) if len(part) else [] for part in finite
    ]
    found = order_statistics(in_blocks(values), by_class(labels, groups), ranks)
    assert found == [part[wanted].tolist() for part, wanted in zip(finite, ranks, strict=True)]


def some_scores(rows: int = 5000) -> Scores:
    values = np.random.default_rng(0).normal(0.05, 0.1, rows).astype(np.float32)
    values[::50], values[1::90], values[7] = np.inf, -np.inf, np.nan
    return values


def test_the_facts_are_what_numpy_finds() -> None:
    values, classes = some_scores(), 7
    labels = labels_of(values, classes)
    sources = by_run({"real": 1234, "drawn": 3766})
    facts = describe_scores(in_blocks(values), {"by_class": by_class(labels, classes), "by_source": sources})
    finite = values[np.isfinite(values)].astype(np.float64)
    assert (facts["images"], facts["censored"]) == (5000, 5000 - len(finite))
    assert facts["negative"] == np.sum(values < 0)
    assert facts["share_negative"] == pytest.approx(np.mean(values < 0), rel=1e-12)
    np.testing.assert_allclose(list(facts["quantiles"].values()), np.percentile(finite, QUANTILES), rtol=1e-12)
    groups = {str(number): values[labels == number] for number in range(classes)}
    for name, group in (groups | {"real": values[:1234], "drawn": values[1234:]}).items():
        found = (facts["by_class"] | facts["by_source"])[name]
        finite = group[np.isfinite(group)].astype(np.float64)
        counts = (len(group), np.sum(group < 0), len(group) - len(finite))
        assert (found["images"], found["negative"], found["censored"]) == counts
        assert found["mean"] == pytest.approx(finite.mean(), rel=1e-12)
        quantiles = [found[f"{percentage}%"] for percentage in GROUP_QUANTILES]
        np.testing.assert_allclose(quantiles, np.percentile(finite, GROUP_QUANTILES), rtol=1e-12)


def test_the_histogram_is_numpys_and_no_bin_holds_both_signs() -> None:
    values = some_scores()
    finite = values[np.isfinite(values)].astype(np.float64)
    found = histogram(in_blocks(values), finite.min(), finite.max())
    assert list(found.counts) == np.histogram(finite, found.edges)[0].tolist()
    assert 0.0 in found.edges
    assert 100 <= len(found.counts) <= 102
    coarse = found.coarser(9)
    assert list(coarse.counts) == np.histogram(finite, coarse.edges)[0].tolist()
    assert 0.0 in coarse.edges
    assert coarse.edges[0] <= found.edges[0]
    assert coarse.edges[-1] >= found.edges[-1]


def test_a_histogram_in_text() -> None:
    assert Histogram(0.5, -1, (1, 4, 0)).lines(8) == [
        "       -0.5           1 ##",
        "          0           4 ########",
        "        0.5           0",
    ]


@pytest.mark.parametrize("scores", [[np.inf], [-np.inf, np.nan], [0.5], [-0.1, -0.2], [0.0], [-1, 2, np.inf]])
def test_any_scores_can_be_described_and_drawn(tmp_path: Path, scores: list[float]) -> None:
    values = np.array(scores, np.float32)
    facts = describe_scores(in_blocks(values), {"by_class": by_class(labels_of(values, 3), 3)})
    finite = values[np.isfinite(values)]
    assert sum(facts["histogram"]["counts"]) == len(finite)
    assert facts["quantiles"].get("100%") == (finite.max() if len(finite) else None)
    drawn = Histogram(**facts["histogram"])
    assert len(drawn.coarser(3).lines()) >= 1
    draw_scores(drawn, tmp_path / "scores.png", censored=facts["censored"], label="a margin", title="a pool")
    assert (tmp_path / "scores.png").stat().st_size > 1000


def test_memory_is_bounded_by_blocks_not_by_the_pool(tmp_path: Path) -> None:
    """Ten million rows, 90 MB of columns, written and described."""
    rows, block = 10_000_000, 2**17
    margins = np.random.default_rng(0).normal(size=block).astype(np.float32)
    some: dict[str, np.ndarray[Any, Any]] = {"margin": margins, "steps": np.ones(block, np.int16)}
    labels = np.zeros(rows, np.int16)

    def blocks() -> Iterator[dict[str, np.ndarray[Any, Any]]]:
        for start in range(0, rows, block):
            yield {name: values[: rows - start].copy() for name, values in some.items()}

    tracemalloc.start()
    try:
        write_store(tmp_path / "scores.zarr", blocks(), rows, {})
        store = open_store(tmp_path / "scores.zarr")
        groupings = {"by_class": by_class(labels, 1)}
        facts = describe_scores(lambda: (read["margin"] for read in store.blocks("margin")), groupings)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert facts["images"] == rows
    assert peak < 60e6
