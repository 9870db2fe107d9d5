"""Writes a pool of encoded images, file after file; a killed job goes on from the first file that is not whole."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from robustprune.core.errors import UserError
from robustprune.core.files import digest, hasher, replacing, write_text
from robustprune.core.job import Job
from robustprune.core.stage import ImageShape
from robustprune.images.contact_sheet import SHEET_FILE, contact_sheet
from robustprune.images.encoded import (
    INDEX_FILE,
    PARQUET_FOLDER,
    PLACE,
    PREFIX,
    decode_and_fit,
    decoding_threads,
    file_name,
)
from robustprune.images.formats.registry import storage
from robustprune.images.formats.stream import EncodedImage
from robustprune.images.pool import (
    DIGESTS_FILE,
    INFO_FILE,
    LABELS_FILE,
    Digests,
    Labels,
    PoolInfo,
    image_digests,
    joint_digest,
    open_pool,
)

if TYPE_CHECKING:
    from robustprune.images.formats.stream import ImageStream
    from robustprune.images.ingested import IngestedPoolStage

DEFINITION = {"pools.decoding": 1, "pools.encoding": 2, "pools.format": 4}

ROWS_OF_A_FILE = 2**13
ROWS_OF_A_GROUP = 2**8
BYTES_OF_A_GROUP = 2**27  # a group is one page, whose size Parquet counts in 31 bits
SCHEMA = pa.schema(
    [("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])), ("label", pa.int64())],
    metadata={
        "huggingface": json.dumps(
            {"info": {"features": {"image": {"_type": "Image"}, "label": {"_type": "Value", "dtype": "int64"}}}}
        )
    },
)


class FileRows(NamedTuple):
    """Known facts of the rows of one Parquet file, in its order.

    Attributes:
        places: (n,) of PLACE, where each image is.
        labels: (n,) int16.
        digests: (n,) of the decoded pixels, as every pool has them.
        digest: () of the file, in hex.
    """

    places: npt.NDArray[Any]
    labels: Labels
    digests: Digests
    digest: npt.NDArray[np.str_]


def fill_encoded_pool(
    job: Job,
    images: Callable[[int], Iterator[EncodedImage]],
    *,
    count: int,
    image_shape: ImageShape,
    classes: int,
    dataset: str,
    source: str,
    folder: Path = Path(),
) -> PoolInfo:
    """Write a pool of encoded images into ``partial/``. Each image is decoded once, so that a broken one is found now.

    Args:
        job: the running stage.
        images: the images from a row on; it is called once, with the first row that no earlier attempt has written.
        count: images in all.
        image_shape: channels, height, width of the decoded images.
        classes: number of classes.
        dataset: short name of the data set.
        source: a phrase that says where the images came from; without a folder, so that a pool is the same anywhere.
        folder: where the images lie, for a message.

    Raises:
        UserError: naming an image that cannot be decoded, or when there are no images or not ``count``.
        Interrupted: after a signal, with the files written so far kept.
    """
    if count == 0:
        raise UserError(f"{source}: there are no images in {folder}")
    whole = len(_whole_files(job.partial, job.output(PARQUET_FOLDER), count)) == _files_of(count)
    if whole and job.output(INFO_FILE).is_file():  # an earlier attempt was killed after it had written everything
        return PoolInfo.model_validate_json(job.output(INFO_FILE).read_text())
    files = _files_to_go_on_from(job.partial, count)
    done = len(files) * ROWS_OF_A_FILE
    with job.progress("writing images", total=count, unit="images", done=min(done, count)) as progress, job.checkpoints:
        rows = images(done)
        for number in range(len(files), _files_of(count)):
            wanted = min(ROWS_OF_A_FILE, count - number * ROWS_OF_A_FILE)
            groups = _groups(_exactly(wanted, rows, classes, source, folder), job, progress.advance)
            files.append(_write_file(job.partial, number, groups, image_shape, folder))
    if next(rows, None) is not None:
        raise UserError(f"{source}: there are more images than the {count} it states")
    return _finish(job, files, image_shape=image_shape, classes=classes, dataset=dataset, source=source)


@storage("encoded")
def fill_encoded(job: Job, spec: "IngestedPoolStage", stream: "ImageStream") -> Callable[[Job], dict[str, Any]]:
    """Write a stream's encoded images as the pool of its stage; what is returned publishes it."""
    assert stream.pictures is not None  # the stage is refused otherwise
    fill_encoded_pool(
        job,
        stream.pictures.images,
        count=stream.count,
        image_shape=spec.image_shape,
        classes=spec.classes,
        dataset=spec.dataset,
        source=spec.phrase,
        folder=stream.pictures.folder,
    )
    return publish_encoded_pool


