"""A toy model in two dimensions: a network is trained on two clouds of points, with and without pruning."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self, get_args

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from robustprune.core.files import replacing
from robustprune.core.job import Job
from robustprune.core.settings import Settings
from robustprune.core.stage import Stage
from robustprune.pruning.settings import DropShare

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor, nn


DEFINITION = {"clouds.points": 1, "clouds.stage": 2, "clouds.training": 2, "training.mid_training": 2}

LONG_STEP = 1.25  # of RS-FGSM, in units of epsilon, as in training.mid_training
DEEPFOOL: dict[str, Any] = {
    "max_steps": 50,
    "overshoot": 0.02,
    "candidates": None,
    "slope_ratio": 1.75,
    "bisection_steps": 0,
    "negative": "unsigned",
}
"""Settings of DeepFool, as in training.mid_training."""
GRID = 101  # places along each axis of FIELD_FILE
PGD_STEPS, PGD_STEP = 20, 0.25  # of the evaluation

POINTS_FILE = "points.parquet"
"""A row a point of the first trial: x, y, label, loss, distance, and for each pruning True if it is kept."""
FIELD_FILE = "field.parquet"
"""A row a place of a grid over the unit square: x, y, and for each pruning the logit of class 1 minus that of class 0,
of the first trial's last network."""
MEASURES_FILE = "measures.parquet"
"""A row a trial and pruning: accuracy, robustness (PGD), disagreement (with the best classifier), label_noise
(share of the kept points that the best classifier has wrong)."""

Floats = npt.NDArray[np.float64]
ToyPruning = Literal["none", "random", "low_distance", "low_loss", "high_loss"]
"""The points that are dropped in the middle of the training, by the names of ``mid_training.strategy``."""


class ToySettings(Settings):
    """Two normal clouds in the unit square that overlap, and a small network that is trained on them by RS-FGSM."""

    points: int = Field(400, ge=20, description="points that are trained on, half of each cloud")
    test_points: int = Field(2000, ge=20, description="points that accuracies are counted on")
    distance: float = Field(0.3, gt=0, lt=1, description="between the clouds' means")
    spread: float = Field(0.12, gt=0, description="standard deviation of a cloud along each axis")
    epsilon: float = Field(0.05, gt=0, description="largest perturbation in L-infinity")
    width: int = Field(64, ge=1, description="units of each of two hidden layers")
    learning_rate: float = Field(0.01, gt=0, description="Adam's")
    steps_before: int = Field(50, ge=1, description="steps on all points, before some are dropped")
    steps_after: int = Field(350, ge=1, description="steps on the rest")
    keep: float = Field(0.6, gt=0, lt=1, description="share of the points that is kept")
    trials: int = Field(5, ge=2, description="independent clouds and trainings")
    seed: int = Field(0, ge=0, description="of all draws")

    @model_validator(mode="after")
    def _something_is_kept_and_dropped(self) -> Self:
        if round((1 - self.keep) * self.points) in (0, self.points):
            raise ValueError(f"keep = {self.keep} of points = {self.points} should keep some and drop some")
        return self

    def study(self) -> ToyStage:
        """Return the stage that trains on these clouds."""
        return ToyStage(settings=self)


class PointScores(NamedTuple):
    """Scores (N,) of the points by the half-trained network, as those of images in ``training.mid_training``.

    The loss is the cross-entropy after a step of RS-FGSM; the distance is DeepFool's in L2, of the clean point.
    """

    loss: npt.NDArray[np.float32]
    distance: npt.NDArray[np.float32]


class ToyTraining:
    """A network in training on (N, 1, 1, 2) float32 points and (N,) int64 labels; seeds depend on the trial."""

    def __init__(self, settings: ToySettings, trial: int, points: Tensor, labels: Tensor) -> None:
        import torch

        self.settings, self.trial, self.points, self.labels = settings, trial, points, labels
        self.network = new_network(settings, trial)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=settings.learning_rate)
        self.step = 0

    def run(self, steps: int) -> None:
        """Train for a number of steps."""
        import torch
        from torch.nn import functional as F

        for _ in range(steps):
            attacked = self._attacked("start")
            self.optimizer.zero_grad()
            torch.autograd.backward(F.cross_entropy(self.network(attacked), self.labels))
            self.optimizer.step()
            self.step += 1

    def measured(self) -> PointScores:
        """Return the scores of each point by the network now."""
        return measure(self.network, self.points, self._attacked("measured"), self.labels)

    def _attacked(self, purpose: str) -> Tensor:
        """Return the points after a step of RS-FGSM from a start that is drawn for this purpose and step."""
        start = _random_start(self.points, self.settings, purpose, self.trial, self.step)
        return attack(self.network, self.points, self.labels, self.settings, start=start, steps=1, step=LONG_STEP)

    def without(self, dropped: ToyPruning, measured: PointScores) -> tuple[ToyTraining, npt.NDArray[np.bool_]]:
        """Return a copy that goes on with the kept points, and (N,) True for each kept point."""
        import torch

        kept = kept_of(dropped, measured, self.labels, self.settings, self.trial)
        rest = copy.deepcopy(self)
        chosen = torch.from_numpy(kept)
        rest.points, rest.labels = self.points[chosen], self.labels[chosen]
        return rest, kept


