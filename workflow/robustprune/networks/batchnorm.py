"""Which images BatchNorm takes its statistics of, and how its running ones move."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

if TYPE_CHECKING:
    from robustprune.core.team import Team

DEFINITION = {"training.batchnorm": 1}


@contextmanager
def frozen_statistics(model: nn.Module) -> Iterator[None]:
    """BatchNorm uses batch statistics but leaves its running ones alone, as TRADES' training attack does."""
    layers = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    for layer in layers:
        layer.track_running_stats = False
    try:
        yield
    finally:
        for layer in layers:
            layer.track_running_stats = True


def set_statistics_momentum(model: nn.Module, momentum: float) -> None:
    """Set how far each batch moves BatchNorm's running statistics towards its own, 0 ... 1."""
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.momentum = momentum


def fewest_images(model: nn.Module, image_shape: tuple[int, int, int]) -> int:
    """The fewest images that BatchNorm can take statistics of: 2 where a channel has a single value in each of them."""
    values: list[int] = []  # of a channel of one image, layer by layer
    layers = [layer for layer in model.modules() if isinstance(layer, _BatchNorm)]
    hooks = [
        layer.register_forward_pre_hook(lambda _, inputs: values.append(inputs[0][0, 0].numel())) for layer in layers
    ]
    training, device = model.training, next(model.parameters()).device
    with torch.no_grad():
        model.eval()(torch.zeros(1, *image_shape, device=device))
    model.train(training)
    for hook in hooks:
        hook.remove()
    return 2 if 1 in values else 1


def take_statistics(model: nn.Module, *, shares: int, team: Team) -> None:
    """Have BatchNorm take its statistics of each of so many interleaved shares of a batch, however many processes.

    Args:
        model: the network; its BatchNorm layers are replaced where need be, their names and values stay.
        shares: 1 for statistics of the whole batch; k for those of every k-th image, of which the first share's move
            the running ones, as in torch's DataParallel on k GPUs (which cuts the batch into runs).
        team: the processes; one, or, where there are several shares, one a share.
    """
    assert shares == 1 or team.size in (1, shares)
    if shares == team.size:
        return
    for name, layer in list(model.named_modules()):
        if isinstance(layer, nn.BatchNorm2d):
            replacement = SynchronisedBatchNorm2d(layer, team) if shares == 1 else SharedOutBatchNorm2d(layer, shares)
            model.set_submodule(name, replacement)


class _LikeBatchNorm2d(nn.BatchNorm2d):
    """A layer to take another's place."""

    def __init__(self, layer: nn.BatchNorm2d) -> None:
        super().__init__(layer.num_features, eps=layer.eps, momentum=layer.momentum)
        self.load_state_dict(layer.state_dict())


class SynchronisedBatchNorm2d(_LikeBatchNorm2d):
    """Statistics of the images of all processes. torch's ``SyncBatchNorm`` does the same, but on GPUs alone."""

    def __init__(self, layer: nn.BatchNorm2d, team: Team) -> None:
        super().__init__(layer)
        self._team = team

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) to the same; in train mode all processes must call it together."""
        if not self.training:
            return super().forward(images)
        values = images.float()
        mean, variance, count = self._statistics(values)
        if self.track_running_stats:
            self._move_running_statistics(mean.detach(), variance.detach() * (count / (count - 1)))
        scale = self.weight * (variance + self.eps).rsqrt()
        centred = values - _along_channels(mean)
        return torch.addcmul(_along_channels(self.bias), centred, _along_channels(scale)).to(images.dtype)

    def _statistics(self, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(C,) mean, (C,) biased variance, () number of values of a channel, over all processes."""
        variance, mean = torch.var_mean(values, dim=(0, 2, 3), correction=0)
        count = torch.full_like(mean, values.numel() // values.shape[1], dtype=torch.float64)
        moments = torch.stack([count, count * mean, count * (variance + mean.double().square())])
        count, first, second = self._team.total(moments)  # in float64, as the variance is a difference
        mean = first / count
        return mean.float(), (second / count - mean.square()).clamp(min=0).float(), count[0].float()

    @torch.no_grad()
    def _move_running_statistics(self, mean: Tensor, variance: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance, self.momentum)
        self.num_batches_tracked += 1


class SharedOutBatchNorm2d(_LikeBatchNorm2d):
    """Statistics of each of k interleaved shares of a batch, in one process."""

    def __init__(self, layer: nn.BatchNorm2d, shares: int) -> None:
        super().__init__(layer)
        self._shares = shares

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) to the same; the running statistics see the first share."""
        if not self.training:
            return super().forward(images)
        tracked = self.track_running_stats
        normalised = []
        for share in range(self._shares):
            self.track_running_stats = tracked and share == 0
            normalised.append(super().forward(images[share :: self._shares]))
        self.track_running_stats = tracked
        places = torch.arange(len(images), device=images.device)
        taken = torch.cat([places[share :: self._shares] for share in range(self._shares)])
        return torch.cat(normalised)[taken.argsort()]


def _along_channels(values: Tensor) -> Tensor:
    return values[:, None, None]
