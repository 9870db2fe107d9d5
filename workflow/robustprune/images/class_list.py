"""Stage ``classes``: groups a hierarchy of many small classes into few large ones (PUMA, Appendix C)."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from robustprune.core.digests import cached_digest, file_digest, file_state, hash_lines
from robustprune.core.errors import UserError
from robustprune.core.files import digest, write_text
from robustprune.core.job import Job
from robustprune.core.stage import Stage
from robustprune.images.classes.grouping import (
    Hierarchy,
    SynsetClass,
    SynsetGrouping,
    TooFewClasses,
    group_synsets,
    read_hierarchy,
)
from robustprune.images.classes.listing import folder_fingerprint, list_images, require_folder, shuffled, synset_entries
from robustprune.images.classes.specs import HierarchyFile, SynsetFolder
from robustprune.images.settings import HierarchySettings

if TYPE_CHECKING:
    from robustprune.images.classes.files import ClassImages


logger = logging.getLogger(__name__)

COUNTS_FILE = "counts.json"

NAMES_FILE = "words.txt"  # next to the hierarchy's file: a synset's id, a tab, its name


DEFINITION = {"classes.files": 1, "classes.grouping": 1, "classes.hierarchy": 1, "classes.listing": 1}

HIERARCHY_NAME = "wordnet.is_a.txt"
HINT = (
    "a folder or .tar archive for each synset, such as n02084071.tar, and wordnet.is_a.txt are at https://image-net.org"
)


class ClassListStage(Stage):
    """Classes of similar size, and which images are whose."""

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
        """Count the images of each synset, group the synsets into classes, and list the images of each class.

        Returns:
            The facts for the record: numbers of classes, images and synsets, and of the images left out.

        Raises:
            UserError: if the folder or the hierarchy changed after planning or is not readable, there are too few
            classes
                of similar size, or a class has too few images.
            Interrupted: after a signal, with the counts saved.
        """
        from robustprune.images.classes.files import (
            CLASSES_FILE,
            LISTING_FILE,
            SYNSETS_FILE,
            write_classes,
            write_listing,
            write_synsets,
        )

        folder, file = Path(self.source.location), Path(self.hierarchy.location)
        if not file.is_file() or digest(file) != self.hierarchy.digest:
            raise UserError(f"{file} is missing or changed since the plan was made; restore it or plan again")
        require_folder(folder, self.source.digest)
        hierarchy, entries = read_hierarchy(file), synset_entries(folder)
        images = _count(job, entries)
        grouping = _group(self, hierarchy, images)
        write_classes(
            job.partial / CLASSES_FILE, grouping.classes, self.test_images, _names(file.with_name(NAMES_FILE))
        )
        write_synsets(job.partial / SYNSETS_FILE, grouping.classes, images)
        write_listing(job.partial / LISTING_FILE, _class_images(job, self, grouping.classes, entries))
        job.publish(CLASSES_FILE, SYNSETS_FILE, LISTING_FILE)
        return _facts(grouping, hierarchy, images)


def _count(job: Job, entries: Mapping[str, Path]) -> dict[str, int]:
    """Return the number of images of each synset, reusing the counts of an earlier attempt."""
    path = job.partial / COUNTS_FILE
    counts: dict[str, int] = json.loads(path.read_text()) if path.is_file() else {}
    progress = job.progress("counting images", total=len(entries), unit="synsets", done=len(counts))
    with progress, job.checkpoints:
        for synset in [synset for synset in entries if synset not in counts]:
            counts[synset] = len(list_images(synset, entries[synset]))
            progress.advance(1)
            job.checkpoints.tick(lambda: write_text(path, json.dumps(counts)))
    return counts


def _group(spec: ClassListStage, hierarchy: Hierarchy, images: Mapping[str, int]) -> SynsetGrouping:
    try:
        grouping = group_synsets(hierarchy, images, classes=spec.classes, ratio=spec.ratio)
    except TooFewClasses as error:
        raise UserError(
            f"data.classes = {spec.classes}, but {spec.source.location} has at most {error.most} classes whose sizes "
            f"differ by at most data.hierarchy.ratio = {spec.ratio:g}; lower data.classes or raise data.hierarchy.ratio"
        ) from None
    smallest = min(grouping.classes, key=lambda one: one.images)
    if smallest.images <= spec.test_images:
        raise UserError(
            f"data.hierarchy.test_images = {spec.test_images}, but the class {smallest.synset} has {smallest.images} "
            "images; lower data.hierarchy.test_images or data.classes"
        )
    if grouping.unknown:
        logger.warning("%d images are left out: their synsets are not in the hierarchy", grouping.unknown)
    return grouping


def _class_images(
    job: Job, spec: ClassListStage, classes: tuple[SynsetClass, ...], entries: Mapping[str, Path]
) -> Iterator[ClassImages]:
    from robustprune.images.classes.files import ClassImages

    with job.progress("listing images", total=len(classes), unit="classes") as progress:
        for one in classes:
            images = [image for member in one.members for image in list_images(member, entries[member])]
            yield ClassImages(shuffled(images, seed=spec.seed), spec.test_images)
            progress.advance(1)


def _names(path: Path) -> dict[str, str]:
    """Return the names of synsets; empty if there is no file."""
    if not path.is_file():
        return {}
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return dict(line.split("\t", 1) for line in lines if "\t" in line)


def _facts(grouping: SynsetGrouping, hierarchy: Hierarchy, images: Mapping[str, int]) -> dict[str, Any]:
    sizes = [one.images for one in grouping.classes]
    return {
        "classes": len(sizes),
        "images": sum(sizes),
        "largest": max(sizes),
        "smallest": min(sizes),
        "ratio": round(max(sizes) / min(sizes), 3),
        "images_left_out": {
            "of_divided_synsets": grouping.of_divided,
            "too_large_to_fit": grouping.too_large,
            "too_small": grouping.too_small,
            "not_in_the_hierarchy": grouping.unknown,
        },
        "synsets": len(images),
        "synsets_without_images": sum(count == 0 for count in images.values()),
        "synsets_divided": grouping.divided,
        "synsets_with_several_parents": hierarchy.several_parents,
    }


def synset_folder(location: str, *, setting: str) -> SynsetFolder:
    """Return a folder of synsets, fingerprinted by the names and sizes of its files. Raises UserError if invalid."""
    folder = Path(location)
    try:
        entries = synset_entries(folder)
    except UserError as error:
        raise UserError(f"{setting}: {error}; {HINT}") from None
    states = hash_lines(f"{path.absolute()}|{file_state(path)}" for path in entries.values())
    fingerprint = cached_digest(f"{folder.absolute()}|{states}", lambda: folder_fingerprint(entries))
    return SynsetFolder(digest=fingerprint, location=str(folder.absolute()))


def hierarchy_file(location: str, settings: HierarchySettings) -> HierarchyFile:
    """Return ``data.hierarchy.file``, or the file in the folder ``location``. Raises UserError if it is missing."""
    path = Path(settings.file) if settings.file is not None else Path(location, HIERARCHY_NAME)
    if not path.is_file():
        raise UserError(f"data.hierarchy.file: there is no file {path}; {HINT}")
    return HierarchyFile(digest=file_digest(path), location=str(path.absolute()))
