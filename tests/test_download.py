"""Downloads: places in turn, resumed, checked; a web page is not the file; what is there is not fetched again."""

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

from robustprune.errors import UserError
from robustprune.pools.ingest import torchvision
from robustprune.pools.ingest.download import fetch
from robustprune.specs import IngestedPoolSpec, TorchvisionLocation, TorchvisionSource
from test_pools import everything, idx_bytes, put_mnist, some_images

CONTENT = bytes(range(256)) * 4000
MD5 = hashlib.md5(CONTENT).hexdigest()


@dataclass
class Site:
    """A server on this machine.

    Attributes:
        url: where it is.
        files: what it has, by path.
        cut: bytes after which it drops the connection, once.
        asked: paths and the Range header of each request.
    """

    url: str
    files: dict[str, bytes] = field(default_factory=dict)
    cut: int | None = None
    ranges: bool = True
    asked: list[tuple[str, str | None]] = field(default_factory=list)


@pytest.fixture
def site() -> Iterator[Site]:
    """Serve until the test ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            here.asked.append((self.path, wanted))
            content = here.files.get(self.path)
            if content is None:
                self.send_error(404)
                return
            start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and here.ranges else 0
            if start and start >= len(content):
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            end, here.cut = (here.cut or len(content)), None
            self.wfile.write(content[start:end])

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    here = Site(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield here
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_file_comes_whole_and_only_once(site: Site, tmp_path: Path) -> None:
    site.files["/a"] = CONTENT
    for _ in range(2):
        fetch([f"{site.url}/a"], tmp_path / "a", MD5)
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert site.asked == [("/a", None)]
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_what_is_absent_wrong_or_a_web_page_is_passed_over(site: Site, tmp_path: Path) -> None:
    site.files = {"/page": b"\n<!DOCTYPE html><title>Moved</title>", "/other": b"x" * 100, "/a": CONTENT}
    fetch([f"{site.url}/{name}" for name in ("absent", "page", "other", "a")], tmp_path / "a", MD5)
    assert (tmp_path / "a").read_bytes() == CONTENT


def test_each_place_is_named_with_its_reason_when_none_has_the_file(site: Site, tmp_path: Path) -> None:
    site.files = {"/page": b"<html>", "/other": b"x" * 100}
    with pytest.raises(UserError) as refusal:
        fetch([f"{site.url}/{name}" for name in ("absent", "page", "other")], tmp_path / "a", MD5)
    message = str(refusal.value)
    assert "/absent: HTTP Error 404" in message
    assert "/page: a web page came, and not the file" in message
    assert f"/other: what came has the MD5 {hashlib.md5(b'x' * 100).hexdigest()}, but should have {MD5}" in message
    assert "\n" not in message
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("ranges", [True, False], ids=["asks_for_the_rest", "gets_all_again"])
def test_a_broken_connection_is_gone_on_from(ranges: bool, site: Site, tmp_path: Path) -> None:
    site.files["/a"], site.cut, site.ranges = CONTENT, 300_000, ranges
    with pytest.raises(UserError):
        fetch([f"{site.url}/a"], tmp_path / "a", MD5)
    assert (tmp_path / "a.part").read_bytes() == CONTENT[:300_000]
    fetch([f"{site.url}/a"], tmp_path / "a", MD5)
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert site.asked == [("/a", None), ("/a", "bytes=300000-")]


def test_a_whole_part_is_not_fetched_again(site: Site, tmp_path: Path) -> None:
    site.files["/a"] = CONTENT
    (tmp_path / "a.part").write_bytes(CONTENT)
    fetch([f"{site.url}/a"], tmp_path / "a", MD5)
    assert (tmp_path / "a").read_bytes() == CONTENT


def spec_of(name: str, location: TorchvisionLocation, split: str = "train") -> IngestedPoolSpec:
    source = TorchvisionSource.model_validate({"name": name, "location": location.model_dump()})
    return IngestedPoolSpec.model_validate(
        {"dataset": "some", "split": split, "classes": 10, "image_shape": (1, 28, 28), "source": source.model_dump()}
    )


def from_mirror(site: Site, folder: Path) -> TorchvisionLocation:
    return TorchvisionLocation(folder=str(folder), download=True, mirrors=(site.url,))


@pytest.fixture(autouse=True)
def only_mirrors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is fetched from anywhere else."""
    monkeypatch.setattr(torchvision, "FOLDER_URLS", dict.fromkeys(torchvision.FOLDER_URLS, ()))


