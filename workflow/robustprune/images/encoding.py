"""Write a pool of encoded images file by file; a killed job continues at the first incomplete file."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Unpack

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from robustprune.core.errors import UserError
from robustprune.core.files import digest, hash_lines, replacing
from robustprune.core.job import Job
from robustprune.core.stage import ImageShape
from robustprune.images import encoded, pool
from robustprune.images.contact_sheet import publish_with_sheet
from robustprune.images.formats.data_format import storage
from robustprune.images.formats.stream import EncodedImage

if TYPE_CHECKING:
    from robustprune.images.formats.stream import ImageStream
    from robustprune.images.ingested import IngestedPoolStage

DEFINITION = {"pools.decoding": 1, "pools.encoding": 2, "pools.format": 4}

ROWS_OF_A_FILE = 2**13
ROWS_OF_A_GROUP = 2**8
BYTES_OF_A_GROUP = 2**27  # a group is one page, whose size Parquet counts in 31 bits
FEATURES = {"image": {"_type": "Image"}, "label": {"_type": "Value", "dtype": "int64"}}
SCHEMA = pa.schema(
    [("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])), ("label", pa.int64())],
    metadata={"huggingface": json.dumps({"info": {"features": FEATURES}})},
)


class FileRows(NamedTuple):
    """The n rows of one Parquet file."""

    places: npt.NDArray[Any]  # (n,) of encoded.PLACE
    labels: pool.Labels  # (n,)
    digests: pool.Digests  # (n,), of the decoded pixels
    digest: npt.NDArray[np.str_]  # (), of the file


def fill_encoded_pool(
    job: Job,
    images: Callable[[int], Iterator[EncodedImage]],
    *,
    count: int,
    source: str,
    folder: Path = Path(),
    **form: Unpack[pool.PoolForm],
) -> pool.PoolInfo:
    """Write a pool of encoded images into ``partial/``. Each image is decoded once, so that a broken one is found now.

    ``images`` is called once, with the first row to write. ``source`` says where the images came from, without a
    folder, so that a pool is the same on any machine; they are in ``folder``, for messages.

    Raises:
        UserError: naming an image that cannot be decoded, or if there are no images or not ``count``.
        Interrupted: after a signal, with the complete files kept.
    """
    if count == 0:
        raise UserError(f"{source}: there are no images in {folder}")
    if len(_complete_files(job, count)) == _number_of_files(count) and job.output(pool.INFO_FILE).is_file():
        return pool.read_info(job.output(pool.INFO_FILE))  # an earlier attempt wrote everything
    files = _files_to_keep(job, count)
    done = len(files) * ROWS_OF_A_FILE
    with job.progress("writing images", total=count, unit="images", done=min(done, count)) as progress, job.checkpoints:
        rows = images(done)
        for number in range(len(files), _number_of_files(count)):
            wanted = min(ROWS_OF_A_FILE, count - number * ROWS_OF_A_FILE)
            checked = _checked(islice(rows, wanted), wanted, form["classes"], source, folder)
            groups = _groups(checked, job, progress.advance)
            files.append(_write_file(job.partial, number, groups, form["image_shape"], folder))
    if next(rows, None) is not None:
        raise UserError(f"{source}: there are more images than the {count} it states")
    return _finish(job, files, source, form)


def _finish(job: Job, files: Sequence[FileRows], source: str, form: pool.PoolForm) -> pool.PoolInfo:
    """Write what is known of all rows; pool.json comes last, as it marks the pool as complete."""
    columns = {
        encoded.INDEX_FILE: np.concatenate([rows.places for rows in files]),
        pool.LABELS_FILE: np.concatenate([rows.labels for rows in files]),
        pool.DIGESTS_FILE: np.concatenate([rows.digests for rows in files]),
    }
    for name, column in columns.items():
        np.save(job.partial / name, column, allow_pickle=False)
    joint = hash_lines([_folder_digest(files), digest(job.partial / pool.LABELS_FILE)])
    labels = columns[pool.LABELS_FILE]
    return pool.write_info(job.partial, labels, source=source, digest=joint, storage="encoded", **form)


@storage("encoded")
def fill_encoded(job: Job, spec: "IngestedPoolStage", stream: "ImageStream") -> Callable[[Job], dict[str, Any]]:
    """Write a stream's encoded images as the pool of its stage; return the function that publishes it."""
    pictures = stream.pictures
    assert pictures is not None  # the stage is refused otherwise
    fill_encoded_pool(job, pictures.images, count=stream.count, source=spec.phrase, folder=pictures.folder, **spec.form)
    return publish_encoded_pool


def publish_encoded_pool(job: Job) -> dict[str, Any]:
    """Publish what ``fill_encoded_pool`` wrote, with a contact sheet; return count, class_counts and digest."""
    count = pool.read_info(job.output(pool.INFO_FILE)).count
    files = _complete_files(job, count)
    assert len(files) == _number_of_files(count), f"{job.partial} is not what fill_encoded_pool leaves"
    names = (encoded.PARQUET_FOLDER, encoded.INDEX_FILE, pool.LABELS_FILE, pool.DIGESTS_FILE, pool.INFO_FILE)
    return publish_with_sheet(job, *names, digests={encoded.PARQUET_FOLDER: _folder_digest(files)})