class ToyStage(Stage):
    """A network trained on two clouds of points, with and without pruning (Kaufmann et al. v1 and v2)."""

    sentence = "small models, such as a perceptron and its teacher, that show what pruning does without images"
    uses_device = False
    kind: Literal["studies"] = "studies"
    study: Literal["clouds"] = "clouds"
    settings: ToySettings

    @property
    def slug(self) -> str:
        return "clouds"

    def run(self, job: Job) -> dict[str, Any]:
        """Publish the three files, and return the number of trained networks."""
        import pandas as pd

        settings, measures = self.settings, []
        total = settings.trials * len(get_args(ToyPruning))
        x, y = np.meshgrid(*[np.linspace(0, 1, GRID, dtype=np.float32)] * 2)
        with job.progress("training in a plane", total=total, unit="networks") as progress:
            for trial in range(settings.trials):
                points, field = pd.DataFrame(), pd.DataFrame({"x": x.ravel(), "y": y.ravel()})
                for row in _trained(settings, trial, points, field):
                    measures.append(row)
                    progress.advance(1)
                if trial == 0:
                    _write(job, POINTS_FILE, points)
                    _write(job, FIELD_FILE, field)
        _write(job, MEASURES_FILE, pd.DataFrame(measures))
        job.publish(POINTS_FILE, FIELD_FILE, MEASURES_FILE)
        return {"networks": total}

    def results(self, directory: Path) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
        """Return the tables that the stage has made: points, field and measures."""
        import pandas as pd

        points, field = pd.read_parquet(directory / POINTS_FILE), pd.read_parquet(directory / FIELD_FILE)
        return points, field, pd.read_parquet(directory / MEASURES_FILE)


def new_network(settings: ToySettings, trial: int) -> nn.Sequential:
    """Return a network of two hidden layers with ReLU, from (N, 1, 1, 2) to (N, 2) logits."""
    import torch
    from torch import nn

    from robustprune.core.randomness import derive_seed

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(settings.seed, "network", trial))
        first, second = nn.Linear(2, settings.width), nn.Linear(settings.width, settings.width)
        return nn.Sequential(nn.Flatten(), first, nn.ReLU(), second, nn.ReLU(), nn.Linear(settings.width, 2))


def attack(
    network: nn.Module, points: Tensor, labels: Tensor, settings: ToySettings, *, start: Tensor, steps: int, step: float
) -> Tensor:
    """Return the points after PGD on the cross-entropy in L-infinity; ``step`` is in units of epsilon."""
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


def _random_start(points: Tensor, settings: ToySettings, *purpose: str | int) -> Tensor:
    """Draw perturbations in the ball of the attack, the same ones for a purpose."""
    import torch

    from robustprune.core.randomness import generator

    draw = generator(settings.seed, *purpose)
    return (2 * torch.rand(points.shape, generator=draw) - 1) * settings.epsilon


def measure(network: nn.Module, points: Tensor, attacked: Tensor, labels: Tensor) -> PointScores:
    """Return the loss of each attacked point, and the distance of each clean one."""
    from torch.nn import functional as F

    from robustprune.attacks.deepfool_settings import DeepFoolSettings
    from robustprune.attacks.margins import signed_margins
    from robustprune.attacks.norms import norm_named

    settings = DeepFoolSettings(**DEEPFOOL)
    frozen = copy.deepcopy(network).eval().requires_grad_(False)
    loss = F.cross_entropy(frozen(attacked), labels, reduction="none")
    margins = signed_margins(frozen, points, labels, settings=settings, norm=norm_named("L2"), batch_size=len(points))
    return PointScores(loss.numpy(), margins.margin.numpy())


