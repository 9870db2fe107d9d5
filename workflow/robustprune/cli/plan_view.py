"""The plan in words: which stages targets need, what exists, what would run, what that costs."""

from collections.abc import Collection, Iterable, Set
from contextlib import suppress
from dataclasses import dataclass

from robustprune.core.paths import PARTIAL
from robustprune.core.work import UnknownSizeError, Work
from robustprune.planning.plan import Plan, stages_of_targets
from robustprune.planning.throughput import Rates, Table, read_throughput

COLUMNS = ("stages", "exist", "to run", "gradients", "updates", "forwards", "disk")
UNITS = ("B", "kB", "MB", "GB", "TB", "PB")
NO_RATES = "hours: no estimate yet; run 'robustprune calibrate' where the jobs will run"


def describe_plan(plan: Plan, targets: Collection[str] = ()) -> str:
    """Return a line for each stage, in the order they are made, a summary, and the cost of what would run.

    The targets are files such as ``results/table1.csv`` or stage ids; none stands for every file of the configuration.
    Raises UserError for an unknown target, or a damaged table of rates.
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
    costs = _cost_lines(plan, needed, rates, existing=existing, missing=missing - pulled)
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


@dataclass(frozen=True)
class Cost:
    """Cost of one missing stage; None where a size is not known before another stage has run."""

    works: tuple[Work, ...] | None
    size: int | None


def _cost_lines(
    plan: Plan, needed: Iterable[str], table: Table, *, existing: Set[str], missing: Collection[str]
) -> list[str]:
    """Return the cost of the ``missing`` stages: a line for each kind, then hours on each calibrated device."""
    sizes = {name: rates.parameters for networks in table.values() for name, rates in networks.items()}
    costs = {stage: _cost(plan, stage, sizes) for stage in missing}
    kinds: dict[str, list[str]] = {}
    for stage in needed:
        kinds.setdefault(plan.stages[stage].kind, []).append(stage)
    groups = {**kinds, "all": [stage for members in kinds.values() for stage in members]}
    header = f"{'':<12}" + "".join(f"{name:>11}" for name in COLUMNS)
    lines = [_cost_line(name, members, len(existing & set(members)), costs) for name, members in groups.items()]
    return [header, *lines, *_not_counted(costs), *_hours(costs, table)]


def _cost(plan: Plan, stage_id: str, parameters: dict[str, int]) -> Cost:
    stage, works, size = plan.stages[stage_id], None, None
    with suppress(UnknownSizeError):
        works = tuple(work for work in stage.works(plan) if work.passes)
        size = stage.bytes_left(plan, parameters)
    return Cost(works, size)


def _cost_line(name: str, members: list[str], exist: int, costs: dict[str, Cost]) -> str:
    found = [costs[stage] for stage in members if stage in costs]
    works = [work for cost in found for work in cost.works or ()]
    passes = [sum(getattr(work, name) for work in works) for name in ("gradients", "updates", "forwards")]
    disk = in_units(sum(cost.size or 0 for cost in found))
    counts = (len(members), exist, len(found))
    cells = [f"{count:,}" for count in counts] + [f"{number:.3g}" for number in passes] + [disk]
    return f"{name:<12}" + "".join(f"{cell:>11}" for cell in cells)


def _not_counted(costs: dict[str, Cost]) -> list[str]:
    lines = []
    if uncounted := sum(cost.works is None for cost in costs.values()):
        lines.append(f"not counted: {uncounted} stages, how many images they have is known when their pool is there")
    if unsized := sum(cost.size is None for cost in costs.values()):
        unknown = "encoded images, embeddings, and the weights of networks that were not calibrated"
        lines.append(f"disk: the estimate excludes {unsized} stages ({unknown})")
    return lines


def _hours(costs: dict[str, Cost], table: Table) -> list[str]:
    """A line a device; one that says so where there is none."""
    works = [work for cost in costs.values() for work in cost.works or ()]
    uncounted = any(cost.works is None for cost in costs.values())
    if not works and not uncounted:
        return []
    return [_on_device(device, rates, works, uncounted) for device, rates in table.items()] or [NO_RATES]


def _on_device(device: str, rates: dict[str, Rates], works: list[Work], uncounted: bool) -> str:
    hours = sum(rates[work.network].hours(work) for work in works if work.network in rates)
    lacking = sorted({work.network for work in works if work.network not in rates})
    known = f"{'at least' if lacking or uncounted else 'about'} {hours:.3g}" if hours else "not known"
    without = f", without what was not calibrated there: {'; '.join(lacking)}" if lacking else ""
    return f"hours of one {device}: {known}{without}"


def in_units(size: float) -> str:
    """A number of bytes for people: 3 significant digits, in powers of 1000."""
    for unit in UNITS[:-1]:
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} {UNITS[-1]}"
