"""What ``robustprune store publish | pull | list | verify`` do."""

import shutil
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from robustprune.core.errors import UserError
from robustprune.core.execution import Execution
from robustprune.core.files import move_over, write_text
from robustprune.core.job import run_stage
from robustprune.core.paths import PARTIAL, PULLED_FILE, STORE_NAME
from robustprune.core.progress import Progress
from robustprune.core.stage import is_stage_id
from robustprune.sharing.entry import CARD_FILE, card
from robustprune.sharing.places import STORES, Place, open_place, open_writable_place
from robustprune.sharing.publish import publish_stage
from robustprune.sharing.pull import find_place, look_at, note_source, pull_stage, pull_store


def publish(stages: Sequence[Path], location: str, *, licence: str | None = None) -> list[str]:
    """Publish the scores of some stages; returns a line for each. Raises UserError, as ``publish_stage``."""
    place = open_writable_place(location)
    lines = []
    for stage in stages:
        directory = stage.parent if stage.is_file() else stage
        files = (directory / STORE_NAME).rglob("*")
        size = sum(file.stat().st_size for file in files if file.is_file())
        with _progress(f"publishing {directory.name}", size) as progress:
            lines.append(publish_stage(directory, place, licence=licence, advance=progress.advance))
    return lines


def pull_planned(spec: Path, locations: Sequence[str]) -> None:
    """Do a planned score stage by pulling it. Raises UserError, as ``pull_stage``."""
    if is_stage_id(str(spec)):
        raise UserError(f"no folder to write to: give --to FOLDER, or a planned stage's spec.json in place of {spec}")
    run_stage(spec, Execution(device="cpu"), pull=partial(pull_stage, locations))


def pull(stage_id: str, locations: Sequence[str], folder: Path) -> str:
    """Bring a store and its card to ``folder/<id>``, where no plan is needed; return a line that says so.

    Raises UserError when no place has it, or anything about it is wrong.
    """
    if not is_stage_id(stage_id):
        raise UserError(f"{stage_id} is not an id; 'robustprune store list' prints all ids")
    place = find_place(stage_id, locations)
    entry = look_at(place, stage_id)
    text = card(entry)
    target = folder / stage_id
    with _progress(f"pulling {stage_id}", entry.size) as progress:
        path = pull_store(place, entry, target / PARTIAL, advance=progress.advance)
    move_over(path, target / STORE_NAME)
    write_text(target / CARD_FILE, text)
    note_source(entry, place, target / PULLED_FILE)
    shutil.rmtree(target / PARTIAL)  # with what a pull from another place may have left
    return f"{target / STORE_NAME}: {entry.rows:,} rows from {place.name}, every checksum right"


def list_places(locations: Sequence[str]) -> str:
    """A line for each store of each place, and a heading for each place. Raises UserError where there is no place."""
    if not locations:
        raise UserError("no place is named, and no shared_stores are configured")
    lines = []
    for place in map(open_place, locations):
        ids = sorted(place.published())
        lines += [f"{place.name}: {len(ids)} stores", *(f"  {_entry_line(place, stage_id)}" for stage_id in ids)]
    return "\n".join(lines)


def is_place(path: str) -> bool:
    """Return True if this is a place of shared stores, not a store or a stage."""
    return "://" in path or (Path(path) / STORES).is_dir()


def verify_place(location: str) -> str:
    """Pull every store of a place and throw it away; return a line for each. Raises UserError with all problems."""
    place = open_place(location)
    lines, problems = [], []
    for stage_id in sorted(place.published()):
        try:
            entry = look_at(place, stage_id)
            card(entry)
            with tempfile.TemporaryDirectory() as folder, _progress(stage_id, entry.size) as progress:
                pull_store(place, entry, Path(folder), advance=progress.advance)
            lines.append(f"{place.name}: {stage_id}: {entry.rows:,} rows as published")
        except UserError as error:
            problems.append(str(error))
    if problems:
        raise UserError("\n".join(problems))
    return "\n".join(lines) or f"{place.name}: no stores"


def _entry_line(place: Place, stage_id: str) -> str:
    try:
        entry = look_at(place, stage_id)
    except UserError as error:
        return f"{stage_id}  REFUSED: {error}"
    return (
        f"{stage_id}  {entry.rows:,} rows, {entry.score.column} ({entry.score.unit}), {entry.size / 2**20:,.1f} MiB, "
        f"pool {entry.pool_digest[:16]}, published {entry.published}"
    )


def _progress(what: str, size: int) -> Progress:
    return Progress(what, total=size, unit="bytes", live=sys.stderr.isatty())
