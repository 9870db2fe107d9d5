"""Classes from a hierarchy: known answers, an independent division by sets, and archives that are not what they say."""

import io
import os
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustprune.classes.grouping import Grouping, TooFewClasses, group_synsets
from robustprune.classes.hierarchy import Hierarchy, read_hierarchy
from robustprune.classes.listing import list_images, listing_digest, shuffled, synset_entries
from robustprune.errors import UserError

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
    ("entity", "animal"),
    ("entity", "artifact"),
    ("entity", "person"),
    ("animal", "cat"),
    ("animal", "dog"),
    ("dog", "hound"),
    ("pet", "hound"),
    ("dog", "poodle"),
    ("artifact", "chair"),
    ("artifact", "pet"),
    ("artifact", "spoon"),
    ("artifact", "chair"),
]
IMAGES = {
    "animal": 2,
    "cat": 10,
    "dog": 3,
    "hound": 40,
    "poodle": 20,
    "chair": 30,
    "pet": 25,
    "spoon": 1,
    "person": 400,
    "alien": 7,
}


def sizes(grouping: Grouping) -> dict[str, int]:
    return {one.synset: one.images for one in grouping.classes}


def test_a_synset_with_two_parents_is_counted_once() -> None:
    tree = Hierarchy(PAIRS)
    totals = tree.totals(IMAGES)
    assert tree.several_parents == 1
    assert (totals["dog"], totals["pet"]) == (63, 25)  # hound is under dog, whose name comes first
    assert totals["entity"] == sum(IMAGES.values()) - IMAGES["alien"]
    assert tree.tops == ("entity",)


def test_two_classes_are_the_superclasses_of_similar_size() -> None:
    """75 animals and 56 artifacts; 400 persons cannot be divided and are more than five times as many as either."""
    grouping = group_synsets(Hierarchy(PAIRS), IMAGES, classes=2, ratio=5)
    assert sizes(grouping) == {"animal": 75, "artifact": 56}
    assert grouping.classes[0].members == ("animal", "cat", "dog", "hound", "poodle")
    assert (grouping.too_large, grouping.too_small, grouping.of_divided, grouping.unknown) == (400, 0, 0, 7)


def test_persons_stay_where_they_may_be_so_many_more() -> None:
    grouping = group_synsets(Hierarchy(PAIRS), IMAGES, classes=3, ratio=400 / 56)
    assert sizes(grouping) == {"animal": 75, "artifact": 56, "person": 400}


def test_more_classes_divide_the_most_populous() -> None:
    """Animals (75) become dogs (63) and cats (10), too few beside them; dogs become hounds and poodles."""
    grouping = group_synsets(Hierarchy(PAIRS), IMAGES, classes=3, ratio=5)
    assert sizes(grouping) == {"artifact": 56, "hound": 40, "poodle": 20}
    assert (grouping.of_divided, grouping.too_small, grouping.divided) == (2 + 3, 10, 3)
    grouping = group_synsets(Hierarchy(PAIRS), IMAGES, classes=5, ratio=5)
    assert sizes(grouping) == {"cat": 10, "chair": 30, "hound": 40, "pet": 25, "poodle": 20}
    assert (grouping.of_divided, grouping.too_small, grouping.divided) == (2 + 3, 1, 4)


def test_too_many_classes_are_refused_with_the_most_there_can_be() -> None:
    with pytest.raises(TooFewClasses) as caught:
        group_synsets(Hierarchy(PAIRS), IMAGES, classes=6, ratio=5)
    assert caught.value.most == 5
    with pytest.raises(TooFewClasses) as caught:
        group_synsets(Hierarchy(PAIRS), {"alien": 7}, classes=4, ratio=5)
    assert caught.value.most == 0


@pytest.mark.parametrize("order", range(3))
def test_the_order_of_the_pairs_changes_nothing(order: int) -> None:
    shuffled = [PAIRS[place] for place in np.random.default_rng(order).permutation(len(PAIRS))]
    assert group_synsets(Hierarchy(shuffled), IMAGES, classes=5, ratio=5) == group_synsets(
        Hierarchy(PAIRS), IMAGES, classes=5, ratio=5
    )


def divided_by_sets(
    pairs: list[tuple[str, str]], images: Mapping[str, int], classes: int, ratio: int
) -> dict[str, set[str]] | None:
    """The same division from its description alone: every synset's images as a set, sizes counted anew each time."""
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
def test_the_division_is_that_of_its_description(data: st.DataObject) -> None:
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
    ("text", "problem"),
    [
        ("n01 n02\nn01\n", r"line 2 is 'n01', but should be two ids, 'parent child'"),
        ("n01 n02 n03\n", "line 1 is 'n01 n02 n03'"),
        ("\n", "holds no pair"),
        ("n01 n02\nn02 n03\nn03 n01\n", "above themselves: n0. -> n0. -> n0. -> n0."),
        ("n01 n01\n", "above themselves: n01 -> n01"),
    ],
)
def test_a_broken_hierarchy_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "wordnet.is_a.txt"
    path.write_text(text)
    with pytest.raises(UserError, match=problem):
        read_hierarchy(path)


def test_a_hierarchy_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "wordnet.is_a.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="not a readable text file"):
        read_hierarchy(tmp_path / "wordnet.is_a.txt")
    with pytest.raises(UserError, match="No such file"):
        read_hierarchy(tmp_path / "absent.txt")


# ---- the folder of synsets


