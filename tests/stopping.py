"""Being asked to stop, at a moment that a test knows."""

from collections.abc import Callable

from robustprune.core.errors import Interrupted
from robustprune.core.interruption import Checkpoints


class StopAfterTwo(Checkpoints):
    """Saves every batch and interrupts after the second."""

    count = 0

    def tick(self, save: Callable[[], None]) -> None:
        save()
        self.count += 1
        if self.count == 2:
            raise Interrupted("stopped by a test")
