"""Writing a pool block by block: the bytes of one that is written at once, wherever it was killed."""

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import xxhash

from processes import wait_until
from robustprune.core.errors import Interrupted, UserError
from robustprune.core.files import digest
from robustprune.core.interruption import Checkpoints
from robustprune.core.job import Job
from robustprune.images import writing
from robustprune.images.formats import stream
from robustprune.images.formats.stream import Block, Blocks, in_blocks
from robustprune.images.growing import GrowingArray
from robustprune.images.pool import image_digests, open_pool, pool_digest
from robustprune.images.writing import fill_pool, publish_pool
from stopping import StopAfterTwo

Make = Callable[..., Job]
SHAPE = (3, 4, 5)
COUNT = 100
ROOT = Path(__file__).parents[1]


def some_images(count: int = COUNT) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (count, *SHAPE), dtype=np.uint8)


LABELS = np.arange(COUNT) % 7


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of 9 images, each of which is saved."""
    monkeypatch.setattr(stream, "BLOCK_BYTES", 9 * 60)
    monkeypatch.setattr(writing, "SAVED_BYTES", 1)


def fill(job: Job, blocks: Blocks, count: int = COUNT) -> None:
    fill_pool(job, blocks, count=count, image_shape=SHAPE, classes=7, dataset="some", source="a test")


@pytest.fixture
def whole(make_job: Make) -> dict[str, bytes]:
    """The files of the pool that the tests write."""
    job = make_job("pools", "whole")
    fill(job, in_blocks(some_images(), LABELS))
    publish_pool(job)
    return {path.name: path.read_bytes() for path in job.outputs}


def test_the_files_are_those_of_numpy(whole: dict[str, bytes], make_job: Make, tmp_path: Path) -> None:
    job = make_job("pools", "numpy")
    own = [xxhash.xxh3_64_intdigest(image.tobytes()) for image in some_images()]
    arrays: dict[str, npt.NDArray[Any]] = {"images": some_images(), "labels": LABELS.astype(np.int16)}
    for name, array in {**arrays, "image_digests": np.array(own, np.uint64)}.items():
        np.save(tmp_path / f"{name}.npy", array)
        assert whole[f"{name}.npy"] == (tmp_path / f"{name}.npy").read_bytes()
    info = json.loads(whole["pool.json"])
    assert info["digest"] == pool_digest(tmp_path)
    assert info["class_counts"] == np.bincount(LABELS).tolist()
    assert job.outputs == []


def test_the_record_knows_the_digests_without_reading_the_files_again(make_job: Make) -> None:
    job = make_job("pools", "some")
    fill(job, in_blocks(some_images(), LABELS))
    publish_pool(job)
    assert set(job.digests) == {"images.npy", "labels.npy", "image_digests.npy"}
    assert job.digests == {name: digest(job.directory / name) for name in job.digests}


def test_an_interrupted_pool_goes_on_to_the_same_bytes(whole: dict[str, bytes], make_job: Make) -> None:
    job, firsts = make_job("pools", "broken"), []

    def blocks(first: int) -> Iterator[Block]:
        firsts.append(first)
        yield from in_blocks(some_images(), LABELS)(first)

    job.checkpoints = StopAfterTwo(0)
    with pytest.raises(Interrupted):
        fill(job, blocks)
    with (job.partial / "images.npy").open("ab") as file:
        file.write(b"what was not saved")
    job.checkpoints = Checkpoints(0)
    fill(job, blocks)
    publish_pool(job)
    assert firsts == [0, 18]
    assert {path.name: path.read_bytes() for path in job.outputs} == whole


def test_a_whole_pool_is_not_written_again_wherever_its_publishing_was_killed(
    whole: dict[str, bytes], make_job: Make
) -> None:
    job = make_job("pools", "broken")
    fill(job, in_blocks(some_images(), LABELS))
    for name in ("images.npy", "labels.npy"):
        (job.partial / name).rename(job.directory / name)
    fill(job, lambda first: pytest.fail("it was read again"))
    publish_pool(job)
    assert {path.name: path.read_bytes() for path in job.outputs} == whole


@pytest.mark.parametrize("damage", ["cut", "absent", "state", "no_array"])
def test_what_cannot_be_gone_on_from_is_begun_again(damage: str, whole: dict[str, bytes], make_job: Make) -> None:
    job = make_job("pools", "broken")
    job.checkpoints = StopAfterTwo(0)
    with pytest.raises(Interrupted):
        fill(job, in_blocks(some_images(), LABELS))
    if damage == "cut":
        os.truncate(job.partial / "labels.npy", 130)
    elif damage == "absent":
        (job.partial / "image_digests.npy").unlink()
    elif damage == "no_array":
        (job.partial / "images.npy").write_bytes(b"x" * 10_000)
    else:
        (job.partial / "writing.json").write_text("{")
    job.checkpoints = Checkpoints(0)
    fill(job, in_blocks(some_images(), LABELS))
    publish_pool(job)
    assert {path.name: path.read_bytes() for path in job.outputs} == whole


KILLED = """
import sys, time
import numpy as np
from pathlib import Path
from robustprune.core.execution import Execution
from robustprune.core.job import Job
from robustprune.images import writing
from robustprune.images.formats import stream

