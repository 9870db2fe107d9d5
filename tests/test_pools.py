"""Pools: every kind of source gives the right pixels, every broken one is refused by name, the format holds."""

import gzip
import hashlib
import io
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from blake3 import blake3
from PIL import Image
from sklearn.datasets import load_digits
from torchvision.datasets import CIFAR10, MNIST

from robustprune.core.errors import Interrupted, UserError
from robustprune.core.files import digest
from robustprune.core.job import Job
from robustprune.core.stage import ImageShape
from robustprune.images import encoded as decoding
from robustprune.images import ingested as stage
from robustprune.images.formats import digits, mnist, parquet, stream
from robustprune.images.formats.data_format import FORMATS
from robustprune.images.formats.stream import EncodedImage
from robustprune.images.ingested import IngestedPoolStage
from robustprune.images.pool import open_pool, pool_digest
from robustprune.images.sources import DigitsSource, real_source
from robustprune.images.writing import write_pool

Make = Callable[..., Job]
Array = npt.NDArray[Any]

MNIST_COUNTS = {  # images of each class, LeCun et al. 1998
    "train": [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949],
    "test": [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009],
}
STEMS = {"train": "train", "test": "t10k"}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a folder of its own; the digest cache is kept there. A few small images make a block."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(stream, "BLOCK_BYTES", 2**12)


def planned(
    text: str, *, name: str = "small", split: str = "train", shape: ImageShape = (1, 4, 5)
) -> IngestedPoolStage:
    """The spec of a pool from ``data.source = text``, as the plan makes it."""
    source = real_source(text, name=name, split=split)
    return IngestedPoolStage.model_validate(
        {"dataset": name, "split": split, "classes": 10, "image_shape": shape, "source": source}
    )


def everything(spec: IngestedPoolStage) -> tuple[Array, Array]:
    """All images and labels of a source; its blocks from the middle on are the rest of those from the first on."""
    stream = FORMATS[spec.source.format].open_stream(spec)
    images, labels = (np.concatenate(column) for column in zip(*stream.blocks(0), strict=True))
    assert len(images) == len(labels) == stream.count
    middle = stream.count // 2
    rest = [np.concatenate(column) for column in zip(*stream.blocks(middle), strict=True)]
    assert np.array_equal(rest[0], images[middle:])
    assert np.array_equal(rest[1], labels[middle:])
    return images, labels


def some_images(count: int, *shape: int) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (count, *shape), dtype=np.uint8)


IMAGES, LABELS = some_images(6, 4, 5), np.arange(6)


def idx_bytes(values: npt.NDArray[np.uint8]) -> bytes:
    return _idx_header(*values.shape) + values.tobytes()


def _idx_header(*sizes: int) -> bytes:
    return struct.pack(f">BBBB{len(sizes)}I", 0, 0, 8, len(sizes), *sizes)


