"""Classes of similar size from a hierarchy: the most populous is divided until there are enough (PUMA, Appendix C)."""

from bisect import bisect_right, insort
from collections.abc import Mapping
from dataclasses import dataclass

from robustprune.classes.hierarchy import Hierarchy

DEFINITION = 1


@dataclass(frozen=True)
class SynsetClass:
    """A class: a synset and all below it.

    Attributes:
        synset: its id.
        members: ids of the synsets with images that belong to it, ascending; ``synset`` among them if it has some.
        images: how many it has in all.
    """

    synset: str
    members: tuple[str, ...]
    images: int


@dataclass(frozen=True)
class Grouping:
    """What a hierarchy was divided into.

    Attributes:
        classes: as many as were asked for, by synset, ascending: a class's place is its label.
        divided: number of synsets that were divided into those below them.
        of_divided: images of divided synsets themselves, which belong to none of their subcategories.
        too_large: images of classes that cannot be divided and are too large beside the others.
        too_small: images of classes smaller than the smallest that is kept.
        unknown: images of synsets that are not in the hierarchy.
    """

    classes: tuple[SynsetClass, ...]
    divided: int
    of_divided: int
    too_large: int
    too_small: int
    unknown: int


class TooFewClasses(ValueError):
    """The hierarchy cannot be divided into so many classes of similar size; ``most`` says into how many it can."""

    def __init__(self, most: int) -> None:
        super().__init__(f"at most {most} classes")
        self.most = most


def group_synsets(hierarchy: Hierarchy, images: Mapping[str, int], *, classes: int, ratio: float) -> Grouping:
    """Divide a hierarchy into ``classes`` classes of similar size.

    It begins with the top synsets. The class with the most images is replaced by its subcategories, again and again,
    until the largest ``classes`` have at most ``ratio`` times as many images as the smallest of them; smaller ones are
    removed. A class without subcategories cannot be divided; it is removed when it is too large beside the next
    ``classes``. Of equals, the one with the lower id comes first.

    Args:
        hierarchy: the synsets.
        images: number of images of each synset itself.
        classes: how many classes there should be.
        ratio: how many times the smallest class the largest can have.

    Raises:
        TooFewClasses: when nothing is left to divide.
    """
    totals = hierarchy.totals(images)
    candidates = sorted((-totals[top], top) for top in hierarchy.tops if totals[top])
    divided, of_divided, most = 0, 0, 0
    while True:
        indivisible = _leading(candidates, hierarchy, totals)
        most = max(most, *(_alike(candidates, start, ratio) for start in range(indivisible + 1)))
        start = next((k for k in range(indivisible + 1) if _alike(candidates, k, ratio) >= classes), None)
        if start is not None:
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
        classes=tuple(_class(synset, hierarchy, images, totals) for synset in chosen),
        divided=divided,
        of_divided=of_divided,
        too_large=-sum(size for size, _ in candidates[:start]),
        too_small=-sum(size for size, _ in candidates[start + classes :]),
        unknown=sum(count for synset, count in images.items() if synset not in hierarchy),
    )


def _leading(candidates: list[tuple[int, str]], hierarchy: Hierarchy, totals: Mapping[str, int]) -> int:
    """How many candidates stand, from the largest on, before the first that can be divided."""
    for place, (_, synset) in enumerate(candidates):
        if any(totals[child] for child in hierarchy.children[synset]):
            return place
    return len(candidates)


def _alike(candidates: list[tuple[int, str]], start: int, ratio: float) -> int:
    """How many candidates from ``start`` on are at most ``ratio`` times as small as the one at ``start``."""
    if start >= len(candidates):
        return 0
    sizes = [size * ratio for size, _ in candidates]
    return bisect_right(sizes, float(candidates[start][0])) - start


def _class(synset: str, hierarchy: Hierarchy, images: Mapping[str, int], totals: Mapping[str, int]) -> SynsetClass:
    members = tuple(member for member in hierarchy.below(synset) if images.get(member))
    return SynsetClass(synset, members, totals[synset])
