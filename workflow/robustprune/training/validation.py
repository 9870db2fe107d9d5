"""How the averaged model does while it is trained, on images that it need not learn from.

Nothing here draws from, or changes, what the training goes by: the model is a copy, and its starts have their own seed.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from robustprune.attacks.inputs import as_inputs
from robustprune.attacks.margin_loss import cw_objective
from robustprune.attacks.pgd import pgd_from_own_starts
from robustprune.training.recipes.base import AdversarialRecipe

if TYPE_CHECKING:
    from robustprune.images.pool import Pool
    from robustprune.training.model import ModelStage
    from robustprune.training.schedules import Position

DEFINITION = {"training.validation": 1}

CHUNK = 256  # images at once, whatever the machine, as rounding may tip an image and so choose another best epoch
COLLAPSE = 0.2  # fall of the robust accuracy that is catastrophic; Wong et al. (2020) stop early at it

CLEAN, PGD = "validation_clean", "validation_pgd"


class Validation:
    """Measures the accuracy on a model's validation images, clean and, where its recipe attacks, under PGD.

    Args:
        spec: the model in training.
        pool: the open real training pool.
        device: where to compute.
    """

    def __init__(self, spec: ModelStage, pool: Pool, device: torch.device) -> None:
        self.spec, self.settings = spec, spec.training
        self.images, self.labels = as_inputs(pool, 0, self.settings.validation_images, device)
        self.criterion = PGD if self.settings.attacks else CLEAN

    def is_due(self, position: Position) -> bool:
        """Return True if a validation follows: after the last step of every ``validate_every`` epochs, and of all."""
        if not (self.settings.validates and position.ends_epoch):
            return False
        done = position.epoch + 1
        return done % self.settings.validate_every == 0 or done == position.epochs

    def accuracies(self, model: nn.Module) -> dict[str, float]:
        """Shares of the images that are right, clean and, where the recipe attacks, under attack.

        The attack is PGD on the CW margin from one start of each image's own, the same at every validation
        (Wang et al. draw new ones), so that epochs differ by their weights alone.

        Args:
            model: gives (N, K) logits, in eval mode, its parameters frozen.
        """
        chunks = [slice(start, start + CHUNK) for start in range(0, len(self.images), CHUNK)]
        found = {CLEAN: torch.cat([self._is_right(model, self.images[rows], rows) for rows in chunks])}
        if isinstance(self.settings, AdversarialRecipe):
            attacked = [self._attacked(model, rows, self.settings) for rows in chunks]
            right = [self._is_right(model, images, rows) for images, rows in zip(attacked, chunks, strict=True)]
            found[PGD] = torch.cat(right)
        return {name: right.double().mean().item() for name, right in found.items()}

    @torch.no_grad()
    def _is_right(self, model: nn.Module, images: Tensor, rows: slice) -> Tensor:
        logits: Tensor = model(images)
        return logits.argmax(1) == self.labels[rows]

    def _attacked(self, model: nn.Module, rows: slice, settings: AdversarialRecipe) -> Tensor:
        images, threat = self.images[rows], self.spec.threat
        assert threat is not None
        return pgd_from_own_starts(
            model,
            images,
            torch.arange(rows.start, rows.start + len(images)),
            threat=threat,
            steps=settings.validation_steps,
            step_size=settings.validation_step * float(threat.epsilon),
            objective=partial(cw_objective, labels=self.labels[rows]),
            seed=self.spec.seed,
            purpose="validation start",
        )


def catastrophic_overfitting_epoch(history: list[dict[str, Any]]) -> int | None:
    """The first epoch (from 1) in which a model unlearned to withstand PGD while its training seemed to go better.

    Wong et al. (2020, section 5) saw it in FGSM training: within an epoch or so the accuracy under PGD falls to nearly
    nothing while that under the training's own attack rises. Here: the accuracy under PGD on the validation images is
    over 20 points below the highest of any epoch before, and the accuracy on the attacked training images is above
    that epoch's.

    Args:
        history: one dict an epoch; those not validated under PGD are passed over.

    Returns:
        The epoch, or None where there was none.
    """
    validated = [row for row in history if PGD in row]
    for number, row in enumerate(validated[1:], start=1):
        best = max(validated[:number], key=lambda earlier: earlier[PGD])
        if row[PGD] < best[PGD] - COLLAPSE and row["training_accuracy"] > best["training_accuracy"]:
            return int(row["epoch"])
    return None
