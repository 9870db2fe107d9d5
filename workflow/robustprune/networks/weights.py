"""Trained weights on disk (safetensors, never a pickle), and the classifiers that have them."""

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from robustprune.core.errors import UserError
from robustprune.core.files import replacing
from robustprune.core.settings import Weights
from robustprune.core.stage_file import read_spec
from robustprune.networks.architecture import build_model
from robustprune.networks.classifier import ClassifierStage

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


def load_model(directory: Path, device: torch.device, weights: Weights = "last") -> nn.Module:
    """The averaged model of a complete model stage, in eval mode, its parameters frozen.

    Args:
        directory: of the model's stage.
        device: where it shall be.
        weights: which of its averaged weights.

    Raises:
        UserError: when the directory does not hold a model or its weights do not fit the architecture.
    """
    spec = read_spec(directory)
    if not isinstance(spec, ClassifierStage):
        raise UserError(f"{directory} holds a stage of kind {spec.kind}, not a model")
    model = spec.prepared(build_model(spec.architecture, image_shape=spec.image_shape, classes=spec.classes))
    path = directory / WEIGHTS_FILES[weights]
    try:
        model.load_state_dict(load_weights(path))
    except RuntimeError as error:
        raise UserError(f"{path} does not fit {spec.architecture}: {error}") from None
    return model.to(device).eval().requires_grad_(False)
