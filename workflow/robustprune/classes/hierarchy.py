"""Tree of synsets, from WordNet's list of ``parent child`` pairs."""

from collections.abc import Iterable, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from robustprune.errors import UserError

DEFINITION = 1


class Hierarchy:
    """Tree of synsets.

    In WordNet a synset can have several parents. Here it has only the parent with the lowest id, so that every image is
    counted once, regardless of the order of the pairs.

    Args:
        pairs: (parent, child), in any order; duplicates are allowed.

    Attributes:
        parent: parent of each synset that has one.
        children: sorted children of each synset.
        several_parents: number of synsets with several parents in ``pairs``.

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
        self.several_parents = sum(len(several) > 1 for several in parents.values())
        children: dict[str, list[str]] = {synset: [] for synset in parents}
        for child in sorted(self.parent):
            children[self.parent[child]].append(child)
        self.children: Mapping[str, tuple[str, ...]] = {synset: tuple(below) for synset, below in children.items()}

    def __contains__(self, synset: str) -> bool:
        return synset in self.children

    @property
    def tops(self) -> tuple[str, ...]:
        """The sorted synsets without a parent."""
        return tuple(sorted(synset for synset in self.children if synset not in self.parent))

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
        match line.split():
            case []:
                pass
            case parent, child:
                pairs.append((parent, child))
            case _:
                raise UserError(f"{path}: line {number} is {line[:60]!r}, but should be two ids, 'parent child'")
    if not pairs:
        raise UserError(f"{path} contains no pair of ids, 'parent child'")
    try:
        return Hierarchy(pairs)
    except ValueError as error:
        raise UserError(f"{path}: the pairs contain a cycle: {error}") from None
