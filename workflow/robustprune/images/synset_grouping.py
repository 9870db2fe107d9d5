"""Classes of similar size from a hierarchy, by dividing the largest class repeatedly (PUMA, Appendix C)."""

from bisect import bisect_right, insort
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from robustprune.core.errors import UserError


class Hierarchy:
    """Tree of synsets, from (parent, child) pairs in any order, with duplicates.

    In WordNet a synset can have several parents. Here it has only the parent with the lowest id, so that every image is
    counted once, regardless of the order of the pairs.

    Attributes:
        parent: parent of each synset that has one.
        children: sorted children of each synset.
        tops: sorted synsets without a parent.
        several_parents: number of synsets with several parents in the pairs.

    Raises:
        ValueError: if there is a cycle, with its synsets.
    """

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        parents: dict[str, set[str]] = {}
        for parent, child in pairs:
            parents.setdefault(parent, set())
            parents.setdefault(child, set()).add(parent)
        try:
            self._parents_first = tuple(TopologicalSorter(parents).static_order())
        except CycleError as error:
            raise ValueError(" -> ".join(error.args[1])) from None
        self.parent = {child: min(several) for child, several in parents.items() if several}
        self.tops = tuple(sorted(parents.keys() - self.parent.keys()))
        self.several_parents = sum(len(several) > 1 for several in parents.values())
        children: dict[str, list[str]] = {synset: [] for synset in parents}
        for child in sorted(self.parent):
            children[self.parent[child]].append(child)
        self.children = {synset: tuple(below) for synset, below in children.items()}

    def totals(self, images: Mapping[str, int]) -> dict[str, int]:
        """Return the number of images of each synset with its descendants; ``images`` counts them without."""
        totals = {synset: images.get(synset, 0) for synset in self.children}
        for synset in reversed(self._parents_first):
            if synset in self.parent:
                totals[self.parent[synset]] += totals[synset]
        return totals

    def below(self, top: str) -> list[str]:
        """Return ``top`` and its descendants, sorted."""
        synsets = [top]
        for synset in synsets:  # grows while it is iterated
            synsets.extend(self.children[synset])
        return sorted(synsets)


def read_hierarchy(path: Path) -> Hierarchy:
    """Read a text file with a pair ``parent child`` per line, such as ImageNet's ``wordnet.is_a.txt``.

    Raises:
        UserError: if the file is not readable, a line is not a pair, or the pairs contain a cycle.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not a readable text file: {error}") from None
    pairs = []
    for number, line in enumerate(lines, start=1):
        words = line.split()
        if len(words) == 2:
            pairs.append((words[0], words[1]))
        elif words:
            raise UserError(f"{path}: line {number} is {line[:60]!r}, but should be two ids, 'parent child'")
    if not pairs:
        raise UserError(f"{path} contains no pair of ids, 'parent child'")
    try:
        return Hierarchy(pairs)
    except ValueError as error:
        raise UserError(f"{path}: the pairs contain a cycle: {error}") from None


@dataclass(frozen=True)
class SynsetClass:
    """A class: a synset and its descendants."""

    synset: str
    members: tuple[str, ...]  # sorted ids of its synsets that have images
    images: int


@dataclass(frozen=True)
class SynsetGrouping:
    """The classes of a hierarchy, and the numbers of images left out."""

    classes: tuple[SynsetClass, ...]  # sorted by synset; the index of a class is its label
    divided: int  # synsets that were replaced by their children
    of_divided: int  # images of divided synsets that belong to none of their children
    too_large: int  # images of classes that are too large but have no children
    too_small: int  # images of classes that are too small
    unknown: int  # images of synsets that are not in the hierarchy


class TooFewClasses(ValueError):
    """The hierarchy has at most ``most`` classes of similar size."""

    def __init__(self, most: int) -> None:
        super().__init__(f"at most {most} classes")
        self.most = most


def group_synsets(hierarchy: Hierarchy, images: Mapping[str, int], *, classes: int, ratio: float) -> SynsetGrouping:
    """Divide a hierarchy into ``classes`` classes of similar size.

    The candidates are the top synsets at first. The largest candidate is replaced by its children until the largest
    ``classes`` candidates differ in size by at most a factor of ``ratio``; smaller candidates are left out. A candidate
    without children cannot be divided; it is left out if it is too large relative to the next ones. Ties are broken by
    the lower id. ``images`` is the number of images of each synset without its descendants.

    Raises:
        TooFewClasses: if no candidate can be divided any more.
    """
    totals = hierarchy.totals(images)
    candidates = sorted((-totals[top], top) for top in hierarchy.tops if totals[top])
    divided, of_divided, most = 0, 0, 0
    while True:
        indivisible = _count_indivisible(candidates, hierarchy, totals)
        similar = [  # how many are at most ``ratio`` times smaller than the first of them
            bisect_right(candidates, float(size), key=lambda one: one[0] * ratio) - start
            for start, (size, _) in enumerate(candidates[: indivisible + 1])
        ]
        most = max([most, *similar])
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
    members = {synset: tuple(filter(images.get, hierarchy.below(synset))) for synset in chosen}
    return SynsetGrouping(
        classes=tuple(SynsetClass(synset, members[synset], totals[synset]) for synset in chosen),
        divided=divided,
        of_divided=of_divided,
        too_large=-sum(size for size, _ in candidates[:start]),
        too_small=-sum(size for size, _ in candidates[start + classes :]),
        unknown=sum(count for synset, count in images.items() if synset not in totals),
    )


def _count_indivisible(candidates: list[tuple[int, str]], hierarchy: Hierarchy, totals: Mapping[str, int]) -> int:
    """Return the number of candidates before the first, by descending size, that can be divided."""
    for index, (_, synset) in enumerate(candidates):
        if any(totals[child] for child in hierarchy.children[synset]):
            return index
    return len(candidates)
