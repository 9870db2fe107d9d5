"""Data sources: located, fingerprinted, and refused in one line while the plan is made."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from robustprune.core import files
from robustprune.core.errors import UserError
from robustprune.core.files import digest, file_digest
from robustprune.core.paths import WORKFLOW
from robustprune.images import sources
from robustprune.images.formats.finding import numbered_files
from robustprune.images.ingested import IngestedPoolStage
from robustprune.images.sources import (
    DigitsSource,
    FileSource,
    TorchvisionSource,
    planned_files,
    planned_rows,
    real_source,
    require_unchanged,
    synthetic_source,
)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each test its own working folder, and so its own digest cache on disk and in memory."""
    monkeypatch.chdir(tmp_path)
    files._cached_file_digest.cache_clear()


def put(path: str, content: bytes = b"content") -> Path:
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return file


def put_all(folder: str, names: list[str]) -> None:
    for name in names:
        put(f"{folder}/{name}", name.encode())


def file_source(text: str, split: str = "train") -> FileSource:
    source = real_source(text, name="mnist", split=split)
    assert isinstance(source, FileSource)
    return source


def torchvision_source(text: str, name: str) -> TorchvisionSource:
    source = real_source(text, name=name, split="train")
    assert isinstance(source, TorchvisionSource)
    return source


def names_of(source: FileSource) -> list[str]:
    return [Path(path).name for path in source.location]


def pool(source: FileSource | TorchvisionSource) -> IngestedPoolStage:
    return IngestedPoolStage(dataset="mnist", split="train", classes=10, image_shape=(1, 28, 28), source=source)


def test_digits_need_no_file() -> None:
    assert real_source("digits", name="digits", split="train") == DigitsSource()


def test_idx_files_are_read_unpacked_or_gz() -> None:
    images, labels = put("raw/t10k-images-idx3-ubyte"), put("raw/t10k-labels-idx1-ubyte.gz")
    put("raw/t10k-images-idx3-ubyte.gz")
    assert file_source("idx:raw", "test").location == (str(images.absolute()), str(labels.absolute()))


def test_npz_and_parquet_files_are_located_by_split() -> None:
    put("npz/test.npz")
    put("shards/test-00000-of-00001.parquet")
    assert names_of(file_source("npz:npz", "test")) == ["test.npz"]
    assert names_of(file_source("parquet:shards", "test")) == ["test-00000-of-00001.parquet"]
    assert synthetic_source("npz:npz/test.npz").digest == file_source("npz:npz", "test").digest


@pytest.mark.parametrize("suffix", ["", "-a09b74b3ef9c3b56"], ids=["plain", "with_hash"])
def test_shards_are_sorted(suffix: str) -> None:
    names = [f"train-{index:05d}-of-00012{suffix}.parquet" for index in range(12)]
    put_all("shards", [*names[::-1], "test-00000-of-00001.parquet"])
    source = file_source("parquet:shards")
    assert names_of(source) == names
    assert [file.name for file in planned_files(source)] == names


INCOMPLETE = {
    "gap": ["train-00000-of-00003.parquet", "train-00002-of-00003.parquet"],
    "end_missing": ["train-00000-of-00002.parquet"],
    "two_sets": ["train-00000-of-00001.parquet", "train-00000-of-00002.parquet"],
}


@pytest.mark.parametrize("names", INCOMPLETE.values(), ids=INCOMPLETE)
def test_an_incomplete_set_of_shards_is_refused(names: list[str]) -> None:
    put_all("shards", names)
    with pytest.raises(UserError, match=rf"shards .*{', '.join(names)}"):
        file_source("parquet:shards")


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("train-*.parquet", [f"train-{n:05}-of-00003.parquet" for n in range(3)]),
        ("*.parquet", ["train-00000-of-00001.parquet"]),
        ("set_*_32x32.npz", [f"set_{n}_32x32.npz" for n in range(11)]),
        ("5m_part*.npz", ["5m_part1.npz", "5m_part2.npz"]),
        ("5m_part?_*.npz", ["5m_part1_0.npz", "5m_part1_1.npz"]),
        ("only*.npz", ["only.npz"]),
    ],
)
def test_the_files_of_a_pattern_are_sorted_by_number(pattern: str, names: list[str]) -> None:
    put_all("parts", names)
    assert [file.name for file in numbered_files(Path("parts", pattern))] == names


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("train-*.parquet", [f"train-{n:05}-of-00003.parquet" for n in range(2)]),
        ("train-*.parquet", [f"train-{n:05}-of-00002.parquet" for n in (0, 2)]),
        ("set_*_32x32.npz", ["set_0_32x32.npz", "set_2_32x32.npz"]),
        ("part*.npz", ["part3.npz"]),
    ],
)
def test_a_pattern_with_a_gap_is_refused(pattern: str, names: list[str]) -> None:
    put_all("parts", names)
    with pytest.raises(UserError, match=rf"parts .*{', '.join(names)}"):
        numbered_files(Path("parts", pattern))