def publish_encoded_pool(job: Job) -> dict[str, Any]:
    """Publish what ``fill_encoded_pool`` wrote, with a contact sheet.

    Returns:
        count, class_counts and digest of the pool, for the record.
    """
    info = PoolInfo.model_validate_json(job.output(INFO_FILE).read_text())
    files = _whole_files(job.partial, job.output(PARQUET_FOLDER), info.count)
    assert len(files) == _files_of(info.count), f"{job.partial} is not what fill_encoded_pool leaves"
    known = {PARQUET_FOLDER: folder_digest(files)}
    job.publish(PARQUET_FOLDER, INDEX_FILE, LABELS_FILE, DIGESTS_FILE, INFO_FILE, digests=known)
    pool = open_pool(job.directory)
    contact_sheet(pool.images, pool.labels, info.classes).save(job.partial / SHEET_FILE)
    job.publish(SHEET_FILE)
    return {"count": info.count, "class_counts": list(info.class_counts), "digest": info.digest}


def _exactly(
    count: int, rows: Iterator[EncodedImage], classes: int, source: str, folder: Path
) -> Iterator[EncodedImage]:
    found = 0
    for image in islice(rows, count):
        if not 0 <= image.label < classes:
            where = folder / image.path
            raise UserError(f"{where} has the label {image.label}, but data.classes allows 0 to {classes - 1}")
        found += 1
        yield image
    if found < count:
        raise UserError(f"{source}: {count - found} images fewer were found than it states")


def _groups(
    images: Iterator[EncodedImage], job: Job, advance: Callable[[int], None]
) -> Iterator[Sequence[EncodedImage]]:
    """Images in groups of limited number and size; between two groups the job can be stopped."""
    group: list[EncodedImage] = []
    size = 0
    for image in images:
        if group and (len(group) == ROWS_OF_A_GROUP or size + len(image.encoded) > BYTES_OF_A_GROUP):
            yield group
            advance(len(group))
            job.checkpoints.tick(lambda: None)
            group, size = [], 0
        group.append(image)
        size += len(image.encoded)
    yield group
    advance(len(group))


def _write_file(
    directory: Path, number: int, groups: Iterable[Sequence[EncodedImage]], shape: ImageShape, folder: Path
) -> FileRows:
    """One Parquet file and, once it is whole, what is known of its rows beside the folder."""
    labels, digests, lengths = [], [], []
    with replacing(directory / PARQUET_FOLDER / file_name(number)) as path:
        with path.open("wb") as raw, ThreadPoolExecutor(decoding_threads()) as threads:
            sink = _Hashing(raw)
            with pq.ParquetWriter(sink, SCHEMA, compression="none", use_dictionary=False, data_page_size=2**30) as file:
                for group in groups:
                    digests += list(threads.map(partial(_pixel_digest, shape=shape, folder=folder), group))
                    file.write_table(_table(group), row_group_size=len(group))
                    labels += [image.label for image in group]
                    lengths.append([len(image.encoded) for image in group])
        places = _places(path, number, lengths)
    rows = FileRows(places, np.array(labels, np.int16), np.concatenate(digests), np.array(sink.digest))
    with replacing(_rows_file(directory, number)) as path, path.open("wb") as raw:
        np.savez(raw, **rows._asdict())
    return rows


def _pixel_digest(image: EncodedImage, *, shape: ImageShape, folder: Path) -> Digests:
    return image_digests(decode_and_fit(image.encoded, str(folder / image.path), shape)[None])


def _table(group: Sequence[EncodedImage]) -> pa.Table:
    images = [{"bytes": image.encoded, "path": image.path} for image in group]
    return pa.table({"image": images, "label": [image.label for image in group]}, SCHEMA)


