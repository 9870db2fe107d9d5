"""Duplicates inside pools and between them, against a plain loop; images of training that are for testing."""

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from robustprune.core.errors import UserError
from robustprune.core.job import Job
from robustprune.images import duplicates
from robustprune.images.duplicates import Repeats, find_repeats, rows_also_in, sorted_by_class
from robustprune.images.ingested import IngestedPoolStage
from test_pools import planned, some_images

Make = Callable[..., Job]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a folder of its own."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("part", [7, 100, 2**22])
@pytest.mark.parametrize("distinct", [20, 900])
def test_repeats_are_those_of_a_plain_loop(part: int, distinct: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "PART_ROWS", part)
    monkeypatch.setattr(duplicates, "READ_AT_ONCE", 64)
    rng = np.random.default_rng(distinct)
    digests = rng.choice(rng.integers(0, 2**64, distinct, dtype=np.uint64), 500)
    labels = rng.integers(0, 3, 500)
    seen: dict[int, int] = {}
    repeats, others, pairs = 0, 0, []
    for row, digest in enumerate(digests.tolist()):
        original = seen.setdefault(digest, row)
        if original != row:
            repeats, others = repeats + 1, others + int(labels[original] != labels[row])
            pairs.append((row, original))
    assert find_repeats(digests, labels) == Repeats(repeats, others, min(pairs))


def test_no_repeats_are_none() -> None:
    assert find_repeats(np.arange(5, dtype=np.uint64), np.zeros(5, np.int16)) == Repeats(0, 0, None)


@pytest.mark.parametrize("counts", [(300, 40), (40, 300)])
def test_shared_images_are_those_of_a_plain_loop(counts: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "READ_AT_ONCE", 64)
    rng = np.random.default_rng(0)
    first, second = (rng.integers(0, 200, count).astype(np.uint64) for count in counts)
    known = set(second.tolist())
    assert rows_also_in(first, second).tolist() == [row for row, digest in enumerate(first.tolist()) if digest in known]


@pytest.mark.parametrize("counts", [(100_000, 100_000), (20_000, 200_000), (200_000, 20_000)])
def test_shared_images_take_little_memory(counts: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """The digests of the smaller pool once more, what is found of both, and a part; ``np.isin`` takes 52 bytes each."""
    monkeypatch.setattr(duplicates, "READ_AT_ONCE", 1000)
    rng = np.random.default_rng(0)
    first, second = (rng.integers(0, 2**64, count, dtype=np.uint64) for count in counts)
    second[:100] = first[-100:]
    tracemalloc.start()
    found = rows_also_in(first, second)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found.tolist() == list(range(counts[0] - 100, counts[0]))
    assert peak < 16 * min(counts)


@pytest.mark.parametrize("length", [2, 100])
def test_images_in_the_order_of_their_classes_are_recognised(length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "READ_AT_ONCE", length)
    assert sorted_by_class(np.array([0, 0, 1, 1, 2, 5], np.int16))
    assert not sorted_by_class(np.array([0, 0, 1, 0, 2, 5], np.int16))
    assert not sorted_by_class(np.array([0, 1, 0, 1, 0, 1], np.int16))
    assert not sorted_by_class(np.array([3, 3, 3, 3], np.int16))


def put_pools(make_job: Make, *, shared: int) -> tuple[IngestedPoolStage, str]:
    """A test pool, and the spec of a training pool of which so many images are also in it."""
    images = some_images(20, 4, 5)
    np.savez("test.npz", image=images[:10], label=np.arange(10))
    np.savez("train.npz", image=images[10 - shared :], label=np.arange(10 + shared) % 10)
    test = planned("npz:.", split="test")
    test.run(make_job("pools", test.id))
    return planned("npz:.").model_copy(update={"test": test.id}), test.id


def test_training_images_that_are_test_images_are_refused(make_job: Make) -> None:
    spec, _ = put_pools(make_job, shared=3)
    job = make_job("pools", spec.id)
    message = r"train\.npz: 3 images, the first in row 0, are also test images, .* set data\.overlap: allowed$"
    with pytest.raises(UserError, match=message):
        spec.run(job)
    assert not list(job.directory.glob("*.npy"))


@pytest.mark.parametrize(("shared", "overlap"), [(3, "allowed"), (0, "refused")])
def test_where_they_are_allowed_they_are_counted(shared: int, overlap: str, make_job: Make) -> None:
    spec, test = put_pools(make_job, shared=shared)
    assert spec.upstream == (("pools", test),)
    spec = spec.model_copy(update={"overlap": overlap})
    assert spec.run(make_job("pools", spec.id))["also_in"] == {"test": shared}


def test_generated_images_that_are_training_images_are_counted(make_job: Make) -> None:
    spec, test = put_pools(make_job, shared=2)
    spec = spec.model_copy(update={"split": "synthetic", "train": test, "test": None})
    assert spec.run(make_job("pools", spec.id))["also_in"] == {"train": 2}


def test_a_pool_tells_its_duplicates_and_order(make_job: Make, caplog: pytest.LogCaptureFixture) -> None:
    images = some_images(6, 4, 5)[[0, 1, 0, 1, 1, 2]]
    np.savez("train.npz", image=images, label=np.array([0, 1, 1, 1, 1, 2]))
    spec = planned("npz:.")
    with caplog.at_level("WARNING"):
        facts = spec.run(make_job("pools", spec.id))
    assert facts["duplicates"] == {"images": 3, "with_other_label": 1}
    assert facts["sorted_by_class"] is True
    assert "sorted by class" in caplog.text
    assert "3 images are equal to one before them, the first in row 2 to row 0; 1 of them have another" in caplog.text
