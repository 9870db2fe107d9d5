"""The class-conditional U-Net of EDM: DDPM++ (Song et al. 2021) as Karras et al. (2022) configure it."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from robustprune.core.errors import UserError
from robustprune.generation.settings import AUGMENTATION_LABELS

if TYPE_CHECKING:
    from robustprune.core.randomness import BatchNoise
    from robustprune.generation.settings import GeneratorSettings

DEFINITION = {"edm.network": 2}

EMBEDDING_FACTOR = 4  # channels of the embedding, in units of base_channels
NEAR_ZERO = 1e-5  # gain of a last convolution's initialisation: every block starts as its skip, the whole as 0
ATTENTION_GAIN = math.sqrt(0.2)  # gain of queries, keys and values
SKIP_SCALE = math.sqrt(0.5)  # keeps the variance of a sum of two
LONGEST_PERIOD = 10_000  # of the positional embedding, over 2 pi
NORM_EPS = 1e-6
NO_CLASS = -1

Resample = Literal["down", "up"] | None
Layer = TypeVar("Layer", nn.Conv2d, nn.Linear)


def build_network(settings: GeneratorSettings, image_shape: tuple[int, int, int], classes: int) -> UNet:
    """A freshly initialised network, drawn from torch's global generator.

    Args:
        settings: its size.
        image_shape: channels, height, width; both sides are divided by ``patch``, and halved between resolutions.
        classes: number of classes.

    Raises:
        UserError: when a side cannot be halved so often, or attention is asked for at a resolution there is not.
    """
    _, height, width = image_shape
    if height % settings.divisor or width % settings.divisor:
        raise UserError(
            f"synthetic.generator.channel_multipliers = {list(settings.channel_multipliers)} with patch = "
            f"{settings.patch} needs sides that are multiples of {settings.divisor}, but an image's are {height} and "
            f"{width} pixels"
        )
    resolutions = settings.resolutions(height)
    for resolution in settings.attention_resolutions:
        if resolution not in resolutions:
            raise UserError(
                f"synthetic.generator.attention_resolutions has {resolution}, but the network's resolutions are "
                f"{', '.join(str(side) for side in resolutions)}"
            )
    return UNet(settings, image_shape, classes)


class UNet(nn.Module):
    """F of EDM: (N, C, H, W) float32 images of unit variance, (N,) float32 c_noise and (N,) int64 labels to images.

    The label of an image of whose class it is not told is ``NO_CLASS``.

    An encoder whose every output is kept, two blocks at its end, and a decoder whose blocks each take one of those
    outputs back, the last first. The first block in the middle always attends; of the other blocks, at the resolutions
    asked for, all in the encoder and the last one in the decoder do. Where images are augmented in training, it is told
    how by (N, 9) float32 ``augmentation``; without, they are not. With ``patch`` above 1, the pixels of each square are
    channels within the network: fewer places, so less work, but the finest resolution is not convolved.
    """

    def __init__(self, settings: GeneratorSettings, image_shape: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        base, self.patch = settings.base_channels, settings.patch
        images, resolution = image_shape[0] * self.patch**2, image_shape[1] // self.patch
        widths = [base * multiplier for multiplier in settings.channel_multipliers]
        augmented = settings.augmentation_probability > 0
        self.embedding = Embedding(base, EMBEDDING_FACTOR * base, classes, augmented=augmented)
        self.first = _conv(images, base, 3)
        self.encoder, self.middle, self.decoder = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        channels, kept = base, [base]
        block = partial(Block, embedding=EMBEDDING_FACTOR * base, dropout=settings.dropout)

        for level, width in enumerate(widths):
            attention = resolution >> level in settings.attention_resolutions
            if level > 0:
                self.encoder.append(block(channels, channels, resample="down"))
                kept.append(channels)
            for _ in range(settings.blocks):
                self.encoder.append(block(channels, width, attention=attention))
                channels = width
                kept.append(channels)

        self.middle.extend([block(channels, channels, attention=True), block(channels, channels)])

        for level, width in reversed(list(enumerate(widths))):
            for index in range(settings.blocks + 1):
                attention = resolution >> level in settings.attention_resolutions and index == settings.blocks
                self.decoder.append(block(channels + kept.pop(), width, attention=attention))
                channels = width
            if level > 0:
                self.decoder.append(block(channels, channels, resample="up"))

        self.last = nn.Sequential(_norm(channels), nn.SiLU(), _conv(channels, images, 3, gain=NEAR_ZERO))

    def forward(self, x: Tensor, c_noise: Tensor, labels: Tensor, augmentation: Tensor | None = None) -> Tensor:
        """F of scaled noisy images; what it is trained to give has unit variance at every noise level."""
        embedding = self.embedding(c_noise, labels, augmentation)
        x = self.first(F.pixel_unshuffle(x, self.patch))
        kept = [x]
        for block in self.encoder:
            x = block(x, embedding)
            kept.append(x)
        for block in self.middle:
            x = block(x, embedding)
        for block in self.decoder:
            x = block(x if block.resample == "up" else torch.cat([x, kept.pop()], dim=1), embedding)
        output: Tensor = F.pixel_shuffle(self.last(x), self.patch)
        return output

    def drop_by(self, noise: BatchNoise) -> None:
        """Set the noise that the dropout of the next pass in training draws from."""
        for module in self.modules():
            if isinstance(module, Dropout):
                module.noise = noise


class Block(nn.Module):
    """Two convolutions beside a skip, the embedding added in between; then, if asked for, self-attention."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        embedding: int,
        dropout: float,
        resample: Resample = None,
        attention: bool = False,
    ) -> None:
        super().__init__()
        self.resample = resample
        self.norm0 = _norm(inputs)
        self.conv0 = _conv(inputs, outputs, 3)
        self.affine = _linear(embedding, outputs)
        self.norm1 = _norm(outputs)
        self.conv1 = _conv(outputs, outputs, 3, gain=NEAR_ZERO)
        self.dropout = Dropout(dropout)
        self.skip = _conv(inputs, outputs, 1) if inputs != outputs or resample else nn.Identity()
        self.attention = Attention(outputs) if attention else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """(N, inputs, H, W) and (N, embedding) to (N, outputs, H', W'), the sides as ``resample`` says."""
        h = self.conv0(_resample(F.silu(self.norm0(x)), self.resample))
        h = F.silu(self.norm1(h + self.affine(embedding)[:, :, None, None]))
        h = self.conv1(self.dropout(h))
        output: Tensor = self.attention((h + self.skip(_resample(x, self.resample))) * SKIP_SCALE)
        return output