def kept_of(
    dropped: ToyPruning, measured: PointScores, labels: Tensor, settings: ToySettings, trial: int
) -> npt.NDArray[np.bool_]:
    """Return (N,) True for each point that is kept."""
    from robustprune.core.randomness import derive_seed
    from robustprune.pruning.candidates import Candidates
    from robustprune.pruning.strategies import choose

    count = len(labels)
    if dropped == "none":
        return np.ones(count, bool)
    candidates = Candidates(pools=("clouds",), first=(0,), counts=(count,), labels=labels.numpy().astype(np.int16))
    by_distance = dropped == "low_distance"
    scored = candidates.scored(measured.distance, "high") if by_distance else candidates.scored(measured.loss, "low")
    drop, seed = DropShare(shares=(1 - settings.keep,)), derive_seed(settings.seed, "dropped", trial)
    return np.isin(np.arange(count), choose(scored, strategy=dropped, drop=drop, per="all", seed=seed))


def draw_clouds(random: np.random.Generator, count: int, settings: ToySettings) -> tuple[Tensor, Tensor]:
    """Draw (N, 1, 1, 2) float32 points in the unit square, with (N,) int64 labels 0 and 1 in turn.

    The clouds are normal, side by side around the middle, and truncated to the square.
    """
    import torch

    labels = np.arange(count) % 2
    means = np.array([0.5 - settings.distance / 2, 0.5 + settings.distance / 2])
    first = _normal(random, means[labels], settings.spread)
    second = _normal(random, np.full(count, 0.5), settings.spread)
    points = np.column_stack([first, second]).astype(np.float32)
    return torch.from_numpy(points).reshape(count, 1, 1, 2), torch.from_numpy(labels)


def _normal(random: np.random.Generator, means: Floats, spread: float) -> Floats:
    """Draw one normal number around each mean, truncated to [0, 1]."""
    from scipy import stats

    low, high = stats.norm.cdf((0 - means) / spread), stats.norm.cdf((1 - means) / spread)
    drawn: Floats = np.clip(means + spread * stats.norm.ppf(random.uniform(low, high)), 0, 1)
    return drawn


def best_prediction(points: Tensor) -> Tensor:
    """Return (N,) int64, the likelier class, which is the nearer cloud: no classifier is right more often.

    The straight line between the clouds is also best against an attack of the same size everywhere.
    """
    return (points[:, 0, 0, 0] > 0.5).long()


def _write(job: Job, name: str, table: pd.DataFrame) -> None:
    with replacing(job.partial / name) as temporary:
        table.to_parquet(temporary, index=False)


def _trained(settings: ToySettings, trial: int, table: pd.DataFrame, field: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Train once for each pruning; fill in ``table`` and ``field``, and yield the measures."""
    import torch

    from robustprune.core.randomness import derive_seed

    random = np.random.default_rng(derive_seed(settings.seed, "clouds", trial))
    points, labels = draw_clouds(random, settings.points, settings)
    test = draw_clouds(random, settings.test_points, settings)
    training = ToyTraining(settings, trial, points, labels)
    training.run(settings.steps_before)
    measured = training.measured()
    table[["x", "y"]] = points.reshape(-1, 2).numpy()
    table["label"], table["loss"], table["distance"] = labels.numpy(), measured.loss, measured.distance
    noisy = (best_prediction(points) != labels).numpy()
    places = torch.tensor(field[["x", "y"]].to_numpy(np.float32)).reshape(-1, 1, 1, 2)
    for dropped in get_args(ToyPruning):
        rest, table[dropped] = training.without(dropped, measured)
        rest.run(settings.steps_after)
        with torch.no_grad():
            logits = rest.network(places)
        field[dropped] = (logits[:, 1] - logits[:, 0]).numpy()
        measures = _evaluate(rest.network, *test, settings, trial)
        yield {"trial": trial, "dropped": dropped, **measures, "label_noise": float(noisy[table[dropped]].mean())}


def _evaluate(
    network: nn.Module, points: Tensor, labels: Tensor, settings: ToySettings, trial: int
) -> dict[str, float]:
    import torch

    start = _random_start(points, settings, "evaluation", trial)
    attacked = attack(network, points, labels, settings, start=start, steps=PGD_STEPS, step=PGD_STEP)
    with torch.no_grad():
        prediction, under_attack = network(points).argmax(1), network(attacked).argmax(1)
    return {
        "accuracy": float((prediction == labels).float().mean()),
        "robustness": float(((under_attack == labels) & (prediction == labels)).float().mean()),
        "disagreement": float((prediction != best_prediction(points)).float().mean()),
    }
