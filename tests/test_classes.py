"""Classes from a hierarchy: known results, a comparison with an independent implementation, and damaged archives."""

import os
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustprune.core.errors import UserError
from robustprune.images.synset_grouping import Hierarchy, SynsetGrouping, TooFewClasses, group_synsets, read_hierarchy
from robustprune.images.synset_listing import list_images, listing_digest, shuffled, synset_entries
from test_folders import member_of, tar_of, write_large, write_tar

# entity
#   animal            (2)
#     cat             (10)
#     dog             (3)
#       hound         (40), also a pet
#       poodle        (20)
#   artifact
#     chair           (30)
#     pet             (25)
#     spoon           (1)
#   person            (400), no subcategories
PAIRS = [
    *(("entity", child) for child in ("animal", "artifact", "person")),
    *(("animal", "cat"), ("animal", "dog"), ("dog", "hound"), ("pet", "hound"), ("dog", "poodle")),
    *(("artifact", child) for child in ("chair", "pet", "spoon", "chair")),
]
IMAGES = {"animal": 2, "cat": 10, "dog": 3, "hound": 40, "poodle": 20, "chair": 30, "pet": 25, "spoon": 1}
IMAGES |= {"person": 400, "alien": 7}


def divide(classes: int, ratio: float = 5, pairs: list[tuple[str, str]] = PAIRS) -> SynsetGrouping:
    return group_synsets(Hierarchy(pairs), IMAGES, classes=classes, ratio=ratio)


def sizes(grouping: SynsetGrouping) -> dict[str, int]:
    return {one.synset: one.images for one in grouping.classes}


def test_a_synset_with_two_parents_is_counted_once() -> None:
    tree = Hierarchy(PAIRS)
    totals = tree.totals(IMAGES)
    assert tree.several_parents == 1
    assert (totals["dog"], totals["pet"]) == (63, 25)  # hound belongs to dog, which precedes pet
    assert totals["entity"] == sum(IMAGES.values()) - IMAGES["alien"]
    assert tree.tops == ("entity",)


def test_two_classes_are_the_ones_of_similar_size() -> None:
    """400 persons cannot be divided and are more than 5 times as many as 75 animals or 56 artifacts."""
    grouping = divide(2)
    assert sizes(grouping) == {"animal": 75, "artifact": 56}
    assert grouping.classes[0].members == ("animal", "cat", "dog", "hound", "poodle")
    assert (grouping.too_large, grouping.too_small, grouping.of_divided, grouping.unknown) == (400, 0, 0, 7)
    assert sizes(divide(3, 400 / 56)) == {"animal": 75, "artifact": 56, "person": 400}


def test_more_classes_divide_the_largest() -> None:
    """Animals (75) become dogs (63) and cats (10, too few); dogs become hounds and poodles."""
    three, five = divide(3), divide(5)
    assert sizes(three) == {"artifact": 56, "hound": 40, "poodle": 20}
    assert (three.of_divided, three.too_small, three.divided) == (2 + 3, 10, 3)
    assert sizes(five) == {"cat": 10, "chair": 30, "hound": 40, "pet": 25, "poodle": 20}
    assert (five.of_divided, five.too_small, five.divided) == (2 + 3, 1, 4)


@pytest.mark.parametrize(("images", "classes", "most"), [(IMAGES, 6, 5), ({"alien": 7}, 4, 0)])
def test_too_many_classes_are_refused_with_the_maximum(images: dict[str, int], classes: int, most: int) -> None:
    with pytest.raises(TooFewClasses) as caught:
        group_synsets(Hierarchy(PAIRS), images, classes=classes, ratio=5)
    assert caught.value.most == most


@pytest.mark.parametrize("order", range(3))
def test_the_order_of_the_pairs_does_not_matter(order: int) -> None:
    shuffled = [PAIRS[row] for row in np.random.default_rng(order).permutation(len(PAIRS))]
    assert divide(5, pairs=shuffled) == divide(5)


