"""Trained weights on disk: safetensors, never a pickle."""

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from robustprune.core.errors import UserError
from robustprune.core.files import replacing
from robustprune.core.settings import Weights

WEIGHTS_FILE = "weights.safetensors"  # averaged
BEST_FILE = "best.safetensors"  # averaged, as in the epoch that was best in validation
RAW_FILE = "raw.safetensors"  # the last step's, not averaged
WEIGHTS_FILES: dict[Weights, str] = {"last": WEIGHTS_FILE, "best": BEST_FILE}
"""What can be scored and evaluated."""


def save_weights(state: dict[str, torch.Tensor], path: Path) -> None:
    """Write a state dict."""
    content = save({name: value.detach().cpu().contiguous() for name, value in state.items()})
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def load_weights(path: Path) -> dict[str, torch.Tensor]:
    """Read a state dict written by ``save_weights``. Raises UserError when the file is missing or broken."""
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path} is not a readable safetensors file: {error}") from None
