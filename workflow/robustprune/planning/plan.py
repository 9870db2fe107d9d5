"""The plan: which stages a configuration needs, made before anything runs.

Configuration and experiment rows go in, a graph of stage specs comes out. The Snakefile and ``robustprune plan`` ask it
for everything: inputs, directories, resources, targets.
"""

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import cast

from robustprune.core.errors import UserError
from robustprune.core.paths import POOL_FILE, RECORD_FILE, SPEC_FILE, stage_directory
from robustprune.core.stage import Stage
from robustprune.core.stage_file import write_spec
from robustprune.core.wording import suggestion
from robustprune.core.work import UnknownSizeError
from robustprune.experiments.figures.figure import AnyFigure
from robustprune.experiments.tables.forms import AnyTable
from robustprune.images.pool import PoolStage
from robustprune.planning.config import Config, StageResources, preset_names
from robustprune.planning.context import Context
from robustprune.planning.reports import plan_quality, plan_report
from robustprune.planning.tables import plan_table, with_claims_on

QUALITY_TARGET, REPORT_TARGET = "quality.csv", "report.html"  # under results/


@dataclass(frozen=True)
class Plan:
    """Every stage by id, and the final files people ask for."""

    config: Config
    results: Path  # results/<preset>
    stages: Mapping[str, Stage]
    targets: Mapping[str, str] = field(default_factory=dict)  # the stage behind each file that can be made
    problems: Mapping[str, str] = field(default_factory=dict)  # why each of the other files cannot be made
    pulls: Mapping[str, str] = field(default_factory=dict)  # where each score that is pulled lies or came from

    def directory(self, stage_id: str) -> Path:
        """Return where a stage lies. Raises UserError for an id that is not planned."""
        return stage_directory(self.results, self._spec(stage_id).kind, stage_id)

    def record(self, stage_id: str) -> Path:
        """The file that marks a stage as complete."""
        return self.directory(stage_id) / RECORD_FILE

    def upstream(self, stage_id: str) -> tuple[tuple[str, str], ...]:
        """(kind, id) of each stage that ``stage_id`` reads; a score that is pulled reads its pool alone."""
        spec = self._spec(stage_id)
        return (spec.upstream_of_pull or ()) if stage_id in self.pulls else spec.upstream

    def upstream_records(self, stage_id: str) -> list[Path]:
        """The records of the stages that ``stage_id`` reads."""
        return [self.record(upstream) for _, upstream in self.upstream(stage_id)]

    def parts(self, stage_id: str) -> list[range]:
        """The rows of each job that computes a part of a stage; none where the stage is one job."""
        shared, count = self._spec(stage_id).shared_rows, self.rows(stage_id)
        if shared is None or count is None:
            return []
        length = self.config.execution.rows_of_a_part(self._spec(stage_id).kind, shared.together)
        parts = [range(start, min(start + length, count)) for start in range(0, count, length)]
        return parts if len(parts) > 1 else []

    def rows(self, stage_id: str) -> int | None:
        """Return how many rows a stage computes one by one; None where there are none, or only the job knows."""
        shared = self._spec(stage_id).shared_rows
        if shared is None:
            return None
        whole = shared.most if shared.pool is None else self.images(shared.pool)
        return whole if whole is None or shared.most is None else min(whole, shared.most)

    def resources(self, stage_id: str) -> StageResources:
        """Return what a stage's job asks of the scheduler."""
        spec = self._spec(stage_id)
        key = spec.resources or spec.kind
        resources = self.config.resources.get(key, StageResources())
        return resources if spec.needs_device else resources.model_copy(update={"gpu": 0})

    def needed_for(self, stage_ids: Iterable[str]) -> list[str]:
        """``stage_ids`` and all they rest on, each after what it needs."""
        order: dict[str, None] = {}

        def visit(stage_id: str) -> None:
            for _, upstream in self.upstream(stage_id):
                visit(upstream)
            order.setdefault(stage_id)

        for stage_id in stage_ids:
            visit(stage_id)
        return list(order)

    def write_specs(self, stage_ids: Iterable[str] | None = None) -> None:
        """Put spec.json of some stages, or of all, where their jobs look for it."""
        for stage_id in self.stages if stage_ids is None else stage_ids:
            write_spec(self.directory(stage_id) / SPEC_FILE, self._spec(stage_id))

    def images(self, pool_id: str) -> int | None:
        """Return how many images a pool will have, or has where it is made already; None where neither is known."""
        planned = cast(PoolStage, self.stages[pool_id]).planned_count(self.stages)
        if planned is not None:
            return planned
        try:
            return int(json.loads((self.directory(pool_id) / POOL_FILE).read_text())["count"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def count(self, pool_id: str) -> int:
        """Return how many images a pool has or will have. Raises UnknownSizeError."""
        images = self.images(pool_id)
        if images is None:
            raise UnknownSizeError(pool_id)
        return images

    def _spec(self, stage_id: str) -> Stage:
        if stage_id not in self.stages:
            raise UserError(f"{stage_id} is not a stage of the current configuration; see 'robustprune plan'")
        return self.stages[stage_id]


def make_plan(
    config: Config,
    tables: Mapping[str, AnyTable],
    figures: Mapping[str, AnyFigure] | None = None,
    *,
    results: Path = Path("results"),
    quality: bool = False,
    page: bool = False,
) -> Plan:
    """Return the plan of all tables and figures, with ``quality`` of generated images, and with ``page`` of a report.

    What the configuration does not allow is kept among the plan's problems and stops no other. Raises UserError when a
    data file is missing, two entries would write the same files, or nothing can be made.
    """
    context = Context(config)
    stages = context.stages
    assert context.train  # files that are missing are reported once, before any table
    targets: dict[str, str] = {}
    problems: dict[str, str] = {}
    _check_targets({**tables, **(figures or {})}, config.preset)
    asked = [(table.target, partial(plan_table, context, name, table)) for name, table in tables.items()]
    asked += [
        (figure.target, partial(with_claims_on(config.data.name, figure).plan, name, context))
        for name, figure in (figures or {}).items()
    ]
    if quality and config.synthetic.source != "none":
        asked.append((QUALITY_TARGET, partial(plan_quality, context)))
    if page:
        names = {str(results / name): name for name, _ in asked if name != QUALITY_TARGET}
        asked.append((REPORT_TARGET, partial(plan_report, context, names, targets)))
    for name, add in asked:
        target, before = str(results / name), set(stages)
        try:
            targets[target] = add()
        except UserError as error:
            problems[target] = str(error)
            for added in set(stages) - before:
                del stages[added]
    if problems and not targets:
        raise UserError(next(iter(problems.values())))
    return Plan(config, results / config.preset, stages, targets, problems)


def _check_targets(entries: Mapping[str, AnyTable | AnyFigure], preset: str) -> None:
    """Raise UserError for two that write the same files, each with a .csv and a .md beside it, or among the stages."""
    owners = {Path(target).stem: f"the target {target}" for target in (QUALITY_TARGET, REPORT_TARGET)}
    of_stages = {preset, *preset_names()}
    for name, entry in entries.items():
        folder, _, _ = entry.target.partition("/")
        if folder in of_stages:
            raise UserError(
                f"{name} has the target {entry.target}, but results/{folder} is the stages'; give it another"
            )
        stem = entry.target.rpartition(".")[0]
        if (owner := owners.setdefault(stem, name)) != name:
            raise UserError(f"{owner} and {name} have the same target, {stem}; give one of them another")


def stages_of_targets(plan: Plan, targets: Collection[str]) -> list[str]:
    """Return the stages that some targets need, or all targets where none is named, in order. Raises UserError."""
    asked = targets or list(plan.targets)
    return list(dict.fromkeys(stage for target in asked for stage in stages_of_target(plan, target)))


def stages_of_target(plan: Plan, target: str) -> list[str]:
    """Return the stages a file or a stage id needs, in order. Raises UserError for a target that cannot be made."""
    if target in plan.problems:
        raise UserError(f"{target} cannot be made: {plan.problems[target]}")
    stage = plan.targets.get(target, target)
    if stage not in plan.stages:
        raise UserError(
            f"{target} is neither a stage id of this configuration nor one of its files"
            f"{suggestion(target, list(plan.targets))}"
        )
    return plan.needed_for([stage])
