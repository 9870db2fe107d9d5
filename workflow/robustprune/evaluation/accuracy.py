"""Whether a model is right."""

import torch
from torch import Tensor, nn

DEFINITION = 1


@torch.no_grad()
def is_right(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """(N,) bool: whether the largest logit is the label's."""
    logits: Tensor = model(images)
    return logits.argmax(1) == labels
