"""A hierarchy of synsets as WordNet's list of ``parent child`` pairs gives it, brought into the form of a tree."""

import re
from collections.abc import Iterable, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from robustprune.errors import UserError

DEFINITION = 1

LINE = re.compile(r"(\S+)\s+(\S+)")


class Hierarchy:
    """Synsets, each under at most one parent.

    In WordNet a synset can have several parents. Here it is under the one whose id is lowest and nowhere else, so
    that every image is counted once, whatever the order of the pairs.

    Args:
        pairs: (parent, child), also several times and in any order.

    Raises:
        ValueError: when a synset is above itself; the message names the ring.
    """

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        self.parent: dict[str, str] = {}
        above: dict[str, set[str]] = {}
        for parent, child in pairs:
            above.setdefault(parent, set())
            above.setdefault(child, set()).add(parent)
        try:
            self._parents_first = tuple(TopologicalSorter(above).static_order())
        except CycleError as error:
            raise ValueError(" -> ".join(error.args[1])) from None
        self.parent = {child: min(parents) for child, parents in above.items() if parents}
        self.several_parents = sum(len(parents) > 1 for parents in above.values())
        children: dict[str, list[str]] = {synset: [] for synset in above}
        for child in sorted(self.parent):
            children[self.parent[child]].append(child)
        self.children: Mapping[str, tuple[str, ...]] = {synset: tuple(below) for synset, below in children.items()}

    def __contains__(self, synset: str) -> bool:
        return synset in self.children

    @property
    def tops(self) -> tuple[str, ...]:
        """The synsets without a parent, ascending."""
        return tuple(sorted(synset for synset in self.children if synset not in self.parent))

    def totals(self, images: Mapping[str, int]) -> dict[str, int]:
        """For each synset the images of its own and of all synsets below it; those not in ``images`` have none."""
        totals = {synset: images.get(synset, 0) for synset in self.children}
        for synset in reversed(self._parents_first):
            if synset in self.parent:
                totals[self.parent[synset]] += totals[synset]
        return totals

    def below(self, top: str) -> list[str]:
        """``top`` and all synsets below it, ascending."""
        found, ahead = [], [top]
        while ahead:
            synset = ahead.pop()
            found.append(synset)
            ahead.extend(self.children[synset])
        return sorted(found)


def read_hierarchy(path: Path) -> Hierarchy:
    """The hierarchy in a text file with a pair ``parent child`` a line, such as ImageNet's ``wordnet.is_a.txt``.

    Raises:
        UserError: naming the file and the line that is no pair, or the synsets that are above themselves.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not a readable text file: {error}") from None
    pairs = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        match = LINE.fullmatch(line.strip())
        if match is None:
            raise UserError(f"{path}: line {number} is {line[:60]!r}, but should be two ids, 'parent child'")
        pairs.append((match[1], match[2]))
    if not pairs:
        raise UserError(f"{path} holds no pair 'parent child'")
    try:
        return Hierarchy(pairs)
    except ValueError as error:
        raise UserError(f"{path}: these synsets are above themselves: {error}") from None
