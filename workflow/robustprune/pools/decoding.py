"""From the bytes of a JPEG, PNG or the like to pixels. They are anyone's, so they are looked at before decoding."""

import io
import re

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps
from PIL.ImageFile import ImageFile
from PIL.TiffImagePlugin import BITSPERSAMPLE, TiffImageFile

from robustprune.errors import UserError
from robustprune.pools.limits import LARGEST_BYTES
from robustprune.specs.base import ImageShape

DEFINITION = 1

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")  # Pillow knows others that run programs to read a file
MODES = {1: "L", 3: "RGB"}
LARGEST_PIXELS = 2**26  # 8192 x 8192; a file of a few kilobytes can state far more
FAILURES = (OSError, SyntaxError, ValueError, Image.DecompressionBombError, Image.DecompressionBombWarning)


def decode(encoded: bytes, where: str, shape: ImageShape) -> npt.NDArray[np.uint8]:
    """The pixels of an image that has the wanted size.

    Args:
        encoded: the content of an image file.
        where: what the image is called in a message, e.g. ``train.parquet: the image in row 3``.
        shape: channels, height, width.

    Returns:
        (C, H, W) uint8, converted to grey or RGB.

    Raises:
        UserError: when it is damaged or cut short, has another size or more than 8 bits a channel, or is too large.
    """
    return _decode(encoded, where, shape, fit=False)


def decode_and_fit(encoded: bytes, where: str, shape: ImageShape) -> npt.NDArray[np.uint8]:
    """As ``decode``, of an image of any size up to 2^26 pixels.

    The middle of it with the wanted proportions is scaled (bilinear with antialiasing; a JPEG of at least 4, 8 or 16
    times as many pixels a side is decoded at 1/2, 1/4 or 1/8 of its size). An image of the wanted size stays as it is.
    """
    return _decode(encoded, where, shape, fit=True)


def _decode(encoded: bytes, where: str, shape: ImageShape, *, fit: bool) -> npt.NDArray[np.uint8]:
    channels, height, width = shape
    if len(encoded) > LARGEST_BYTES:
        raise UserError(f"{where} is {len(encoded):,} bytes; more than {LARGEST_BYTES:,} are not taken")
    try:
        with Image.open(io.BytesIO(encoded), formats=FORMATS) as image:
            _check(image, where, (width, height), fit=fit)
            if fit:
                image.draft(None, (2 * width, 2 * height))
            opaque = image.convert("RGBA") if image.mode == "P" else image  # the palette may have transparent colours
            picture = ImageOps.fit(opaque.convert(MODES[channels]), (width, height), Image.Resampling.BILINEAR)
    except FAILURES as error:
        raise UserError(f"{where} cannot be decoded: {error}") from None
    return np.asarray(picture).reshape(height, width, channels).transpose(2, 0, 1)


def _check(image: ImageFile, where: str, size: tuple[int, int], *, fit: bool) -> None:
    found = f"{image.width} x {image.height}"
    if not fit and image.size != size:
        raise UserError(f"{where} is {found} pixels, but data.image_shape asks for {size[0]} x {size[1]}")
    if image.width * image.height > LARGEST_PIXELS:
        raise UserError(f"{where} states {found} pixels; more than {LARGEST_PIXELS:,} are not decoded")
    if _is_deep(image):
        raise UserError(f"{where} has more than 8 bits a channel, which uint8 cannot hold")


def _is_deep(image: ImageFile) -> bool:
    """Whether it has more than 8 bits a channel, of which Pillow drops the lower ones where there are colours."""
    if isinstance(image, TiffImageFile) and max(image.tag_v2.get(BITSPERSAMPLE, (1,))) > 8:
        return True  # by the tag, as channels that lie apart are named without their depth
    raw_modes = str([tile.args for tile in image.tile])  # such as RGB;16B; BMP's BGR;16 is 5, 6 and 5 bits
    return image.mode.startswith(("I", "F")) or re.search(r";16[BLN]\b", raw_modes) is not None