def divided_by_sets(
    pairs: list[tuple[str, str]], images: Mapping[str, int], classes: int, ratio: int
) -> dict[str, set[str]] | None:
    """Divide a hierarchy as the paper describes it, with a set of synsets per class and without stored sizes."""
    names = {name for pair in pairs for name in pair}
    parent = {child: min(p for p, c in pairs if c == child) for child in {c for _, c in pairs}}

    def members(top: str) -> set[str]:
        def is_below(name: str) -> bool:
            return name == top or (name in parent and is_below(parent[name]))

        return {name for name in names if is_below(name) and images.get(name)}

    def size(top: str) -> int:
        return sum(images[name] for name in members(top))

    chosen = {name for name in names if name not in parent and size(name)}
    while True:
        ranked = sorted(chosen, key=lambda name: (-size(name), name))
        can = [any(size(c) for c in names if parent.get(c) == name) for name in ranked]
        for start in range(len(ranked) - classes + 1):
            window = ranked[start : start + classes]
            if not any(can[:start]) and size(window[0]) <= ratio * size(window[-1]):
                return {name: members(name) for name in window}
        if not any(can):
            return None
        top = ranked[can.index(True)]
        chosen = chosen - {top} | {c for c in names if parent.get(c) == top and size(c)}


@settings(max_examples=60)
@given(st.data())
def test_the_division_equals_the_independent_one(data: st.DataObject) -> None:
    count = data.draw(st.integers(4, 14))
    names = data.draw(st.permutations([f"s{number:02}" for number in range(count)]))
    pairs = [
        (names[above], names[below])
        for below in range(1, count)
        for above in data.draw(st.sets(st.integers(0, below - 1), min_size=0 if below < 3 else 1, max_size=2))
    ]
    images = {name: data.draw(st.integers(0, 30)) for name in names}
    classes = data.draw(st.integers(1, 6))
    expected = divided_by_sets(pairs, images, classes, 3)
    if expected is None:
        with pytest.raises(TooFewClasses):
            group_synsets(Hierarchy(pairs), images, classes=classes, ratio=3)
        return
    grouping = group_synsets(Hierarchy(pairs), images, classes=classes, ratio=3)
    assert {one.synset: set(one.members) for one in grouping.classes} == expected
    known = {name for pair in pairs for name in pair}
    counted = sum(one.images for one in grouping.classes) + grouping.of_divided
    assert counted + grouping.too_large + grouping.too_small == sum(images[name] for name in known)


# ---- the file of the hierarchy


def test_a_hierarchy_is_read_from_pairs(tmp_path: Path) -> None:
    path = tmp_path / "wordnet.is_a.txt"
    path.write_text("n01 n02\n\nn01\tn03\n")
    assert read_hierarchy(path).children == {"n01": ("n02", "n03"), "n02": (), "n03": ()}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"n01 n02\nn01\n", "line 2 .*'n01'"),
        (b"n01 n02 n03\n", "line 1 .*'n01 n02 n03'"),
        (b"\n", "no pair"),
        (b"n01 n02\nn02 n03\nn03 n01\n", "cycle: n0. -> n0. -> n0. -> n0."),
        (b"n01 n01\n", "cycle: n01 -> n01"),
        (b"\xff\xfe\x00", "utf-8"),
        (None, "No such file"),
    ],
)
def test_a_broken_hierarchy_is_refused(tmp_path: Path, content: bytes | None, problem: str) -> None:
    path = tmp_path / "wordnet.is_a.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=rf"wordnet\.is_a\.txt.*{problem}"):
        read_hierarchy(path)


# ---- the folder of synsets


def test_folders_and_archives_of_synsets_are_listed(tmp_path: Path) -> None:
    folder = tmp_path / "n02"
    folder.mkdir()
    for name in ("b.JPEG", "a.jpg", "notes.txt"):
        (folder / name).write_bytes(name.encode())
    write_tar(tmp_path / "n01.tar", {"y.JPEG": b"yyy", "../../x.JPEG": b"xx", "readme": b"r"})
    (tmp_path / "wordnet.is_a.txt").write_text("n00 n01\n")
    entries = synset_entries(tmp_path)
    assert list(entries) == ["n01", "n02"]
    archived, plain = (list_images(synset, entry) for synset, entry in entries.items())
    assert [(image.name, image.size) for image in plain] == [("a.jpg", 5), ("b.JPEG", 6)]
    assert [image.name for image in archived] == ["../../x.JPEG", "y.JPEG"]
    content = (tmp_path / "n01.tar").read_bytes()
    assert [content[image.offset : (image.offset or 0) + image.size] for image in archived] == [b"xx", b"yyy"]
    assert plain[0].file(tmp_path) == folder / "a.jpg"
    assert archived[0].file(tmp_path) == tmp_path / "n01.tar"


