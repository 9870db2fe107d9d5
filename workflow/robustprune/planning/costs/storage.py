"""How many bytes a stage leaves on the disk, from its settings; text, logs and pictures are not counted."""

from collections.abc import Mapping

from robustprune.core.work import UnknownSizeError
from robustprune.evaluation.robustness import EvaluationStage
from robustprune.generation.generated_pool import GeneratedPoolStage
from robustprune.generation.generator import GeneratorStage
from robustprune.images.ingested import IngestedPoolStage
from robustprune.images.synsets import SynsetPoolStage
from robustprune.networks.imported import ImportedModelStage
from robustprune.planning.costs.throughput import Rates
from robustprune.planning.costs.work import network_of, pool_rows
from robustprune.planning.plan import Plan
from robustprune.pruning.prune import ManifestStage
from robustprune.scores.dynamics import DynamicsScoreStage
from robustprune.scores.embedding import EmbeddingStage
from robustprune.scores.extrapolated import ExtrapolatedScoreStage
from robustprune.scores.loss import LossScoreStage
from robustprune.scores.margin import MarginStage
from robustprune.training.model import ModelStage

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
        case IngestedPoolStage(storage="encoded") | SynsetPoolStage() | EmbeddingStage():
            raise UnknownSizeError(stage_id)
        case IngestedPoolStage(image_shape=shape) | GeneratedPoolStage(image_shape=shape):
            channels, height, width = shape
            return pool_rows(plan, stage_id) * (channels * height * width + LABEL_BYTES)
        case GeneratorStage() | ImportedModelStage() as spec:
            return _weights(spec, rates)
        case ModelStage() as spec:
            files = 3 if spec.training.validates else 2  # averaged, raw, best
            return files * _weights(spec, rates) + _recordings(plan, spec)
        case MarginStage(pool=pool):
            return pool_rows(plan, pool) * MARGIN_BYTES
        case LossScoreStage(pool=pool) | ExtrapolatedScoreStage(pool=pool):
            return pool_rows(plan, pool) * 2 * FLOAT_BYTES
        case DynamicsScoreStage(pool=pool):
            return pool_rows(plan, pool) * FLOAT_BYTES
        case ManifestStage(pools=pools):
            return sum(pool_rows(plan, pool) for pool in pools) * MANIFEST_BYTES
        case EvaluationStage(pool=pool, images=images):
            rows = pool_rows(plan, pool)
            return min(rows, images or rows) * OUTCOME_BYTES
    return 0


def _recordings(plan: Plan, spec: ModelStage) -> int:
    if spec.recording is None:
        return 0
    epochs, rows = spec.recording.epochs or spec.training.epochs, sum(pool_rows(plan, pool) for pool in spec.pools)
    return len(spec.recording.trajectories) * epochs * rows * RECORDED_BYTES


def _weights(spec: ModelStage | ImportedModelStage | GeneratorStage, rates: Mapping[str, Rates]) -> int:
    network = network_of(spec, spec.settings.precision if isinstance(spec, GeneratorStage) else "float32")
    if network not in rates:
        raise UnknownSizeError(network)
    return rates[network].parameters * FLOAT_BYTES
