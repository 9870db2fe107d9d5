"""What is still to be done, in numbers: a line a kind of stage, then hours on each device that was calibrated."""

from collections.abc import Collection, Iterable, Set
from dataclasses import dataclass

from robustprune.core.work import UnknownSizeError, Work
from robustprune.planning.costs.throughput import Rates, Table
from robustprune.planning.plan import Plan

COLUMNS = ("stages", "exist", "to run", "gradients", "updates", "forwards", "disk")
UNITS = ("B", "kB", "MB", "GB", "TB", "PB")
NO_RATES = "hours: no estimate yet; run 'robustprune calibrate' where the jobs will run"


@dataclass(frozen=True)
class Cost:
    """Cost of one missing stage; None where a size is not known before another stage has run."""

    works: tuple[Work, ...] | None
    size: int | None


def cost_lines(
    plan: Plan, needed: Iterable[str], table: Table, *, existing: Set[str], missing: Collection[str]
) -> list[str]:
    """Return what the missing stages cost.

    Args:
        plan: the plan.
        needed: ids of the stages that a target needs.
        table: measured rates, by device and network.
        existing: those of the needed stages that are complete.
        missing: those of them that would run.
    """
    sizes = {name: rates.parameters for networks in table.values() for name, rates in networks.items()}
    costs = {stage: _cost(plan, stage, sizes) for stage in missing}
    kinds: dict[str, list[str]] = {}
    for stage in needed:
        kinds.setdefault(plan.stages[stage].kind, []).append(stage)
    groups = {**kinds, "all": [stage for members in kinds.values() for stage in members]}
    header = f"{'':<12}" + "".join(f"{name:>11}" for name in COLUMNS)
    lines = [_line(name, members, len(existing & set(members)), costs) for name, members in groups.items()]
    return [header, *lines, *_not_counted(costs), *_hours(costs, table)]


def _cost(plan: Plan, stage_id: str, parameters: dict[str, int]) -> Cost:
    stage, works, size = plan.stages[stage_id], None, None
    try:
        works = tuple(work for work in stage.works(plan) if work.passes)
        size = stage.bytes_left(plan, parameters)
    except UnknownSizeError:
        pass
    return Cost(works, size)


def _line(name: str, members: list[str], exist: int, costs: dict[str, Cost]) -> str:
    found = [costs[stage] for stage in members if stage in costs]
    works = [work for cost in found for work in cost.works or ()]
    passes = (
        sum(work.gradients for work in works),
        sum(work.updates for work in works),
        sum(work.forwards for work in works),
    )
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
