"""How many bytes a stage leaves on the disk, from its settings; text, logs and pictures are not counted."""

from collections.abc import Mapping

from robustprune.costs.throughput import Rates
from robustprune.costs.work import UnknownSizeError, network_of, pool_rows
from robustprune.plan import Plan
from robustprune.specs import (
    DynamicsScoreSpec,
    EmbeddingSpec,
    EvaluationSpec,
    ExtrapolatedScoreSpec,
    GeneratedPoolSpec,
    GeneratorSpec,
    ImportedModelSpec,
    IngestedPoolSpec,
    LossScoreSpec,
    ManifestSpec,
    MarginSpec,
    ModelSpec,
    SynsetPoolSpec,
)

MARGIN_BYTES = 4 + 2 + 1 + 2  # margin, prediction, converged, steps
RECORDED_BYTES = 2 + 2 + 1  # confidence, error, correct, before compression
MANIFEST_BYTES = 8 + 2 + 4 + 4  # index, label, score, epsilon
OUTCOME_BYTES = 8 + 2 + 3  # index, label, flags
LABEL_BYTES = 2
FLOAT_BYTES = 4


def bytes_of(plan: Plan, stage_id: str, rates: Mapping[str, Rates]) -> int:
    """What a stage leaves behind, before compression.

    Args:
        plan: the plan.
        stage_id: the stage.
        rates: of networks that were calibrated, for how many weights they have.

    Raises:
        UnknownSizeError: when the size of a pool, of a network or of an embedding's vectors is not known yet.
    """
    match plan.stages[stage_id]:
        case IngestedPoolSpec(storage="encoded") | SynsetPoolSpec() | EmbeddingSpec():
            raise UnknownSizeError(stage_id)
        case IngestedPoolSpec(image_shape=shape) | GeneratedPoolSpec(image_shape=shape):
            channels, height, width = shape
            return pool_rows(plan, stage_id) * (channels * height * width + LABEL_BYTES)
        case GeneratorSpec() | ImportedModelSpec() as spec:
            return _weights(spec, rates)
        case ModelSpec() as spec:
            files = 3 if spec.training.validates else 2  # averaged, raw, best
            return files * _weights(spec, rates) + _recordings(plan, spec)
        case MarginSpec(pool=pool):
            return pool_rows(plan, pool) * MARGIN_BYTES
        case LossScoreSpec(pool=pool) | ExtrapolatedScoreSpec(pool=pool):
            return pool_rows(plan, pool) * 2 * FLOAT_BYTES
        case DynamicsScoreSpec(pool=pool):
            return pool_rows(plan, pool) * FLOAT_BYTES
        case ManifestSpec(pools=pools):
            return sum(pool_rows(plan, pool) for pool in pools) * MANIFEST_BYTES
        case EvaluationSpec(pool=pool, images=images):
            rows = pool_rows(plan, pool)
            return min(rows, images or rows) * OUTCOME_BYTES
    return 0


def _recordings(plan: Plan, spec: ModelSpec) -> int:
    if spec.recording is None:
        return 0
    epochs, rows = spec.recording.epochs or spec.training.epochs, sum(pool_rows(plan, pool) for pool in spec.pools)
    return len(spec.recording.trajectories) * epochs * rows * RECORDED_BYTES


def _weights(spec: ModelSpec | ImportedModelSpec | GeneratorSpec, rates: Mapping[str, Rates]) -> int:
    network = network_of(spec, spec.settings.precision if isinstance(spec, GeneratorSpec) else "float32")
    if network not in rates:
        raise UnknownSizeError(network)
    return rates[network].parameters * FLOAT_BYTES
