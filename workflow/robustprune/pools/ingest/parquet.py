"""Parquet as Hugging Face lays out image sets: encoded images in ``img`` or ``image``, integers in ``label``."""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from PIL import Image

from robustprune.errors import UserError
from robustprune.pools.format import AnyLabels, Images
from robustprune.sources import planned_files
from robustprune.specs import FileSource, IngestedPoolSpec
from robustprune.specs.base import ImageShape

DEFINITION = 1

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")  # Pillow knows others that run programs to read a file
IMAGE_COLUMNS = ("img", "image")
MODES = {1: "L", 3: "RGB"}
ROWS_AT_ONCE = 1024


def read(spec: IngestedPoolSpec) -> tuple[Images, AnyLabels]:
    """The decoded images and the labels of all shards of ``spec.source``, in order.

    Returns:
        images: (N, C, H, W) uint8, converted to grey or RGB as ``spec.image_shape`` has 1 or 3 channels.
        labels: (N,) int64.

    Raises:
        UserError: naming a file that changed since the plan, is not whole or has other columns; or a file and the row
            of an image that cannot be decoded or has another size.
    """
    assert isinstance(spec.source, FileSource)
    shards = [(path, _open(path)) for path in planned_files(spec.source)]
    count = sum(shard.metadata.num_rows for _, shard in shards)
    images = np.empty((count, *spec.image_shape), np.uint8)
    labels = np.empty(count, np.int64)
    rows = (row for path, shard in shards for row in _rows(path, shard))
    for index, (where, encoded, label) in enumerate(rows):
        images[index] = _decode(encoded, where, spec.image_shape)
        labels[index] = label
    return images, labels


def _open(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path} is not a whole Parquet file: {error}") from None


def _rows(path: Path, shard: pq.ParquetFile) -> Iterator[tuple[str, bytes, int]]:
    """For each row: where it is, the encoded image, the label."""
    column = _image_column(shard.schema_arrow, path)
    batches = shard.iter_batches(ROWS_AT_ONCE, columns=[column, "label"])
    first = 0
    while (batch := _next_batch(batches, path)) is not None:
        encoded = pc.struct_field(batch[column], "bytes").to_pylist()
        for row, (data, label) in enumerate(zip(encoded, batch["label"].to_pylist(), strict=True), start=first):
            if data is None or label is None:
                raise UserError(f"{path}: row {row} has no {'image' if data is None else 'label'}")
            yield f"{path}: the image in row {row}", data, label
        first += len(batch)


def _image_column(schema: pa.Schema, path: Path) -> str:
    column = next((name for name in IMAGE_COLUMNS if name in schema.names), None)
    if column is None or "label" not in schema.names:
        raise UserError(f"{path} should have the columns img or image, and label; it has {', '.join(schema.names)}")
    encoded = schema.field(column).type
    if not pa.types.is_struct(encoded) or encoded.get_field_index("bytes") < 0:
        raise UserError(f"{path}: column {column} should be a struct with the field bytes, but is {encoded}")
    if not pa.types.is_integer(schema.field("label").type):
        raise UserError(f"{path}: column label should hold integers, but holds {schema.field('label').type}")
    return column


def _next_batch(batches: Iterator[pa.RecordBatch], path: Path) -> pa.RecordBatch | None:
    try:
        return next(batches, None)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path} is not a whole Parquet file: {error}") from None


def _decode(encoded: bytes, where: str, shape: ImageShape) -> npt.NDArray[np.uint8]:
    """(C, H, W) uint8. The size is looked at before anything is decoded."""
    channels, height, width = shape
    try:
        with Image.open(io.BytesIO(encoded), formats=FORMATS) as image:
            if image.size != (width, height):
                size = f"{image.width} x {image.height}"
                raise UserError(f"{where} is {size} pixels, but data.image_shape asks for {width} x {height}")
            if image.mode.startswith(("I", "F")):
                raise UserError(f"{where} has more than 8 bits a channel, which uint8 cannot hold")
            pixels = np.asarray(image.convert(MODES[channels]))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"{where} cannot be decoded: {error}") from None
    return pixels.reshape(height, width, channels).transpose(2, 0, 1)