class Dropout(nn.Module):
    """Drops activations in training by the whole batch's draws, the same ones however many processes share it."""

    noise: BatchNoise | None = None

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        """(N, ...) to the same shape; the mean stays."""
        if not self.training or self.share == 0:
            return x
        assert self.noise is not None
        kept = self.noise.uniform(*x.shape[1:]) >= 2 * self.share - 1
        return x * kept / (1 - self.share)


class Attention(nn.Module):
    """Self-attention with one head over the pixels of an image, beside a skip."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = _norm(channels)
        self.qkv = _conv(channels, 3 * channels, 1, gain=ATTENTION_GAIN)
        self.proj = _conv(channels, channels, 1, gain=NEAR_ZERO)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        q, k, v = self.qkv(self.norm(x)).flatten(2).chunk(3, dim=1)  # each (N, C, H W)
        weights = torch.softmax(q.mT @ k / math.sqrt(x.shape[1]), dim=2)  # (N, queries, keys)
        output: Tensor = self.proj((v @ weights.mT).view_as(x)) + x
        return output * SKIP_SCALE


class Embedding(nn.Module):
    """Noise level, class and augmentation as one vector through an MLP.

    It is the sum of sines and cosines of the level, a line a class, and a linear map of the augmentation without bias.
    """

    frequencies: Tensor

    def __init__(self, channels: int, outputs: int, classes: int, *, augmented: bool) -> None:
        super().__init__()
        self.classes = classes
        exponents = torch.linspace(0, 1, channels // 2)
        self.register_buffer("frequencies", LONGEST_PERIOD**-exponents, persistent=False)
        self.label = _linear(classes, channels)
        self.mlp = nn.Sequential(_linear(channels, outputs), nn.SiLU(), _linear(outputs, outputs), nn.SiLU())
        self.augmentation = _linear(AUGMENTATION_LABELS, channels, bias=False) if augmented else None

    def forward(self, c_noise: Tensor, labels: Tensor, augmentation: Tensor | None = None) -> Tensor:
        """(N,) float32, (N,) int64 and, where an image was augmented, (N, 9) float32 to (N, outputs) float32."""
        angles = c_noise[:, None] * self.frequencies
        known = labels[:, None] == torch.arange(self.classes, device=labels.device)  # all false for NO_CLASS
        one_hot = known.to(angles.dtype) * math.sqrt(self.classes)
        vector = torch.cat([angles.sin(), angles.cos()], dim=1) + self.label(one_hot)
        if augmentation is not None:
            assert self.augmentation is not None
            vector = vector + self.augmentation(augmentation)
        output: Tensor = self.mlp(vector)
        return output


def _resample(x: Tensor, resample: Resample) -> Tensor:
    if resample == "down":
        return F.avg_pool2d(x, 2)
    return F.interpolate(x, scale_factor=2.0, mode="nearest") if resample == "up" else x


def _norm(channels: int) -> nn.GroupNorm:
    """At least 4 channels a group, at most 32 groups; ``channels`` is a multiple of 8."""
    return nn.GroupNorm(math.gcd(32, channels // 4), channels, eps=NORM_EPS)


def _conv(inputs: int, outputs: int, kernel: int, *, gain: float = 1.0) -> nn.Conv2d:
    return _initialised(nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2), gain)


def _linear(inputs: int, outputs: int, *, bias: bool = True) -> nn.Linear:
    return _initialised(nn.Linear(inputs, outputs, bias=bias), 1.0)


def _initialised(layer: Layer, gain: float) -> Layer:
    nn.init.xavier_uniform_(layer.weight, gain)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
