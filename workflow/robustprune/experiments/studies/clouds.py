"""The stage that trains on the clouds, with and without pruning, in several trials."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt

from robustprune.attacks.deepfool_settings import DeepFoolSettings
from robustprune.core.files import replacing
from robustprune.core.job import Job
from robustprune.core.paths import FIELD_FILE, MEASURES_FILE, POINTS_FILE
from robustprune.core.stage import Stage
from robustprune.experiments.studies.settings import (
    GRID,
    CloudPruning,
    CloudSettings,
)
from robustprune.pruning.settings import DropShare

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor, nn


DEFINITION = {"clouds.points": 1, "clouds.stage": 2, "clouds.training": 2, "training.mid_training": 2}

# As pruning in the middle of a training has them.
LONG_STEP = 1.25  # of the RS-FGSM step, in units of epsilon
DEEPFOOL = DeepFoolSettings(
    max_steps=50, overshoot=0.02, candidates=None, slope_ratio=1.75, bisection_steps=0, negative="unsigned"
)


class Measured(NamedTuple):
    """What the half-trained network says of each point, as ``training.mid_training`` does of images.

    Attributes:
        loss: (N,) float32, cross-entropy after a step of RS-FGSM.
        distance: (N,) float32, DeepFool's in L2, of the point as it is.
    """

    loss: npt.NDArray[np.float32]
    distance: npt.NDArray[np.float32]


class Training:
    """A network in training.

    Args:
        settings: of the example.
        trial: which seeds it has.
        points: (N, 1, 1, 2) float32.
        labels: (N,) int64.
    """

    def __init__(self, settings: CloudSettings, trial: int, points: Tensor, labels: Tensor) -> None:
        import torch

        self.settings, self.trial, self.points, self.labels = settings, trial, points, labels
        self.network = new_network(settings, trial)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=settings.learning_rate)
        self.step = 0

    def run(self, steps: int) -> None:
        """Train for so many steps."""
        import torch
        from torch.nn import functional as F

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
        import torch

        from robustprune.core.randomness import generator

        draw = generator(self.settings.seed, purpose, self.trial, self.step)
        start = (2 * torch.rand(self.points.shape, generator=draw) - 1) * self.settings.epsilon
        return attack(self.network, self.points, self.labels, self.settings, start=start, steps=1, step=LONG_STEP)

    def without(self, dropped: CloudPruning, measured: Measured) -> tuple[Training, npt.NDArray[np.bool_]]:
        """A copy that goes on with what is kept, and (N,) whether each point is."""
        import torch

        kept = kept_of(dropped, measured, self.labels, self.settings, self.trial)
        rest = copy.deepcopy(self)
        chosen = torch.from_numpy(kept)
        rest.points, rest.labels = self.points[chosen], self.labels[chosen]
        return rest, kept


Floats = npt.NDArray[np.float64]


"""A row a point of the first trial: x, y, label, loss, distance, and for each way to prune whether it is kept."""


"""A row a place of a grid over the unit square: x, y, and for each way to prune the first trial's last network's logit
of class 1 minus that of class 0."""


"""A row a trial and way to prune: accuracy, robustness (PGD), disagreement (with the best classifier), label_noise
(share of the kept points that the best classifier has wrong)."""


PGD_STEPS, PGD_STEP = 20, 0.25  # of the evaluation


class CloudsStage(Stage):
    """A network trained on two clouds in a plane, with and without pruning (Kaufmann et al. v1 and v2)."""

    sentence = "small models, such as a perceptron and its teacher, that show what pruning does without images"
    uses_device = False
    kind: Literal["studies"] = "studies"
    study: Literal["clouds"] = "clouds"
    settings: CloudSettings

    @property
    def slug(self) -> str:
        return "clouds"

    def run(self, job: Job) -> dict[str, Any]:
        """Publish the three files; returns how many networks were trained."""
        import pandas as pd

        settings, ways = self.settings, get_args(CloudPruning)
        measures = []
        total = settings.trials * len(ways)
        with job.progress("training in a plane", total=total, unit="networks") as progress:
            for trial in range(settings.trials):
                points, field = pd.DataFrame(), _grid()
                for row in _trained(settings, trial, points, field):
                    measures.append(row)
                    progress.advance(1)
                if trial == 0:
                    _write(job, POINTS_FILE, points)
                    _write(job, FIELD_FILE, field)
        _write(job, MEASURES_FILE, pd.DataFrame(measures))
        job.publish(POINTS_FILE, FIELD_FILE, MEASURES_FILE)
        return {"networks": total}


def new_network(settings: CloudSettings, trial: int) -> nn.Sequential:
    """Two hidden layers with ReLU; (N, 1, 1, 2) to (N, 2) logits."""
    import torch
    from torch import nn

    from robustprune.core.randomness import derive_seed

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
    import torch
    from torch.nn import functional as F

    from robustprune.attacks.norms import norm_named
    from robustprune.attacks.pgd import pgd

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
    from torch.nn import functional as F

    from robustprune.attacks.margins import signed_margins
    from robustprune.attacks.norms import norm_named

    frozen = copy.deepcopy(network).eval().requires_grad_(False)
    loss = F.cross_entropy(frozen(attacked), labels, reduction="none")
    margins = signed_margins(frozen, points, labels, settings=DEEPFOOL, norm=norm_named("L2"), batch_size=len(points))
    return Measured(loss.numpy(), margins.margin.numpy())


def kept_of(
    dropped: CloudPruning, measured: Measured, labels: Tensor, settings: CloudSettings, trial: int
) -> npt.NDArray[np.bool_]:
    """(N,) whether each point is kept."""
    from robustprune.core.randomness import derive_seed
    from robustprune.pruning.candidates import Candidates
    from robustprune.pruning.strategies import choose

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


def draw_clouds(random: np.random.Generator, count: int, settings: CloudSettings) -> tuple[Tensor, Tensor]:
    """(N, 1, 1, 2) float32 points in the unit square and (N,) int64 labels, in turn 0 and 1.

    The clouds are normal, side by side around the middle; what falls outside of the square is drawn again.
    """
    import torch

    labels = np.arange(count) % 2
    means = np.array([0.5 - settings.distance / 2, 0.5 + settings.distance / 2])
    first = _normal(random, means[labels], settings.spread)
    second = _normal(random, np.full(count, 0.5), settings.spread)
    points = np.column_stack([first, second]).astype(np.float32)
    return torch.from_numpy(points).reshape(count, 1, 1, 2), torch.from_numpy(labels)


def _normal(random: np.random.Generator, means: Floats, spread: float) -> Floats:
    """One normal number around each mean, given that it is in [0, 1]."""
    from scipy import stats

    low, high = stats.norm.cdf((0 - means) / spread), stats.norm.cdf((1 - means) / spread)
    drawn: Floats = np.clip(means + spread * stats.norm.ppf(random.uniform(low, high)), 0, 1)
    return drawn


def best_prediction(points: Tensor) -> Tensor:
    """(N,) int64: the likelier class, which is the nearer cloud: no classifier is right more often.

    The straight line between the clouds is also best against an attack that is as large everywhere.
    """
    return (points[:, 0, 0, 0] > 0.5).long()


def _write(job: Job, name: str, table: pd.DataFrame) -> None:
    with replacing(job.partial / name) as temporary:
        table.to_parquet(temporary, index=False)


def _grid() -> pd.DataFrame:
    import pandas as pd

    axis = np.linspace(0, 1, GRID, dtype=np.float32)
    x, y = np.meshgrid(axis, axis)
    return pd.DataFrame({"x": x.ravel(), "y": y.ravel()})


def _trained(settings: CloudSettings, trial: int, table: pd.DataFrame, field: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Train once for each way to prune; fills ``table`` and ``field`` in, and yields what was measured."""
    from robustprune.core.randomness import derive_seed

    random = np.random.default_rng(derive_seed(settings.seed, "clouds", trial))
    points, labels = draw_clouds(random, settings.points, settings)
    test = draw_clouds(random, settings.test_points, settings)
    training = Training(settings, trial, points, labels)
    training.run(settings.steps_before)
    measured = training.measured()
    table[["x", "y"]] = points.reshape(-1, 2).numpy()
    table["label"], table["loss"], table["distance"] = labels.numpy(), measured.loss, measured.distance
    noisy = (best_prediction(points) != labels).numpy()
    for dropped in get_args(CloudPruning):
        rest, table[dropped] = training.without(dropped, measured)
        rest.run(settings.steps_after)
        field[dropped] = _gap(rest.network, field)
        noise = float(noisy[table[dropped]].mean())
        yield {
            "trial": trial,
            "dropped": dropped,
            **_evaluate(rest.network, *test, settings, trial),
            "label_noise": noise,
        }


def _gap(network: nn.Module, field: pd.DataFrame) -> Any:
    import torch

    places = torch.tensor(field[["x", "y"]].to_numpy(np.float32)).reshape(-1, 1, 1, 2)
    with torch.no_grad():
        logits = network(places)
    return (logits[:, 1] - logits[:, 0]).numpy()


def _evaluate(
    network: nn.Module, points: Tensor, labels: Tensor, settings: CloudSettings, trial: int
) -> dict[str, float]:
    import torch

    from robustprune.core.randomness import derive_seed

    draw = torch.Generator().manual_seed(derive_seed(settings.seed, "evaluation", trial))
    start = (2 * torch.rand(points.shape, generator=draw) - 1) * settings.epsilon
    attacked = attack(network, points, labels, settings, start=start, steps=PGD_STEPS, step=PGD_STEP)
    with torch.no_grad():
        prediction, under_attack = network(points).argmax(1), network(attacked).argmax(1)
    return {
        "accuracy": float((prediction == labels).float().mean()),
        "robustness": float(((under_attack == labels) & (prediction == labels)).float().mean()),
        "disagreement": float((prediction != best_prediction(points)).float().mean()),
    }