def write_idx(folder: Path, split: str, images: npt.NDArray[np.uint8], labels: npt.NDArray[np.uint8]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{STEMS[split]}-images-idx3-ubyte").write_bytes(idx_bytes(images))
    (folder / f"{STEMS[split]}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx_bytes(labels), mtime=0))


def png(pixels: npt.NDArray[Any]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def write_shard(name: str, encoded: list[Any], labels: list[Any], *, column: str = "img") -> None:
    images = [{"bytes": content, "path": None} for content in encoded]
    Path("shards").mkdir(exist_ok=True)
    pq.write_table(pa.table({column: images, "label": labels}), f"shards/{name}.parquet")


# ---- digits


@pytest.mark.parametrize(
    ("split", "counts"), [("train", [128, 132, 127, 133, 131, 132, 131, 129, 124, 130]), ("test", [50] * 10)]
)
def test_digits_are_scikit_learns_split_by_row_scaled_and_rounded(split: str, counts: list[int]) -> None:
    images, labels = digits.read(split)
    whole = load_digits()
    rows = np.flatnonzero(digits.test_rows(whole.target) == (split == "test"))
    exact = [round(Fraction(255 * int(level), 16)) for level in whole.data[rows].ravel()]
    assert images.shape == (sum(counts), 1, 8, 8)
    assert images.dtype == np.uint8
    assert images.ravel().tolist() == exact
    assert np.array_equal(labels, whole.target[rows])
    assert np.bincount(labels).tolist() == counts


def test_digits_for_testing_are_spread_evenly_over_each_class() -> None:
    labels = load_digits().target
    chosen = digits.test_rows(labels)
    for label in range(10):
        seen = taken = 0
        for row in np.flatnonzero(labels == label):
            seen, taken = seen + 1, taken + int(chosen[row])
            assert taken == 50 * seen // int((labels == label).sum())


# ---- idx


def test_idx_files_plain_and_gz_are_read_as_written() -> None:
    images, labels = some_images(7, 4, 5), np.arange(7, dtype=np.uint8)
    write_idx(Path("raw"), "train", images, labels)
    found, found_labels = everything(planned("idx:raw"))
    assert np.array_equal(found, images[:, None])
    assert np.array_equal(found_labels, labels)


BROKEN_IDX = {
    "cut_short": (idx_bytes(some_images(7, 4, 5))[:-3], "7 x 4 x 5, so 156 bytes .* holds 153"),
    "too_long": (idx_bytes(some_images(7, 4, 5)) + b"!", "156 bytes .* holds more"),
    "labels": (idx_bytes(some_images(7)), "starts with 00000801 .* 00000803"),
    "floats": (b"\0\0\x0d\x03" + bytes(12), "unsigned bytes .* starts with 00000d03"),
    "no_side": (_idx_header(7, 0, 5), r"\(1, 0, 5\), but data\.image_shape is \(1, 4, 5\)"),
    "huge_sides": (_idx_header(7, 2**31, 2**31), r"\(1, 2147483648, 2147483648\), but"),
    "header_cut_short": (b"\0\0\x08\x03\0\0", "00000803 and 12 bytes of sizes"),
    "empty": (b"", "starts with nothing"),
}


@pytest.mark.parametrize(("content", "message"), BROKEN_IDX.values(), ids=BROKEN_IDX)
def test_a_broken_idx_file_is_refused(content: bytes, message: str) -> None:
    write_idx(Path("raw"), "train", some_images(7, 4, 5), np.arange(7, dtype=np.uint8))
    Path("raw/train-images-idx3-ubyte").write_bytes(content)
    with pytest.raises(UserError, match=rf"raw/train-images-idx3-ubyte.* {message}"):
        everything(planned("idx:raw"))


@pytest.mark.parametrize(("packed", "found"), [(False, "16"), (True, r"less, packed into \d+")])
def test_idx_files_that_state_more_than_they_can_hold_reserve_no_disk(packed: bool, found: str) -> None:
    suffix = ".gz" if packed else ""
    for stem, sizes in (("images-idx3", (2**32 - 1, 4, 5)), ("labels-idx1", (2**32 - 1,))):
        header = _idx_header(*sizes)
        put(Path(f"raw/train-{stem}-ubyte{suffix}"), gzip.compress(header) if packed else header)
    stated = "states 4294967295 x 4 x 5, so 85899345916 bytes with its header"
    with pytest.raises(UserError, match=rf"images-idx3-ubyte{suffix} {stated}, but holds {found}$"):
        FORMATS["idx"].open_stream(planned("idx:raw"))


def put(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def test_idx_files_of_different_length_are_refused() -> None:
    write_idx(Path("raw"), "train", some_images(7, 4, 5), np.arange(6, dtype=np.uint8))
    with pytest.raises(UserError, match=r"images-idx3-ubyte has 7 images, but .*labels-idx1-ubyte\.gz has 6 labels"):
        everything(planned("idx:raw"))


@pytest.mark.parametrize("damage", [lambda raw: raw[:-9], lambda raw: raw[:-8] + bytes(8), lambda raw: b"plain"])
def test_a_broken_gz_file_is_refused(damage: Callable[[bytes], bytes]) -> None:
    write_idx(Path("raw"), "train", some_images(7, 4, 5), np.arange(7, dtype=np.uint8))
    labels = Path("raw/train-labels-idx1-ubyte.gz")
    labels.write_bytes(damage(labels.read_bytes()))
    with pytest.raises(UserError, match=r"raw/train-labels-idx1-ubyte\.gz is not a whole gzip file"):
        everything(planned("idx:raw"))


@pytest.mark.parametrize(("split", "count"), [("train", 60_000), ("test", 10_000)])
def test_mnist_is_the_same_from_idx_and_torchvision(split: str, count: int, shared: Path, tmp_path: Path) -> None:
    def read(source: str) -> tuple[Array, Array]:
        return everything(planned(source, name="mnist", split=split, shape=(1, 28, 28)))

    folder, unpacked = shared / "data" / "mnist", tmp_path / "MNIST" / "raw"
    unpacked.mkdir(parents=True)
    for file in (folder / "MNIST" / "raw").glob("*.gz"):
        (unpacked / file.stem).write_bytes(gzip.decompress(file.read_bytes()))
    theirs = MNIST(tmp_path, train=split == "train")
    assert len(theirs) == count
    assert np.bincount(theirs.targets).tolist() == MNIST_COUNTS[split]
    for source in (f"idx:{folder}/MNIST/raw", f"torchvision:{folder}", f"torchvision:{tmp_path}"):
        images, labels = read(source)
        assert np.array_equal(images, theirs.data[:, None].numpy())
        assert np.array_equal(labels, theirs.targets.numpy())


# ---- npz


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_colour_npz_files_have_their_channels_moved_to_the_front(save: Callable[..., None]) -> None:
    images = some_images(6, 4, 5, 3)
    save("train.npz", image=images, label=LABELS)
    found, found_labels = everything(planned("npz:.", shape=(3, 4, 5)))
    assert np.array_equal(found, images.transpose(0, 3, 1, 2))
    assert np.array_equal(found_labels, LABELS)


def test_grey_npz_files_may_lack_the_channel() -> None:
    np.savez("train.npz", image=IMAGES, label=LABELS)
    np.savez("test.npz", image=IMAGES[..., None], label=LABELS)
    for split in ("train", "test"):
        assert np.array_equal(everything(planned("npz:.", split=split))[0], IMAGES[:, None])


def _save(array: Array) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def _npz_bytes(**arrays: Any) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def _flipped(content: bytes) -> bytes:
    """The last byte of the array 'image' flipped; zip keeps a checksum of it."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entry = archive.getinfo("image.npy")
    at = content.index(b"\x93NUMPY", entry.header_offset) + entry.compress_size - 1
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


def _zipped(kind: int = zipfile.ZIP_STORED, suffix: str = ".npy", **entries: bytes) -> bytes:
    """An npz file with these entries; without others, its labels are right."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", kind) as archive:
        for name, content in ({"label": _save(np.arange(6))} | entries).items():
            archive.writestr(name + suffix, content)
    return file.getvalue()


def _npz_header(words: str) -> bytes:
    return _zipped(image=b"\x93NUMPY\x01\x00" + struct.pack("<H", len(words)) + words.encode())


def _npz_shape(shape: str, descr: str = "'|u1'") -> bytes:
    return _npz_header(f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}")


def _bomb() -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, image=np.zeros((1_000_000, 4, 5), np.uint8), label=LABELS)
    return file.getvalue()


def _entry_states_more() -> bytes:
    """Header and zip entry state 300 images, of which fewer are there, packed; the checksum is right."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("image.npy", _save(np.zeros((300, 4, 5), np.uint8))[:-20])
        archive.writestr("label.npy", _save(np.arange(300) % 10))
        archive.getinfo("image.npy").file_size += 20
    return file.getvalue()


GOOD = _npz_bytes(image=IMAGES, label=LABELS)
LONG_HEADER = b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**31) + bytes(2**20)  # it states 2 GB, of which some are there

BROKEN_NPZ = {
    "no_label": (_npz_bytes(image=IMAGES), r"no array 'label'.* image"),
    "no_image": (_npz_bytes(images=IMAGES, label=LABELS), r"no array 'image'.* images, label"),
    "pickle": (_npz_bytes(image=np.array([{}]), label=np.arange(1)), r"'image'.* pickles"),
    "end_cut_off": (GOOD[:-40], r"not an npz file, or is cut short"),
    "half": (GOOD[: len(GOOD) // 2], r"not an npz file, or is cut short"),
    "no_zip": (b"text", r"not an npz file, or is cut short"),
    "flipped_bit": (_flipped(GOOD), r"'image'.*Bad CRC-32"),
    "no_array": (_zipped(suffix="", image=b"text"), r"'image' is not an array"),
    "float_images": (_npz_bytes(image=np.zeros((6, 4, 5)), label=LABELS), r"float64 and go from 0 to 0"),
    "nan_images": (_npz_bytes(image=np.full((6, 4, 5), np.nan), label=LABELS), r"float64 and hold NaN"),
    "wide_images": (_npz_bytes(image=np.zeros((6, 4, 5), np.int64), label=LABELS), r"images are int64.* uint8"),
    "nan_labels": (_npz_bytes(image=IMAGES, label=np.full(6, np.nan)), r"labels are float64 \(6,\)"),
    "fortran": (_npz_bytes(image=np.asfortranarray(IMAGES), label=LABELS), r"Fortran's order"),
    "zip_bomb": (_bomb(), r"'image'.* from [\d,]+ bytes to 20,\d+,\d+"),
    "bzip2": (_zipped(zipfile.ZIP_BZIP2, image=_save(IMAGES)), r"is packed by bzip2"),
    "lzma": (_zipped(zipfile.ZIP_LZMA, image=_save(IMAGES)), r"is packed by lzma"),
    "long_header": (_zipped(zipfile.ZIP_DEFLATED, image=LONG_HEADER), r"2,147,483,648 bytes .*; 65,536 are"),
    "rows_missing_packed": (_entry_states_more(), r"'image'.* cannot reshape array"),
    "rows_missing": (
        _zipped(image=_save(some_images(7, 4, 5))[:-20], label=_save(np.arange(7))),
        r"'image'.* states 7 x 4 x 5 uint8, but its file has 248 bytes",
    ),
    "other_shape": (_npz_bytes(image=some_images(6, 5, 4), label=LABELS), r"\(1, 5, 4\), but data\.image_shape"),
    "flat_images": (_npz_bytes(image=some_images(6), label=LABELS), r"shape \(\), but data\.image_shape"),
    "one_hot": (_npz_bytes(image=IMAGES, label=np.eye(6)), r"labels are float64 \(6, 6\)"),
    "label_scalar": (_npz_bytes(image=IMAGES, label=np.array(3)), r"labels are int64 \(\)"),
    "fewer_labels": (_npz_bytes(image=IMAGES, label=np.arange(5)), r"6 images and 5 labels"),
    "empty": (_npz_bytes(image=IMAGES[:0], label=LABELS[:0]), r"0 images and 0 labels"),
    "label_too_high": (_npz_bytes(image=IMAGES[:2], label=np.array([0, 10])), r"from 0 to 10, but .*classes .* 0 to 9"),
    "label_too_low": (_npz_bytes(image=IMAGES[:2], label=np.array([-1, 9])), r"from -1 to 9"),
    "open_header": (_npz_header("{'descr': ("), r"'image'.* header: .*EOF"),
    "unhashable": (_npz_header("{{}: 1}"), r"'image'.* header: unhashable"),
    "no_dtype": (_npz_shape("(0, 4, 5)", "()"), r"'image'.* header: "),
    "below_nought": (_npz_shape("(0, 1, -4, -5)"), r"header: .* \(0, 1, -4, -5\)"),
    "huge_sides": (_npz_shape(str((0, 2**40, 2**40, 3))), r"shape \(3, 1099511627776, "),
    "many_sides": (_npz_shape(f"(0{', 1' * 99})"), r"shape \(1, 1, "),
    "no_floats": (_npz_shape("(0, 4, 5)", "'<f8'"), r"images are float64, but .* uint8"),
}


@pytest.mark.parametrize(("content", "message"), BROKEN_NPZ.values(), ids=BROKEN_NPZ)
def test_a_broken_npz_file_is_refused(content: bytes, message: str, make_job: Make) -> None:
    Path("train.npz").write_bytes(content)
    spec = planned("npz:.")
    with pytest.raises(UserError, match=rf"/train\.npz.* {message}") as refusal:
        spec.run(make_job("pools", spec.id))
    assert "\n" not in str(refusal.value)


def test_labels_that_are_sorted_may_pack_well() -> None:
    count = 2**21 + 1  # so many numbers of 8 bytes are more than is harmless
    np.savez_compressed("train.npz", image=some_images(count, 1, 1), label=np.repeat(np.arange(3), count // 3))
    assert FORMATS["npz"].open_stream(planned("npz:.", shape=(1, 1, 1))).count == count


# ---- parquet


@pytest.mark.parametrize("column", ["img", "image"])
def test_parquet_shards_are_decoded_in_order(column: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "ROWS_AT_ONCE", 2)  # so that a shard is several batches
    images = some_images(8, 4, 5, 3)
    write_shard("train-00000-of-00002", [png(image) for image in images[:5]], [0, 1, 2, 3, 4], column=column)
    write_shard("train-00001-of-00002", [png(image) for image in images[5:]], [5, 6, 7], column=column)
    found, labels = everything(planned("parquet:shards", shape=(3, 4, 5)))
    assert np.array_equal(found, images.transpose(0, 3, 1, 2))
    assert labels.tolist() == list(range(8))


@pytest.mark.parametrize("channels", [1, 3])
def test_parquet_images_are_converted_to_the_channels_asked_for(channels: int) -> None:
    grey = some_images(2, 4, 5)
    write_shard("train-00000-of-00001", [png(image) for image in grey], [0, 1])
    images, _ = everything(planned("parquet:shards", shape=(channels, 4, 5)))
    assert np.array_equal(images, np.repeat(grey[:, None], channels, axis=1))


PICTURE = png(some_images(1, 4, 5)[0])


BROKEN_ROWS: dict[str, tuple[list[Any], Any, str]] = {
    "no_picture": ([PICTURE, b"no picture"], [0, 1], "row 1 cannot be decoded: cannot identify"),
    "cut_short": ([PICTURE, PICTURE, PICTURE[:-30]], [0, 1, 2], "row 2 cannot be decoded"),
    "other_size": ([png(some_images(1, 5, 4)[0])], [0], "row 0 is 4 x 5 pixels, but .* 5 x 4"),
    "16_bits": ([png(np.full((4, 5), 300, np.uint16))], [0], "row 0 has more than 8 bits"),
    "null_image": ([PICTURE, None], [0, 1], "row 1 has no image"),
    "null_label": ([PICTURE], pa.array([None], pa.int64()), "row 0 has no label"),
    "text_label": ([PICTURE], ["cat"], "column label should hold integers, but holds string"),
    "too_many_bytes": ([PICTURE + bytes(1000)], [0], r"row 0 is 1,?\d\d\d bytes; more than 1,?000 are"),
}


@pytest.mark.parametrize(("encoded", "labels", "message"), BROKEN_ROWS.values(), ids=BROKEN_ROWS)
def test_a_broken_row_is_refused_by_number(
    encoded: list[Any], labels: Any, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "ROWS_AT_ONCE", 2)  # so that row 2 is the first of its batch
    monkeypatch.setattr(decoding, "LARGEST_BYTES", 1000)
    write_shard("train-00000-of-00001", encoded, labels)
    with pytest.raises(UserError, match=rf"train-00000-of-00001\.parquet: .*{message}"):
        everything(planned("parquet:shards"))


ENCODED = [{"bytes": PICTURE}]
OTHER_COLUMNS = {
    "other_columns": (pa.table({"picture": [1], "label": [1]}), "img or image, and label; it has picture, label"),
    "no_label": (pa.table({"img": ENCODED}), "img or image, and label; it has img"),
    "two_labels": (pa.table([ENCODED, [1], [2]], ["img", "label", "label"]), "it has img, label, label"),
    "bare_bytes": (pa.table({"img": [PICTURE], "label": [1]}), "column img .* bytes: binary, but is binary"),
    "paths_only": (pa.table({"img": [{"path": "a.png"}], "label": [1]}), "bytes: binary, but is struct<p"),
    "text": (pa.table({"img": [{"bytes": "text"}], "label": [1]}), "bytes: binary, but is struct<bytes: string>"),
    "numbers": (pa.table({"img": [{"bytes": 1}], "label": [1]}), "bytes: binary, but is struct<bytes: int64>"),
}


@pytest.mark.parametrize(("table", "message"), OTHER_COLUMNS.values(), ids=OTHER_COLUMNS)
def test_a_parquet_file_with_other_columns_is_refused(table: pa.Table, message: str) -> None:
    pq.write_table(table, "train-00000-of-00001.parquet")
    with pytest.raises(UserError, match=rf"train-00000-of-00001\.parquet.* {message}"):
        everything(planned("parquet:."))


def test_the_checksums_of_a_parquet_file_are_compared() -> None:
    file = Path("train-00000-of-00001.parquet")
    table = pa.table({"img": [{"bytes": PICTURE}], "label": [3]})
    options: dict[str, Any] = {"compression": "none", "use_dictionary": False, "write_statistics": False}
    pq.write_table(table, file, write_page_checksum=True, **options)
    label = (3).to_bytes(8, "little")
    file.write_bytes(file.read_bytes().replace(label, (4).to_bytes(8, "little"), 1))
    with pytest.raises(UserError, match=r"parquet is not a whole Parquet file: .*CRC"):
        everything(planned("parquet:."))


def test_an_image_that_stands_for_many_rows_is_not_unpacked_for_all_at_once() -> None:
    write_shard("train-00000-of-00001", [PICTURE + bytes(2**18)] * 256, [0] * 256)
    used = pa.total_allocated_bytes()
    next(shard_pictures())
    assert pa.total_allocated_bytes() - used < 2**25  # all rows are 2**26


def test_a_row_group_is_in_memory_at_once_and_no_file_before_its_turn() -> None:
    Path("shards").mkdir()
    random = np.random.default_rng(0)
    for shard in range(2):
        images = [{"bytes": random.bytes(2**16)} for _ in range(256)]
        table = pa.table({"image": images, "label": [0] * 256})
        pq.write_table(table, f"shards/train-0000{shard}-of-00002.parquet", row_group_size=8, use_dictionary=False)
        del images, table
    used = pa.total_allocated_bytes()
    assert max(pa.total_allocated_bytes() - used for _ in shard_pictures()) < 2**22  # a file is 2**24


def shard_pictures() -> Iterator[EncodedImage]:
    pictures = FORMATS["parquet"].open_stream(planned("parquet:shards")).pictures
    assert pictures is not None
    return iter(pictures.images(0))


def test_parquet_files_that_unpack_to_what_pictures_do_not_are_refused() -> None:
    zeros = pa.table({"image": [{"bytes": bytes(2**20)}] * 32, "label": [0] * 32})
    pq.write_table(zeros, "train-00000-of-00001.parquet", compression="zstd", use_dictionary=False)
    with pytest.raises(UserError, match=r"0001\.parquet: image\.bytes .* from [\d,]+ bytes to 33,\d+,\d+"):
        FORMATS["parquet"].open_stream(planned("parquet:."))
    equal = pa.table({"image": pa.nulls(2**22, zeros["image"].type), "label": np.zeros(2**22, np.int64)})
    pq.write_table(equal, "train-00000-of-00001.parquet", compression="zstd", use_dictionary=False)
    assert FORMATS["parquet"].open_stream(planned("parquet:.")).count == 2**22


@pytest.mark.parametrize(
    "damage",
    [lambda raw: raw[:-20], lambda raw: b"text", lambda raw: raw[:4] + b"\xff" * 60 + raw[64:]],
    ids=["cut", "text", "overwritten_pages"],
)
def test_a_broken_parquet_file_is_refused(damage: Callable[[bytes], bytes]) -> None:
    write_shard("train-00000-of-00001", [PICTURE], [0])
    file = Path("shards/train-00000-of-00001.parquet")
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(UserError, match=r"train-00000-of-00001\.parquet is not a whole Parquet file"):
        everything(planned("parquet:shards"))


def test_cifar10_in_hugging_faces_layout_is_decoded(shared: Path) -> None:
    folder = shared / "data" / "cifar10"
    images, labels = everything(planned(f"parquet:{folder}", name="cifar10", split="test", shape=(3, 32, 32)))
    assert images.shape == (10_000, 3, 32, 32)
    assert np.bincount(labels).tolist() == [1000] * 10
    table = pq.read_table(folder / "test-00000-of-00001.parquet").to_pylist()
    for row in (0, 1, 1023, 1024, 5000, 9999):
        with Image.open(io.BytesIO(table[row]["img"]["bytes"])) as image:
            assert np.array_equal(images[row].transpose(1, 2, 0), np.asarray(image.convert("RGB")))
        assert labels[row] == table[row]["label"]


# ---- torchvision


def put_mnist(root: Path, monkeypatch: pytest.MonkeyPatch) -> npt.NDArray[np.uint8]:
    """A small stand-in for MNIST in torchvision's folder, with the MD5 sums it is known by."""
    images, labels = some_images(7, 28, 28), np.arange(7, dtype=np.uint8)
    for split in ("train", "test"):
        write_idx(root / "MNIST" / "raw", split, images, labels)
    parts = {stem: images if "images" in stem else labels for stem in mnist.MNIST_MD5}
    sums = {stem: hashlib.md5(idx_bytes(part)).hexdigest() for stem, part in parts.items()}
    monkeypatch.setattr(mnist, "MNIST_MD5", sums)
    return images


def put_cifar10(root: Path, monkeypatch: pytest.MonkeyPatch) -> npt.NDArray[np.uint8]:
    """A small stand-in for CIFAR-10 in torchvision's folder, 3 images a file, with the MD5 sums it is known by."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    images = some_images(18, 3, 32, 32)

    def put(name: str, content: dict[str, Any]) -> list[str]:
        (folder / name).write_bytes(pickle.dumps(content))
        return [name, hashlib.md5((folder / name).read_bytes()).hexdigest()]

    names = [f"data_batch_{number}" for number in range(1, 6)] + ["test_batch"]
    batches = [
        put(name, {"data": images[3 * at : 3 * at + 3].reshape(3, -1), "labels": [at, at + 1, at + 2]})
        for at, name in enumerate(names)
    ]
    name, md5 = put("batches.meta", {"label_names": list("abcdefghij")})
    monkeypatch.setattr(CIFAR10, "train_list", batches[:5])
    monkeypatch.setattr(CIFAR10, "test_list", batches[5:])
    monkeypatch.setattr(CIFAR10, "meta", {"filename": name, "key": "label_names", "md5": md5})
    return images


def test_mnist_is_read_from_torchvisions_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    images = put_mnist(Path("mine"), monkeypatch)
    found, labels = everything(planned("torchvision:mine", name="mnist", shape=(1, 28, 28)))
    assert np.array_equal(found, images[:, None])
    assert labels.tolist() == list(range(7))


def test_the_known_sums_of_mnists_labels_are_torchvisions(shared: Path) -> None:
    """The label files kept beside the checkout are compressed as torchvision knows them, so its sums vouch for ours."""
    known = dict(MNIST.resources)
    for stem in ("train-labels-idx1-ubyte", "t10k-labels-idx1-ubyte"):
        content = (shared / "data" / "mnist" / "MNIST" / "raw" / f"{stem}.gz").read_bytes()
        assert hashlib.md5(content).hexdigest() == known[f"{stem}.gz"]
        assert hashlib.md5(gzip.decompress(content)).hexdigest() == mnist.MNIST_MD5[stem]


@pytest.mark.parametrize(("split", "files"), [("train", range(5)), ("test", range(5, 6))])
def test_cifar10_is_read_from_torchvisions_folder(split: str, files: range, monkeypatch: pytest.MonkeyPatch) -> None:
    images = put_cifar10(Path("mine"), monkeypatch)
    found, labels = everything(planned("torchvision:mine", name="cifar10", split=split))
    assert np.array_equal(found, images[3 * files.start : 3 * files.stop])
    assert labels.tolist() == [file + row for file in files for row in range(3)]


OTHER = idx_bytes(np.zeros(7, np.uint8))
OTHER_MD5 = f"is not MNIST's: .* MD5 {hashlib.md5(OTHER).hexdigest()}"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train-images-idx3-ubyte", OTHER, OTHER_MD5),
        ("train-labels-idx1-ubyte.gz", gzip.compress(OTHER), OTHER_MD5),
        ("train-labels-idx1-ubyte.gz", gzip.compress(OTHER)[:-9], "is not a whole gzip file"),
    ],
    ids=["images", "labels", "cut_short"],
)
def test_a_wrong_mnist_file_is_refused(
    name: str, content: bytes, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_mnist(Path("mine"), monkeypatch)
    (Path("mine/MNIST/raw") / name).write_bytes(content)
    with pytest.raises(UserError, match=rf"raw/{name} {message}"):
        everything(planned("torchvision:mine", name="mnist", shape=(1, 28, 28)))


@pytest.mark.parametrize("name", ["data_batch_5", "test_batch", "batches.meta"])
def test_a_cifar10_file_with_another_md5_is_not_unpickled(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    put_cifar10(Path("mine"), monkeypatch)
    Path("mine/cifar-10-batches-py", name).write_bytes(b"cos\nsystem\n(S'touch unpickled'\ntR.")
    with pytest.raises(UserError, match=rf"cifar-10-batches-py/{name} is not CIFAR10's: .* MD5 "):
        everything(planned("torchvision:mine", name="cifar10"))
    assert not Path("unpickled").exists()


@pytest.mark.parametrize(
    ("name", "file"),
    [("mnist", "MNIST/raw/train-labels-idx1-ubyte.gz"), ("cifar10", "cifar-10-batches-py/data_batch_3")],
)
def test_a_missing_file_of_torchvisions_is_named(name: str, file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    put_mnist(Path("mine"), monkeypatch)
    put_cifar10(Path("mine"), monkeypatch)
    Path("mine", file).unlink()
    with pytest.raises(UserError, match=rf"{file}, .* {name.upper()}, does not exist; data\.source"):
        everything(planned("torchvision:mine", name=name))


# ---- the stage


def outputs(job: Job) -> dict[str, str]:
    return {path.name: digest(path) for path in job.outputs}


def test_the_stage_writes_a_pool_and_returns_its_facts(make_job: Make) -> None:
    spec = planned("digits", name="digits", split="test", shape=(1, 8, 8))
    job = make_job("pools", spec.id)
    facts = spec.run(job)
    pool = open_pool(job.directory)
    images, labels = digits.read(spec.split)
    assert isinstance(pool.images, np.memmap)
    assert np.array_equal(pool.images, images)
    assert pool.labels.dtype == np.int16
    assert np.array_equal(pool.labels, labels)
    assert len(pool) == 500
    assert facts == {
        "count": 500,
        "class_counts": [50] * 10,
        "digest": pool_digest(job.directory),
        "sorted_by_class": False,
        "duplicates": {"images": 0, "with_other_label": 0},
    }
    assert pool.info.digest == facts["digest"]
    assert pool.info.source == "scikit-learn's digits, test"
    assert (pool.info.image_shape, pool.info.count, pool.info.dataset) == ((1, 8, 8), 500, "digits")
    assert pool.info.class_counts == (50,) * 10
    assert sorted(outputs(job)) == ["contact_sheet.png", "image_digests.npy", "images.npy", "labels.npy", "pool.json"]
    with Image.open(job.directory / "contact_sheet.png") as sheet:
        assert min(sheet.size) > 80


def test_a_pool_is_the_same_bytes_wherever_its_source_lies_and_whatever_a_killed_attempt_left(make_job: Make) -> None:
    made: list[Any] = []
    for folder in ("here", "there"):
        write_idx(Path(folder), "train", some_images(40, 28, 28), np.repeat(np.arange(10, dtype=np.uint8), 4))
        spec = planned(f"idx:{folder}", name="mnist", shape=(1, 28, 28))
        job = make_job(folder, spec.id)
        if made:
            (job.partial / "images.npy").write_bytes(b"half")
            (job.directory / "images.npy").write_bytes(b"an earlier attempt's")
        spec.run(job)
        made.append((spec.id, outputs(job)))
    assert made[0] == made[1]


def test_a_channel_last_source_is_written_in_the_pools_order(make_job: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "BLOCK_BYTES", 7 * 60)  # so that 20 images are three blocks, the last a short one
    images = some_images(20, 4, 5, 3)
    np.savez("train.npz", image=images, label=np.arange(20, dtype=np.uint64) % 10)
    spec = planned("npz:.", shape=(3, 4, 5))
    job = make_job("pools", spec.id)
    spec.run(job)
    expected = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    assert (job.directory / "images.npy").read_bytes() == _save(expected)


@pytest.fixture
def changed() -> tuple[IngestedPoolStage, Callable[[], None]]:
    """The spec of a file whose labels were turned round after the plan, and what brings the file back.

    Only its content tells: size, time and inode are the same.
    """
    file = Path("train.npz")
    np.savez(file, image=IMAGES, label=LABELS)
    spec, content, status = planned("npz:."), file.read_bytes(), file.stat()

    def put(content: bytes) -> None:
        file.write_bytes(content)
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))

    put(_npz_bytes(image=IMAGES, label=LABELS[::-1]))
    return spec, partial(put, content)


def test_a_file_changed_after_the_plan_is_refused_by_the_stage(changed: Any, make_job: Make) -> None:
    """And nothing of it stays: once the file is brought back, its own images are published."""
    spec, bring_back = changed
    job = make_job("pools", spec.id)
    with pytest.raises(UserError, match=r"train\.npz: the content changed since the plan was made"):
        spec.run(job)
    assert not list(job.partial.iterdir())
    bring_back()
    spec.run(job)
    assert open_pool(job.directory).labels.tolist() == list(range(6))


def test_a_killed_attempt_with_another_file_is_not_resumed(
    changed: Any, make_job: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, bring_back = changed
    job = make_job("pools", spec.id)

    def kill(*_: Any) -> None:
        raise Interrupted("killed")

    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(stage, "_require_as_planned", kill)
        spec.run(job)
    assert json.loads((job.partial / "writing.json").read_text())["rows"] == 6
    bring_back()
    os.utime("train.npz")
    spec.run(job)
    assert open_pool(job.directory).labels.tolist() == list(range(6))


def test_a_file_changed_while_it_is_read_is_refused(make_job: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez("train.npz", image=IMAGES, label=LABELS)
    spec = planned("npz:.")
    monkeypatch.setattr(stage, "require_unchanged", lambda *_, **__: os.utime("train.npz", ns=(0, 0)))
    job = make_job("pools", spec.id)
    with pytest.raises(UserError, match=r"train\.npz: the files changed while they were read; plan again"):
        spec.run(job)
    assert not list(job.partial.iterdir())


def test_a_source_that_does_not_fit_the_configuration_is_refused(make_job: Make) -> None:
    spec = planned("digits", shape=(1, 28, 28))
    assert isinstance(spec.source, DigitsSource)
    message = r"digits, train: images have shape \(1, 8, 8\), but data\.image_shape is \(1, 28, 28\)"
    with pytest.raises(UserError, match=message):
        spec.run(make_job("pools", spec.id))


@pytest.fixture
def pool_folder(make_job: Make) -> Path:
    """Write a complete pool of 20 images of 3 x 4 x 5, in 10 classes."""
    job = make_job("pools", "small-train-0123456789")
    write_pool(job, some_images(20, 3, 4, 5), np.arange(20) % 10, dataset="small", source="a test", classes=10)
    return job.directory


def test_a_pools_digest_is_that_of_both_arrays(pool_folder: Path) -> None:
    sums = [blake3((pool_folder / name).read_bytes()).hexdigest() for name in ("images.npy", "labels.npy")]
    assert open_pool(pool_folder).info.digest == hashlib.sha256("\n".join(sums).encode()).hexdigest()
    np.save(pool_folder / "labels.npy", np.zeros(20, np.int16))
    assert pool_digest(pool_folder) != open_pool(pool_folder).info.digest


BROKEN_POOLS = {
    "no_info": ("pool.json", None, r"pool\.json"),
    "empty_info": ("pool.json", b"{}", "Field required"),
    "no_images": ("images.npy", None, r"images\.npy"),
    "empty_images": ("images.npy", b"", "is not a readable pool"),
    "images_cut_short": ("images.npy", _save(some_images(20, 3, 4, 5))[:-1], "mmap length"),
    "fewer_images": ("images.npy", _save(some_images(19, 3, 4, 5)), r"uint8 \(19, .*json states uint8 \(20,"),
    "float_images": ("images.npy", _save(np.zeros((20, 3, 4, 5))), r"float64 \(20, .*json states uint8"),
    "zipped_labels": ("labels.npy", _npz_bytes(label=np.arange(20)), "the magic string is not correct"),
    "other_integers": ("labels.npy", _save(np.arange(20)), r"int64 \(20,\), pool\.json states int16 \(20,\)"),
}


@pytest.mark.parametrize(("name", "content", "message"), BROKEN_POOLS.values(), ids=BROKEN_POOLS)
def test_a_broken_pool_is_refused(name: str, content: bytes | None, message: str, pool_folder: Path) -> None:
    (pool_folder / name).unlink()
    if content is not None:
        (pool_folder / name).write_bytes(content)
    with pytest.raises(UserError, match=message) as refusal:
        open_pool(pool_folder)
    assert "\n" not in str(refusal.value)
