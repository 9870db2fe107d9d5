"""Plans models: trained here, or brought in."""

from typing import TYPE_CHECKING

from robustprune.core.errors import UserError
from robustprune.core.settings import Weights
from robustprune.experiments.row import Row
from robustprune.images.subpools import UnionPoolStage
from robustprune.planning.pools import pools_of
from robustprune.planning.stages import rows_of
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
    real, *synthetic = pools or pools_of(context, recipe)
    _check_validation(context, recipe, real)
    _check_reach(context, recipe)
    _check_processes(context, recipe)
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
    rows = rows_of(context.stages, real) if recipe.validation_images else None
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


def _check_processes(context: "Context", recipe: AnyRecipe) -> None:
    if (problem := problem_of_processes(recipe, context.config.execution.processes)) is not None:
        raise UserError(problem)


def _check_shares(context: "Context", first: str) -> None:
    """A training draws by shares only from the generated images that it has beside real ones."""
    pool = context.stages[first]
    if isinstance(pool, UnionPoolStage) and any(part.share is not None for part in pool.parts):
        raise UserError(
            f"data.trained_on = {context.config.data.trained_on}, but the shares of {first} hold only beside real "
            "images; put null for each share in its union, and all its images are drawn alike"
        )


def weights_of(context: "Context", model: str, asked: Weights) -> Weights:
    """The weights of a model that were asked for, where it has them; an imported one has but one set."""
    spec = context.stages[model]
    if not isinstance(spec, ModelStage):
        return "last"
    if asked == "best" and not spec.training.validates:
        raise UserError(
            f"weights = best, but training.{spec.training.recipe} has no validation; set its validation_images and "
            "validate_every above 0"
        )
    return asked
