"""Where shared stores may lie, as text: what a location can be, and how it is told without its credentials."""

import json
import os
import re
from collections.abc import Sequence
from urllib.parse import urlsplit

VARIABLE = "ROBUSTPRUNE_SHARED_STORES"
LOOPBACK = ("127.0.0.1", "localhost", "::1")
KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
"""Variables whose values a server may quote when it refuses a request."""


def without_credentials(text: str) -> str:
    """The same text; its URLs have lost ``user:password@`` and all behind ``?``, where signatures stand.

    It takes too much rather than too little: a URL is cut at its last ``@``.
    """
    for key in KEYS:
        if value := os.environ.get(key):
            text = text.replace(value, "***")
    text = re.sub(r"(?<=://)[^\s'\"]*@", "***@", text)
    return re.sub(r"(\b[a-z][a-z0-9+.-]*://[^\s?#'\"]*)[?#][^\s'\"]*", r"\1?***", text)


def location_problem(location: str) -> str | None:
    """Why a text names no place for stores; None where it does."""
    try:
        parts = urlsplit(location)
        host = parts.hostname or ""
    except ValueError:
        return "is not a URL"
    if "://" not in location:
        return None if location.strip() else "should be a folder, s3://bucket/prefix or https://..."
    if parts.scheme == "s3" and host and not (parts.query or "@" in parts.netloc):
        return None
    if host and (parts.scheme == "https" or (parts.scheme == "http" and host in LOOPBACK)):
        return None
    return "should be a folder, s3://bucket/prefix or https://... (http:// only on this machine)"


def put_into_environment(locations: Sequence[str]) -> None:
    """Tell this process' jobs where shared stores lie: not in their commands, which are printed and logged."""
    os.environ[VARIABLE] = json.dumps(list(locations))


def shared_from_environment() -> tuple[str, ...] | None:
    """What ``put_into_environment`` told; None outside a workflow's jobs."""
    told = os.environ.get(VARIABLE)
    return None if told is None else tuple(json.loads(told))
