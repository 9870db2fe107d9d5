"""What a store's own zarr.json says, and whether it can be true: a store may come from a stranger."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from robustprune.core.errors import UserError
from robustprune.core.settings import COLUMN_PATTERN
from robustprune.scores.store import layout
from robustprune.scores.store.layout import FILL_VALUES, GROUP_FILE, SCHEMA_VERSION, checksum_of, shard_names
from robustprune.scores.store.shards import largest_shard

FILE_TYPES = {"bytes": int, "seal": str}
LARGEST_GROUP_FILE = 2**26  # bytes; the largest recording of the papers' scale needs a fifth
LARGEST_ARRAY_FILE = 2**16  # bytes; they have a thousand or two


def contents_of(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what the zarr.json of the store at ``path`` says, after a check that it can be true.

    Returns:
        what its writer had to say of it, and its ``rows``, ``epochs``, ``dtypes`` and ``files``.

    Raises:
        UserError: when there is none, it is damaged, or it describes what no store of this schema is.
    """
    try:
        attributes = _read_attributes(path / GROUP_FILE)
        version = attributes.pop("schema_version")
        if version != SCHEMA_VERSION:
            raise UserError(
                f"{path} has schema version {_short(version)}, but this version reads {SCHEMA_VERSION}; make it again"
            )
        checksum = attributes.pop("checksum")
        intact = checksum == checksum_of(attributes)
        contents = {key: attributes.pop(key) for key in ("rows", "epochs", "dtypes", "files")}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{path} is not a finished store ({type(error).__name__}: {error})") from None
    if not intact:
        raise UserError(f"{path / GROUP_FILE} is damaged: its attributes are not those it was written with")
    problem = _impossible_dimensions(contents) or _impossible_files(contents)
    if problem is not None:
        raise UserError(f"{path / GROUP_FILE}: {problem}")
    return attributes, contents


def _read_attributes(path: Path) -> dict[str, Any]:
    if path.is_symlink() or path.stat().st_size > LARGEST_GROUP_FILE:
        raise ValueError(f"{path.name} is a link or has more than {LARGEST_GROUP_FILE} bytes")
    attributes: dict[str, Any] = json.loads(path.read_text())["attributes"]
    return attributes


def _impossible_dimensions(contents: Mapping[str, Any]) -> str | None:
    """Return why there is no store of such columns, rows and epochs; None where there could be."""
    rows, epochs, dtypes = contents["rows"], contents["epochs"], contents["dtypes"]
    if type(rows) is not int or rows < 1:
        return f"rows = {_short(rows)} should be a whole number above 0"
    if epochs is not None and (type(epochs) is not int or epochs < 1):
        return f"epochs = {_short(epochs)} should be a whole number above 0, or null"
    if not isinstance(dtypes, dict) or not dtypes:
        return "dtypes should name the columns"
    for name, dtype in dtypes.items():
        if re.fullmatch(COLUMN_PATTERN, name) is None:
            return f"{_short(name)} cannot be a column's name: it should be of a-z, 0-9 and _"
        if dtype not in list(FILL_VALUES):
            return f"column {name} is {_short(dtype)}, but should be one of {', '.join(FILL_VALUES)}"
    return None


def _impossible_files(contents: Mapping[str, Any]) -> str | None:
    """Return why these cannot be the files of a store of these rows; None where they can."""
    rows, epochs, dtypes, files = (contents[key] for key in ("rows", "epochs", "dtypes", "files"))
    count = len(dtypes) * (1 + -(-rows // layout.SHARD_ROWS) * (epochs or 1))
    if not isinstance(files, dict) or len(files) != count:
        found = len(files) if isinstance(files, dict) else "no"
        return f"{found} files are listed, but {', '.join(dtypes)} of {rows:,} rows take {count:,}"
    for column, dtype in dtypes.items():
        largest = largest_shard(rows, dtype)
        names = dict.fromkeys(shard_names(column, 0, rows, epochs), largest)
        for name, limit in {f"{column}/{GROUP_FILE}": LARGEST_ARRAY_FILE, **names}.items():
            if name not in files:
                return f"{name} is not listed, but {_short(next(iter(set(files) - set(names))))} is"
            stated = files[name]
            if not isinstance(stated, dict) or {key: type(stated[key]) for key in stated} != FILE_TYPES:
                return f"{name} has no size and seal"
            if not 0 < stated["bytes"] <= limit:
                return f"{name} is said to have {stated['bytes']:,} bytes, but can have at most {limit:,}"
    return None


def _short(value: object) -> str:
    """A stranger's value for a message, as Python writes it and not too long."""
    return repr(value)[:80]
