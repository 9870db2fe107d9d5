"""Which files of a folder are the images of a split, by their names. A set with a gap would be a smaller pool."""

import re
from collections.abc import Callable
from pathlib import Path

from robustprune.errors import UserError

IDX_STEMS = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}


def idx_files(folder: Path, split: str) -> tuple[Path, Path]:
    """Where a folder has, or should have, a split's images and labels: unpacked if it has that, else ``.gz``."""
    images, labels = IDX_STEMS[split]
    return _unpacked_or_gz(folder / images), _unpacked_or_gz(folder / labels)


def _unpacked_or_gz(path: Path) -> Path:
    return path if path.is_file() else path.with_name(f"{path.name}.gz")


def _shards(folder: Path, split: str) -> list[Path]:
    """The shards of a split in order; a set with a gap would silently be a smaller pool."""
    pattern = re.compile(rf"{split}-(\d+)-of-(\d+)(?:-[0-9a-f]+)?\.parquet")
    matches = [match for file in sorted(folder.glob("*.parquet")) if (match := pattern.fullmatch(file.name))]
    if not matches:
        return [folder / f"{split}-00000-of-00001.parquet"]
    count = int(matches[0][2])
    if [(int(match[1]), int(match[2])) for match in matches] != [(index, count) for index in range(count)]:
        names = ", ".join(match[0] for match in matches)
        raise UserError(f"{folder} should hold each of the {count} {split} shards of one set, but holds {names}")
    return [folder / match[0] for match in matches]


def numbered_files(pattern: Path) -> list[Path]:
    """The files that a name with ``*`` stands for, by the numbers that stand there; none of these may be missing."""
    starred = re.compile("(.*)".join(map(re.escape, pattern.name.split("*"))))
    numbers = {}
    for file in pattern.parent.glob(pattern.name):
        match = starred.fullmatch(file.name)
        numbers[file] = [int(number) for number in re.findall(r"\d+", " ".join(match.groups()) if match else file.name)]
    files = sorted(numbers, key=lambda file: (numbers[file], file.name))
    _require_no_gap(files, _part_numbers([numbers[file] for file in files if numbers[file]]))
    stated = {int(match[1]) for file in files if (match := re.search(r"\d-of-(\d+)", file.name))}
    if stated and stated != {len(files)}:
        names = ", ".join(file.name for file in files[:10])
        raise UserError(f"{pattern.parent} should hold all {max(stated)} shards of one set, but holds {names}")
    return files or [pattern]


def _part_numbers(numbers: list[list[int]]) -> list[int]:
    """Of the numbers in each file's name the one that says which part it is: the last, or the last that differs."""
    if len({len(own) for own in numbers}) != 1:
        return [own[-1] for own in numbers]
    columns = list(zip(*numbers, strict=True))
    return list(next((column for column in reversed(columns) if len(set(column)) > 1), columns[-1]))


def _npz_parts(folder: Path, split: str) -> list[Path]:
    """``train.npz``, or parts of it such as ``train_part1.npz`` (Wang et al.) or ``train-0.npz``."""
    parts = [file for file in folder.glob(f"{split}*.npz") if re.fullmatch(rf"{split}[-_]?(?:part)?\d+", file.stem)]
    if (folder / f"{split}.npz").is_file() or not parts:
        return [folder / f"{split}.npz"]
    number = {file: int(re.findall(r"\d+", file.stem)[-1]) for file in parts}
    files = sorted(parts, key=lambda file: number[file])
    _require_no_gap(files, [number[file] for file in files])
    return files


def _tars(folder: Path, split: str) -> list[Path]:
    """``train-000000.tar`` and so on, or the same with ``.tar.gz``."""
    number = {
        file: int(match[1])
        for file in folder.glob(f"{split}-*.tar*")
        if (match := re.fullmatch(rf"{split}-(\d+)\.tar(?:\.gz)?", file.name))
    }
    files = sorted(number, key=lambda file: number[file])
    _require_no_gap(files, [number[file] for file in files])
    return files or [folder / f"{split}-000000.tar"]


def _class_folder(folder: Path, split: str) -> list[Path]:
    """``train`` and ``test``; or ``val``, as ImageNet has it."""
    return [folder / ("val" if split == "test" and not (folder / "test").is_dir() else split)]


def _require_no_gap(files: list[Path], numbers: list[int]) -> None:
    """Numbers should follow one another, from 0 or 1; a set with a gap would silently be a smaller pool."""
    if numbers and (numbers[0] > 1 or numbers != list(range(numbers[0], numbers[0] + len(numbers)))):
        names = ", ".join(file.name for file in files[:10])
        raise UserError(f"{files[0].parent} should hold all parts of one set, numbered from 0 or 1, but holds {names}")


SPLIT_FILES: dict[str, Callable[[Path, str], list[Path]]] = {
    "idx": lambda folder, split: list(idx_files(folder, split)),
    "npz": _npz_parts,
    "parquet": _shards,
    "imagefolder": _class_folder,
    "webdataset": _tars,
}
"""Where a folder has, or should have, the images of a split."""
