"""What a recipe is set to, in the words in which Kaufmann et al. print it (second version, Figure 7)."""

from fractions import Fraction

from robustprune.core.errors import UserError
from robustprune.experiments.conditions import Conditions
from robustprune.experiments.tables.forms import HyperparameterName, Hyperparameters
from robustprune.networks.architecture import Architecture
from robustprune.planning.conditions import changed_by
from robustprune.planning.config import Config
from robustprune.training.recipes.base import AnyRecipe, MultiStepRecipe
from robustprune.training.recipes.rs_fgsm import RsFgsmRecipe
from robustprune.training.schedules import Position, cycle_point

NETWORKS: dict[Architecture, str] = {
    "fast_cnn": "CNN (16,32 filters, 100 FC units)",
    "fast_preact_resnet18": "PreAct-ResNet18",
}
OPTIMIZERS = {"adam": "Adam", "sgd": "SGD", "nesterov": "SGD, Nesterov"}
BEGINNING = Position(number=0, epoch=0, step=0, steps=100, epochs=100)
PIXEL = 255


def hyperparameter(name: HyperparameterName, table: Hyperparameters, config: Config) -> str:
    """Return what a setting of the table's recipe is in a configuration. Raises UserError where the recipe has none."""
    config = changed_by(Conditions(architecture=table.architecture), config, origin=table.target)
    recipe, epsilon = config.training.named(table.recipe), config.threat.epsilon
    match name:
        case "architecture":
            return NETWORKS.get(config.architecture, config.architecture)
        case "optimizer":
            return OPTIMIZERS[recipe.optimizer]
        case "momentum":
            return "n/a" if recipe.optimizer == "adam" else f"{cycle_point(recipe, BEGINNING).momentum:g}"
        case "weight_decay":
            return f"{recipe.weight_decay:g}"
        case "epochs":
            return str(recipe.epochs)
        case "learning_rate":
            return f"{recipe.learning_rate:g}"
        case "epsilon":
            return radius(epsilon)
        case "attack_step":
            return radius(_attack_step(recipe, epsilon, table))


def _attack_step(recipe: AnyRecipe, epsilon: Fraction, table: Hyperparameters) -> Fraction:
    if isinstance(recipe, RsFgsmRecipe):
        return Fraction(str(recipe.step_scale)) * epsilon
    if isinstance(recipe, MultiStepRecipe):
        return recipe.step_size
    raise UserError(f"{table.target}: recipe = {recipe.recipe} attacks nothing, so it has no attack step")


def radius(value: Fraction) -> str:
    """As papers write radii: a short decimal fraction, or 255ths."""
    if len(decimal := f"{float(value):g}") <= len("0.0625"):
        return decimal
    return f"{value * PIXEL}/{PIXEL}" if PIXEL % value.denominator == 0 else str(value)
