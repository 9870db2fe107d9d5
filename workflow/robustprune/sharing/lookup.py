"""Looking scores up in shared stores while the plan is made. Nothing is asked for but which ids there are."""

from dataclasses import replace
from pathlib import Path

from robustprune.core.errors import UserError
from robustprune.core.paths import KEPT_RECORD_FILE, PULLED_FILE, RECORD_FILE
from robustprune.planning.plan import Plan
from robustprune.scores.score import ScoreStage
from robustprune.sharing.places import open_place


def with_pulls(plan: Plan, *, look_up: bool = True) -> Plan:
    """Return the plan in which scores that a shared store has are pulled instead of computed.

    A score that is there already is not looked up; one that was pulled stays so, whatever is shared now. Unless
    ``look_up``, no shared store is asked. Raises UserError where one cannot be reached: going on could cost days.
    """
    scores = [stage_id for stage_id, spec in plan.stages.items() if isinstance(spec, ScoreStage)]
    pulls = {stage_id: "an earlier run" for stage_id in scores if _was_pulled(plan.directory(stage_id))}
    wanted = {stage_id for stage_id in scores if stage_id not in pulls and not plan.record(stage_id).is_file()}
    if look_up and wanted:
        for location in plan.config.shared_stores:
            place = open_place(location)
            try:
                found = place.published(wanted - set(pulls))
            except UserError as error:
                raise UserError(f"{error} (one of shared_stores; without it, scores could be computed anew)") from None
            pulls |= dict.fromkeys(sorted(found), place.name)
    return replace(plan, pulls=pulls)


def _was_pulled(directory: Path) -> bool:
    """Return True if a pull has ended there: one that was killed leaves no record, and is looked up again."""
    ended = any((directory / name).is_file() for name in (RECORD_FILE, KEPT_RECORD_FILE))
    return ended and (directory / PULLED_FILE).is_file()
