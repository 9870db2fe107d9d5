"""How often images go through a network in a stage, counted from its settings. docs/evaluation.md has the formulas.

Where a number depends on what will be found, it is the most there can be, and for DeepFool what is usual.
"""

from dataclasses import replace

from robustprune.attacks.boundary_settings import BoundarySearchSettings
from robustprune.core.settings import Precision
from robustprune.core.stage import Stage
from robustprune.core.work import UnknownSizeError, Work
from robustprune.evaluation.quality.stage import QualityStage
from robustprune.evaluation.robustness import EvaluationStage
from robustprune.generation.generated_pool import GeneratedPoolStage
from robustprune.generation.generator import GeneratorStage
from robustprune.networks.imported import ImportedModelStage
from robustprune.planning.plan import Plan
from robustprune.pruning.prune import ManifestStage
from robustprune.pruning.settings import DropShare
from robustprune.scores.embedding import EmbeddingStage, ModelEncoder, TorchvisionEncoder
from robustprune.scores.loss import LossScoreStage
from robustprune.scores.margin import MarginStage
from robustprune.training.model import ModelStage
from robustprune.training.recipes.base import AdversarialRecipe, MultiStepRecipe
from robustprune.training.recipes.trades import TradesRecipe

DEEPFOOL_GRADIENTS = 10  # an image, at slope_ratio 1.75 and ten classes: an estimate
APGD_STEPS, FAB_STEPS, SQUARE_QUERIES, TARGETS = 100, 100, 5000, 9  # of the standard AutoAttack

NetworkSpec = ModelStage | ImportedModelStage | GeneratorStage


def networks(plan: Plan) -> dict[str, tuple[NetworkSpec, Precision]]:
    """Each network of the plan's own that images go through, with the arithmetic of what they go through it for.

    Torchvision's are not among them: their weights lie where the jobs run, so they cannot be built for a measurement.
    """
    found: list[tuple[NetworkSpec, Precision]] = []  # a model looks at images in float32, however it learns
    for spec in plan.stages.values():
        match spec:
            case ModelStage(training=recipe):
                found += [(spec, recipe.precision), (spec, "float32")]
            case ImportedModelStage():
                found.append((spec, "float32"))
            case GeneratorStage(settings=settings):
                found.append((spec, settings.precision))
            case GeneratedPoolStage(generator=generator, sampler=sampler):
                found.append((_network_spec(plan, generator), sampler.precision))
    return {network_of(spec, precision): (spec, precision) for spec, precision in found}


def network_of(spec: NetworkSpec, precision: Precision = "float32") -> str:
    """What decides how fast a network is, in words."""
    name = _architecture_of(spec)
    return name if precision == "float32" else f"{name}, {precision}"


def _architecture_of(spec: NetworkSpec) -> str:
    shape = "x".join(str(side) for side in spec.image_shape)
    if not isinstance(spec, GeneratorStage):
        return f"{spec.architecture}, {spec.classes} classes, {shape}"
    settings = spec.settings
    channels = "-".join(str(settings.base_channels * factor) for factor in settings.channel_multipliers)
    attention = "-".join(str(side) for side in settings.attention_resolutions) or "none"
    patch = f"patch {settings.patch}"
    return f"edm of {channels} channels, {settings.blocks} blocks, attention {attention}, {patch}, {shape}"


def works_of(plan: Plan, stage_id: str) -> tuple[Work, ...]:
    """What a stage costs, by network and its arithmetic; empty for stages that only read and write.

    Raises:
        UnknownSizeError: when the size of a pool is not known yet.
    """
    spec = plan.stages[stage_id]
    works = [_learning(plan, spec), _looking_on(plan, spec)] if isinstance(spec, ModelStage) else [_work(plan, spec)]
    return tuple(work for work in works if work.passes)


def _work(plan: Plan, spec: Stage) -> Work:
    match spec:
        case GeneratorStage(settings=settings) as spec:
            return Work(network_of(spec, settings.precision), updates=settings.steps * settings.batch_size)
        case GeneratedPoolStage(generator=generator, count=count, sampler=sampler):
            network = network_of(_network_spec(plan, generator), sampler.precision)
            return Work(network, forwards=count * sampler.evaluations)
        case MarginStage() | LossScoreStage() | EvaluationStage() | EmbeddingStage(encoder=ModelEncoder()) as spec:
            return replace(_image(spec), network=_network(plan, _model_of(spec))) * _rows(plan, spec)
        case EmbeddingStage(encoder=TorchvisionEncoder(name=name)) as spec:
            return Work(f"torchvision's {name}", forwards=_rows(plan, spec))
        case QualityStage(pool=pool, train=train, test=test, model=model, images=images):
            looked_at = sum(min(images or rows, rows) for rows in (pool_rows(plan, p) for p in (pool, train, test)))
            return Work(_network(plan, model), forwards=2 * looked_at)  # for what it says, and for its features
    return Work()


