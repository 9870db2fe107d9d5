"""Plans models: trained here, or brought in."""

from typing import TYPE_CHECKING

from robustprune.core.errors import UserError
from robustprune.experiments.row import Row
from robustprune.images.subpools import UnionPoolStage
from robustprune.networks.imported import ImportedModelStage, checkpoint_file
from robustprune.training.dynamics import RecordingSettings
from robustprune.training.model import ModelStage
from robustprune.training.recipes.base import AnyRecipe, MultiStepRecipe, problem_of_processes

if TYPE_CHECKING:
    from robustprune.planning.context import Context


def trained_model(
    context: "Context",
    recipe: AnyRecipe,
    manifest: str | None,
    seed: int,
    row: Row | None = None,
    recording: RecordingSettings | None = None,
    pools: tuple[str, ...] | None = None,
) -> str:
    """A model trained by a recipe, on what a manifest keeps of the pools it learns from, or of ``pools``."""
    config = context.config
    real, *synthetic = pools or context.pools_of(recipe)
    _check_validation(context, recipe, real)
    _check_reach(context, recipe)
    if (problem := problem_of_processes(recipe, config.execution.processes)) is not None:
        raise UserError(problem)
    _check_shares(context, real)
    return context.add(
        ModelStage(
            architecture=config.architecture,
            classes=config.data.classes,
            image_shape=config.data.image_shape,
            real=real,
            synthetic=synthetic[0] if synthetic else None,
            manifest=manifest,
            threat=config.threat,
            training=recipe,
            mid_training=row.mid_training if row else None,
            online=row.online if row else None,
            seed=seed,
            recording=recording,
        )
    )


def _check_validation(context: "Context", recipe: AnyRecipe, real: str) -> None:
    rows = context.stages.rows_of(real) if recipe.validation_images else None
    if rows is not None and recipe.needed_images > rows:
        raise UserError(
            f"training.{recipe.recipe}.validation_images = {recipe.validation_images}, but {real} has {rows} images"
            + (", of which some should be left to train on" if recipe.validation_held_out else "")
        )


def _check_reach(context: "Context", recipe: AnyRecipe) -> None:
    """As where the threat is changed to another norm's and the steps are not."""
    if not isinstance(recipe, MultiStepRecipe):
        return
    reach, epsilon = recipe.attack_steps * recipe.step_size, context.config.threat.epsilon
    if 4 * reach < epsilon:
        raise UserError(
            f"training.{recipe.recipe}.attack_steps * step_size = {reach} should be at least a quarter of "
            f"threat.epsilon = {epsilon}"
        )


def _check_shares(context: "Context", first: str) -> None:
    """A training draws by shares only from the generated images that it has beside real ones."""
    pool = context.stages[first]
    if isinstance(pool, UnionPoolStage) and any(part.share is not None for part in pool.parts):
        raise UserError(
            f"data.trained_on = {context.config.data.trained_on}, but the shares of {first} hold only beside real "
            "images; put null for each share in its union, and all its images are drawn equally often"
        )


def imported_model(context: "Context", name: str) -> str:
    """One of the configured checkpoints. Raises UserError for another name."""
    config = context.config
    if name not in config.checkpoints:
        known = ", ".join(config.checkpoints) or "none"
        raise UserError(f"a row names the checkpoint {name!r}, which is not one of the configured ones: {known}")
    checkpoint = config.checkpoints[name]
    return context.add(
        ImportedModelStage(
            architecture=checkpoint.architecture,
            classes=config.data.classes,
            image_shape=config.data.image_shape,
            digest=checkpoint.sha256,
            entry=checkpoint.entry,
            normalization=checkpoint.normalization,
            location=checkpoint_file(name, checkpoint),
        )
    )


def independent_classifier(context: "Context", checkpoint: str | None, *, seed: int) -> str:
    """A checkpoint, or where None is named, a model trained by ``training.standard`` on the real images."""
    if checkpoint is not None:
        return imported_model(context, checkpoint)
    config = context.config
    return context.add(
        ModelStage(
            architecture=config.architecture,
            classes=config.data.classes,
            image_shape=config.data.image_shape,
            real=context.train,
            synthetic=None,
            manifest=None,
            threat=config.threat,
            training=config.training.standard.model_copy(update={"synthetic_fraction": 0.0}),
            seed=seed,
        )
    )
