"""Embeddings on disk: a memory-mapped array with one row per sample of a pool, and its description."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from robustprune.core.errors import UserError
from robustprune.core.files import replacing, write_text
from robustprune.images.pool import Pool

ARRAY_FILE, INFO_FILE = "embeddings.npy", "embeddings.json"

Embeddings = npt.NDArray[np.floating[Any]]  # (N, D)


class EmbeddingInfo(BaseModel):
    """embeddings.json: the description of the array."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pool_digest: str
    encoder: str
    count: int
    dimension: int
    dtype: str


def write_embeddings(directory: Path, blocks: Iterator[Embeddings], info: EmbeddingInfo) -> int:
    """Write (B, D) blocks of rows as one array, one block in memory at a time, and ``info``.

    Returns the number of rows that are all 0.
    """
    header = {"descr": np.dtype(info.dtype).str, "fortran_order": False, "shape": (info.count, info.dimension)}
    zeros = 0
    with replacing(directory / ARRAY_FILE) as temporary, temporary.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for block in blocks:
            file.write(np.ascontiguousarray(block, dtype=info.dtype).data)
            zeros += int((~block.any(axis=1)).sum())
    write_text(directory / INFO_FILE, info.model_dump_json(indent=2) + "\n")
    return zeros


def open_embeddings(directory: Path, pool: Pool) -> Embeddings:
    """Return the memory-mapped (N, D) embeddings of a pool from the directory of a complete stage.

    Raises UserError if a file is missing or malformed, or the embeddings are those of another pool.
    """
    try:
        info = EmbeddingInfo.model_validate_json((directory / INFO_FILE).read_text())
        array = np.lib.format.open_memmap(directory / ARRAY_FILE, mode="r")
    except (OSError, ValueError) as error:  # pydantic's ValidationError is a ValueError
        raise UserError(f"{directory} holds no readable embeddings: {' '.join(str(error).split())}") from None
    stated = f"{info.dtype} {(info.count, info.dimension)}"
    if f"{array.dtype} {array.shape}" != stated:
        raise UserError(f"{directory / ARRAY_FILE} is {array.dtype} {array.shape}, but {INFO_FILE} states {stated}")
    if info.pool_digest != pool.info.digest:
        raise UserError(
            f"{directory} holds embeddings of the pool with digest {info.pool_digest}, not {pool.info.digest}"
        )
    return array
