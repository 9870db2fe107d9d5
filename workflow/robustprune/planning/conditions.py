"""Plan a row under its own conditions: the configuration with what the row changes of it."""

from typing import Any

from robustprune.core.errors import UserError
from robustprune.core.settings import Norm
from robustprune.core.yaml_files import merge
from robustprune.experiments.row import Conditions
from robustprune.images.settings import TrainedOn
from robustprune.planning.config import Config, changed
from robustprune.training.recipes.base import RECIPES

MIXED: tuple[TrainedOn, ...] = ("all", "real_and_source")
"""What is trained on in batches of real and generated images; of the rest batches have but one sort."""


def changed_by(conditions: Conditions, config: Config, *, origin: str) -> Config:
    """Return the configuration as a row's conditions change it. Raises UserError where that is not possible."""
    overrides: dict[str, Any] = {}
    if conditions.architecture is not None:
        roles = config.architectures.model_dump()
        overrides["architecture"] = roles.get(conditions.architecture, conditions.architecture)
    if conditions.norm not in (None, config.threat.norm):
        overrides |= _other_threat(conditions.norm, config, origin)
    if conditions.data not in (None, config.data.trained_on):
        overrides["data"] = {"trained_on": conditions.data}
    if conditions.synthetic not in (None, config.synthetic.source):
        overrides["synthetic"] = {"source": conditions.synthetic}
    if conditions.drawn != 1:
        overrides = merge(overrides, {"synthetic": {"count": _count(conditions, config, origin)}})
    if recipes := _recipes(conditions, config):
        overrides = merge(overrides, {"training": recipes})
    return changed(config, overrides, origin=origin) if overrides else config


def _count(conditions: Conditions, config: Config, origin: str) -> int:
    source = conditions.synthetic or config.synthetic.source
    if not _is_drawn(config, source):
        raise UserError(
            f"{origin}: drawn = {conditions.drawn} needs images drawn from the generator; synthetic.source is {source}"
        )
    return max(1, round(config.synthetic.count * conditions.drawn))


def _is_drawn(config: Config, source: str) -> bool:
    """Return True for what the generator draws, and for parts of it."""
    form, _, name = source.partition(":")
    if form == "subset" and name in config.subsets:
        return _is_drawn(config, config.subsets[name].of)
    if form == "selection" and name in config.selections:
        return _is_drawn(config, config.selections[name].of)
    return source == "generate"


def _recipes(conditions: Conditions, config: Config) -> dict[str, dict[str, Any]]:
    """Return what changes of each recipe."""
    changes: dict[str, dict[str, Any]] = {}
    unmixed = (conditions.data or config.data.trained_on) not in MIXED
    for name in RECIPES:
        recipe = config.training.named(name)
        if unmixed and recipe.synthetic_fraction:
            changes.setdefault(name, {})["synthetic_fraction"] = 0
        if conditions.one_pass and recipe.epoch_images is not None:
            changes.setdefault(name, {})["epoch_images"] = None
        if conditions.epochs != 1:
            changes.setdefault(name, {})["epochs"] = max(1, round(recipe.epochs * conditions.epochs))
    return changes


def _other_threat(norm: Norm | None, config: Config, origin: str) -> dict[str, Any]:
    other = config.other_threat
    if other is None or other.norm != norm:
        raise UserError(
            f"{origin}: norm = {norm} is not that of threat, {config.threat.norm}; say in other_threat what it is"
        )
    return {
        "threat": {"norm": other.norm, "epsilon": other.epsilon},
        "other_threat": None,
        "training": {name: {"step_size": other.step_size} for name in ("pgd_at", "trades")},
    }
