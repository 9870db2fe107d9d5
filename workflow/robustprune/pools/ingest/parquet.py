"""Parquet as Hugging Face lays out image sets: encoded images in ``img`` or ``image``, integers in ``label``."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from robustprune.errors import UserError
from robustprune.pools.encoding import EncodedImage
from robustprune.pools.ingest.stream import ImageStream, Pictures, decoding_stream
from robustprune.sources import planned_files
from robustprune.specs import FileSource, IngestedPoolSpec

DEFINITION = 1

IMAGE_COLUMNS = ("img", "image")
BINARY = (pa.binary(), pa.large_binary())
ROWS_AT_ONCE = 32  # a value that a file has once can be that of every row, and is unpacked for each


def open_stream(spec: IngestedPoolSpec) -> ImageStream:
    """The decoded images of all shards of ``spec.source``, in order.

    Raises:
        UserError: naming a file that is gone, is not whole or has other columns; in its blocks, a file and the row of
            an image that cannot be decoded or has another size.
    """
    assert isinstance(spec.source, FileSource)
    shards = [(path, _open(path)) for path in planned_files(spec.source)]
    columns = {path: _image_column(shard.schema_arrow, path) for path, shard in shards}
    count = sum(shard.metadata.num_rows for _, shard in shards)

    def rows(first: int) -> Iterator[EncodedImage]:
        for path, shard in shards:
            yield from _rows(path, shard, columns[path], first)
            first = max(0, first - shard.metadata.num_rows)

    return decoding_stream(count, Pictures(shards[0][0].parent, rows), shape=spec.image_shape)


def _open(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path, page_checksum_verification=True)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path} is not a whole Parquet file: {error}") from None


def _rows(path: Path, shard: pq.ParquetFile, column: str, first: int) -> Iterator[EncodedImage]:
    """The rows from ``first`` on; row groups before it are not read."""
    groups, start = _groups_from(shard, first)
    batches = shard.iter_batches(ROWS_AT_ONCE, row_groups=groups, columns=[column, "label"])
    while (batch := _next_batch(batches, path)) is not None:
        encoded = pc.struct_field(batch[column], "bytes").to_pylist()
        for row, (data, label) in enumerate(zip(encoded, batch["label"].to_pylist(), strict=True), start):
            if row < first:
                continue
            if data is None or label is None:
                raise UserError(f"{path}: row {row} has no {'image' if data is None else 'label'}")
            yield EncodedImage(data, label, f"{path.name}: the image in row {row}")
        start += len(batch)


def _groups_from(shard: pq.ParquetFile, first: int) -> tuple[list[int], int]:
    """The row groups that hold row ``first`` or a later one, and the row that they begin with."""
    start = 0
    for group in range(shard.num_row_groups):
        rows = shard.metadata.row_group(group).num_rows
        if start + rows > first:
            return list(range(group, shard.num_row_groups)), start
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


def _next_batch(batches: Iterator[pa.RecordBatch], path: Path) -> pa.RecordBatch | None:
    try:
        return next(batches, None)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path} is not a whole Parquet file: {error}") from None