def _checked(
    rows: Iterator[EncodedImage], count: int, classes: int, source: str, folder: Path
) -> Iterator[EncodedImage]:
    """Yield ``rows``. Raises UserError if a label is out of range or there are fewer rows than ``count``."""
    missing = count
    for image in rows:
        if not 0 <= image.label < classes:
            where = folder / image.path
            raise UserError(f"{where} has the label {image.label}, but data.classes allows 0 to {classes - 1}")
        missing -= 1
        yield image
    if missing:
        raise UserError(f"{source}: {missing} images fewer were found than it states")


def _groups(images: Iterator[EncodedImage], job: Job, advance: Callable[[int], None]) -> Iterator[list[EncodedImage]]:
    """Yield groups of limited number and size; between two groups the job can be stopped."""
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
    partial: Path, number: int, groups: Iterable[list[EncodedImage]], shape: ImageShape, folder: Path
) -> FileRows:
    """Write one Parquet file and then its rows, whose file marks it as complete."""

    def pixel_digest(image: EncodedImage) -> pool.Digests:
        return pool.image_digests(encoded.decode_and_fit(image.encoded, str(folder / image.path), shape)[None])

    labels, digests, lengths = [], [], []
    options = {"compression": "none", "use_dictionary": False, "data_page_size": 2**30}
    with replacing(partial / encoded.PARQUET_FOLDER / encoded.file_name(number)) as path:
        with (
            ThreadPoolExecutor(encoded.decoding_threads()) as threads,
            pq.ParquetWriter(path, SCHEMA, **options) as file,
        ):
            for group in groups:
                digests += list(threads.map(pixel_digest, group))
                pictures = [{"bytes": image.encoded, "path": image.path} for image in group]
                labels.append([image.label for image in group])
                lengths.append([len(image.encoded) for image in group])
                file.write_table(pa.table({"image": pictures, "label": labels[-1]}, SCHEMA), row_group_size=len(group))
        places, written = _places(path, number, lengths), np.array(digest(path))
    rows = FileRows(places, np.concatenate(labels).astype(np.int16), np.concatenate(digests), written)
    with replacing(_rows_file(partial, number)) as path, path.open("wb") as raw:
        np.savez(raw, **rows._asdict())
    return rows


def _places(path: Path, number: int, lengths: Sequence[Sequence[int]]) -> npt.NDArray[Any]:
    """Return where each image is in a file, from the metadata and the images' lengths, one list per row group.

    The bytes of a group are one page, in which each value follows its length in 4 bytes. As the header of a page can
    have any size, places are counted from the page's end. Each is checked against the length before it.
    """
    metadata = pq.read_metadata(path)
    content = np.memmap(path, np.uint8, mode="r")
    offsets = []
    for group, sizes in enumerate(lengths):
        column = metadata.row_group(group).column(0)
        end = column.data_page_offset + column.total_compressed_size
        after = np.cumsum(np.add(sizes, encoded.PREFIX)[::-1])[::-1]  # bytes from the prefix to the end of the page
        offsets.append(end - after + encoded.PREFIX)
    places = np.empty(metadata.num_rows, encoded.PLACE)
    places["file"], places["length"], places["offset"] = number, np.concatenate(lengths), np.concatenate(offsets)
    stated = content[places["offset"][:, None].astype(np.int64) + np.arange(-encoded.PREFIX, 0)].view("<u4")[:, 0]
    if not np.array_equal(stated, places["length"]):
        raise RuntimeError(f"pyarrow {pa.__version__} lays out {path} otherwise than known; images cannot be found")
    return places


def _rows_file(partial: Path, number: int) -> Path:
    return partial / f"rows-{number:05}.npz"


def _number_of_files(count: int) -> int:
    return -(-count // ROWS_OF_A_FILE)


def _files_to_keep(job: Job, count: int) -> list[FileRows]:
    """Return the complete files in ``partial/`` and delete the others."""
    folder = job.partial / encoded.PARQUET_FOLDER
    folder.mkdir(exist_ok=True)
    files = _complete_files(job, count)
    for path in set(folder.iterdir()) - {folder / encoded.file_name(number) for number in range(len(files))}:
        path.unlink()
    return files


def _complete_files(job: Job, count: int) -> list[FileRows]:
    """Return the rows of the files up to the first that is not complete."""
    files: list[FileRows] = []
    folder = job.output(encoded.PARQUET_FOLDER)
    for number in range(_number_of_files(count)):
        path = _rows_file(job.partial, number)
        if not (path.is_file() and (folder / encoded.file_name(number)).is_file()):
            break
        with np.load(path, allow_pickle=False) as rows:
            files.append(FileRows(**rows))
    return files


def _folder_digest(files: Sequence[FileRows]) -> str:
    """Return what ``core.files.digest`` returns for the folder of Parquet files, without reading them again."""
    return hash_lines(f"{encoded.file_name(number)} {rows.digest}" for number, rows in enumerate(files))
