"""From a recipe's settings to its attack and loss."""

from robustprune.core.settings import ThreatModel
from robustprune.pruning.settings import OnlinePuma
from robustprune.training.recipes.base import TrainingRecipe
from robustprune.training.recipes.pgd_at import PgdAt
from robustprune.training.recipes.rs_fgsm import RsFgsm
from robustprune.training.recipes.standard import Standard
from robustprune.training.recipes.trades import Trades
from robustprune.training.settings import AnyRecipe, PgdAtRecipe, RsFgsmRecipe, StandardRecipe, TradesRecipe


def build_recipe(settings: AnyRecipe, threat: ThreatModel | None, online: OnlinePuma | None = None) -> TrainingRecipe:
    """The recipe that the settings are of, against that adversary if any, by its own margins where ``online``."""
    if isinstance(settings, StandardRecipe):
        return Standard(settings)
    assert threat is not None
    match settings:
        case PgdAtRecipe():
            return PgdAt(settings, threat, online)
        case TradesRecipe():
            return Trades(settings, threat, online)
        case RsFgsmRecipe():
            return RsFgsm(settings, threat, online)
