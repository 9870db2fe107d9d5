"""Fetching a file of a data set: several places in turn, from where an earlier attempt stopped, known by its MD5."""

import hashlib
import http.client
import logging
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from robustprune.errors import UserError
from robustprune.progress import Progress

logger = logging.getLogger(__name__)
TIMEOUT = 30  # seconds without a byte
READ_AT_ONCE = 2**18  # bytes
PAGE_STARTS = (b"<!doctype html", b"<html", b"<?xml", b"<head")


class WrongFile(Exception):
    """What came is not the file."""


def fetch(urls: Sequence[str], target: Path, md5: str) -> None:
    """Bring a file to ``target`` unless it is there.

    What has come lies in ``target`` with ``.part`` at its end, and a later attempt asks for the rest only.

    Args:
        urls: where it can be had; the first that gives it is enough.
        target: where it goes.
        md5: of the whole file, in hex.

    Raises:
        UserError: saying of each place why it did not give the file.
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
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            _store(answer, part, have if answer.status == http.HTTPStatus.PARTIAL_CONTENT else 0)
    except urllib.error.HTTPError as error:
        if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:  # all of it was there
            raise
    found = hashlib.md5(part.read_bytes(), usedforsecurity=False).hexdigest()
    if found != md5:
        part.unlink()
        raise WrongFile(f"what came has the MD5 {found}, but should have {md5}")


def _store(answer: http.client.HTTPResponse, part: Path, have: int) -> None:
    """Write the answer behind the first ``have`` bytes of ``part``."""
    expected = have + int(answer.headers.get("Content-Length") or 0)
    with part.open("r+b" if have else "wb") as file:
        file.truncate(have)
        file.seek(have)
        with Progress(f"fetching {answer.url}", total=max(expected, 1), unit="bytes", done=have) as progress:
            while content := answer.read(READ_AT_ONCE):
                if file.tell() == 0 and content.lstrip()[:20].lower().startswith(PAGE_STARTS):
                    raise WrongFile("a web page came, and not the file")
                file.write(content)
                progress.advance(len(content))
        if file.tell() < expected:
            raise WrongFile(f"{file.tell():,} of {expected:,} bytes came; the next attempt asks for the rest")
