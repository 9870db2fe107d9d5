"""Locations of shared stores: validation, removal of credentials, and the environment variable that passes them on."""

import json
import os
import re
from collections.abc import Sequence
from urllib.parse import urlsplit

VARIABLE = "ROBUSTPRUNE_SHARED_STORES"
LOOPBACK = ("127.0.0.1", "localhost", "::1")
KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
"""Environment variables whose values a server may quote in an error message."""


def without_credentials(text: str) -> str:
    """Replace ``user:password@``, queries and fragments of URLs and the values of ``KEYS`` in a text by ``***``.

    It removes too much rather than too little: everything before the last ``@`` of a URL.
    """
    for key in KEYS:
        if value := os.environ.get(key):
            text = text.replace(value, "***")
    text = re.sub(r"(?<=://)[^\s'\"]*@", "***@", text)
    return re.sub(r"(\b[a-z][a-z0-9+.-]*://[^\s?#'\"]*)[?#][^\s'\"]*", r"\1?***", text)


def location_problem(location: str) -> str | None:
    """Return the problem of an invalid location of a store; None if it is valid."""
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
    """Pass the locations to this process' jobs; their commands are printed and logged, so must not contain them."""
    os.environ[VARIABLE] = json.dumps(list(locations))


def shared_from_environment() -> tuple[str, ...] | None:
    """Return the locations of ``put_into_environment``; None outside a workflow's jobs."""
    value = os.environ.get(VARIABLE)
    return None if value is None else tuple(json.loads(value))
