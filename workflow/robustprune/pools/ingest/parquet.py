"""Parquet as Hugging Face lays out image sets: encoded images in ``img`` or ``image``, integers in ``label``."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from robustprune.errors import UserError
from robustprune.pools.encoding import EncodedImage
from robustprune.pools.ingest.stream import ImageStream, Pictures, decoding_stream
from robustprune.pools.limits import HARMLESS_BYTES, LARGEST_RATIO
from robustprune.sources import planned_files
from robustprune.specs import FileSource, IngestedPoolSpec

DEFINITION = 1

IMAGE_COLUMNS = ("img", "image")
BINARY = (pa.binary(), pa.large_binary())
ROWS_AT_ONCE = 32  # a value that a file has once can be that of every row, and is unpacked for each
BUFFER_BYTES = 2**20  # read at once: pyarrow would otherwise keep all row groups of a file in memory
BYTES_OF_A_LABEL = 16  # at most, with all that Parquet notes beside it; equal ones may be packed in any ratio


def open_stream(spec: IngestedPoolSpec) -> ImageStream:
    """The decoded images of all shards of ``spec.source``, in order.

    Raises:
        UserError: naming a file that is gone, is not whole or has other columns; in its blocks, a file and the row of
            an image that cannot be decoded or has another size.
    """
    assert isinstance(spec.source, FileSource)
    shards = [_look_into(path) for path in planned_files(spec.source)]

    def rows(first: int) -> Iterator[EncodedImage]:
        for shard in shards:
            if first < shard.rows:
                yield from _rows(shard, first)
            first = max(0, first - shard.rows)

    pictures = Pictures(shards[0].path.parent, rows)
    return decoding_stream(sum(shard.rows for shard in shards), pictures, shape=spec.image_shape)


class _Shard(NamedTuple):
    """One of the files; it is opened when its turn comes."""

    path: Path
    rows: int
    column: str  # that has the images


def _look_into(path: Path) -> _Shard:
    with _opened(path) as file:
        column = _image_column(file.schema_arrow, path)
        _check_sizes(file.metadata, (f"{column}.bytes", "label"), path)
        return _Shard(path, file.metadata.num_rows, column)


@contextmanager
def _opened(path: Path) -> Iterator[pq.ParquetFile]:
    options = {"page_checksum_verification": True, "pre_buffer": False, "buffer_size": BUFFER_BYTES}
    try:
        with pq.ParquetFile(path, **options) as file:
            yield file
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path} is not a whole Parquet file: {error}") from None


def _check_sizes(metadata: pq.FileMetaData, columns: tuple[str, ...], path: Path) -> None:
    """A column of a row group is unpacked page by page, and one page may be all of it."""
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        for column in map(group.column, range(group.num_columns)):
            packed, unpacked = column.total_compressed_size, column.total_uncompressed_size
            if column.path_in_schema in columns and unpacked > max(
                HARMLESS_BYTES, LARGEST_RATIO * packed, BYTES_OF_A_LABEL * group.num_rows
            ):
                sizes = f"{packed:,} bytes to {unpacked:,}"
                raise UserError(f"{path}: {column.path_in_schema} would unpack from {sizes}, which pictures do not")


def _rows(shard: _Shard, first: int) -> Iterator[EncodedImage]:
    """The rows from ``first`` on; row groups before it are not read."""
    path = shard.path
    with _opened(path) as file:
        groups, start = _groups_from(file, first)
        for batch in file.iter_batches(ROWS_AT_ONCE, row_groups=groups, columns=[f"{shard.column}.bytes", "label"]):
            encoded = pc.struct_field(batch[shard.column], "bytes")
            for row, (data, label) in enumerate(zip(encoded, batch["label"], strict=True), start):
                if row < first:
                    continue
                if not (data.is_valid and label.is_valid):
                    raise UserError(f"{path}: row {row} has no {'label' if data.is_valid else 'image'}")
                yield EncodedImage(data.as_py(), label.as_py(), f"{path.name}: the image in row {row}")
            start += len(batch)


def _groups_from(file: pq.ParquetFile, first: int) -> tuple[list[int], int]:
    """The row groups that hold row ``first`` or a later one, and the row that they begin with."""
    start = 0
    for group in range(file.num_row_groups):
        rows = file.metadata.row_group(group).num_rows
        if start + rows > first:
            return list(range(group, file.num_row_groups)), start
        start += rows
    return [], start


def _image_column(schema: pa.Schema, path: Path) -> str:
    column = next((name for name in IMAGE_COLUMNS if name in schema.names), None)
    if column is None or schema.names.count(column) != 1 or schema.names.count("label") != 1:
        raise UserError(f"{path} should have the columns img or image, and label; it has {', '.join(schema.names)}")
    encoded = schema.field(column).type
    if not pa.types.is_struct(encoded) or encoded.get_field_index("bytes") < 0 or encoded["bytes"].type not in BINARY:
        raise UserError(f"{path}: column {column} should be a struct with the field bytes: binary, but is {encoded}")
    if not pa.types.is_integer(schema.field("label").type):
        raise UserError(f"{path}: column label should hold integers, but holds {schema.field('label').type}")
    return column
