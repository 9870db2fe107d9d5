"""How much two manifests agree: which images both keep and drop, and how the classes shift."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from robustprune.core.errors import UserError
from robustprune.pruning.manifest import MANIFEST_FILE, Metadata, read_metadata, read_rows

if TYPE_CHECKING:
    from robustprune.pruning.facts import Facts

DEFINITION = {"pruning.overlap": 1}


@dataclass(frozen=True)
class Agreement:
    """Two sets A and B of the same N images, by the measures in use (papers.md, N11).

    Attributes:
        same_decision: share of the N images that are in both sets or in neither.
        of_first: share of A that is in B, too.
        jaccard: share of the union of A and B that is in both.
        of_all: share of the N images that are in both.
    """

    same_decision: float
    of_first: float
    jaccard: float
    of_all: float


def agreement(first: int, second: int, both: int, images: int) -> Agreement:
    """The measures, from the sizes of A, B, their intersection and all images; NaN where a set is empty."""
    union = first + second - both
    return Agreement(
        same_decision=1 - (union - both) / images,
        of_first=both / first if first else float("nan"),
        jaccard=both / union if union else float("nan"),
        of_all=both / images,
    )


@dataclass(frozen=True)
class Overlap:
    """Two manifests A and B of the same images.

    Attributes:
        images: how many they choose from.
        kept_images: how many A and B keep.
        kept: how much the kept images agree.
        dropped: how much the dropped ones do.
        facts: what each says of itself.
    """

    images: int
    kept_images: tuple[int, int]
    kept: Agreement
    dropped: Agreement
    facts: tuple[Facts, Facts]


def overlap_of(first: Path, second: Path) -> Overlap:
    """Return what two manifests have in common.

    Args:
        first: a manifest's file, or its stage's directory.
        second: another, made from the same pools.

    Raises:
        UserError: when one is no manifest, or they choose from other images.
    """
    paths = [path / MANIFEST_FILE if path.is_dir() else path for path in (first, second)]
    metadata = [read_metadata(path) for path in paths]
    facts = metadata[0].facts, metadata[1].facts
    if metadata[0].pools != metadata[1].pools or facts[0].images != facts[1].images:
        raise UserError(f"{paths[0]} and {paths[1]} choose from other images: {_source(metadata)}")
    images = facts[0].images
    in_first, in_second = (_ids(path, metadata[0].pools) for path in paths)
    sizes = len(in_first), len(in_second)
    both = len(np.intersect1d(in_first, in_second, assume_unique=True))
    return Overlap(
        images=images,
        kept_images=sizes,
        kept=agreement(*sizes, both, images),
        dropped=agreement(images - sizes[0], images - sizes[1], images - sum(sizes) + both, images),
        facts=facts,
    )


def compare_manifests(first: Path, second: Path) -> str:
    """Return what ``overlap_of`` finds, as text. Raises UserError as it does."""
    found = overlap_of(first, second)
    named = zip("AB", (first, second), found.kept_images, strict=True)
    return "\n".join(
        [
            *(f"{name}  {path}: {kept:,} of {found.images:,} images kept" for name, path, kept in named),
            *_agreement_lines(found.kept, found.dropped),
            *_class_lines(list(found.facts)),
        ]
    )


def _source(metadata: list[Metadata]) -> str:
    return " and ".join(f"{found.facts.images} of {', '.join(found.pools)}" for found in metadata)


def _ids(path: Path, pools: Mapping[str, str]) -> npt.NDArray[np.int64]:
    """One number for each distinct image kept: the row, and the pool in the upper bits."""
    rows, names = read_rows(path, pools)
    numbers = np.array([sorted(pools).index(name) for name in names], dtype=np.int64)
    return np.unique((numbers[rows.pool] << 48) + rows.index)


def _agreement_lines(kept: Agreement, dropped: Agreement) -> list[str]:
    lines = [f"{'':38}{'kept':>8}{'dropped':>10}"]
    for name, text in [
        ("same_decision", "same decision, of all images"),
        ("of_first", "in both, of those in A"),
        ("jaccard", "in both, of those in either (Jaccard)"),
        ("of_all", "in both, of all images"),
    ]:
        lines.append(f"{text:38}{getattr(kept, name):8.4f}{getattr(dropped, name):10.4f}")
    return lines


def _class_lines(facts: list[Facts]) -> list[str]:
    lines = [f"{'class':>6}{'kept in A':>12}{'in B':>12}{'share of A':>12}{'of B':>10}{'shift':>10}"]
    for label in facts[0].kept_by_class:
        counts = [found.kept_by_class.get(label, 0) for found in facts]
        shares = [count / max(found.kept, 1) for count, found in zip(counts, facts, strict=True)]
        lines.append(
            f"{label:>6}{counts[0]:12,}{counts[1]:12,}{shares[0]:12.4f}{shares[1]:10.4f}{shares[1] - shares[0]:+10.4f}"
        )
    return lines
