"""Many searches at once, each for as long as it takes: the finished leave the batch, the waiting take their place."""

from collections.abc import Callable

import torch
from torch import Tensor

DEFINITION = 1


def run_active(
    count: int, advance: Callable[[Tensor], Tensor], *, batch_size: int, device: torch.device | None = None
) -> None:
    """Call ``advance`` on up to ``batch_size`` rows at a time until each of 0 ... ``count`` - 1 is finished.

    The batch is full until no row waits, however unequal the searches are. Rows enter in order, so the calls depend on
    nothing but the arguments and the answers.

    Args:
        count: number of searches.
        advance: takes (n,) int64 rows one step further and returns (n,) bool, which of them are finished.
        batch_size: rows that are active at once.
        device: where the rows are counted; that of the tensors they are rows of.
    """
    active, waiting = torch.arange(0, device=device), 0
    while waiting < count or len(active):
        entering = min(batch_size - len(active), count - waiting)
        active = torch.cat([active, torch.arange(waiting, waiting + entering, device=device)])
        waiting += entering
        active = active[~advance(active)]
