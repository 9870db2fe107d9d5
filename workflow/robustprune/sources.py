"""From ``data.source`` in the configuration to what the images are: found, and fingerprinted, while the plan is made."""

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Literal

from robustprune.errors import UserError
from robustprune.files import digest, write_text
from robustprune.specs import DigitsSource, FileSource, TorchvisionLocation, TorchvisionSource

DIGEST_CACHE = Path("results/.digests.json")
TORCHVISION_NAMES: dict[str, Literal["MNIST", "CIFAR10"]] = {"mnist": "MNIST", "cifar10": "CIFAR10"}
IDX_STEMS = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
HINTS = {
    "idx": "MNIST's four idx files can be had from https://ossci-datasets.s3.amazonaws.com/mnist/",
    "npz": "an npz holds the arrays 'image' (uint8, N x H x W x C) and 'label'; Wang et al.'s EDM sets are at "
    "https://huggingface.co/datasets/P2333/DM-Improves-AT",
    "parquet": "Hugging Face keeps image sets in this layout, e.g. https://huggingface.co/datasets/uoft-cs/cifar10",
    "torchvision": "data.source: torchvision downloads it",
}


def real_source(text: str, *, name: str, split: str) -> DigitsSource | TorchvisionSource | FileSource:
    """The source that ``data.source`` names. Raises UserError naming the key and where to get a file that is missing."""
    form, _, place = text.partition(":")
    if form == "digits":
        return DigitsSource()
    if form == "torchvision":
        return _torchvision_source(place, name=name)
    folder = Path(place)
    if form == "idx":
        files = [_idx_file(folder, stem) for stem in IDX_STEMS[split]]
    elif form == "npz":
        files = [folder / f"{split}.npz"]
    else:
        files = sorted(folder.glob(f"{split}-*.parquet")) or [folder / f"{split}-00000-of-00001.parquet"]
    return _file_source(form, files, key="data.source")


def synthetic_source(text: str) -> FileSource:
    """The source that ``synthetic.source`` names when it is a file. Raises UserError where it is missing."""
    form, _, place = text.partition(":")
    return _file_source(form, [Path(place)], key="synthetic.source")


def _torchvision_source(place: str, *, name: str) -> TorchvisionSource:
    if name not in TORCHVISION_NAMES:
        known = ", ".join(TORCHVISION_NAMES)
        raise UserError(f"data.name = {name!r} is not one that data.source = torchvision can load: {known}")
    if place and not Path(place).is_dir():
        raise UserError(f"{place}, the folder in data.source, does not exist; {HINTS['torchvision']}")
    location = TorchvisionLocation(folder=str(Path(place or "data").absolute()), download=not place)
    return TorchvisionSource(name=TORCHVISION_NAMES[name], location=location)


def _idx_file(folder: Path, stem: str) -> Path:
    plain = folder / stem
    return plain if plain.is_file() else folder / f"{stem}.gz"


def _file_source(form: str, files: list[Path], *, key: str) -> FileSource:
    for file in files:
        if not file.is_file():
            raise UserError(f"{file}, which {key} points to, does not exist; {HINTS[form]}")
    digest = hashlib.sha256("\n".join(file_digest(file) for file in files).encode()).hexdigest()
    location = tuple(str(file.absolute()) for file in files)
    return FileSource(format=form, digest=digest, location=location)  # type: ignore[arg-type]  # checked by the model


def file_digest(path: Path) -> str:
    """SHA-256 of a file, in hex; remembered by path, size and modification time so that a plan stays fast."""
    status = path.stat()
    return _remembered_digest(str(path.absolute()), status.st_size, status.st_mtime_ns)


@cache
def _remembered_digest(path: str, size: int, modified: int) -> str:
    key = f"{path}|{size}|{modified}"
    known = _read_digest_cache()
    if key not in known:
        known[key] = digest(Path(path))
        write_text(DIGEST_CACHE, json.dumps(known))
    return known[key]


def _read_digest_cache() -> dict[str, str]:
    try:
        known: dict[str, str] = json.loads(DIGEST_CACHE.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return {}
    return known
