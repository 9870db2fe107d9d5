"""Checkpoints of a long loop: tensors, numbers and text in ``partial/``, replaced whole."""

import io
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from robustprune.errors import UserError
from robustprune.files import replacing

DAMAGED = (EOFError, UnpicklingError, RuntimeError, ValueError, LookupError)  # what torch raises for such a file


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Put ``state`` (nested dicts and lists of tensors, numbers and text) in place of what ``path`` held."""
    buffer = io.BytesIO()  # torch's own file writer hides why it failed, a full disk say
    torch.save(state, buffer)
    with replacing(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def load_state(path: Path) -> dict[str, Any] | None:
    """What ``save_state`` wrote, on the CPU; None where there is nothing. Nothing in the file is executed.

    Raises:
        UserError: when the file is damaged; what else is in its folder was made on the way to it, so that goes, too.
    """
    if not path.is_file():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except DAMAGED as error:
        raise UserError(
            f"{path} is damaged ({type(error).__name__}); delete {path.parent}, and the same command begins anew"
        ) from None
    return state
