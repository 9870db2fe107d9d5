"""The networks, and trained ones from elsewhere."""

from typing import Literal

Architecture = Literal[
    "small_cnn",
    "fast_cnn",
    "resnet18",
    "preact_resnet18",
    "preact_resnet18_swish",
    "fast_preact_resnet18",
    "wrn28_10_swish",
    "wrn70_16_swish",
]
"""The networks; each is a module of ``models``."""
