"""Where shared stores lie: a folder, a bucket behind an S3 API, or a web server, which can only be read.

    index.json                              the ids, for readers of a web server, which cannot list a folder
    stores/<id>.json                        what a store is (``entry``); written last, it makes the store visible
    stores/<id>/card.md                     the same for people
    stores/<id>/<digest>/scores.zarr/...    the store; files of another content would lie in another folder

Paths are made by us of ids, digests and names that were checked, and are relative to the place.
"""

import base64
import json
import os
import secrets
import shutil
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit, urlunsplit

from robustprune.core.errors import UserError
from robustprune.core.files import replacing
from robustprune.core.locations import LOOPBACK, location_problem, without_credentials
from robustprune.core.stage import is_stage_id

if TYPE_CHECKING:  # planning without remote places does not need it
    from obstore.store import HTTPStore, S3Store

INDEX_FILE = "index.json"
STORES = "stores"
LARGEST_INDEX = 2**25  # bytes: a third of a million ids
CLIENT: Any = {"connect_timeout": "10 seconds", "timeout": "10 minutes"}  # a request fetches 4 MiB at most
RETRY: Any = {"max_retries": 3, "retry_timeout": timedelta(seconds=60)}


class Place(ABC):
    """A place where stores lie."""

    name: str  # for people, without credentials

    @abstractmethod
    def published(self, wanted: Collection[str] | None = None) -> set[str]:
        """Return the ids of the stores that can be pulled, or which of the ``wanted`` ones can. Raises UserError."""

    @abstractmethod
    def read(self, path: str, limit: int) -> bytes:
        """The content of a small file. Raises UserError when it is missing or has more than ``limit`` bytes."""

    @abstractmethod
    def fetch(self, path: str, target: Path, size: int) -> None:
        """Append to ``target`` what it lacks of a file of ``size`` bytes. Raises UserError when it has another size."""


class WritablePlace(Place):
    """A place that one can publish to."""

    @abstractmethod
    def put(self, source: Path | bytes, path: str) -> None:
        """Bring a file, or the bytes of one, to a path, whole or not at all, in place of what was there."""

    @abstractmethod
    def create(self, path: str, content: bytes) -> bool:
        """Write a file whole where there is none; return False where there is one."""


def open_place(location: str) -> Place:
    """Return the place that a setting names, before anything is asked of it. Raises UserError for an invalid one."""
    if (problem := location_problem(location)) is not None:
        raise UserError(f"{without_credentials(location)} {problem}")
    if "://" not in location:
        return Folder(Path(location).expanduser())
    return Bucket(location) if location.startswith("s3://") else WebServer(location)


def open_writable_place(location: str) -> WritablePlace:
    """The same for a place to publish to. Raises UserError for one that can only be read."""
    place = open_place(location)
    if not isinstance(place, WritablePlace):
        raise UserError(f"{place.name} can only be read; publish to a folder or to s3://bucket/prefix")
    return place


def entry_path(stage_id: str) -> str:
    """Return where a place says what a store is."""
    return f"{STORES}/{stage_id}.json"


class Folder(WritablePlace):
    """A folder, on a disk that teams share. Nothing in it is read through a symbolic link."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.name = str(root)

    def published(self, wanted: Collection[str] | None = None) -> set[str]:
        if not self.root.is_dir():
            raise UserError(f"shared store {self.name}: there is no such folder; make it, or take it off the list")
        try:
            if wanted is None:
                wanted = [path.stem for path in (self.root / STORES).glob("*.json") if is_stage_id(path.stem)]
            return {stage_id for stage_id in wanted if (self.root / entry_path(stage_id)).is_file()}
        except OSError as error:
            raise UserError(f"shared store {self.name} cannot be read: {error}") from None

    def read(self, path: str, limit: int) -> bytes:
        file = self._file(path)
        if file.stat().st_size > limit:
            raise UserError(f"{file} has {file.stat().st_size:,} bytes, but should have at most {limit:,}")
        return file.read_bytes()

    def fetch(self, path: str, target: Path, size: int) -> None:
        found = self._file(path).stat().st_size
        if found != size:
            raise UserError(f"{self.root / path} has {found:,} bytes, but should have {size:,}")
        with self._file(path).open("rb") as source, target.open("ab") as copy:
            source.seek(copy.tell())
            if copy.tell() == 0:
                shutil.copyfile(source.name, target)  # by the kernel, where it can
            else:
                shutil.copyfileobj(source, copy, 2**20)

    def put(self, source: Path | bytes, path: str) -> None:
        with replacing(self._parent(path)) as temporary:
            if isinstance(source, bytes):
                temporary.write_bytes(source)
            else:
                shutil.copyfile(source, temporary)

    def create(self, path: str, content: bytes) -> bool:
        target = self._parent(path)
        temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
        try:
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.link(temporary, target)  # of several who create the same file, one can
        except FileExistsError:
            return False
        finally:
            temporary.unlink(missing_ok=True)
        return True

    def _parent(self, path: str) -> Path:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        return target

    def _file(self, path: str) -> Path:
        file = self.root
        for part in path.split("/"):
            file /= part
            if file.is_symlink():
                raise UserError(f"{file} is a symbolic link, which is not followed in a shared store")
        if not file.is_file():
            raise UserError(f"{file} is missing")
        return file


class Remote(Place):
    """A place that ``obstore`` reaches. Nothing of a server's answers is believed but the bytes."""

    objects: "S3Store | HTTPStore"

    def read(self, path: str, limit: int) -> bytes:
        content = bytearray()
        with self._plain_errors(path):
            for piece in self.objects.get(path):
                content += piece
                if len(content) > limit:
                    raise UserError(f"{self.name}/{path} has more than {limit:,} bytes")
        return bytes(content)

    def fetch(self, path: str, target: Path, size: int) -> None:
        with target.open("ab") as file, self._plain_errors(path):
            start = file.tell()
            for piece in self.objects.get(path, options={"range": {"offset": start}} if start else None):
                if file.tell() + len(piece) > size:
                    raise UserError(f"{self.name}/{path} has more than the {size:,} bytes that it should have")
                file.write(piece)

    @contextmanager
    def _plain_errors(self, path: str) -> Iterator[None]:
        """Raise the failures of a request as UserErrors of one sentence, without credentials."""
        from obstore.exceptions import BaseError, NotSupportedError

        try:
            yield
        except FileNotFoundError:
            raise UserError(f"{self.name}/{path} is missing") from None
        except NotSupportedError as error:
            if "Range" not in str(error):
                raise
            raise UserError(
                f"{self.name} ignores range requests, so what it sends cannot be relied on and no broken download "
                "could go on; serve the folder by nginx, Apache or an S3 API instead"
            ) from None
        except BaseError as error:
            first_line = str(error).split("Debug source")[0].split("<", 1)[0].strip().splitlines()[0]
            raise UserError(f"{self.name}/{path}: {without_credentials(first_line)[:300]}") from None


