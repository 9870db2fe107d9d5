"""Digests of files, cached on disk to keep planning fast."""

import hashlib
import json
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Literal

from robustprune.core.files import digest, sha256, write_text

DIGEST_CACHE = Path("results/.known_digests.json")
DigestKind = Literal["blake3", "sha256"]


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
    known = _read_digest_cache()
    if key not in known:
        known[key] = compute()
        with suppress(OSError):  # the cache is optional: the folder may be read-only
            write_text(DIGEST_CACHE, json.dumps(known))
    return known[key]


def _read_digest_cache() -> dict[str, str]:
    try:
        known = json.loads(DIGEST_CACHE.read_text())
    except (FileNotFoundError, ValueError):  # absent or damaged
        return {}
    return known if isinstance(known, dict) else {}
