"""The network compiled by torch for a training's steps; where that fails it stays as it is, and the record says so.

Compiled or not is a matter of the machine: it changes a number no more than another processor does, in its last digits.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

import torch
from torch import nn

if TYPE_CHECKING:
    from robustprune.core.execution import Compile

logger = logging.getLogger(__name__)

MODES = {"kernels": "default", "cuda_graphs": "reduce-overhead"}  # torch's words
VARIANTS = 64  # of a network: training or not, statistics moving or not and how far, last batch; torch gives up after 8


def compiled(
    model: nn.Module, asked: Compile, *, device: torch.device, processes: int, trial: Callable[[nn.Module], object]
) -> tuple[nn.Module, str]:
    """The network that steps shall call, and what the record says of it.

    Args:
        model: the network in training; it keeps parameters and buffers.
        asked: as in ``Execution``.
        device: where it computes.
        processes: that train it together.
        trial: does with a network all that a step does, so that what cannot be compiled is found before the first.

    Returns:
        A network that shares the model's parameters, or the model itself; ``no`` and why, or how it is compiled.
    """
    if asked == "none":
        return model, "no"
    if processes > 1:
        return _as_it_is(model, "several processes train it")
    if asked == "cuda_graphs" and device.type != "cuda":
        return _as_it_is(model, f"CUDA graphs are for GPUs, and this is {device.type}")
    torch._dynamo.config.recompile_limit = VARIANTS
    network = cast(nn.Module, torch.compile(model, mode=MODES[asked]))
    try:
        trial(network)
    except Exception as error:  # a compiler can fail in any way
        torch.compiler.reset()
        first_line = (str(error).strip().splitlines() or ["no reason given"])[0]
        return _as_it_is(model, f"{type(error).__name__}: {first_line}")
    return network, asked


def _as_it_is(model: nn.Module, why: str) -> tuple[nn.Module, str]:
    logger.warning("the network is not compiled: %s", why)
    return model, f"no: {why}"