class Bucket(Remote, WritablePlace):
    """A bucket behind an S3 API, below a prefix. Key, region, endpoint come from the usual variables ``AWS_...``."""

    def __init__(self, location: str) -> None:
        from obstore.store import S3Store

        parts = urlsplit(location)
        prefix = parts.path.strip("/")
        self.name = f"s3://{parts.netloc}/{prefix}".rstrip("/")
        endpoint = urlsplit(os.environ.get("AWS_ENDPOINT_URL", "")).hostname
        plain = endpoint in LOOPBACK or os.environ.get("AWS_ALLOW_HTTP", "").lower() == "true"
        client: Any = {**CLIENT, "allow_http": plain}
        self.objects = S3Store(parts.netloc, prefix=prefix or None, client_options=client, retry_config=RETRY)

    def published(self, wanted: Collection[str] | None = None) -> set[str]:
        with self._plain_errors(STORES):
            listed = self.objects.list_with_delimiter(STORES)["objects"]  # a request for a thousand
        names = [Path(item["path"]) for item in listed]
        found = {name.stem for name in names if name.suffix == ".json" and is_stage_id(name.stem)}
        return found if wanted is None else found & set(wanted)

    def put(self, source: Path | bytes, path: str) -> None:
        with self._plain_errors(path):
            self.objects.put(path, source)

    def create(self, path: str, content: bytes) -> bool:
        from obstore.exceptions import AlreadyExistsError

        with self._plain_errors(path):
            try:
                self.objects.put(path, content, mode="create")
            except AlreadyExistsError:
                return False
        return True


class WebServer(Remote):
    """A folder that a web server shows. It is read; a user and a password may stand in the URL, a signature behind it.

    A server has to answer range requests. One that does not, such as Python's own, is refused at the first request.
    """

    def __init__(self, location: str) -> None:
        from obstore.store import HTTPStore

        parts = urlsplit(location)
        host = parts.netloc.rpartition("@")[2]
        self.name = f"{parts.scheme}://{host}{parts.path}".rstrip("/")
        client: Any = {**CLIENT, "allow_http": parts.scheme == "http"}
        if parts.username is not None:
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            client["default_headers"] = {"authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
        url = urlunsplit((parts.scheme, host, parts.path.rstrip("/"), parts.query, ""))
        self.objects = HTTPStore.from_url(url, client_options=client, retry_config=RETRY)

    def published(self, wanted: Collection[str] | None = None) -> set[str]:
        with self._plain_errors(INDEX_FILE):
            self.objects.get_range(INDEX_FILE, start=0, end=1)
        found = read_index(self.read(INDEX_FILE, LARGEST_INDEX), origin=f"{self.name}/{INDEX_FILE}")
        return found if wanted is None else found & set(wanted)


def read_index(content: bytes, *, origin: str) -> set[str]:
    """The ids in an index. Raises UserError when it is none."""
    try:
        ids = json.loads(content)["ids"]
        found = {stage_id for stage_id in ids if isinstance(stage_id, str) and is_stage_id(stage_id)}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{origin} is not an index of shared stores ({type(error).__name__})") from None
    if len(found) != len(ids):
        raise UserError(f"{origin} is not an index of shared stores: not all that it lists are ids")
    return found


def write_index(place: WritablePlace) -> None:
    """Bring a place's index up to what it has, also where others publish at the same time.

    Whoever writes an index lists again afterwards: an entry that came between is either seen then, or its publisher
    writes the index later.
    """
    written: set[str] | None = None
    while (ids := place.published()) != written:
        text = json.dumps({"schema_version": 1, "ids": sorted(ids)}, indent=1) + "\n"
        place.put(text.encode(), INDEX_FILE)
        written = ids
