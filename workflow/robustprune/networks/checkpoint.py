"""Trained classifiers, read from the directories of their stages."""

from pathlib import Path

import torch
from torch import nn

from robustprune.core.errors import UserError
from robustprune.core.settings import Weights
from robustprune.core.stage_file import read_spec
from robustprune.networks.classifier import ClassifierStage
from robustprune.networks.registry import build_model
from robustprune.networks.weights import WEIGHTS_FILES, load_weights


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
