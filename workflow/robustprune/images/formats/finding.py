"""Names of the files that hold a split of a data set. Gaps are errors: they would silently make the pool smaller."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from robustprune.core.errors import UserError

IDX_STEMS = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}


def idx_files(folder: Path, split: str) -> tuple[Path, Path]:
    """Return the paths of a split's images and labels: the unpacked file if it exists, otherwise ``.gz``."""
    images, labels = IDX_STEMS[split]
    return _unpacked_or_gz(folder / images), _unpacked_or_gz(folder / labels)


def _unpacked_or_gz(path: Path) -> Path:
    return path if path.is_file() else path.with_name(f"{path.name}.gz")


def numbered_files(pattern: Path) -> list[Path]:
    """Return the files that match a name with ``*``, sorted by the numbers that ``*`` stands for.

    Returns ``pattern`` itself if no file matches.

    Raises:
        UserError: if a number is missing, or there are fewer files than ``-of-N`` in their names states.
    """
    starred = re.compile("(.*)".join(map(re.escape, pattern.name.split("*"))))
    numbers = {}
    for file in pattern.parent.glob(pattern.name):
        match = starred.fullmatch(file.name)
        numbers[file] = [int(number) for number in re.findall(r"\d+", " ".join(match.groups()) if match else file.name)]
    files = sorted(numbers, key=lambda file: (numbers[file], file.name))
    _require_complete(files, _part_numbers([numbers[file] for file in files if numbers[file]]))
    return files or [pattern]


def _part_numbers(numbers: list[list[int]]) -> list[int]:
    """Return the number of each part: the last number in its name that differs between files, or the last of all."""
    if len({len(row) for row in numbers}) != 1:
        return [row[-1] for row in numbers]
    columns = list(zip(*numbers, strict=True))
    return list(next((column for column in reversed(columns) if len(set(column)) > 1), columns[-1]))


def parts_of(folder: Path, pattern: str) -> list[Path]:
    """Return the files whose names match ``pattern``, sorted by the number in its group."""
    names = (file.name for file in folder.glob("*"))
    parts = sorted((int(match[1]), match[0]) for name in names if (match := re.fullmatch(pattern, name)))
    files = [folder / name for _, name in parts]
    _require_complete(files, [number for number, _ in parts])
    return files


def _require_complete(files: Sequence[Path], numbers: Sequence[int]) -> None:
    """Raise UserError unless ``numbers`` are consecutive from 0 or 1, and their count is N if names state ``-of-N``."""
    totals = {int(match[1]) for file in files if (match := re.search(r"\d-of-(\d+)", file.name))}
    consecutive = not numbers or (numbers[0] <= 1 and list(numbers) == [numbers[0] + n for n in range(len(numbers))])
    if not consecutive or (totals and totals != {len(files)}):
        names, count = ", ".join(file.name for file in files[:10]), f"{max(totals)} " if totals else ""
        raise UserError(
            f"{files[0].parent} should contain all {count}parts of one set, numbered from 0 or 1, but contains {names}"
        )