def _places(path: Path, number: int, lengths: Sequence[Sequence[int]]) -> npt.NDArray[Any]:
    """Return where each image is in a file, by its row groups' metadata and the images' lengths.

    The bytes of a group are one page, in which each value follows its length in 4 bytes. A page's header can be of any
    size, so it is from the page's end that the places are counted, and each is checked against the length before it.
    """
    metadata = pq.read_metadata(path)
    content = np.memmap(path, np.uint8, mode="r")
    places = np.empty(metadata.num_rows, PLACE)
    places["file"], places["length"] = number, [length for group in lengths for length in group]
    first = 0
    for group, sizes in enumerate(lengths):
        column = metadata.row_group(group).column(0)
        end = column.data_page_offset + column.total_compressed_size
        after = np.cumsum(np.add(sizes, PREFIX)[::-1])[::-1]  # bytes from the value's prefix to the end of the page
        places["offset"][first : first + len(sizes)] = end - after + PREFIX
        first += len(sizes)
    stated = content[places["offset"][:, None].astype(np.int64) + np.arange(-PREFIX, 0)].view("<u4")[:, 0]
    if not np.array_equal(stated, places["length"]):
        raise RuntimeError(f"pyarrow {pa.__version__} lays out {path} otherwise than known; images cannot be found")
    return places


class _Hashing:
    """A file that is written from its beginning to its end, and its digest."""

    closed = False

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._hasher = file, hasher()

    def write(self, content: Any) -> int:
        """As a file does."""
        self._hasher.update(content)
        return self._file.write(content)

    def tell(self) -> int:
        """As a file does."""
        return self._file.tell()

    def flush(self) -> None:
        """As a file does."""
        self._file.flush()

    def close(self) -> None:
        """The file is closed by who opened it."""

    @property
    def digest(self) -> str:
        """Digest of what was written so far, in hex."""
        return self._hasher.hexdigest()


def _rows_file(directory: Path, number: int) -> Path:
    return directory / f"rows-{number:05}.npz"


def _files_of(count: int) -> int:
    """Return how many files so many images are in."""
    return -(-count // ROWS_OF_A_FILE)


def _files_to_go_on_from(directory: Path, count: int) -> list[FileRows]:
    """The whole files in ``partial/``; of the one that was being written when an attempt was killed nothing stays."""
    folder = directory / PARQUET_FOLDER
    folder.mkdir(exist_ok=True)
    files = _whole_files(directory, folder, count)
    for path in set(folder.iterdir()) - {folder / file_name(number) for number in range(len(files))}:
        path.unlink()
    return files


def _whole_files(directory: Path, folder: Path, count: int) -> list[FileRows]:
    """Return what was written so far, up to the first file that is not whole.

    ``directory`` is the job's ``partial/``, ``folder`` that of the Parquet files.
    """
    files: list[FileRows] = []
    while len(files) * ROWS_OF_A_FILE < count:
        path = _rows_file(directory, len(files))
        if not (path.is_file() and (folder / file_name(len(files))).is_file()):
            break
        with np.load(path, allow_pickle=False) as rows:
            files.append(FileRows(*(rows[name] for name in FileRows._fields)))
    return files


def _finish(
    job: Job, files: Sequence[FileRows], *, image_shape: ImageShape, classes: int, dataset: str, source: str
) -> PoolInfo:
    """Put together what is known of all rows. pool.json comes last: with it the pool is whole."""
    labels = np.concatenate([rows.labels for rows in files])
    np.save(job.partial / INDEX_FILE, np.concatenate([rows.places for rows in files]), allow_pickle=False)
    np.save(job.partial / LABELS_FILE, labels, allow_pickle=False)
    np.save(job.partial / DIGESTS_FILE, np.concatenate([rows.digests for rows in files]), allow_pickle=False)
    info = PoolInfo(
        dataset=dataset,
        source=source,
        classes=classes,
        image_shape=image_shape,
        count=len(labels),
        class_counts=tuple(np.bincount(labels, minlength=classes).tolist()),
        digest=joint_digest(folder_digest(files), digest(job.partial / LABELS_FILE)),
        storage="encoded",
    )
    write_text(job.partial / INFO_FILE, info.model_dump_json(indent=2) + "\n")
    return info


def folder_digest(files: Sequence[FileRows]) -> str:
    """Return what ``files.digest`` says of the folder of Parquet files, without reading them again."""
    lines = [f"{file_name(number)} {rows.digest}" for number, rows in enumerate(files)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
