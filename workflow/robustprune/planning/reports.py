"""Plans the report with its galleries of what rows prune by, and the table of how good generated images are."""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from robustprune.core.errors import UserError
from robustprune.core.stage import Stage
from robustprune.evaluation.quality.quality_stage import QualityStage
from robustprune.experiments.tables.table import TableStage
from robustprune.planning.context import Stages
from robustprune.planning.models import independent_classifier
from robustprune.planning.pools import synthetic_pool
from robustprune.pruning.prune import ManifestStage
from robustprune.report.gallery_stage import GalleryStage
from robustprune.report.page import ReportStage, ShownFile
from robustprune.report.provenance import manifests_of

if TYPE_CHECKING:
    from robustprune.planning.context import Context

if TYPE_CHECKING:
    from robustprune.planning.context import Context, Stages

ScoredPools = tuple[tuple[str, ...], tuple[str, ...]]
"""Pools, and the score of each."""


def plan_report(context: "Context", names: Mapping[str, str], targets: Mapping[str, str]) -> str:
    """Plan the report of tables and figures whose stages are planned; return its stage.

    Args:
        context: has the stages of all tables and figures.
        names: the name under results/ of each table and figure, by target.
        targets: the stage of each target that can be made.

    Raises:
        UserError: where ``report.shows`` names no table or figure, or one that cannot be made.
    """
    config, stages = context.config, context.stages
    files = {name: targets.get(target) for target, name in names.items()}
    asked = dict.fromkeys(name for pattern in config.report.shows for name in _matching(pattern, files))
    shown = [
        ShownFile(target=name, kind=stages[stage].kind, stage=stage)
        for name in asked
        if (stage := files[name]) is not None
    ]
    if not shown:
        raise UserError(f"report.shows: none of {', '.join(asked)} can be made; 'robustprune plan' says why")
    return stages.add(
        ReportStage(
            preset=config.preset,
            dataset=config.data.name,
            shown=tuple(shown),
            impossible=tuple(name for name in asked if files[name] is None),
            galleries=tuple(_galleries(stages, [stages[one.stage] for one in shown])),
        )
    )


def _matching(pattern: str, files: Mapping[str, str | None]) -> list[str]:
    found = [name for name in files if fnmatchcase(name, pattern)]
    if not found:
        raise UserError(f"report.shows = {pattern!r} is none of the tables and figures: {', '.join(files)}")
    if files.get(pattern, "") is None:
        raise UserError(f"report.shows = {pattern!r} cannot be made; 'robustprune plan results/{pattern}' says why")
    return found


def _galleries(stages: "Stages", shown: list[Stage]) -> list[str]:
    """A gallery of each score that rows prune by, with all that is pruned by it."""
    by_score: dict[ScoredPools, dict[str, None]] = {}
    for table in shown:
        if isinstance(table, TableStage):
            for manifest in manifests_of(table, stages):
                spec = stages[manifest]
                assert isinstance(spec, ManifestStage)
                if scores := spec.scores or spec.margins:  # radii may follow margins that chance drops images of
                    by_score.setdefault((spec.pools, scores), {}).setdefault(manifest)
    return [
        stages.add(GalleryStage(pools=pools, scores=scores, manifests=tuple(manifests)))
        for (pools, scores), manifests in by_score.items()
    ]


def plan_quality(context: "Context") -> str:
    """Return the stage that measures the generated images of ``synthetic.source``.

    Raises UserError where the images were selected by the classifier that is to judge them.
    """
    config, pool = context.config, synthetic_pool(context)
    judge = independent_classifier(context, config.quality.classifier, seed=config.seeds[0] + 1)
    if judge in _behind(pool, context.stages):
        raise UserError(
            f"quality.classifier = {config.quality.classifier} selected the images of {config.synthetic.source}, so it "
            "would find that it agrees with itself; name another checkpoint, or null"
        )
    return context.add(
        QualityStage(
            pool=pool, train=context.train, test=context.pool("test"), model=judge, images=config.quality.images
        )
    )


def _behind(stage_id: str, stages: "Stages") -> set[str]:
    """Return all stages that a stage rests on."""
    upstream = {upstream for _, upstream in stages[stage_id].upstream}
    return upstream.union(*(_behind(one, stages) for one in upstream))
