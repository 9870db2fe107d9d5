"""Features of images: the inputs of the last linear layer of a network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
import torchvision.models
from torch import Tensor, nn

from robustprune.core.errors import UserError
from robustprune.core.files import digest

if TYPE_CHECKING:
    from robustprune.scores.embedding import TorchvisionEncoder

DEFINITION = {"embeddings.encoders": 1}

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of torchvision's published weights


def features_of(model: nn.Module, images: Tensor, *, origin: str) -> Tensor:
    """Return the (N, D) float32 inputs of a model's last linear layer; as ``features_and_logits``."""
    return features_and_logits(model, images, origin=origin)[0]


def features_and_logits(model: nn.Module, images: Tensor, *, origin: str) -> tuple[Tensor, Tensor]:
    """Return the inputs of a model's last linear layer and the model's outputs, in one pass.

    Args:
        model: in eval mode.
        images: (N, C, H, W) as the model takes them.
        origin: name of the model in messages.

    Returns:
        (N, D) and (N, K), both float32.

    Raises UserError if the model has no linear layer, or does not call the last one once with one row per image.
    """
    seen: list[Tensor] = []
    _, layer = _last_linear(model, origin)
    handle = layer.register_forward_hook(lambda _layer, inputs, _output: seen.append(inputs[0].detach()))
    try:
        with torch.no_grad():
            logits = model(images)
    finally:
        handle.remove()
    if len(seen) != 1 or seen[0].ndim != 2 or len(seen[0]) != len(images):
        raise UserError(f"{origin}: the last linear layer is not given one row an image, so it has no embeddings")
    return seen[0].to(torch.float32), logits.to(torch.float32)


def _last_linear(model: nn.Module, origin: str) -> tuple[str, nn.Linear]:
    layers = [(name, layer) for name, layer in model.named_modules() if isinstance(layer, nn.Linear)]
    if not layers:
        raise UserError(f"{origin} has no linear layer, so it has no embeddings")
    return layers[-1]


def torchvision_encoder(spec: TorchvisionEncoder, device: torch.device) -> Callable[[Tensor], Tensor]:
    """Return a torchvision classifier with weights from a file, as a function of (N, 1 or 3, H, W) images in [0, 1].

    Images are resized to ``spec.resize`` pixels a side (bilinear with antialiasing), a single channel is tripled, and
    the values are normalised as for ImageNet. Raises UserError if torchvision does not know the model, or the weights
    changed, do not fit or are no state dict.
    """
    origin = f"torchvision's {spec.name}"
    model = _torchvision_model(spec, origin).to(device).eval().requires_grad_(False)
    mean, std = (torch.tensor(values, device=device)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))

    def encode(images: Tensor) -> Tensor:
        sized = F.interpolate(images, size=(spec.resize, spec.resize), mode="bilinear", antialias=True)
        return features_of(model, (sized.expand(-1, 3, -1, -1) - mean) / std, origin=origin)

    return encode


def _torchvision_model(spec: TorchvisionEncoder, origin: str) -> nn.Module:
    """Return the model with as many classes as the weights have."""
    known = torchvision.models.list_models(module=torchvision.models)
    if spec.name not in known:
        raise UserError(
            f"extrapolation.embedding.source: torchvision has no classifier {spec.name!r}; it has {', '.join(known)}"
        )
    path = Path(spec.location)
    state = _read_weights(path, spec.digest)
    last, _ = _last_linear(torchvision.models.get_model(spec.name, weights=None), origin)
    if f"{last}.weight" not in state:
        raise UserError(f"{path} does not fit {origin}: it lacks {last}.weight")
    model: nn.Module = torchvision.models.get_model(spec.name, weights=None, num_classes=len(state[f"{last}.weight"]))
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise UserError(f"{path} does not fit {origin}: {' '.join(str(error).split())}") from None
    return model


def _read_weights(path: Path, expected: str) -> dict[str, Tensor]:
    if not path.is_file() or digest(path) != expected:
        raise UserError(f"{path} is gone or changed since the plan was made; bring it back or plan again")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # a damaged pickle can fail in any way
        raise UserError(f"{path} is not a file of weights (a state dict in torch's format), or it is damaged") from None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"{path} holds a {type(state).__name__} that is not a state dict, from names to tensors")
    return state