stream.BLOCK_BYTES, writing.SAVED_BYTES = 9 * 60, 1
images = np.random.default_rng(0).integers(0, 256, (100, 3, 4, 5), dtype=np.uint8)

def slowly(first):
    for number, block in enumerate(writing.in_blocks(images, np.arange(100) % 7)(first)):
        time.sleep(600 if number == 2 else 0)  # until it is killed
        yield block

job = Job(Path(sys.argv[1]), Execution(device="cpu"), threads=1, live=False)
writing.fill_pool(job, slowly, count=100, image_shape=(3, 4, 5), classes=7, dataset="some", source="a test")
"""


def test_killed_it_goes_on_from_the_last_block(whole: dict[str, bytes], make_job: Make) -> None:
    job, firsts = make_job("pools", "killed"), []
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "workflow")}
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(job.directory)], env=environment)
    wait_until((job.partial / "writing.json").is_file, process)
    process.kill()
    assert process.wait() == -signal.SIGKILL

    def blocks(first: int) -> Iterator[Block]:
        firsts.append(first)
        yield from in_blocks(some_images(), LABELS)(first)

    fill(job, blocks)
    publish_pool(job)
    assert 0 < firsts[0] < COUNT
    assert {path.name: path.read_bytes() for path in job.outputs} == whole


@pytest.mark.parametrize(("count", "message"), [(101, "it states 101 images, but 100 were"), (99, "more images than")])
def test_another_number_of_images_than_stated_is_refused(count: int, message: str, make_job: Make) -> None:
    with pytest.raises(UserError, match=f"a test: .*{message}"):
        fill(make_job("pools", "some"), in_blocks(some_images(), LABELS), count)


def test_a_block_that_cannot_be_part_of_the_pool_is_refused(make_job: Make) -> None:
    labels = LABELS.copy()
    labels[50] = 7
    with pytest.raises(UserError, match=r"a test: labels go from \d to 7, but data\.classes allows 0 to 6"):
        fill(make_job("pools", "some"), in_blocks(some_images(), labels))


def test_a_disk_without_room_is_refused_before_the_work(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (256, hard))
    try:
        with pytest.raises(OSError, match=r"File too large: '.*/images\.npy'"):
            GrowingArray(tmp_path / "images.npy", (200, 4), np.uint8, rows=0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_pools_labels_stay_on_the_disk(make_job: Make) -> None:
    job = make_job("pools", "some")
    fill(job, in_blocks(some_images(), LABELS))
    publish_pool(job)
    labels = open_pool(job.directory).labels
    assert isinstance(labels.base, np.memmap)
    assert np.array_equal(labels, LABELS)


def test_digests_of_images_do_not_depend_on_the_layout_in_memory() -> None:
    images = some_images()
    assert np.array_equal(image_digests(images), image_digests(np.asfortranarray(images)))