def test_mnist_is_downloaded_from_a_mirror(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = put_mnist(tmp_path / "theirs", monkeypatch)
    files = {path.name.removesuffix(".gz"): path for path in (tmp_path / "theirs" / "MNIST" / "raw").iterdir()}
    packed = {f"{stem}.gz": gzip.compress(_unpacked(path)) for stem, path in files.items()}
    monkeypatch.setattr(
        MNIST, "resources", [(name, hashlib.md5(content).hexdigest()) for name, content in packed.items()]
    )
    site.files = {f"/{name}": content for name, content in packed.items()}
    spec = spec_of("MNIST", from_mirror(site, tmp_path / "data"))
    for _ in range(2):
        assert np.array_equal(everything(torchvision, spec)[0], images[:, None])
    assert len(site.asked) == 4


def _unpacked(path: Path) -> bytes:
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


def put_cifar100(monkeypatch: pytest.MonkeyPatch) -> tuple[Any, bytes]:
    """A stand-in for CIFAR-100: its images, and the archive that it is published as."""
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
    md5 = {name: hashlib.md5(content).hexdigest() for name, content in contents.items()}
    monkeypatch.setattr(CIFAR100, "train_list", [["train", md5["train"]]])
    monkeypatch.setattr(CIFAR100, "test_list", [["test", md5["test"]]])
    monkeypatch.setattr(CIFAR100, "meta", {"filename": "meta", "key": "fine_label_names", "md5": md5["meta"]})
    monkeypatch.setattr(CIFAR100, "tgz_md5", hashlib.md5(file.getvalue()).hexdigest())
    return images, file.getvalue()


def test_cifar100_is_downloaded_and_unpacked(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images, archive = put_cifar100(monkeypatch)
    site.files["/cifar-100-python.tar.gz"] = archive
    for split, rows, labels in (("train", slice(0, 4), [1, 2, 3, 4]), ("test", slice(4, 6), [5, 6])):
        found = everything(torchvision, spec_of("CIFAR100", from_mirror(site, tmp_path / "data"), split))
        assert np.array_equal(found[0], images[rows])
        assert found[1].tolist() == labels
    assert len(site.asked) == 1
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == [".CIFAR100.lock", "cifar-100-python"]


def test_an_archive_that_was_there_is_compared_before_it_is_unpacked(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, archive = put_cifar100(monkeypatch)
    (tmp_path / "cifar-100-python.tar.gz").write_bytes(archive[:-9] + b"\0" + archive[-8:])
    with pytest.raises(UserError, match=r"cifar-100-python\.tar\.gz is not CIFAR100's: its content has the MD5 "):
        everything(torchvision, spec_of("CIFAR100", from_mirror(site, tmp_path)))
    assert not (tmp_path / ".cifar-100-python.partial").exists()
    assert site.asked == []


def test_svhn_has_noughts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = some_images(5, 3, 32, 32)
    (tmp_path / "svhn").mkdir()
    file = tmp_path / "svhn" / "train_32x32.mat"
    savemat(file, {"X": images.transpose(2, 3, 1, 0), "y": np.array([[1], [2], [10], [9], [10]], np.uint8)})
    md5 = hashlib.md5(file.read_bytes()).hexdigest()
    monkeypatch.setattr(SVHN, "split_list", {"train": ["", file.name, md5]})
    found, labels = everything(torchvision, spec_of("SVHN", TorchvisionLocation(folder=str(tmp_path), download=False)))
    assert np.array_equal(found, images)
    assert labels.tolist() == [1, 2, 0, 9, 0]


def test_fashion_mnist_is_known_as_it_is_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "FashionMNIST" / "raw"
    folder.mkdir(parents=True)
    images = some_images(7, 28, 28)
    contents = {"train-images-idx3-ubyte.gz": images, "train-labels-idx1-ubyte.gz": np.arange(7, dtype=np.uint8)}
    for name, content in contents.items():
        (folder / name).write_bytes(gzip.compress(idx_bytes(content)))
    known = [(name, hashlib.md5((folder / name).read_bytes()).hexdigest()) for name in contents]
    monkeypatch.setattr(FashionMNIST, "resources", known)
    spec = spec_of("FashionMNIST", TorchvisionLocation(folder=str(tmp_path), download=False))
    (folder / "train-images-idx3-ubyte").write_bytes(idx_bytes(images[::-1]))  # not known, so not read
    assert np.array_equal(everything(torchvision, spec)[0], images[:, None])
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(b"other"))
    with pytest.raises(UserError, match=r"train-labels-idx1-ubyte\.gz is not FashionMNIST's: its content has the MD5"):
        everything(torchvision, spec)


def test_a_failed_download_names_the_way_without_a_network(site: Site, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"MNIST could not be downloaded \(.*HTTP Error 404.*idx:FOLDER; data\.mirrors"):
        everything(torchvision, spec_of("MNIST", from_mirror(site, tmp_path / "data")))
