"""Parquet image sets in the layout of Hugging Face: encoded images in ``img`` or ``image``, integers in ``label``."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from robustprune.core.errors import UserError
from robustprune.images.encoded import HARMLESS_BYTES, LARGEST_RATIO
from robustprune.images.formats.data_format import DataFormat, data_format
from robustprune.images.formats.finding import parts_of
from robustprune.images.formats.stream import EncodedImage, ImageStream, Pictures, decoding_stream
from robustprune.images.sources import FileSource, planned_files

if TYPE_CHECKING:
    from robustprune.images.ingested import IngestedPoolStage

DEFINITION = {"pools.decoding": 1, "pools.ingest.parquet": 1}

IMAGE_COLUMNS = ("img", "image")
BINARY = (pa.binary(), pa.large_binary())
ROWS_AT_ONCE = 32  # few, as a dictionary-encoded value is unpacked once for each row that has it
BUFFER_BYTES = 2**20  # without this, pyarrow keeps all row groups of a file in memory
BYTES_OF_A_LABEL = 16  # at most, with Parquet's metadata; equal labels compress without limit


class _Shard(NamedTuple):
    path: Path
    rows: int
    column: str  # of the images


def _read_shard(path: Path) -> _Shard:
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
    """Raise UserError if a column would unpack to far more memory than images need; one page may be a whole column."""
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        for column in map(group.column, range(group.num_columns)):
            packed, unpacked = column.total_compressed_size, column.total_uncompressed_size
            limit = max(HARMLESS_BYTES, LARGEST_RATIO * packed, BYTES_OF_A_LABEL * group.num_rows)
            if column.path_in_schema in columns and unpacked > limit:
                sizes = f"{packed:,} bytes to {unpacked:,}"
                raise UserError(f"{path}: {column.path_in_schema} would unpack from {sizes}, which images never need")


def _rows(shard: _Shard, first: int) -> Iterator[EncodedImage]:
    """Iterate from row ``first`` on; earlier row groups are not read."""
    path = shard.path
    with _opened(path) as file:
        ends = list(accumulate(file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)))
        skipped = bisect_right(ends, first)
        start, groups = ends[skipped - 1] if skipped else 0, range(skipped, len(ends))
        for batch in file.iter_batches(ROWS_AT_ONCE, row_groups=groups, columns=[f"{shard.column}.bytes", "label"]):
            encoded = pc.struct_field(batch[shard.column], "bytes")
            for row, (data, label) in enumerate(zip(encoded, batch["label"], strict=True), start):
                if row < first:
                    continue
                if not (data.is_valid and label.is_valid):
                    raise UserError(f"{path}: row {row} has no {'label' if data.is_valid else 'image'}")
                yield EncodedImage(data.as_py(), label.as_py(), f"{path.name}: the image in row {row}")
            start += len(batch)


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


@data_format(
    "parquet",
    pictures=True,
    generated=True,
    hint="Hugging Face stores image sets in this layout, e.g. https://huggingface.co/datasets/uoft-cs/cifar10",
)
class ParquetFormat(DataFormat):
    """Images in parquet files."""

    def files(self, folder: Path, split: str) -> list[Path]:
        """Return ``train-00000-of-00002.parquet`` and so on, or the same with a hash before the suffix."""
        pattern = rf"{split}-(\d+)-of-\d+(?:-[0-9a-f]+)?\.parquet"
        return parts_of(folder, pattern) or [folder / f"{split}-00000-of-00001.parquet"]

    def count(self, files: list[Path]) -> int:
        """Return the number of images that the headers state."""
        import pyarrow.parquet as pq  # imports numpy, which most plans do not need

        return sum(pq.read_metadata(file).num_rows for file in files)

    def open_stream(self, stage: IngestedPoolStage) -> ImageStream:
        """Return the images of all shards of ``stage.source``, in order.

        Raises:
            UserError: if a file is missing, incomplete or has other columns; in the blocks, if an image cannot be
            decoded
                or has another size.
        """
        assert isinstance(stage.source, FileSource)
        shards = [_read_shard(path) for path in planned_files(stage.source)]

        def rows(first: int) -> Iterator[EncodedImage]:
            for shard in shards:
                if first < shard.rows:
                    yield from _rows(shard, first)
                first = max(0, first - shard.rows)

        pictures = Pictures(shards[0].path.parent, rows)
        return decoding_stream(sum(shard.rows for shard in shards), pictures, shape=stage.image_shape)
