"""Download of a data set's files: several URLs, resumed after a broken connection, verified by MD5."""

from __future__ import annotations

import hashlib
import http.client
import logging
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from robustprune.core.errors import UserError
from robustprune.core.progress import Progress

logger = logging.getLogger(__name__)
TIMEOUT = 30  # seconds without a byte
READ_AT_ONCE = 2**18  # bytes
PAGE_STARTS = (b"<!doctype html", b"<html", b"<?xml", b"<head")


class WrongFile(Exception):
    """The server sent something other than the whole file."""


def fetch(urls: Sequence[str], target: Path, md5: str) -> None:
    """Download a file to ``target`` unless it exists.

    A partial download stays in ``<target>.part``; the next attempt requests the rest only.

    Args:
        urls: tried in this order.
        target: path of the file.
        md5: MD5 of the file, in hex.

    Raises:
        UserError: with the reason for each URL, if none provides the file.
    """
    if target.is_file():
        return
    part = target.with_name(f"{target.name}.part")
    problems = []
    for url in urls:
        try:
            _fetch_from(url, part, md5)
        except (OSError, http.client.HTTPException, WrongFile) as error:
            problems.append(f"{url}: {' '.join(str(error).split()) or type(error).__name__}")
            logger.warning("%s", problems[-1])
        else:
            part.replace(target)
            return
    raise UserError("; ".join(problems))


def _fetch_from(url: str, part: Path, md5: str) -> None:
    have = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
            _store(response, part, have if response.status == http.HTTPStatus.PARTIAL_CONTENT else 0)
    except urllib.error.HTTPError as error:
        if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:  # otherwise the part is complete
            raise
    actual = hashlib.md5(part.read_bytes(), usedforsecurity=False).hexdigest()
    if actual != md5:
        part.unlink()
        raise WrongFile(f"the downloaded file has MD5 {actual}, expected {md5}")


def _store(response: http.client.HTTPResponse, part: Path, have: int) -> None:
    """Write the response after the first ``have`` bytes of ``part``."""
    expected = have + int(response.headers.get("Content-Length") or 0)
    with part.open("r+b" if have else "wb") as file:
        file.truncate(have)
        file.seek(have)
        with Progress(f"downloading {response.url}", total=max(expected, 1), unit="bytes", done=have) as progress:
            while content := response.read(READ_AT_ONCE):
                if file.tell() == 0 and content.lstrip()[:20].lower().startswith(PAGE_STARTS):
                    raise WrongFile("the server sent a web page instead of the file")
                file.write(content)
                progress.advance(len(content))
        if file.tell() < expected:
            raise WrongFile(f"received {file.tell():,} of {expected:,} bytes; rerun to download the rest")
