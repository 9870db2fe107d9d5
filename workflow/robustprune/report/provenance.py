"""How results were made: the stages behind them, their costs by kind, and the versions that they used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from robustprune.core.paths import PULLED_FILE, RECORD_FILE
from robustprune.core.record import Record, read_record
from robustprune.core.stage_file import read_spec

if TYPE_CHECKING:
    from robustprune.core.job import Job
    from robustprune.core.stage import Stage
    from robustprune.experiments.tables.table import TableStage

DEFINITION = {"report.provenance": 1}


class MadeStage(NamedTuple):
    """A stage behind the results.

    Attributes:
        reads: (kind, id) of the stages that it was made from.
        record: None where its results have been deleted since.
        pulled: True if another team made it.
    """

    spec: Stage
    reads: tuple[tuple[str, str], ...]
    record: Record | None
    pulled: bool


class KindSummary(NamedTuple):
    """All stages of a kind; seconds and memory of those that have a record.

    Attributes:
        reads: how many stages of each other kind they read.
        stages: in the order of their ids.
        seconds: the sum over the attempts that finished.
        longest: seconds of the longest of them.
        devices: how many ran on each.
    """

    kind: str
    sentence: str
    reads: dict[str, int]
    stages: list[MadeStage]
    seconds: float
    longest: float
    peak_memory_mb: float
    peak_gpu_memory_mb: float
    devices: dict[str, int]

    @property
    def recorded(self) -> int:
        """Number of stages with a record."""
        return sum(stage.record is not None for stage in self.stages)


def stages_behind(job: Job, upstream: Iterable[tuple[str, str]]) -> dict[str, MadeStage]:
    """Return the given stages and all behind them, by id. Raises UserError for a damaged spec or record."""
    found: dict[str, MadeStage] = {}
    waiting = list(upstream)
    while waiting:
        kind, stage_id = waiting.pop()
        if stage_id not in found:
            found[stage_id] = _read(job, kind, stage_id)
            waiting += found[stage_id].reads
    return found


def _read(job: Job, kind: str, stage_id: str) -> MadeStage:
    directory = job.upstream(kind, stage_id)
    spec, pulled = read_spec(directory), (directory / PULLED_FILE).is_file()
    reads = (spec.upstream_of_pull or ()) if pulled else spec.upstream
    record = read_record(directory) if (directory / RECORD_FILE).is_file() else None
    return MadeStage(spec, reads, record, pulled)


def by_kind(stages: dict[str, MadeStage]) -> list[KindSummary]:
    """Return the stages by kind, in the order in which the first of each was made."""
    kinds = list(dict.fromkeys(stages[stage_id].spec.kind for stage_id in _in_order(stages)))
    by_kinds = {kind: [stages[one] for one in sorted(stages) if stages[one].spec.kind == kind] for kind in kinds}
    return [_summed(kind, members, kinds) for kind, members in by_kinds.items()]


def _in_order(stages: dict[str, MadeStage]) -> list[str]:
    """Return the ids, each after those of the stages it reads."""
    order: dict[str, None] = {}

    def visit(stage_id: str) -> None:
        if stage_id not in order:
            for _, upstream in stages[stage_id].reads:
                visit(upstream)
            order[stage_id] = None

    for stage_id in sorted(stages):
        visit(stage_id)
    return list(order)


def _summed(kind: str, stages: list[MadeStage], kinds: list[str]) -> KindSummary:
    records = [stage.record for stage in stages if stage.record is not None]
    read = {pair for stage in stages for pair in stage.reads}
    return KindSummary(
        kind=kind,
        sentence=stages[0].spec.sentence,
        reads=dict(sorted(Counter(kind for kind, _ in read).items(), key=lambda pair: kinds.index(pair[0]))),
        stages=stages,
        seconds=sum(record.seconds for record in records),
        longest=max((record.seconds for record in records), default=0.0),
        peak_memory_mb=max((record.peak_memory_mb for record in records), default=0.0),
        peak_gpu_memory_mb=max((record.peak_gpu_memory_mb for record in records), default=0.0),
        devices=dict(Counter(record.device for record in records)),
    )


def versions(stages: dict[str, MadeStage]) -> dict[str, dict[str, int]]:
    """Return how many stages used each version of each package, the most used first."""
    found: dict[str, Counter[str]] = {}
    for stage in stages.values():
        if stage.record is not None:
            platform = {"platform": stage.record.host_platform}
            for package, version in {**stage.record.versions, **platform}.items():
                found.setdefault(package, Counter())[version] += 1
    return {package: dict(counted.most_common()) for package, counted in found.items()}


def manifests_of(table: TableStage, stages: Mapping[str, Stage]) -> dict[str, list[str]]:
    """Return the manifests of the models in a table's rows, and the methods of these rows.

    ``stages`` has at least the models of its rows, by id.
    """
    methods: dict[str, list[str]] = {}
    for row in table.rows:
        models = [stages[run.model] for run in row.runs if run.model is not None]
        for manifest in dict.fromkeys(getattr(model, "manifest", None) for model in models):
            if manifest is not None:
                methods.setdefault(manifest, []).append(row.method)
    return methods