@pytest.mark.parametrize(
    ("text", "file", "hint"),
    [
        ("idx:absent", "absent/train-images-idx3-ubyte.gz", "ossci-datasets"),
        ("npz:absent", "absent/train.npz", "'image'"),
        ("parquet:absent", "absent/train-00000-of-00001.parquet", "huggingface.co"),
    ],
)
def test_the_error_for_a_missing_file_names_key_and_origin(text: str, file: str, hint: str) -> None:
    with pytest.raises(UserError, match=rf"^data\.source = {text}: .*{file};.*{hint}") as refusal:
        file_source(text)
    assert "\n" not in str(refusal.value)
    with pytest.raises(UserError, match=r"synthetic\.source = npz:1m\.npz: .*1m\.npz;.*'image'"):
        synthetic_source("npz:1m.npz")


@pytest.mark.parametrize(
    ("text", "name", "known", "folder", "download"),
    [("torchvision", "cifar10", "CIFAR10", "data", True), ("torchvision:mine", "mnist", "MNIST", "mine", False)],
)
def test_torchvision_downloads_without_a_folder(text: str, name: str, known: str, folder: str, download: bool) -> None:
    Path("mine/MNIST/raw").mkdir(parents=True)
    source = torchvision_source(text, name)
    assert (source.name, source.location.download) == (known, download)
    assert source.location.folder == str(Path(folder).absolute())


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        ("torchvision", "digits", r"data\.name = 'digits' .* mnist, fashionmnist, cifar10, cifar100, svhn"),
        ("torchvision:absent", "mnist", r"torchvision:absent: .*absent/MNIST/raw;.*download"),
        ("torchvision:absent", "cifar10", r"torchvision:absent: .*absent/cifar-10-batches-py;.*download"),
    ],
)
def test_the_plan_refuses_sets_that_torchvision_cannot_load(text: str, name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        real_source(text, name=name, split="train")


def test_an_id_depends_on_the_content_and_not_the_location() -> None:
    for folder, content in {"here": b"one", "there": b"one", "other": b"two"}.items():
        put(f"{folder}/train.npz", content)
    here, there, other = (pool(file_source(f"npz:{folder}")) for folder in ("here", "there", "other"))
    assert here.source != there.source
    assert here.id == there.id != other.id
    Path("mine/MNIST/raw").mkdir(parents=True)
    downloaded, mine = (torchvision_source(text, "mnist") for text in ("torchvision", "torchvision:mine"))
    assert pool(downloaded).id == pool(mine).id


def test_a_digest_depends_on_the_order_of_files() -> None:
    for folder, (first, second) in {"a": (b"1", b"2"), "b": (b"2", b"1")}.items():
        put(f"{folder}/train-00000-of-00002.parquet", first)
        put(f"{folder}/train-00001-of-00002.parquet", second)
    assert file_source("parquet:a").digest != file_source("parquet:b").digest


def test_digests_are_cached_on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    file = put("large.npz")
    expected = file_digest(file)
    assert list(json.loads(files.DIGEST_CACHE.read_text()).values()) == [expected] == [digest(file)]
    files._cached_file_digest.cache_clear()
    monkeypatch.setattr(sources, "digest", lambda path: pytest.fail("the file was read again"))
    assert file_digest(file) == expected


@pytest.mark.parametrize("content", [b"three", b"two"], ids=["other_size", "same_size_and_time"])
def test_a_replaced_file_has_another_digest(content: bytes) -> None:
    file = put("large.npz", b"one")
    before, status = file_digest(file), file.stat()
    put("other.npz", content).replace(file)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert file_digest(file) == digest(file) != before


@pytest.mark.parametrize("content", [b"{", b"[1]", b"\xff\xfe"], ids=["cut_short", "list", "not_text"])
def test_a_damaged_digest_cache_is_replaced(content: bytes) -> None:
    file = put("large.npz")
    put(str(files.DIGEST_CACHE), content)
    assert file_digest(file) == digest(file)
    assert list(json.loads(files.DIGEST_CACHE.read_text()).values()) == [digest(file)]


@pytest.mark.parametrize(
    ("shape", "compression"),
    [
        ("()", zipfile.ZIP_STORED),
        ("(", zipfile.ZIP_STORED),
        ("(-1,)", zipfile.ZIP_STORED),
        ("(6,)", zipfile.ZIP_LZMA),  # could need any amount of memory
    ],
    ids=["scalar", "open", "negative", "lzma"],
)
def test_the_plan_does_not_count_the_images_of_a_bad_npz(shape: str, compression: int) -> None:
    header = f"{{'descr': '<i8', 'fortran_order': False, 'shape': {shape}}}".encode()
    with zipfile.ZipFile("train.npz", "w", compression) as archive:
        archive.writestr("label.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    assert planned_rows(file_source("npz:."), "train") is None


def test_a_file_removed_after_the_plan_is_refused() -> None:
    file = put("a/train.npz")
    source = file_source("npz:a")
    file.unlink()
    with pytest.raises(UserError, match=r"a/train\.npz .*gone"):
        planned_files(source)


def test_a_file_changed_after_the_plan_with_the_same_time_is_refused() -> None:
    file = put("a/train.npz", b"one")
    source, status = file_source("npz:a"), file.stat()
    put("a/train.npz", b"two")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(UserError, match=r"a/train\.npz: .*changed"):
        require_unchanged(source)


def test_sources_import_neither_torch_nor_torchvision() -> None:
    code = "import sys, robustprune.images.sources; assert not {'torch', 'torchvision'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": str(WORKFLOW)})
