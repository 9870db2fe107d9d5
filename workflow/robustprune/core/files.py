"""Atomic writes, and digests of files, cached on disk to keep planning fast."""

import base64
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from threading import Event
from typing import Literal

from blake3 import blake3

READ_AT_ONCE = 2**20  # bytes
DIGEST_CACHE = Path("results/.known_digests.json")
DigestKind = Literal["blake3", "sha256"]


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path that replaces ``path`` when the block ends without an error."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")  # hosts may write to a shared folder at once
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        if error.filename is None:  # a failed write does not name the file
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` atomically: a reader sees the old or the new content, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_text(text)


def move_over(source: Path, target: Path) -> None:
    """Flush a file or folder to disk, then move it over ``target``, which a killed attempt may have left."""
    for file in (path for path in (source, *source.rglob("*")) if path.is_file()):
        with file.open("rb") as content:
            os.fsync(content.fileno())
    if target.is_dir():
        shutil.rmtree(target)
    source.replace(target)


def is_utf8(name: str) -> bool:
    """True if a file name is UTF-8: Python represents other bytes by lone surrogates, which cannot be encoded."""
    return name.encode(errors="ignore").decode() == name


def hasher() -> blake3:
    """Return a BLAKE3 hasher, which is as safe as SHA-256 and more than twice as fast."""
    return blake3()


def digest(path: Path, *, stop: Event | None = None) -> str:
    """Return the BLAKE3 of a file, or the SHA-256 of the sorted names and digests of all files in a folder, in hex.

    Reading ends once ``stop`` is set; the result is meaningless then.
    """
    if path.is_dir():
        files = (file for file in sorted(path.rglob("*")) if file.is_file())
        lines = [f"{file.relative_to(path)} {digest(file, stop=stop)}" for file in files]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()
    hashed, buffer = hasher(), memoryview(bytearray(READ_AT_ONCE))
    with path.open("rb", buffering=0) as file:
        while (count := file.readinto(buffer)) and not (stop and stop.is_set()):
            hashed.update(buffer[:count])
    return hashed.hexdigest()


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hex, which publishers of checkpoints state."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_lines(lines: Iterable[str]) -> str:
    """Return the SHA-256 of lines of text."""
    return hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()


def file_digest(path: Path, kind: DigestKind = "blake3") -> str:
    """Return the digest of a file in hex, cached by path, size, times and inode to keep planning fast."""
    return _cached_file_digest(str(path.absolute()), file_state(path), kind)


def file_state(path: Path) -> str:
    """Return a text that changes if a file is written or replaced, even with the same size and modification time."""
    status = path.stat()
    return f"{status.st_size}|{status.st_mtime_ns}|{status.st_ctime_ns}|{status.st_ino}"


@cache
def _cached_file_digest(path: str, state: str, kind: DigestKind) -> str:
    compute = digest if kind == "blake3" else sha256
    return cached_digest(f"{path}|{state}|{kind}", lambda: compute(Path(path)))


def cached_digest(key: str, compute: Callable[[], str]) -> str:
    """Return a digest from the cache on disk; compute and store it if it is not there."""
    try:
        known = json.loads(DIGEST_CACHE.read_text())
    except (FileNotFoundError, ValueError):  # absent or damaged
        known = {}
    if not isinstance(known, dict):
        known = {}
    if key not in known:
        known[key] = compute()
        with suppress(OSError):  # the cache is optional: the folder may be read-only
            write_text(DIGEST_CACHE, json.dumps(known))
    return str(known[key])


def data_uri(path: Path, media_type: str) -> str:
    """Return the content of a file as a data URI, for self-contained HTML pages."""
    return f"data:{media_type};base64,{base64.b64encode(path.read_bytes()).decode()}"