def _image(spec: MarginStage | LossScoreStage | EvaluationStage | EmbeddingStage) -> Work:
    """What one image costs in a stage that looks at images one by one."""
    match spec:
        case MarginStage(settings=settings):
            searched = isinstance(settings, BoundarySearchSettings)
            gradients = settings.max_steps if isinstance(settings, BoundarySearchSettings) else DEEPFOOL_GRADIENTS
            return Work(forwards=settings.bisection_steps + searched, gradients=gradients)
        case LossScoreStage(attack=attack):
            return Work(forwards=1, gradients=attack.steps if attack else 0)
        case EvaluationStage(attack="autoattack"):
            gradients = (1 + TARGETS) * (APGD_STEPS + 1) + TARGETS * FAB_STEPS
            return Work(forwards=TARGETS * FAB_STEPS + SQUARE_QUERIES, gradients=1 + gradients)
        case EvaluationStage(pgd=pgd) if pgd is not None:
            return Work(forwards=1 + pgd.restarts, gradients=1 + pgd.restarts * pgd.steps)
    return Work(forwards=1)


def _learning(plan: Plan, spec: ModelStage) -> Work:
    """What the steps of a training cost."""
    recipe, images = spec.training, images_learnt_from(plan, spec)
    attack_steps = recipe.attack_steps if isinstance(recipe, MultiStepRecipe) else 1
    attacked = isinstance(recipe, AdversarialRecipe)
    learnt = Work(
        network_of(spec, recipe.precision),
        gradients=attack_steps * attacked,
        updates=2 if isinstance(recipe, TradesRecipe) else 1,
    )
    if spec.online is not None:
        tried = spec.online.bisection_steps + 2 + (spec.online.threshold is not None)  # both ends, too
        learnt += Work(forwards=tried)
    return learnt * images


def _looking_on(plan: Plan, spec: ModelStage) -> Work:
    """What a training costs beside its steps, all of it in float32."""
    return Work(network_of(spec)) + _validations(spec) + _recordings(plan, spec) + _pruning_midway(plan, spec)


def images_learnt_from(plan: Plan, spec: ModelStage) -> int:
    """Images in all steps of a training together, those drawn again counted again."""
    recipe, midway = spec.training, spec.mid_training
    if recipe.epoch_images is not None:
        return recipe.epochs * recipe.steps_per_epoch(0) * recipe.batch_size
    an_epoch = (pool_rows(plan, spec.real) - recipe.held_out_images) * _share_of_real_kept(plan, spec)
    epochs = midway.after_epoch + (recipe.epochs - midway.after_epoch) * midway.keep if midway else recipe.epochs
    return round(an_epoch * epochs)


def _share_of_real_kept(plan: Plan, spec: ModelStage) -> float:
    """1 where only synthetic images may be dropped; where all may be, real ones are taken to lose the same share."""
    match plan.stages[spec.manifest] if spec.manifest else None:
        case ManifestStage(drop=DropShare(shares=shares), among="all" | "real"):
            return 1 - sum(shares)
    return 1.0


def _validations(spec: ModelStage) -> Work:
    recipe = spec.training
    if not recipe.validates:
        return Work()
    attack = Work(forwards=1, gradients=recipe.validation_steps) if isinstance(recipe, AdversarialRecipe) else Work()
    times = -(-recipe.epochs // recipe.validate_every)
    return (Work(forwards=1) + attack) * (times * recipe.validation_images)


def _recordings(plan: Plan, spec: ModelStage) -> Work:
    recording = spec.recording
    if recording is None:
        return Work()
    adversarial = sum(name.startswith("adversarial") for name in recording.trajectories)
    image = Work(forwards=len(recording.trajectories), gradients=adversarial * recording.attack.steps)
    rows = sum(pool_rows(plan, pool) for pool in spec.pools)
    return image * ((recording.epochs or spec.training.epochs) * rows)


def _pruning_midway(plan: Plan, spec: ModelStage) -> Work:
    midway = spec.mid_training
    if midway is None or midway.strategy == "random":
        return Work()
    image = Work(gradients=DEEPFOOL_GRADIENTS) if midway.score == "deepfool" else Work(forwards=1)
    stepped = Work(gradients=int(midway.at == "adversarial"))
    return (image + stepped) * sum(pool_rows(plan, pool) for pool in spec.pools)


def _rows(plan: Plan, spec: MarginStage | LossScoreStage | EvaluationStage | EmbeddingStage) -> int:
    rows = pool_rows(plan, spec.pool)
    return min(rows, spec.images or rows) if isinstance(spec, EvaluationStage) else rows


def pool_rows(plan: Plan, pool: str) -> int:
    """How many images a pool has or will have. Raises UnknownSizeError."""
    rows = plan.images(pool)
    if rows is None:
        raise UnknownSizeError(pool)
    return rows


def _model_of(spec: MarginStage | LossScoreStage | EvaluationStage | EmbeddingStage) -> str:
    return next(stage for kind, stage in spec.upstream if kind == "models")


def _network(plan: Plan, stage_id: str) -> str:
    return network_of(_network_spec(plan, stage_id))


def _network_spec(plan: Plan, stage_id: str) -> NetworkSpec:
    spec = plan.stages[stage_id]
    assert isinstance(spec, NetworkSpec)
    return spec
