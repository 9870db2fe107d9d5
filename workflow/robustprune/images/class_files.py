"""Files of a class list: its classes, the synsets of each class, and the training and test images."""

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from robustprune.core.errors import UserError
from robustprune.core.files import replacing
from robustprune.images.synset_grouping import SynsetClass
from robustprune.images.synset_listing import ListedImage

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


def write_classes(path: Path, classes: Sequence[SynsetClass], test_images: int, names: Mapping[str, str]) -> None:
    """Write classes.csv, with the label, synset, name, and numbers of synsets and images of each class."""
    rows: list[list[Any]] = [["label", "synset", "name", "synsets", "images", "train", "test"]]
    for label, one in enumerate(classes):
        sizes = [len(one.members), one.images, one.images - test_images, test_images]
        rows.append([label, one.synset, names.get(one.synset, ""), *sizes])
    _write_csv(path, rows)


def write_synsets(path: Path, classes: Sequence[SynsetClass], images: Mapping[str, int]) -> None:
    """Write synsets.csv, with the id, class label and number of images of each synset in a class."""
    members = [[member, label, images[member]] for label, one in enumerate(classes) for member in one.members]
    _write_csv(path, [["synset", "label", "images"], *members])


def _write_csv(path: Path, rows: list[list[Any]]) -> None:
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


def read_class_names(directory: Path) -> list[str]:
    """Return the name of each class, or its synset if it has no name. Raises UserError if the file is not readable."""
    path = directory / CLASSES_FILE
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return [line["name"] or line["synset"] for line in csv.DictReader(file)]
    except (OSError, KeyError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not a readable list of classes: {error!r}") from None


def write_listing(path: Path, classes: Iterable[list[ListedImage]], test: int) -> None:
    """Write listing.parquet, with one row per image in the order of the pool; the first images of a class are ``test``.

    Each class is spread evenly over the rows, so that the first n images are a stratified sample.
    """
    tables, positions = [], []
    for label, images in enumerate(classes):
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
    """The images of the split ``train`` or ``test`` of a class list, in the directory of its stage.

    Raises:
        UserError: if the list is missing or not readable.
    """

    def __init__(self, directory: Path, split: str) -> None:
        self._path, self._test = directory / LISTING_FILE, split == "test"
        with self._readable():
            self._file = pq.ParquetFile(self._path)
            if self._file.schema_arrow != SCHEMA:
                raise pa.ArrowInvalid(f"it has the columns {self._file.schema_arrow.names}")
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
        with self._readable():
            table = self._file.read_row_group(group, columns=columns)
        return table.filter(pc.equal(table["test"], self._test))

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except (pa.ArrowException, OSError) as error:
            raise UserError(f"{self._path} is not a readable list of images: {error}") from None
