"""Clean accuracy: test images as they are."""

from functools import partial
from typing import TYPE_CHECKING

from robustprune.evaluation.attack import attack
from robustprune.evaluation.outcome import is_right

if TYPE_CHECKING:
    from robustprune.core.rows import Columns, RowPass
    from robustprune.evaluation.robustness import Target


@attack("clean", words="no attack")
def measure_clean(target: "Target") -> "RowPass":
    """Return the pass that measures which images are right as they are."""

    def compute(start: int, stop: int) -> "Columns":
        return {"clean": is_right(target.model, *target.images(start, stop)).cpu().numpy()}

    return partial(target.each, compute, "attack")
