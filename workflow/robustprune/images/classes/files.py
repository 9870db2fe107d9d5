"""Files of a class list: its classes, the synsets of each class, and the training and test images."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from robustprune.core.errors import UserError
from robustprune.core.files import replacing
from robustprune.images.classes.grouping import SynsetClass
from robustprune.images.classes.listing import ListedImage

CLASSES_FILE, SYNSETS_FILE, LISTING_FILE = "classes.csv", "synsets.csv", "listing.parquet"
ROW_GROUP = 2**16  # rows of the listing
SCHEMA = pa.schema(
    [
        ("label", pa.int16()),
        ("synset", pa.string()),
        ("name", pa.string()),
        ("size", pa.int64()),
        ("offset", pa.int64()),  # in the synset's archive; null for a separate file
        ("test", pa.bool_()),
    ]
)


class ClassImages(NamedTuple):
    """The images of one class.

    Attributes:
        images: in random order.
        test: number of test images, which come first.
    """

    images: list[ListedImage]
    test: int


def write_classes(path: Path, classes: Sequence[SynsetClass], test_images: int, names: Mapping[str, str]) -> None:
    """Write classes.csv, with the label, synset, name, and numbers of synsets and images of each class."""
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        lines = csv.writer(file)
        lines.writerow(["label", "synset", "name", "synsets", "images", "train", "test"])
        for label, one in enumerate(classes):
            sizes = [len(one.members), one.images, one.images - test_images, test_images]
            lines.writerow([label, one.synset, names.get(one.synset, ""), *sizes])


def read_class_names(directory: Path) -> list[str]:
    """Return the name of each class, or its synset if it has no name. Raises UserError if the file is not readable."""
    path = directory / CLASSES_FILE
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return [line["name"] or line["synset"] for line in csv.DictReader(file)]
    except (OSError, KeyError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not a readable list of classes: {error!r}") from None


def write_synsets(path: Path, classes: Sequence[SynsetClass], images: Mapping[str, int]) -> None:
    """Write synsets.csv, with the id, class label and number of images of each synset in a class."""
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        lines = csv.writer(file)
        lines.writerow(["synset", "label", "images"])
        for label, one in enumerate(classes):
            lines.writerows([member, label, images[member]] for member in one.members)


def write_listing(path: Path, classes: Iterator[ClassImages]) -> None:
    """Write listing.parquet, with one row per image in the order of the pool.

    Each class is spread evenly over the rows, so that the first n images are a stratified sample.
    """
    tables, positions = [], []
    for label, (images, test) in enumerate(classes):
        columns = {
            "label": [label] * len(images),
            "synset": [image.synset for image in images],
            "name": [image.name for image in images],
            "size": [image.size for image in images],
            "offset": [image.offset for image in images],
            "test": [row < test for row in range(len(images))],
        }
        tables.append(pa.table(columns, SCHEMA))
        positions.append((np.arange(len(images)) + 0.5) / len(images))
    listing = pa.concat_tables(tables).combine_chunks()
    order = np.argsort(np.concatenate(positions), kind="stable")
    with replacing(path) as temporary, pq.ParquetWriter(temporary, SCHEMA) as file:
        for start in range(0, len(order), ROW_GROUP):
            file.write_table(listing.take(order[start : start + ROW_GROUP]))


class Listing:
    """The images of one split in a class list.

    Args:
        directory: directory of the class list's stage.
        split: ``train`` or ``test``.

    Raises:
        UserError: if the list is missing or not readable.
    """

    def __init__(self, directory: Path, split: str) -> None:
        self._path, self._test = directory / LISTING_FILE, split == "test"
        try:
            self._file = pq.ParquetFile(self._path)
            if self._file.schema_arrow != SCHEMA:
                raise pa.ArrowInvalid(f"it has the columns {self._file.schema_arrow.names}")
        except (pa.ArrowException, OSError) as error:
            raise UserError(f"{self._path} is not a readable list of images: {error}") from None
        self._counts = [len(self._rows(group, ["test"])) for group in range(self._file.num_row_groups)]

    def __len__(self) -> int:
        return sum(self._counts)

    def images(self, first: int) -> Iterator[tuple[ListedImage, int]]:
        """Iterate over the images of the split and their labels, from row ``first`` on."""
        for group, count in enumerate(self._counts):
            if first < count:
                for row in self._rows(group, None).slice(first).to_pylist():
                    yield ListedImage(row["synset"], row["name"], row["size"], row["offset"]), row["label"]
            first = max(0, first - count)

    def _rows(self, group: int, columns: list[str] | None) -> pa.Table:
        try:
            table = self._file.read_row_group(group, columns=columns)
        except (pa.ArrowException, OSError) as error:
            raise UserError(f"{self._path} is not a readable list of images: {error}") from None
        return table.filter(pc.equal(table["test"], self._test))
