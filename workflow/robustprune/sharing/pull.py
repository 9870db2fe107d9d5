"""Pulling: a store is brought here file by file and checked before anything reads it; a broken pull goes on.

Nothing that is pulled is executed or unpickled, and no name in it decides where it is written.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from robustprune.core.errors import UserError
from robustprune.core.files import move_over
from robustprune.core.job import Job
from robustprune.core.paths import PULLED_FILE, STORE_NAME
from robustprune.images.pool import open_pool
from robustprune.scores.score import Meaning, ScoreStage
from robustprune.scores.score_files import publish_written
from robustprune.scores.store.layout import GROUP_FILE
from robustprune.scores.store.reader import LARGEST_GROUP_FILE, Store, open_store, read_contents
from robustprune.sharing.entry import LARGEST_ENTRY, Entry, read_entry
from robustprune.sharing.places import Place, entry_path, open_place
from robustprune.sharing.publish import FILES_AT_ONCE, data_path

logger = logging.getLogger(__name__)

ATTRIBUTES = {"spec", "score", "pool_digest", "model_digest", "extrapolation"}
"""What a score's store says beside its shape; what else a stranger's says is refused."""


def find_place(stage_id: str, locations: Sequence[str]) -> Place:
    """The first of some places that has a store. Raises UserError when none has."""
    places = [open_place(location) for location in locations]
    for place in places:
        if place.published([stage_id]):
            return place
    asked = ", ".join(place.name for place in places) or "no shared_stores are configured"
    raise UserError(f"{stage_id} is not published in any shared store: {asked}")


def look_at(place: Place, stage_id: str) -> Entry:
    """Return what a place says of a store. Raises UserError when it is missing or wrong."""
    path = entry_path(stage_id)
    return read_entry(place.read(path, LARGEST_ENTRY), origin=f"{place.name}/{path}", stage_id=stage_id)


def refuse_other(entry: Entry, place: Place, spec: ScoreStage, *, images: int, digest: str) -> None:
    """Raises UserError when a store is not what a plan wants, or not about the images that are here."""
    if (entry.spec, entry.definitions) != (spec.without_locations(), spec.definitions):
        raise UserError(f"{entry.id} from {place.name} was made with other settings than yours")
    if entry.pool_digest != digest or entry.rows != images:
        raise UserError(
            f"{entry.id} from {place.name} is about {entry.rows:,} images, a pool with the digest {entry.pool_digest}; "
            f"yours, {spec.pool}, has {images:,} and the digest {digest}. Get those images, or take the place "
            "off shared_stores (generated images differ between machines unless their files are shared)"
        )


def pull_store(place: Place, entry: Entry, folder: Path, *, advance: Callable[[int], object]) -> Path:
    """Bring the store of an entry into a new folder below ``folder``, check it, and return its path.

    What an earlier attempt has brought is checked and kept. ``advance`` is called with the number of bytes that arrive.
    Raises UserError when the store cannot be reached, or anything about it is wrong.
    """
    path = folder / f"pull-{entry.group_digest[:16]}" / STORE_NAME
    path.mkdir(parents=True, exist_ok=True)
    source = f"{place.name}/{data_path(entry)}"
    store = _pull_group_file(place, entry, path)
    try:
        _refuse_attributes(store, entry)
        with ThreadPoolExecutor(FILES_AT_ONCE) as threads:
            waiting = [threads.submit(_pull_file, place, entry, store, name) for name in store.files]
            for pulled in as_completed(waiting):
                advance(pulled.result())
        open_store(path, pool_digest=entry.pool_digest).check_columns()
    except UserError as error:
        raise UserError(str(error).replace(str(path), source)) from None
    return path


def _pull_group_file(place: Place, entry: Entry, path: Path) -> Store:
    """The store's zarr.json, which has the seals of all other files, and what it says."""
    name = f"{data_path(entry)}/{GROUP_FILE}"
    content = place.read(name, LARGEST_GROUP_FILE)
    if hashlib.sha256(content).hexdigest() != entry.group_digest:
        raise UserError(f"{place.name}/{name} is not the file whose SHA-256 its entry has")
    (path / GROUP_FILE).write_bytes(content)
    try:
        return read_contents(path)
    except UserError as error:
        raise UserError(str(error).replace(str(path), f"{place.name}/{data_path(entry)}")) from None


def _refuse_attributes(store: Store, entry: Entry) -> None:
    attributes = store.attributes
    if unknown := set(attributes) - ATTRIBUTES:
        raise UserError(f"{store.path / GROUP_FILE}: {repr(min(unknown))[:80]} is no attribute of a score")
    for key, stated in (
        ("spec", entry.spec),
        ("score", entry.score.model_dump()),
        ("pool_digest", entry.pool_digest),
        ("model_digest", entry.model_digest),
    ):
        if attributes.get(key) != stated:
            raise UserError(f"{store.path / GROUP_FILE}: its {key} is not the one in its entry")
    if (store.rows, store.dtypes, store.epochs) != (entry.rows, entry.columns, None):
        raise UserError(f"{store.path / GROUP_FILE}: its rows and columns are not those in its entry")
    if store.dtypes.get(entry.score.column) != "float32":
        raise UserError(f"{store.path / GROUP_FILE} has no column {entry.score.column!r} of float32, its score")


def _pull_file(place: Place, entry: Entry, store: Store, name: str) -> int:
    """Bring one file, where it is not here yet, and check every chunk of it."""
    target, size = store.path / name, int(store.files[name]["bytes"])
    if target.is_file() and store.problem(name) is None:
        return size
    target.unlink(missing_ok=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.part")
    if part.is_file() and part.stat().st_size >= size:
        part.unlink()
    resumed = part.is_file()
    place.fetch(f"{data_path(entry)}/{name}", part, size)
    move_over(part, target)
    problem = store.problem(name)
    if problem is not None:
        target.unlink()
        if resumed:  # what the earlier attempt had brought may have been another file's
            return _pull_file(place, entry, store, name)
        raise UserError(f"{store.path}: {problem}")
    return size


def pull_stage(locations: Sequence[str], job: Job, spec: ScoreStage) -> dict[str, Any]:
    """Do a planned score stage by pulling its store from the first place that has it; return facts of its content.

    Raises UserError when no place has it, it is about other images or made with other settings, or it is damaged.
    """
    place = find_place(spec.id, locations)
    entry = look_at(place, spec.id)
    pool = open_pool(job.upstream("pools", spec.pool))
    refuse_other(entry, place, spec, images=len(pool), digest=pool.info.digest)
    with job.progress(f"pulling from {place.name}", total=entry.size, unit="bytes") as progress:
        path = pull_store(place, entry, job.partial, advance=progress.advance)
    move_over(path, job.partial / STORE_NAME)
    note_source(entry, place, job.partial / PULLED_FILE)
    facts = publish_written(job, spec, Meaning(**entry.score.model_dump()), pool)
    job.publish(PULLED_FILE)
    return {"pulled_from": place.name, **facts}


def note_source(entry: Entry, place: Place, path: Path) -> None:
    """Write down what was pulled, and from where."""
    content = {"from": place.name, "entry": entry.model_dump(mode="json")}
    path.write_text(json.dumps(content, indent=1) + "\n")
