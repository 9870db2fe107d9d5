"""The manifest: one row for each kept image, with its radius; what model training reads."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from robustprune.errors import UserError
from robustprune.files import replacing
from robustprune.pools.format import Pool

DEFINITION = 1
MANIFEST_FILE = "manifest.parquet"
SCHEMA = pa.schema(
    [
        pa.field("pool", pa.dictionary(pa.int32(), pa.string()), nullable=False),
        pa.field("index", pa.int64(), nullable=False),
        pa.field("label", pa.int16(), nullable=False),
        pa.field("score", pa.float32(), nullable=True),
        pa.field("epsilon", pa.float32(), nullable=False),
    ]
)
METADATA_KEY = b"robustprune"

Kept = tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]  # rows, signed radii


def write_manifest(path: Path, rows: pd.DataFrame, *, pools: Mapping[str, Pool], facts: Mapping[str, Any]) -> None:
    """Write the kept rows, sorted by pool and index, with the digest of each pool and the facts in the metadata.

    Args:
        path: the Parquet file.
        rows: columns pool, index, label, score, epsilon.
        pools: every pool the manifest chooses from, by id.
        facts: spec and counts, for people and for ``robustprune show``.
    """
    order = {pool_id: position for position, pool_id in enumerate(pools)}
    rows = rows.sort_values(
        ["pool", "index"], key=lambda column: column.map(order) if column.name == "pool" else column
    )
    metadata = {**facts, "pools": {pool_id: pool.info.digest for pool_id, pool in pools.items()}}
    table = pa.Table.from_pandas(rows, schema=SCHEMA, preserve_index=False)
    table = table.replace_schema_metadata({METADATA_KEY: json.dumps(metadata, sort_keys=True)})
    with replacing(path) as temporary:
        pq.write_table(table, temporary)


def read_metadata(path: Path) -> dict[str, Any]:
    """What ``write_manifest`` put into the file's metadata. Raises UserError when it is not a manifest."""
    try:
        metadata: dict[str, Any] = json.loads(pq.read_schema(path).metadata[METADATA_KEY])
    except (OSError, pa.ArrowInvalid, KeyError, TypeError, json.JSONDecodeError):
        raise UserError(f"{path} is not a readable manifest of robustprune") from None
    return metadata


def read_manifest(directory: Path, pools: Mapping[str, Pool]) -> dict[str, Kept]:
    """The kept rows of each pool and their radii, checked against the pools.

    Args:
        directory: of the manifest's stage.
        pools: the open pools, by id.

    Returns:
        For each pool: (M,) int64 rows, ascending, and (M,) float32 signed radii.

    Raises:
        UserError: when the manifest was made for other pools, or has rows or labels that they do not.
    """
    path = directory / MANIFEST_FILE
    expected = read_metadata(path)["pools"]
    actual = {pool_id: pool.info.digest for pool_id, pool in pools.items()}
    if expected != actual:
        raise UserError(f"{path} was made for the pools {expected}, not for {actual}; make it again")
    table = pq.read_table(path, schema=SCHEMA).to_pandas()
    kept: dict[str, Kept] = {}
    for pool_id, pool in pools.items():
        rows = table[table["pool"] == pool_id]
        index = rows["index"].to_numpy(np.int64)
        _check_rows(path, pool_id, pool, index, rows["label"].to_numpy(np.int16))
        kept[pool_id] = (index, rows["epsilon"].to_numpy(np.float32))
    return kept


def _check_rows(
    path: Path, pool_id: str, pool: Pool, index: npt.NDArray[np.int64], labels: npt.NDArray[np.int16]
) -> None:
    if len(index) and (index[0] < 0 or index[-1] >= len(pool) or (np.diff(index) <= 0).any()):
        raise UserError(f"{path}: rows of {pool_id} should rise from 0 to at most {len(pool) - 1}, each once")
    if (pool.labels[index] != labels).any():
        raise UserError(f"{path}: {int((pool.labels[index] != labels).sum())} labels differ from those of {pool_id}")
