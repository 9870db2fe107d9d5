"""Publishing: a store's files go to a place first, then the entry that makes them visible.

Killed anywhere before that, nothing is visible; the same command publishes it. Card and index come last, and again
whenever the same store is published.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from datetime import UTC, datetime
from pathlib import Path

from robustprune.core.errors import UserError
from robustprune.core.files import sha256
from robustprune.core.paths import SPEC_FILE, STORE_NAME, stage_directory
from robustprune.core.record import Record, read_record
from robustprune.core.stage_file import read_spec
from robustprune.generation.generated_pool import GeneratedPoolStage
from robustprune.images.ingested import IngestedPoolStage
from robustprune.images.synsets import SynsetPoolStage
from robustprune.scores.score import ScoreStage
from robustprune.scores.store.layout import GROUP_FILE
from robustprune.scores.store.reader import Store, open_store
from robustprune.sharing.entry import CARD_FILE, LARGEST_ENTRY, Bars, Entry, Made, Said, card, plain_text, read_entry
from robustprune.sharing.places import STORES, WritablePlace, entry_path, write_index

FILES_AT_ONCE = 4


def publish_stage(
    directory: Path, place: WritablePlace, *, advance: Callable[[int], object], licence: str | None = None
) -> str:
    """Publish the store of a complete score stage; return a line that says what was done.

    Args:
        directory: directory of the stage.
        place: where to.
        licence: a line on what the numbers may be used for; by default what is known of the pool.
        advance: called with the number of bytes of each file that is written.

    Raises:
        UserError: when the stage is no complete score or is damaged, or another store has its id there.
    """
    spec = read_spec(directory)
    if not isinstance(spec, ScoreStage):
        raise UserError(f"{directory} is of kind {spec.kind}, but only scores are shared")
    record, store = read_record(directory), open_store(directory / STORE_NAME)
    entry = _describe(spec, record, store, licence or _licence(directory, spec))
    text = card(entry).encode()
    where = f"{place.name}/{STORES}/{spec.id}"
    if _is_there(place, entry):
        _announce(place, entry.id, text)  # an earlier attempt may have been killed before it did
        return f"{where} is there already"
    folder = data_path(entry)
    with ThreadPoolExecutor(FILES_AT_ONCE) as threads:
        waiting = [threads.submit(_put, place, store, name, folder) for name in store.files]
        for written in as_completed(waiting):
            advance(written.result())
    place.put(store.path / GROUP_FILE, f"{folder}/{GROUP_FILE}")
    if not place.create(entry_path(spec.id), entry.dump()):
        _is_there(place, entry)  # somebody was faster; the same store, or an error
    _announce(place, entry.id, text)
    return f"{where}: {store.rows:,} rows, {entry.size / 2**20:,.1f} MiB"


def _announce(place: WritablePlace, stage_id: str, text: bytes) -> None:
    """Put a visible store's card beside it, and its id into the index that readers of a web server go by."""
    place.put(text, f"{STORES}/{stage_id}/{CARD_FILE}")
    write_index(place)


def data_path(entry: Entry) -> str:
    """Return where a place has the store's files."""
    return f"{STORES}/{entry.id}/{entry.group_digest[:16]}/{STORE_NAME}"


def _put(place: WritablePlace, store: Store, name: str, folder: str) -> int:
    if (problem := store.problem(name)) is not None:
        raise UserError(f"{store.path}: {problem}; nothing is published")
    place.put(store.path / name, f"{folder}/{name}")
    return int(store.files[name]["bytes"])


def _is_there(place: WritablePlace, entry: Entry) -> bool:
    """Return True if the place has this very store. Raises UserError where it has another one of that id."""
    path = entry_path(entry.id)
    try:
        content = place.read(path, LARGEST_ENTRY)
    except UserError as error:
        if str(error).endswith("is missing"):
            return False
        raise
    other = read_entry(content, origin=f"{place.name}/{path}", stage_id=entry.id)
    if other.group_digest != entry.group_digest:
        raise UserError(
            f"{place.name} has another store under {entry.id}, published {other.published} about the pool with digest "
            f"{other.pool_digest}; it is not replaced (yours is about {entry.pool_digest})"
        )
    return True


def _describe(spec: ScoreStage, record: Record, store: Store, licence: str) -> Entry:
    facts, attributes = record.facts, store.attributes
    return Entry(
        id=spec.id,
        spec=spec.without_locations(),
        definitions=spec.definitions,
        group_digest=sha256(store.path / GROUP_FILE),
        size=sum(int(file["bytes"]) for file in store.files.values()),
        rows=store.rows,
        columns=store.dtypes,  # type: ignore[arg-type]  # names of dtypes, which open_store has checked
        score=Said(**attributes["score"]),
        pool_digest=attributes["pool_digest"],
        pool_source=plain_text(facts["source"]),
        model_digest=attributes.get("model_digest"),
        negative=facts["negative"],
        censored=facts["censored"],
        quantiles=facts["quantiles"],
        histogram=Bars(**facts["histogram"]),
        images_by_class={name: of_class["images"] for name, of_class in facts["by_class"].items()},
        made=Made(
            finished=record.finished,
            seconds=record.seconds,
            device=plain_text(record.device),
            versions={name: plain_text(version) for name, version in record.versions.items()},
        ),
        licence=plain_text(licence),
        published=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _licence(directory: Path, spec: ScoreStage) -> str:
    """Return what is known of what the images, and so their scores, may be used for."""
    pool = stage_directory(directory.absolute().parents[1], "pools", spec.pool)
    images = read_spec(pool) if (pool / SPEC_FILE).is_file() else None
    if isinstance(images, GeneratedPoolStage):
        return f"images drawn from an EDM trained on {images.dataset}: as free as that data set"
    if isinstance(images, SynsetPoolStage) or (isinstance(images, IngestedPoolStage) and images.split != "synthetic"):
        return f"the licence of the data set {images.dataset}"
    return (
        "images made elsewhere or of several sources; those drawn from NVIDIA's EDM models, as the sets of Wang et al. "
        "are, and what is derived from them, are for non-commercial use (CC BY-NC-SA 4.0)"
    )
