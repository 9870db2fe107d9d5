"""Downloads: tried URL by URL, resumed, verified, and skipped for existing files."""

import gzip
import hashlib
import io
import pickle
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import savemat
from torchvision.datasets import CIFAR100, MNIST, SVHN, FashionMNIST

from robustprune.core.errors import UserError
from robustprune.images.formats import torchvision
from robustprune.images.formats.download import fetch
from robustprune.images.ingested import IngestedPoolStage
from robustprune.images.sources import TorchvisionLocation
from test_pools import everything, idx_bytes, put_mnist, some_images

CONTENT = bytes(range(256)) * 4000
MD5 = hashlib.md5(CONTENT).hexdigest()


@dataclass
class Site:
    """A local server.

    Attributes:
        url: its URL.
        files: contents by path.
        cut: bytes after which it drops the connection, once.
        ranges: True if it supports the Range header.
        requests: path and Range header of each request.
    """

    url: str
    files: dict[str, bytes] = field(default_factory=dict)
    cut: int | None = None
    ranges: bool = True
    requests: list[tuple[str, str | None]] = field(default_factory=list)

    def download(self, target: Path, *names: str) -> None:
        fetch([f"{self.url}/{name}" for name in names], target, MD5)


@pytest.fixture
def site() -> Iterator[Site]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            here.requests.append((self.path, wanted))
            content = here.files.get(self.path)
            start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and here.ranges else 0
            if content is None or start >= len(content):
                self.send_error(404 if content is None else 416)
                return
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            end, here.cut = (here.cut or len(content)), None
            self.wfile.write(content[start:end])

        def log_message(self, *_: Any) -> None:
            """Log nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    here = Site(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield here
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "a"


def test_a_file_is_downloaded_once(site: Site, target: Path) -> None:
    site.files["/a"] = CONTENT
    for _ in range(2):
        site.download(target, "a")
    assert target.read_bytes() == CONTENT
    assert site.requests == [("/a", None)]
    assert list(target.parent.iterdir()) == [target]


def test_absent_files_wrong_files_and_web_pages_are_skipped_each_with_a_reason(site: Site, target: Path) -> None:
    site.files = {"/page": b"\n<!DOCTYPE html><title>Moved</title>", "/other": b"x" * 100, "/a": CONTENT}
    reasons = rf"/absent: .*404.*/page: .*web page.*/other: .*{hashlib.md5(b'x' * 100).hexdigest()}.*{MD5}"
    with pytest.raises(UserError, match=reasons) as refusal:
        site.download(target, "absent", "page", "other")
    assert "\n" not in str(refusal.value)
    assert not target.exists()
    site.download(target, "absent", "page", "other", "a")
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("ranges", [True, False], ids=["rest_only", "from_the_start"])
def test_a_broken_download_is_resumed(ranges: bool, site: Site, target: Path) -> None:
    site.files["/a"], site.cut, site.ranges = CONTENT, 300_000, ranges
    with pytest.raises(UserError, match=r"/a: .*300,000 of 1,024,000"):
        site.download(target, "a")
    assert target.with_name("a.part").read_bytes() == CONTENT[:300_000]
    site.download(target, "a")
    assert target.read_bytes() == CONTENT
    assert site.requests == [("/a", None), ("/a", "bytes=300000-")]


def test_a_complete_part_is_not_downloaded_again(site: Site, target: Path) -> None:
    site.files["/a"] = CONTENT
    target.with_name("a.part").write_bytes(CONTENT)
    site.download(target, "a")
    assert target.read_bytes() == CONTENT


def spec_of(name: str, folder: Path, mirror: str | None = None, split: str = "train") -> IngestedPoolStage:
    """A set in a folder, downloaded from the mirror if there is one."""
    mirrors = () if mirror is None else (mirror,)
    location = TorchvisionLocation(folder=str(folder), download=mirror is not None, mirrors=mirrors)
    source = {"format": "torchvision", "name": name, "location": location.model_dump()}
    return IngestedPoolStage.model_validate(
        {"dataset": "some", "split": split, "classes": 10, "image_shape": (1, 28, 28), "source": source}
    )


@pytest.fixture(autouse=True)
def only_mirrors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torchvision, "FOLDER_URLS", dict.fromkeys(torchvision.FOLDER_URLS, ()))


def test_mnist_is_downloaded_from_a_mirror(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = put_mnist(tmp_path / "theirs", monkeypatch)
    files = {path.name.removesuffix(".gz"): path for path in (tmp_path / "theirs" / "MNIST" / "raw").iterdir()}
    packed = {f"{stem}.gz": gzip.compress(_unpacked(path)) for stem, path in files.items()}
    monkeypatch.setattr(MNIST, "resources", list(md5_of(packed).items()))
    site.files = {f"/{name}": content for name, content in packed.items()}
    spec = spec_of("MNIST", tmp_path / "data", site.url)
    for _ in range(2):
        assert np.array_equal(everything(spec)[0], images[:, None])
    assert len(site.requests) == 4


def _unpacked(path: Path) -> bytes:
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


def md5_of(contents: dict[str, bytes]) -> dict[str, str]:
    return {name: hashlib.md5(content).hexdigest() for name, content in contents.items()}


def put_cifar100(monkeypatch: pytest.MonkeyPatch) -> tuple[Any, bytes]:
    """Replace CIFAR-100 by six images; return them and their archive."""
    images = some_images(6, 3, 32, 32)
    contents = {
        "train": pickle.dumps({"data": images[:4].reshape(4, -1), "fine_labels": [1, 2, 3, 4]}),
        "test": pickle.dumps({"data": images[4:].reshape(2, -1), "fine_labels": [5, 6]}),
        "meta": pickle.dumps({"fine_label_names": list("abcdefg")}),
    }
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name, content in contents.items():
            member = tarfile.TarInfo(f"cifar-100-python/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    md5 = md5_of({**contents, "archive": file.getvalue()})
    monkeypatch.setattr(CIFAR100, "train_list", [["train", md5["train"]]])
    monkeypatch.setattr(CIFAR100, "test_list", [["test", md5["test"]]])
    monkeypatch.setattr(CIFAR100, "meta", {"filename": "meta", "key": "fine_label_names", "md5": md5["meta"]})
    monkeypatch.setattr(CIFAR100, "tgz_md5", md5["archive"])
    return images, file.getvalue()


def test_cifar100_is_downloaded_and_unpacked(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images, archive = put_cifar100(monkeypatch)
    site.files["/cifar-100-python.tar.gz"] = archive
    for split, rows, labels in (("train", slice(0, 4), [1, 2, 3, 4]), ("test", slice(4, 6), [5, 6])):
        read = everything(spec_of("CIFAR100", tmp_path / "data", site.url, split))
        assert np.array_equal(read[0], images[rows])
        assert read[1].tolist() == labels
    assert len(site.requests) == 1
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == [".CIFAR100.lock", "cifar-100-python"]


def test_an_existing_archive_is_verified(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, archive = put_cifar100(monkeypatch)
    (tmp_path / "cifar-100-python.tar.gz").write_bytes(archive[:-9] + b"\0" + archive[-8:])
    with pytest.raises(UserError, match=r"cifar-100-python\.tar\.gz .*CIFAR100.*MD5"):
        everything(spec_of("CIFAR100", tmp_path, site.url))
    assert not (tmp_path / ".cifar-100-python.partial").exists()
    assert site.requests == []


def test_svhn_maps_label_10_to_0(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = some_images(5, 3, 32, 32)
    file = tmp_path / "svhn" / "train_32x32.mat"
    file.parent.mkdir()
    savemat(file, {"X": images.transpose(2, 3, 1, 0), "y": np.array([[1], [2], [10], [9], [10]], np.uint8)})
    monkeypatch.setattr(SVHN, "split_list", {"train": ["", file.name, hashlib.md5(file.read_bytes()).hexdigest()]})
    read, labels = everything(spec_of("SVHN", tmp_path))
    assert np.array_equal(read, images)
    assert labels.tolist() == [1, 2, 0, 9, 0]


def test_fashion_mnist_is_verified_as_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "FashionMNIST" / "raw"
    folder.mkdir(parents=True)
    images, labels = some_images(7, 28, 28), np.arange(7, dtype=np.uint8)
    contents = {
        "train-images-idx3-ubyte.gz": gzip.compress(idx_bytes(images)),
        "train-labels-idx1-ubyte.gz": gzip.compress(idx_bytes(labels)),
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    monkeypatch.setattr(FashionMNIST, "resources", list(md5_of(contents).items()))
    spec = spec_of("FashionMNIST", tmp_path)
    (folder / "train-images-idx3-ubyte").write_bytes(idx_bytes(images[::-1]))  # has no known MD5, so it is not read
    assert np.array_equal(everything(spec)[0], images[:, None])
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(b"other"))
    with pytest.raises(UserError, match=r"train-labels-idx1-ubyte\.gz .*FashionMNIST.*MD5"):
        everything(spec)


def test_a_failed_download_suggests_other_sources(site: Site, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.source = torchvision: MNIST .*404.*idx:FOLDER.*data\.mirrors"):
        everything(spec_of("MNIST", tmp_path / "data", site.url))
