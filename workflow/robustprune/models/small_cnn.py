"""A network for 8 x 8 digits that trains in seconds on a CPU: two 3 x 3 convolutions and two linear layers."""

from torch import nn

DEFINITION = 1


def build(image_shape: tuple[int, int, int], classes: int) -> nn.Sequential:
    """Convolutions of 32 and 64 channels, the second with stride 2; linear layers of 128 and ``classes``."""
    channels, height, width = image_shape
    return nn.Sequential(
        nn.Conv2d(channels, 32, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(64 * ((height + 1) // 2) * ((width + 1) // 2), 128),
        nn.ReLU(),
        nn.Linear(128, classes),
    )
