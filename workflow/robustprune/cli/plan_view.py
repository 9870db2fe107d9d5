"""The plan in words: which stages targets need, what exists, what would run, what that costs."""

from collections.abc import Collection

from robustprune.core.paths import PARTIAL
from robustprune.planning.costs.report import cost_lines
from robustprune.planning.costs.throughput import read_throughput
from robustprune.planning.plan import Plan, stages_of_targets


def describe_plan(plan: Plan, targets: Collection[str] = ()) -> str:
    """One line a stage, in the order they are made, a summary, and what is still to be done in numbers.

    Args:
        plan: the plan.
        targets: files such as ``results/table1.csv`` or stage ids; none for every file of the configuration.

    Raises:
        UserError: for an unknown target, or a damaged table of rates.
    """
    problems = () if targets else [f"{target} cannot be made: {why}" for target, why in plan.problems.items()]
    needed = stages_of_targets(plan, targets)
    missing = _would_run(plan, needed, targets or list(plan.targets))
    lines = [_line(plan, stage, missing) for stage in needed]
    return "\n".join([*lines, *costs_of(plan, targets), *problems])


def costs_of(plan: Plan, targets: Collection[str] = ()) -> list[str]:
    """Return how many stages targets need, and what those that would run cost."""
    needed = stages_of_targets(plan, targets)
    missing = _would_run(plan, needed, targets or list(plan.targets))
    existing = {stage for stage in needed if plan.record(stage).is_file()}
    pulled = missing & set(plan.pulls)
    pulls = f"{len(pulled)} would be pulled, " if pulled else ""
    summary = f"{len(needed)} stages: {len(existing)} exist, {pulls}{len(missing - pulled)} would run"
    rates = read_throughput(plan.results.parent)
    costs = cost_lines(plan, needed, rates, existing=existing, missing=missing - pulled)
    return [f"{summary} (preset {plan.config.preset})", *costs]


def _line(plan: Plan, stage_id: str, missing: set[str]) -> str:
    if plan.record(stage_id).is_file():
        state = "exists"
    elif stage_id in missing and stage_id in plan.pulls:
        return f"{'pull':<11}{plan.stages[stage_id].kind:<12}{stage_id}  from {plan.pulls[stage_id]}"
    elif stage_id in missing:
        state = "goes on" if (plan.directory(stage_id) / PARTIAL).is_dir() else "would run"
    else:
        state = "not needed"
    return f"{state:<11}{plan.stages[stage_id].kind:<12}{stage_id}"


def _would_run(plan: Plan, needed: list[str], targets: Collection[str]) -> set[str]:
    """Stages that are missing and that something missing, or a target, reads."""
    wanted = {plan.targets.get(target, target) for target in targets}
    missing: set[str] = set()
    for stage in reversed(needed):
        if stage in wanted and not plan.record(stage).is_file():
            missing.add(stage)
            wanted.update(upstream for _, upstream in plan.upstream(stage))
    return missing
