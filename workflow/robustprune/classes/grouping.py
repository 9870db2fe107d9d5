"""Classes of similar size from a hierarchy, by dividing the largest class repeatedly (PUMA, Appendix C)."""

from bisect import bisect_right, insort
from collections.abc import Mapping
from dataclasses import dataclass

from robustprune.classes.hierarchy import Hierarchy

DEFINITION = 1


@dataclass(frozen=True)
class SynsetClass:
    """A class: a synset and its descendants.

    Attributes:
        synset: its id.
        members: sorted ids of the class's synsets that have images, including ``synset`` if it has some.
        images: number of images in the class.
    """

    synset: str
    members: tuple[str, ...]
    images: int


@dataclass(frozen=True)
class Grouping:
    """The classes of a hierarchy, and the numbers of images left out.

    Attributes:
        classes: sorted by synset; the index of a class is its label.
        divided: number of synsets that were replaced by their children.
        of_divided: images of divided synsets that belong to none of their children.
        too_large: images of classes that are too large but have no children.
        too_small: images of classes that are too small.
        unknown: images of synsets that are not in the hierarchy.
    """

    classes: tuple[SynsetClass, ...]
    divided: int
    of_divided: int
    too_large: int
    too_small: int
    unknown: int


class TooFewClasses(ValueError):
    """The hierarchy has at most ``most`` classes of similar size."""

    def __init__(self, most: int) -> None:
        super().__init__(f"at most {most} classes")
        self.most = most


def group_synsets(hierarchy: Hierarchy, images: Mapping[str, int], *, classes: int, ratio: float) -> Grouping:
    """Divide a hierarchy into ``classes`` classes of similar size.

    The candidates are the top synsets at first. The largest candidate is replaced by its children until the largest
    ``classes`` candidates differ in size by at most a factor of ``ratio``; smaller candidates are left out. A candidate
    without children cannot be divided; it is left out if it is too large relative to the next ones. Ties are broken by
    the lower id.

    Args:
        hierarchy: the synsets.
        images: number of images of each synset, without its descendants.
        classes: number of classes.
        ratio: maximum ratio of the sizes of the largest and the smallest class.

    Raises:
        TooFewClasses: if no candidate can be divided any more.
    """
    totals = hierarchy.totals(images)
    candidates = sorted((-totals[top], top) for top in hierarchy.tops if totals[top])
    divided, of_divided, most = 0, 0, 0
    while True:
        indivisible = _count_indivisible(candidates, hierarchy, totals)
        similar = [_count_similar(candidates, start, ratio) for start in range(indivisible + 1)]
        most = max(most, *similar)
        if most >= classes:
            start = next(start for start, count in enumerate(similar) if count >= classes)
            break
        if indivisible == len(candidates):
            raise TooFewClasses(most)
        _, synset = candidates.pop(indivisible)
        divided, of_divided = divided + 1, of_divided + images.get(synset, 0)
        for child in hierarchy.children[synset]:
            if totals[child]:
                insort(candidates, (-totals[child], child))
    chosen = sorted(synset for _, synset in candidates[start : start + classes])
    return Grouping(
        classes=tuple(SynsetClass(synset, _members(synset, hierarchy, images), totals[synset]) for synset in chosen),
        divided=divided,
        of_divided=of_divided,
        too_large=-sum(size for size, _ in candidates[:start]),
        too_small=-sum(size for size, _ in candidates[start + classes :]),
        unknown=sum(count for synset, count in images.items() if synset not in hierarchy),
    )


def _count_indivisible(candidates: list[tuple[int, str]], hierarchy: Hierarchy, totals: Mapping[str, int]) -> int:
    """Return the number of candidates before the first, by descending size, that can be divided."""
    for index, (_, synset) in enumerate(candidates):
        if any(totals[child] for child in hierarchy.children[synset]):
            return index
    return len(candidates)


def _count_similar(candidates: list[tuple[int, str]], start: int, ratio: float) -> int:
    """Return the number of candidates from ``start`` on that are at most ``ratio`` times smaller than the first."""
    if start >= len(candidates):
        return 0
    sizes = [size * ratio for size, _ in candidates]
    return bisect_right(sizes, float(candidates[start][0])) - start


def _members(synset: str, hierarchy: Hierarchy, images: Mapping[str, int]) -> tuple[str, ...]:
    return tuple(member for member in hierarchy.below(synset) if images.get(member))
