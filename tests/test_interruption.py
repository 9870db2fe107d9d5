"""Which signals a long loop remembers, and which end it at once."""

import os
import signal

import pytest

from robustprune.core.errors import Interrupted
from robustprune.core.interruption import Checkpoints


def test_slurms_second_signal_is_remembered_as_the_first_was() -> None:
    """SIGUSR1 before the limit, SIGTERM at it: a batch that takes longer than that in between is not torn."""
    saved = []
    with Checkpoints(1e9) as checkpoints:
        os.kill(os.getpid(), signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(Interrupted, match="stopped by SIGTERM"):
            checkpoints.tick(lambda: saved.append(1))
    assert saved == [1]


def test_a_second_ctrl_c_ends_the_process_at_once() -> None:
    with Checkpoints(1e9):
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
