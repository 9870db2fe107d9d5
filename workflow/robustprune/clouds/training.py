"""Trains a small network by RS-FGSM, all points at a time, and drops some of them in its middle (Algorithm 1)."""

import copy
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from robustprune.attacks.norms import norm_named
from robustprune.attacks.pgd import pgd
from robustprune.margins.signed import signed_margins
from robustprune.pruning.candidates import Candidates
from robustprune.pruning.strategies import choose
from robustprune.randomness import derive_seed, generator
from robustprune.settings import DropShare
from robustprune.settings.clouds import CloudPruning, CloudSettings
from robustprune.training.mid_training import DEEPFOOL, LONG_STEP

DEFINITION = 2


class Measured(NamedTuple):
    """What the half-trained network says of each point, as ``training.mid_training`` does of images.

    Attributes:
        loss: (N,) float32, cross-entropy after a step of RS-FGSM.
        distance: (N,) float32, DeepFool's in L2, of the point as it is.
    """

    loss: npt.NDArray[np.float32]
    distance: npt.NDArray[np.float32]


def new_network(settings: CloudSettings, trial: int) -> nn.Sequential:
    """Two hidden layers with ReLU; (N, 1, 1, 2) to (N, 2) logits."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(settings.seed, "network", trial))
        return nn.Sequential(
            nn.Flatten(),
            nn.Linear(2, settings.width),
            nn.ReLU(),
            nn.Linear(settings.width, settings.width),
            nn.ReLU(),
            nn.Linear(settings.width, 2),
        )


class Training:
    """A network in training.

    Args:
        settings: of the example.
        trial: which seeds it has.
        points: (N, 1, 1, 2) float32.
        labels: (N,) int64.
    """

    def __init__(self, settings: CloudSettings, trial: int, points: Tensor, labels: Tensor) -> None:
        self.settings, self.trial, self.points, self.labels = settings, trial, points, labels
        self.network = new_network(settings, trial)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=settings.learning_rate)
        self.step = 0

    def run(self, steps: int) -> None:
        """Train for so many steps."""
        for _ in range(steps):
            attacked = self._attacked("start")
            self.optimizer.zero_grad()
            torch.autograd.backward(F.cross_entropy(self.network(attacked), self.labels))
            self.optimizer.step()
            self.step += 1

    def measured(self) -> Measured:
        """What the network says of each point now."""
        return measure(self.network, self.points, self._attacked("measured"), self.labels)

    def _attacked(self, purpose: str) -> Tensor:
        """The points after a step of RS-FGSM from a start that is drawn for this purpose and step."""
        draw = generator(self.settings.seed, purpose, self.trial, self.step)
        start = (2 * torch.rand(self.points.shape, generator=draw) - 1) * self.settings.epsilon
        return attack(self.network, self.points, self.labels, self.settings, start=start, steps=1, step=LONG_STEP)

    def without(self, dropped: CloudPruning, measured: Measured) -> tuple["Training", npt.NDArray[np.bool_]]:
        """A copy that goes on with what is kept, and (N,) whether each point is."""
        kept = kept_of(dropped, measured, self.labels, self.settings, self.trial)
        rest = copy.deepcopy(self)
        chosen = torch.from_numpy(kept)
        rest.points, rest.labels = self.points[chosen], self.labels[chosen]
        return rest, kept


def attack(
    network: nn.Module,
    points: Tensor,
    labels: Tensor,
    settings: CloudSettings,
    *,
    start: Tensor,
    steps: int,
    step: float,
) -> Tensor:
    """PGD on the cross-entropy in L-infinity, at the example's epsilon; ``step`` in units of it."""
    radius = torch.full((len(points),), settings.epsilon)
    return pgd(
        network,
        points,
        radius=radius,
        step_size=radius * step,
        steps=steps,
        objective=lambda logits: F.cross_entropy(logits, labels, reduction="none"),
        norm=norm_named("Linf"),
        start=start,
    )


def measure(network: nn.Module, points: Tensor, attacked: Tensor, labels: Tensor) -> Measured:
    """Loss of each attacked point, and distance of the point as it is."""
    frozen = copy.deepcopy(network).eval().requires_grad_(False)
    loss = F.cross_entropy(frozen(attacked), labels, reduction="none")
    margins = signed_margins(frozen, points, labels, settings=DEEPFOOL, norm=norm_named("L2"), batch_size=len(points))
    return Measured(loss.numpy(), margins.margin.numpy())


def kept_of(
    dropped: CloudPruning, measured: Measured, labels: Tensor, settings: CloudSettings, trial: int
) -> npt.NDArray[np.bool_]:
    """(N,) whether each point is kept."""
    count = len(labels)
    if dropped == "none":
        return np.ones(count, bool)
    candidates = Candidates(pools=("clouds",), first=(0,), counts=(count,), labels=labels.numpy().astype(np.int16))
    score, easy = (measured.distance, "high") if dropped == "low_distance" else (measured.loss, "low")
    stay = choose(
        candidates.scored(score, easy),  # type: ignore[arg-type]
        strategy=dropped,
        drop=DropShare(shares=(1 - settings.keep,)),
        per="all",
        seed=derive_seed(settings.seed, "dropped", trial),
    )
    return np.isin(np.arange(count), stay)
