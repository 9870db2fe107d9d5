"""The pull of a planned score: what a job does in place of computing it."""

from collections.abc import Sequence
from typing import Any

from robustprune.core.files import move_over
from robustprune.core.job import Job
from robustprune.core.paths import PULLED_FILE, STORE_NAME
from robustprune.images.pool import open_pool
from robustprune.scores.files import Meaning, publish_written
from robustprune.scores.score import ScoreStage
from robustprune.sharing.pull import find_place, look_at, note_source, pull_store, refuse_other


def pull_stage(locations: Sequence[str], job: Job, spec: ScoreStage) -> dict[str, Any]:
    """Bring the store of a stage from the first place that has it, and describe it by what is found in it here.

    Raises:
        UserError: when no place has it, it is about other images or made with other settings, or it is damaged.
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
