"""npz with the arrays ``image`` and ``label``, as EDM's generated sets are published (Wang et al. 2023)."""

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from robustprune.errors import UserError
from robustprune.pools.format import AnyLabels, Images
from robustprune.sources import planned_files
from robustprune.specs import FileSource, IngestedPoolSpec

DEFINITION = 1


def read(spec: IngestedPoolSpec) -> tuple[Images, AnyLabels]:
    """The arrays of the one file of ``spec.source``, channels moved to the front without a copy.

    Returns:
        images: (N, C, H, W) from (N, H, W, C), or (N, 1, H, W) from (N, H, W); of whatever dtype the file has.
        labels: as in the file.

    Raises:
        UserError: naming a file that changed since the plan, is not whole, or lacks an array that is no pickle.
    """
    assert isinstance(spec.source, FileSource)
    (path,) = planned_files(spec.source)
    if not zipfile.is_zipfile(path):
        raise UserError(f"{path} is not an npz file, or is cut short")
    labels = _array(path, "label")
    return _channels_first(_array(path, "image")), labels


def _channels_first(images: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A view; what has neither 3 nor 4 dimensions is left for ``check_images`` to refuse."""
    if images.ndim == 3:
        return images[:, None]
    return np.moveaxis(images, -1, 1) if images.ndim == 4 else images


def _array(path: Path, key: str) -> npt.NDArray[Any]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            names: list[str] = archive.files
            array: npt.NDArray[Any] | bytes = archive[key]
    except KeyError:
        raise UserError(f"{path} has no array {key!r}; it has {', '.join(names) or 'none'}") from None
    except (ValueError, EOFError, OSError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{path}: the array {key!r} cannot be read: {error}") from None
    if isinstance(array, bytes):
        raise UserError(f"{path}: {key!r} is not an array")
    return array
