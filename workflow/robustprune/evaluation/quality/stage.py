"""The stage that tells how good generated images are."""

from typing import Any

from robustprune.attacks.inputs import CHECKED_IMAGES, as_inputs, check_classifier
from robustprune.core.files import replacing
from robustprune.core.job import Job
from robustprune.evaluation.quality.measuring import Judge, look
from robustprune.evaluation.quality.memorisation import RealNeighbours
from robustprune.evaluation.quality.report import by_class, draw_class_sheets, draw_nearest, report_table, summary
from robustprune.evaluation.quality.specs import QualityStage
from robustprune.images.pool import Pool, open_pool
from robustprune.networks.checkpoint import load_model

TABLE_FILE, SHEETS, NEAREST_FILE = "table.csv", "sheets", "nearest.png"


def run(job: Job, spec: QualityStage) -> dict[str, Any]:
    """Publish table.csv, a sheet of images for each class, and the generated images nearest to a real one beside it.

    Returns:
        how the images were selected, what ``report.summary`` finds of all and ``report.by_class`` of each class.

    Raises:
        UserError: when a pool or the model is damaged, or the model has no features.
        Interrupted: after a signal, with what was looked at saved.
    """
    generated, train, test = (_open(job, pool_id) for pool_id in (spec.pool, spec.train, spec.test))
    judge = Judge(load_model(job.upstream("models", spec.model), job.device), spec.model)
    check_classifier(judge.model, *as_inputs(test, 0, min(CHECKED_IMAGES, len(test)), job.device), origin=spec.model)
    neighbours = RealNeighbours(job, train)
    seen = look(job, generated, judge, neighbours, images=spec.images, name="generated")
    held_out = look(job, test, judge, neighbours, images=spec.images, name="held-out")
    learnt = look(job, train, judge, None, images=spec.images, name="training")
    whole, classes = summary(seen, held_out, learnt), by_class(seen, held_out, generated.info.classes)
    with replacing(job.partial / TABLE_FILE) as temporary:
        report_table(whole, classes).to_csv(temporary, index=False)
    draw_class_sheets(job.partial / SHEETS, generated, seen)
    draw_nearest(job.partial / NEAREST_FILE, generated, train, seen)
    job.publish(TABLE_FILE, SHEETS, NEAREST_FILE)
    return {"selected": list(generated.info.selected), **whole, "by_class": classes}


def _open(job: Job, pool_id: str) -> Pool:
    return open_pool(job.upstream("pools", pool_id))
