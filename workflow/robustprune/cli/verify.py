"""``robustprune store verify``: reading a store back, every byte of it."""

import json
from pathlib import Path

from robustprune.core.errors import UserError
from robustprune.core.files import digest
from robustprune.core.paths import POOL_FILE, RECORD_FILE, SPEC_FILE
from robustprune.core.record import read_record
from robustprune.core.stage_file import read_spec
from robustprune.scores.store.reader import Store, open_store


def verify_path(path: Path) -> str:
    """Check a store (``*.zarr``), or all in a stage's directory, against what was written and for whom.

    Returns a line for each store. Raises UserError with a line for each thing that is wrong.
    """
    stage = path if (path / SPEC_FILE).is_file() else path.parent
    folders = sorted(path.glob("*.zarr")) if stage == path else [path]
    if not folders:
        raise UserError(f"{path} holds no store")
    problems, lines = [], []
    for folder in folders:
        found = _problems(folder, stage if (stage / SPEC_FILE).is_file() else None)
        problems += [f"{folder}: {problem}" for problem in found]
        if not found:
            lines.append(_line(open_store(folder)))
    if problems:
        raise UserError("\n".join(problems))
    return "\n".join(lines)


def _problems(folder: Path, stage: Path | None) -> list[str]:
    try:
        store = open_store(folder)
    except UserError as error:
        return [str(error).removeprefix(f"{folder}").removeprefix(": ").strip()]
    found = store.problems()
    if stage is not None:
        found += _foreign(store, stage)
        if not found and (stage / RECORD_FILE).is_file():
            recorded = read_record(stage).digests.get(folder.name)
            if recorded not in (None, digest(folder)):
                found.append(f"its digest is not the one in {stage / RECORD_FILE}")
    return found


def _foreign(store: Store, stage: Path) -> list[str]:
    """Return a problem if the store is about a pool that its stage does not read, as far as the pools are there."""
    own = store.attributes.get("pool_digest")
    pools = [
        stage.parents[1] / kind / name / POOL_FILE
        for kind, name in read_spec(stage, made=True).upstream
        if kind == "pools"
    ]
    digests = [json.loads(pool.read_text())["digest"] for pool in pools if pool.is_file()]
    if own is None or not digests or len(digests) < len(pools) or own in digests:
        return []
    return [f"is about the pool with digest {own}, but its stage reads {', '.join(digests)}"]


def _line(store: Store) -> str:
    epochs = "" if store.epochs is None else f"{store.epochs:,} epochs of "
    return (
        f"{store.path}: {epochs}{store.rows:,} rows, {', '.join(store.dtypes)}; "
        f"all {len(store.files):,} files as written"
    )
