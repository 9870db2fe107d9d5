"""The attacks that trained models are measured under, each declared in the file that does it."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

from robustprune.core.declarations import Declarations, Named

if TYPE_CHECKING:
    from robustprune.core.rows import RowPass
    from robustprune.evaluation.robustness import Target

Measure = Callable[["Target"], "RowPass"]
ATTACKS: Declarations[Measure] = Declarations("attack", "robustprune.evaluation")
AttackName = Annotated[str, Named(ATTACKS)]
"""A name in ``evaluation.attacks``; ``clean`` is no attack."""


def attack(
    name: str,
    *,
    words: str,
    breakers: tuple[str, ...] = (),
    together: int | None = None,
    passes: tuple[int, int] = (1, 0),
) -> Callable[[Measure], Measure]:
    """Declare how a model is measured under an attack.

    Args:
        name: name in ``evaluation.attacks``.
        words: name for readers.
        breakers: names of the attacks that it consists of, where an outcome says which broke an image.
        passes: forward passes and gradients of an image that withstands it, for cost estimates; those of PGD follow
            from its settings.
        together: images that are attacked at once, where that decides numbers: AutoAttack draws for a whole batch.
    """
    return lambda measure: ATTACKS.declare(name, measure)


def attack_words(name: str) -> str:
    """Return an attack's name for readers."""
    return str(ATTACKS.facts(name)["words"])
