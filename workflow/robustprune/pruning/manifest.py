"""The manifest: one row for each kept image, with its radius; what model training reads."""

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from robustprune.core.errors import UserError
from robustprune.core.files import replacing
from robustprune.core.settings import Settings
from robustprune.images.pool import Pool
from robustprune.pruning.facts import Facts, Rows

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
UNREADABLE = (OSError, pa.ArrowException, ValueError, KeyError, TypeError)  # what a damaged file raises
ENCODING = {
    "use_dictionary": ["pool", "label"],
    "column_encoding": {"index": "DELTA_BINARY_PACKED"},
    "write_page_checksum": True,
}


class Metadata(Settings):
    """Metadata of the file: the stage's settings, its counts, and the digest of each pool by its id."""

    spec: dict[str, Any]
    facts: Facts
    pools: dict[str, str]


class Kept(NamedTuple):
    """The kept images of a pool.

    Attributes:
        rows: (M,) int64, ascending.
        epsilon: (M,) float32, signed radii.
    """

    rows: npt.NDArray[np.int64]
    epsilon: npt.NDArray[np.float32]


def write_manifest(
    path: Path, groups: Iterable[Rows], *, pools: Mapping[str, Pool], spec: Mapping[str, Any], facts: Facts
) -> None:
    """Write the kept rows, with ``Metadata`` as JSON in the file's own.

    Args:
        path: the Parquet file.
        groups: what is kept, in pieces that each make a row group.
        pools: every pool the manifest chooses from, by id, in the order ``Rows.pool`` counts them.
        spec: the stage's settings.
        facts: what is kept, counted.
    """
    metadata = Metadata(spec=dict(spec), facts=facts, pools=_digests(pools))
    schema = SCHEMA.with_metadata({METADATA_KEY: metadata.model_dump_json()})
    names = pa.array(list(pools), pa.string())
    with replacing(path) as temporary, pq.ParquetWriter(temporary, schema, **ENCODING) as writer:
        for rows in groups:
            writer.write_table(_table(rows, names, schema))


def _table(rows: Rows, names: pa.StringArray, schema: pa.Schema) -> pa.Table:
    columns = [
        pa.DictionaryArray.from_arrays(rows.pool, names),
        pa.array(rows.index),
        pa.array(rows.label),
        pa.nulls(len(rows.index), pa.float32()) if rows.score is None else pa.array(rows.score),
        pa.array(rows.epsilon),
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def _digests(pools: Mapping[str, Pool]) -> dict[str, str]:
    return {pool_id: pool.info.digest for pool_id, pool in pools.items()}


def read_metadata(path: Path) -> Metadata:
    """Return what ``write_manifest`` put into the file's metadata. Raises UserError when it is not a manifest."""
    try:
        return Metadata.model_validate_json(pq.read_schema(path).metadata[METADATA_KEY])
    except UNREADABLE:
        raise UserError(f"{path} is not a readable manifest of robustprune") from None


def read_manifest(directory: Path, pools: Mapping[str, Pool]) -> dict[str, Kept]:
    """The kept rows of each pool and their radii, checked against the pools.

    Args:
        directory: of the manifest's stage.
        pools: the open pools, by id.

    Raises:
        UserError: when the manifest was made for other pools, has rows or labels that they do not, has a row twice
            that was not drawn twice, or a radius that is not a number.
    """
    path = directory / MANIFEST_FILE
    metadata, actual = read_metadata(path), _digests(pools)
    if metadata.pools != actual:
        raise UserError(f"{path} was made for the pools {metadata.pools}, not for {actual}; make it again")
    repeats = metadata.spec.get("strategy") == "random_with_replacement"
    rows, names = read_rows(path, pools)
    if not np.isfinite(rows.epsilon).all():
        raise UserError(f"{path}: {int((~np.isfinite(rows.epsilon)).sum())} values of epsilon are not finite")
    kept: dict[str, Kept] = {}
    for pool_id, pool in pools.items():
        own = np.flatnonzero(rows.pool == names.index(pool_id)) if pool_id in names else np.empty(0, dtype=np.int64)
        _check_rows(path, pool_id, pool, rows.index[own], rows.label[own], repeats=repeats)
        kept[pool_id] = Kept(rows.index[own], rows.epsilon[own])
    return kept


def read_rows(path: Path, pools: Collection[str]) -> tuple[Rows, list[str]]:
    """All rows of a manifest, and the names that ``Rows.pool`` counts.

    Args:
        path: the Parquet file.
        pools: the ids that its metadata names.

    Raises:
        UserError: when the file is damaged, or has other columns or rows of another pool.
    """
    try:
        table = pq.read_table(path, columns=SCHEMA.names, page_checksum_verification=True)
        table = table.cast(SCHEMA).unify_dictionaries()
    except UNREADABLE as error:
        raise UserError(f"{path} is damaged or does not have a manifest's columns: {error}") from None
    pool = table["pool"].combine_chunks()
    names = pool.dictionary.to_pylist()
    if not set(names) <= set(pools):
        raise UserError(f"{path} has rows of {', '.join(set(names) - set(pools))}, which its metadata does not name")
    score = None if table["score"].null_count == len(table) else table["score"].to_numpy()
    index, label, epsilon = (table[name].to_numpy() for name in ("index", "label", "epsilon"))
    return Rows(pool.indices.to_numpy(), index, label, score, epsilon), names


def _check_rows(
    path: Path,
    pool_id: str,
    pool: Pool,
    index: npt.NDArray[np.int64],
    labels: npt.NDArray[np.int16],
    *,
    repeats: bool,
) -> None:
    smallest_step = 0 if repeats else 1
    if len(index) and (index[0] < 0 or index[-1] >= len(pool) or (np.diff(index) < smallest_step).any()):
        once = "" if repeats else ", each once"
        raise UserError(f"{path}: rows of {pool_id} should rise from 0 to at most {len(pool) - 1}{once}")
    if (pool.labels[index] != labels).any():
        raise UserError(f"{path}: {int((pool.labels[index] != labels).sum())} labels differ from those of {pool_id}")
