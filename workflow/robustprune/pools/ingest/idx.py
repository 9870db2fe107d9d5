"""idx, the format of MNIST (LeCun et al. 1998): a header of big-endian numbers, then the bytes."""

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from robustprune.errors import UserError
from robustprune.pools.format import AnyLabels, Images
from robustprune.sources import planned_files
from robustprune.specs import FileSource, IngestedPoolSpec

DEFINITION = 1


def read(spec: IngestedPoolSpec) -> tuple[Images, AnyLabels]:
    """The images and labels of the two files of ``spec.source``.

    Returns:
        images: (N, 1, H, W) uint8.
        labels: (N,) uint8.

    Raises:
        UserError: naming a file that changed since the plan or is not whole.
    """
    assert isinstance(spec.source, FileSource)
    images, labels = planned_files(spec.source)
    return parse_images(read_bytes(images), images), parse_labels(read_bytes(labels), labels)


def read_bytes(path: Path) -> bytes:
    """The content of a plain or ``.gz`` file. Raises UserError when a ``.gz`` file is cut short or is none."""
    if path.suffix != ".gz":
        return path.read_bytes()
    try:
        return gzip.decompress(path.read_bytes())
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"{path} is not a whole gzip file: {error}") from None


def parse_images(content: bytes, path: Path) -> Images:
    """(N, 1, H, W) uint8 from the content of an image file; ``path`` is for the message of a UserError."""
    return _parse(content, path, dimensions=3)[:, None]


def parse_labels(content: bytes, path: Path) -> AnyLabels:
    """(N,) uint8 from the content of a label file; ``path`` is for the message of a UserError."""
    return _parse(content, path, dimensions=1)


def _parse(content: bytes, path: Path, *, dimensions: int) -> npt.NDArray[np.uint8]:
    start = bytes([0, 0, 0x08, dimensions])  # 0x08: unsigned bytes
    header = 4 + 4 * dimensions
    if not content.startswith(start) or len(content) < header:
        raise UserError(
            f"{path} is not an idx file of unsigned bytes in {dimensions} dimension(s): it starts with "
            f"{content[:4].hex() or 'nothing'} and should start with {start.hex()} and {header - 4} bytes of sizes"
        )
    shape = tuple(np.frombuffer(content, ">u4", dimensions, offset=4).tolist())
    expected = header + math.prod(shape)
    if len(content) != expected:
        sizes = " x ".join(str(size) for size in shape)
        raise UserError(f"{path} states {sizes}, so {expected} bytes with its header, but holds {len(content)}")
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)
