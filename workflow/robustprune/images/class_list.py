"""Stage ``classes``: groups a hierarchy of many small classes into few large ones (PUMA, Appendix C)."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from robustprune.core.errors import UserError
from robustprune.core.files import cached_digest, digest, file_digest, file_state, hash_lines, write_text
from robustprune.core.job import Job
from robustprune.core.settings import DIGEST_PATTERN, Settings
from robustprune.core.stage import Stage
from robustprune.images import synset_grouping as grouping
from robustprune.images import synset_listing as listing
from robustprune.images.settings import HierarchySettings
from robustprune.images.synset_listing import SynsetFolder

logger = logging.getLogger(__name__)

DEFINITION = {"classes.files": 1, "classes.grouping": 1, "classes.hierarchy": 1, "classes.listing": 1}

COUNTS_FILE = "counts.json"
NAMES_FILE = "words.txt"  # next to the hierarchy's file: a synset's id, a tab, its name
HIERARCHY_NAME = "wordnet.is_a.txt"
HINT = "folders or .tar archives of synsets, such as n02084071.tar, and wordnet.is_a.txt are at https://image-net.org"


class HierarchyFile(Settings):
    """File of the pairs of a synset and its child."""

    digest: str = Field(pattern=DIGEST_PATTERN)
    location: str


class ClassListStage(Stage):
    """Classes of similar size, and the images of each."""

    sentence = "which classes there are, and which images are theirs"
    rule = "class_list"
    uses_device = False
    kind: Literal["classes"] = "classes"
    dataset: str
    source: SynsetFolder
    hierarchy: HierarchyFile
    classes: int
    ratio: float = Field(ge=1)
    test_images: int = Field(gt=0, description="of each class")
    seed: int = Field(ge=0)

    @property
    def slug(self) -> str:
        return f"{self.dataset}-classes"

    def run(self, job: Job) -> dict[str, Any]:
        """Group the synsets into classes; return numbers of classes, images and synsets, and of images left out.

        Raises:
            UserError: if the folder or the hierarchy changed after planning or is not readable, there are too few
                classes of similar size, or a class has too few images.
            Interrupted: after a signal, with the counts saved.
        """
        from robustprune.images import class_files as files

        folder, file = Path(self.source.location), Path(self.hierarchy.location)
        if not file.is_file() or digest(file) != self.hierarchy.digest:
            raise UserError(f"{file} is missing or changed since the plan was made; restore it or plan again")
        listing.require_folder(folder, self.source.digest)
        hierarchy, entries = grouping.read_hierarchy(file), listing.synset_entries(folder)
        images = _count(job, entries)
        grouped = _group(self, hierarchy, images)
        names = _names(file.with_name(NAMES_FILE))
        files.write_classes(job.partial / files.CLASSES_FILE, grouped.classes, self.test_images, names)
        files.write_synsets(job.partial / files.SYNSETS_FILE, grouped.classes, images)
        listed = _listed(job, self, grouped, entries)
        files.write_listing(job.partial / files.LISTING_FILE, listed, self.test_images)
        job.publish(files.CLASSES_FILE, files.SYNSETS_FILE, files.LISTING_FILE)
        return _facts(grouped, hierarchy, images)


def _count(job: Job, entries: Mapping[str, Path]) -> dict[str, int]:
    """Return the number of images of each synset, reusing the counts of an earlier attempt."""
    path = job.partial / COUNTS_FILE
    counts: dict[str, int] = json.loads(path.read_text()) if path.is_file() else {}
    progress = job.progress("counting images", total=len(entries), unit="synsets", done=len(counts))
    with progress, job.checkpoints:
        for synset in [synset for synset in entries if synset not in counts]:
            counts[synset] = len(listing.list_images(synset, entries[synset]))
            progress.advance(1)
            job.checkpoints.tick(lambda: write_text(path, json.dumps(counts)))
    return counts


def _group(spec: ClassListStage, hierarchy: grouping.Hierarchy, images: Mapping[str, int]) -> grouping.SynsetGrouping:
    try:
        grouped = grouping.group_synsets(hierarchy, images, classes=spec.classes, ratio=spec.ratio)
    except grouping.TooFewClasses as error:
        raise UserError(
            f"data.classes = {spec.classes}, but {spec.source.location} has at most {error.most} classes whose sizes "
            f"differ by at most data.hierarchy.ratio = {spec.ratio:g}; lower data.classes or raise data.hierarchy.ratio"
        ) from None
    smallest = min(grouped.classes, key=lambda one: one.images)
    if smallest.images <= spec.test_images:
        raise UserError(
            f"data.hierarchy.test_images = {spec.test_images}, but the class {smallest.synset} has {smallest.images} "
            "images; lower data.hierarchy.test_images or data.classes"
        )
    if grouped.unknown:
        logger.warning("%d images are left out: their synsets are not in the hierarchy", grouped.unknown)
    return grouped


def _listed(
    job: Job, spec: ClassListStage, grouped: grouping.SynsetGrouping, entries: Mapping[str, Path]
) -> Iterator[list[listing.ListedImage]]:
    """Yield the images of each class in random order."""
    with job.progress("listing images", total=len(grouped.classes), unit="classes") as progress:
        for one in grouped.classes:
            images = [image for member in one.members for image in listing.list_images(member, entries[member])]
            yield listing.shuffled(images, seed=spec.seed)
            progress.advance(1)


def _names(path: Path) -> dict[str, str]:
    """Return the names of synsets; empty if there is no file."""
    if not path.is_file():
        return {}
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return dict(line.split("\t", 1) for line in lines if "\t" in line)


def _facts(
    grouped: grouping.SynsetGrouping, hierarchy: grouping.Hierarchy, images: Mapping[str, int]
) -> dict[str, Any]:
    sizes = [one.images for one in grouped.classes]
    return {
        "classes": len(sizes),
        "images": sum(sizes),
        "largest": max(sizes),
        "smallest": min(sizes),
        "ratio": round(max(sizes) / min(sizes), 3),
        "images_left_out": {
            "of_divided_synsets": grouped.of_divided,
            "too_large_to_fit": grouped.too_large,
            "too_small": grouped.too_small,
            "not_in_the_hierarchy": grouped.unknown,
        },
        "synsets": len(images),
        "synsets_without_images": sum(count == 0 for count in images.values()),
        "synsets_divided": grouped.divided,
        "synsets_with_several_parents": hierarchy.several_parents,
    }


def synset_folder(location: str, *, setting: str) -> SynsetFolder:
    """Return a folder of synsets, with a digest of the names and sizes of its files. Raises UserError if invalid."""
    folder = Path(location)
    try:
        entries = listing.synset_entries(folder)
    except UserError as error:
        raise UserError(f"{setting}: {error}; {HINT}") from None
    states = hash_lines(f"{path.absolute()}|{file_state(path)}" for path in entries.values())
    joint = cached_digest(f"{folder.absolute()}|{states}", lambda: listing.folder_fingerprint(entries))
    return SynsetFolder(digest=joint, location=str(folder.absolute()))


def hierarchy_file(location: str, settings: HierarchySettings) -> HierarchyFile:
    """Return ``data.hierarchy.file``, or the file in the folder ``location``. Raises UserError if it is missing."""
    path = Path(settings.file) if settings.file is not None else Path(location, HIERARCHY_NAME)
    if not path.is_file():
        raise UserError(f"data.hierarchy.file: there is no file {path}; {HINT}")
    return HierarchyFile(digest=file_digest(path), location=str(path.absolute()))