def test_a_listing_digest_depends_on_names_and_sizes(tmp_path: Path) -> None:
    def digest(contents: dict[str, bytes]) -> str:
        return listing_digest(list_images("n01", write_tar(tmp_path / "n01.tar", contents)))

    first = digest({"a.JPEG": b"1", "b.JPEG": b"22"})
    assert digest({"b.JPEG": b"33", "a.JPEG": b"4"}) == first
    assert digest({"a.JPEG": b"12", "b.JPEG": b"2"}) != first


BROKEN_FOLDERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "absent": (Path.rmdir, "no folder .*synsets"),
    "empty": (lambda folder: None, r"synsets .*\.tar"),
    "both": (lambda folder: write_tar(folder / "n01.tar", {}).with_suffix("").mkdir(), r"synsets .*n01 .*n01\.tar"),
    "not_utf8": (lambda folder: (folder / os.fsdecode(b"n\xe9.tar")).touch(), r"synsets .*b'n\\xe9\.tar'.*UTF-8"),
    "pipe": (lambda folder: os.mkfifo(folder / "n01.tar"), r"synsets/n01\.tar .*neither"),
}


@pytest.mark.parametrize(("damage", "problem"), BROKEN_FOLDERS.values(), ids=BROKEN_FOLDERS)
def test_a_broken_folder_of_synsets_is_refused(damage: Callable[[Path], object], problem: str, tmp_path: Path) -> None:
    folder = tmp_path / "synsets"
    folder.mkdir()
    damage(folder)
    with pytest.raises(UserError, match=problem):
        synset_entries(folder)


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda whole: whole[:2000], ""),
        (lambda whole: whole[:-10240], ""),
        (lambda whole: whole[: 7 * 512], ""),
        (lambda whole: b"<html>not found</html>" * 40, ""),
        (lambda whole: whole + whole, "after the end"),
        (lambda _: tar_of(member_of("a.JPEG", type=tarfile.LNKTYPE, linkname="b.JPEG")), r"'a\.JPEG' .*regular file"),
        (lambda _: tar_of(member_of("a.JPEG"), member_of("a.JPEG")), r"a\.JPEG twice"),
        (lambda _: tar_of(member_of("a.JPEG", pax_headers={"size": "-1536"})), r"'a\.JPEG' .*size"),
    ],
    ids=["in_an_image", "no_end", "between_members", "web_page", "two_archives", "link", "twice", "endless"],
)
def test_a_broken_archive_is_refused(damage: Callable[[bytes], bytes], problem: str, tmp_path: Path) -> None:
    path = write_tar(tmp_path / "n01.tar", {"a.JPEG": b"1" * 3000})
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match=rf"n01\.tar.*{problem}"):
        list_images("n01", path)


@pytest.mark.parametrize(
    ("name", "damage", "problem"),
    [
        ("a.JPEG", os.mkfifo, r"n01/a\.JPEG .*regular file"),
        ("a.JPEG", write_large, r"n01/a\.JPEG .*67,108,865 bytes.*67,108,864"),
        (os.fsdecode(b"ros\xe9.JPEG"), Path.touch, r"n01 .*b'ros\\xe9\.JPEG'.*UTF-8"),
        ("a.JPEG", lambda path: path.symlink_to("gone"), "n01 .*No such file"),
    ],
    ids=["pipe", "large", "not_utf8", "broken_link"],
)
def test_a_file_that_is_no_image_is_refused(
    name: str, damage: Callable[[Path], None], problem: str, tmp_path: Path
) -> None:
    folder = tmp_path / "n01"
    folder.mkdir()
    damage(folder / name)
    with pytest.raises(UserError, match=problem):
        list_images("n01", folder)


def test_the_order_of_images_depends_on_seed_and_name_only(tmp_path: Path) -> None:
    images = list_images("n01", write_tar(tmp_path / "n01.tar", {f"{number}.JPEG": b"" for number in range(200)}))
    drawn = shuffled(images, seed=0)
    assert drawn != images == sorted(drawn, key=images.index)
    assert shuffled(images[::-1], seed=0) == drawn
    fewer = [image for image in images if image.name.startswith("1")]
    assert shuffled(fewer, seed=0) == [image for image in drawn if image in fewer]
    assert shuffled(images, seed=1) != drawn
