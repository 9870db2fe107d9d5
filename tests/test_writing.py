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


IMAGES = np.random.default_rng(0).integers(0, 256, (COUNT, *SHAPE), dtype=np.uint8)
LABELS = np.arange(COUNT) % 7


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of 9 images, each of which is saved."""
    monkeypatch.setattr(stream, "BLOCK_BYTES", 9 * 60)
    monkeypatch.setattr(writing, "SAVED_BYTES", 1)


def fill(job: Job, blocks: Blocks | None = None, count: int = COUNT) -> None:
    blocks = blocks or in_blocks(IMAGES, LABELS)
    fill_pool(job, blocks, count=count, image_shape=SHAPE, classes=7, dataset="some", source="a test")


def finished(job: Job, blocks: Blocks | None = None) -> dict[str, bytes]:
    job.checkpoints = Checkpoints(0)
    fill(job, blocks)
    publish_pool(job)
    return {path.name: path.read_bytes() for path in job.outputs}


def interrupt(job: Job, blocks: Blocks | None = None) -> None:
    job.checkpoints = StopAfterTwo(0)
    with pytest.raises(Interrupted):
        fill(job, blocks)


class Counted:
    """The blocks of the pool; notes the rows from which they are asked for."""

    def __init__(self) -> None:
        self.firsts: list[int] = []

    def __call__(self, first: int) -> Iterator[Block]:
        self.firsts.append(first)
        yield from in_blocks(IMAGES, LABELS)(first)


@pytest.fixture
def whole(make_job: Make) -> dict[str, bytes]:
    return finished(make_job("pools", "whole"))


def test_the_files_are_those_of_numpy(whole: dict[str, bytes], tmp_path: Path) -> None:
    digests = [xxhash.xxh3_64_intdigest(image.tobytes()) for image in IMAGES]
    arrays: dict[str, npt.NDArray[Any]] = {
        "images": IMAGES,
        "labels": LABELS.astype(np.int16),
        "image_digests": np.array(digests, np.uint64),
    }
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
        assert whole[f"{name}.npy"] == (tmp_path / f"{name}.npy").read_bytes()
    info = json.loads(whole["pool.json"])
    assert info["digest"] == pool_digest(tmp_path)
    assert info["class_counts"] == np.bincount(LABELS).tolist()


def test_the_record_knows_the_digests_and_the_labels_stay_on_the_disk(make_job: Make) -> None:
    job = make_job("pools", "some")
    finished(job)
    names = {"images.npy", "labels.npy", "image_digests.npy"}
    assert job.digests == {name: digest(job.directory / name) for name in names}
    labels = open_pool(job.directory).labels
    assert isinstance(labels.base, np.memmap)
    assert np.array_equal(labels, LABELS)


def test_an_interrupted_pool_goes_on_to_the_same_bytes(whole: dict[str, bytes], make_job: Make) -> None:
    job, blocks = make_job("pools", "broken"), Counted()
    interrupt(job, blocks)
    with (job.partial / "images.npy").open("ab") as file:
        file.write(b"what was not saved")
    assert finished(job, blocks) == whole
    assert blocks.firsts == [0, 18]


def test_a_pool_killed_while_publishing_is_not_written_again(whole: dict[str, bytes], make_job: Make) -> None:
    job = make_job("pools", "broken")
    fill(job)
    for name in ("images.npy", "labels.npy"):
        (job.partial / name).rename(job.directory / name)
    assert finished(job, lambda first: pytest.fail("it was read again")) == whole


DAMAGES: dict[str, Callable[[Path], object]] = {
    "cut": lambda partial: os.truncate(partial / "labels.npy", 130),
    "absent": lambda partial: (partial / "image_digests.npy").unlink(),
    "state": lambda partial: (partial / "writing.json").write_text("{"),
    "no_array": lambda partial: (partial / "images.npy").write_bytes(b"x" * 10_000),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_what_cannot_be_resumed_is_begun_again(
    damage: Callable[[Path], object], whole: dict[str, bytes], make_job: Make
) -> None:
    job = make_job("pools", "broken")
    interrupt(job)
    damage(job.partial)
    assert finished(job) == whole


KILLED = """
import sys, time
import numpy as np
import numpy.typing as npt
from pathlib import Path
from typing import Any
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
    job, blocks = make_job("pools", "killed"), Counted()
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "workflow")}
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(job.directory)], env=environment)
    wait_until((job.partial / "writing.json").is_file, process)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert finished(job, blocks) == whole
    assert 0 < blocks.firsts[0] < COUNT


@pytest.mark.parametrize(("count", "message"), [(101, "it states 101 images, but 100 were"), (99, "more images than")])
def test_another_number_of_images_than_stated_is_refused(count: int, message: str, make_job: Make) -> None:
    with pytest.raises(UserError, match=f"a test: .*{message}"):
        fill(make_job("pools", "some"), count=count)


def test_a_block_that_cannot_be_part_of_the_pool_is_refused(make_job: Make) -> None:
    labels = LABELS.copy()
    labels[50] = 7
    with pytest.raises(UserError, match=r"a test: labels go from \d to 7, but data\.classes allows 0 to 6"):
        fill(make_job("pools", "some"), in_blocks(IMAGES, labels))


def test_a_disk_without_room_is_refused_before_the_work(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (256, hard))
    try:
        with pytest.raises(OSError, match=r"File too large: '.*/images\.npy'"):
            GrowingArray(tmp_path / "images.npy", (200, 4), np.uint8, rows=0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_digests_of_images_do_not_depend_on_the_layout_in_memory() -> None:
    assert np.array_equal(image_digests(IMAGES), image_digests(np.asfortranarray(IMAGES)))