def write_archive(path: Path, members: Mapping[str, bytes]) -> None:
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def test_folders_and_archives_of_synsets_are_listed(tmp_path: Path) -> None:
    folder = tmp_path / "n02"
    folder.mkdir()
    for name in ("b.JPEG", "a.jpg", "notes.txt"):
        (folder / name).write_bytes(name.encode())
    write_archive(tmp_path / "n01.tar", {"y.JPEG": b"yyy", "../../x.JPEG": b"xx", "readme": b"r"})
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


def test_a_listing_is_known_by_names_and_sizes(tmp_path: Path) -> None:
    write_archive(tmp_path / "n01.tar", {"a.JPEG": b"1", "b.JPEG": b"22"})
    first = listing_digest(list_images("n01", tmp_path / "n01.tar"))
    write_archive(tmp_path / "n01.tar", {"b.JPEG": b"33", "a.JPEG": b"4"})
    assert listing_digest(list_images("n01", tmp_path / "n01.tar")) == first
    write_archive(tmp_path / "n01.tar", {"a.JPEG": b"12", "b.JPEG": b"2"})
    assert listing_digest(list_images("n01", tmp_path / "n01.tar")) != first


def test_broken_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no folder"):
        synset_entries(tmp_path / "absent")
    with pytest.raises(UserError, match=r"neither a folder nor a \.tar archive"):
        synset_entries(tmp_path)
    write_archive(tmp_path / "n01.tar", {"a.JPEG": b"1" * 3000, "a.JPEG/": b""})
    (tmp_path / "n01").mkdir()
    with pytest.raises(UserError, match=r"has both n01 and n01\.tar"):
        synset_entries(tmp_path)


def test_broken_archives_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "n01.tar"
    write_archive(path, {"a.JPEG": b"1" * 3000})
    whole = path.read_bytes()
    for damage in (whole[:2000], whole[:-10240], whole[: 7 * 512], b"<html>not found</html>" * 40):
        path.write_bytes(damage)
        with pytest.raises(UserError, match=r"n01\.tar is not a whole tar file: .*"):
            list_images("n01", path)
    path.write_bytes(whole + whole)
    with pytest.raises(UserError, match=r"n01\.tar has more after the end of its tar file"):
        list_images("n01", path)
    with tarfile.open(path, "w") as archive:
        link = tarfile.TarInfo("a.JPEG")
        link.type, link.linkname = tarfile.LNKTYPE, "b.JPEG"
        archive.addfile(link)
    with pytest.raises(UserError, match=r"n01\.tar: the member 'a\.JPEG' should be a picture, but is no plain file"):
        list_images("n01", path)
    with tarfile.open(path, "w") as archive:
        for _ in range(2):
            archive.addfile(tarfile.TarInfo("a.JPEG"), io.BytesIO())
    with pytest.raises(UserError, match=r"holds a\.JPEG twice"):
        list_images("n01", path)


def test_an_archive_that_leads_back_to_its_beginning_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "n01.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        member = tarfile.TarInfo("a.JPEG")
        member.pax_headers = {"size": "-1536"}
        archive.addfile(member)
    with pytest.raises(UserError, match=r"n01\.tar: the member 'a\.JPEG' is not of the size that its header states"):
        list_images("n01", tmp_path / "n01.tar")


def test_what_is_no_picture_of_a_synset_is_refused(tmp_path: Path) -> None:
    for name in ("fifo", "large", "name", "link"):
        (tmp_path / name).mkdir()
    os.mkfifo(tmp_path / "fifo" / "a.JPEG")
    with pytest.raises(UserError, match=r"fifo/a\.JPEG should be a picture, but is no plain file"):
        list_images("n01", tmp_path / "fifo")
    with (tmp_path / "large" / "a.JPEG").open("wb") as file:
        file.truncate(2**26 + 1)
    with pytest.raises(UserError, match=r"large: a\.JPEG has 67,108,865 bytes; 67,108,864 are allowed"):
        list_images("n01", tmp_path / "large")
    (tmp_path / "name" / os.fsdecode(b"ros\xe9.JPEG")).touch()
    with pytest.raises(UserError, match=r"name has the name b'ros\\xe9\.JPEG', which is not UTF-8; rename it"):
        list_images("n01", tmp_path / "name")
    (tmp_path / "link" / "a.JPEG").symlink_to("gone")
    with pytest.raises(UserError, match=r"link cannot be read: .*No such file"):
        list_images("n01", tmp_path / "link")
    (tmp_path / "synsets").mkdir()
    (tmp_path / "synsets" / os.fsdecode(b"n\xe9.tar")).touch()
    with pytest.raises(UserError, match=r"synsets has the name b'n\\xe9\.tar', which is not UTF-8; rename it"):
        synset_entries(tmp_path / "synsets")
    (tmp_path / "synsets" / os.fsdecode(b"n\xe9.tar")).unlink()
    os.mkfifo(tmp_path / "synsets" / "n01.tar")
    with pytest.raises(UserError, match=r"synsets/n01\.tar should be a folder or a tar file, but is neither"):
        synset_entries(tmp_path / "synsets")


def test_which_images_are_drawn_depends_on_seed_and_name_alone(tmp_path: Path) -> None:
    write_archive(tmp_path / "n01.tar", {f"{number}.JPEG": b"" for number in range(200)})
    images = list_images("n01", tmp_path / "n01.tar")
    drawn = shuffled(images, seed=0)
    assert drawn != images == sorted(drawn, key=images.index)
    assert shuffled(images[::-1], seed=0) == drawn
    fewer = [image for image in images if image.name.startswith("1")]
    assert shuffled(fewer, seed=0) == [image for image in drawn if image in fewer]
    assert shuffled(images, seed=1) != drawn
