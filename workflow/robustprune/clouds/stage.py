"""The stage that trains on the clouds, with and without pruning, in several trials."""

from collections.abc import Iterator
from typing import Any, get_args

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from robustprune.clouds.points import best_prediction, draw_clouds
from robustprune.clouds.training import Training, attack
from robustprune.files import replacing
from robustprune.job import Job
from robustprune.randomness import derive_seed
from robustprune.settings.clouds import CloudPruning, CloudSettings
from robustprune.specs import CloudsSpec

DEFINITION = 2

POINTS_FILE = "points.parquet"
"""A row a point of the first trial: x, y, label, loss, distance, and for each way to prune whether it is kept."""
FIELD_FILE = "field.parquet"
"""A row a place of a grid over the unit square: x, y, and for each way to prune the first trial's last network's logit
of class 1 minus that of class 0."""
MEASURES_FILE = "measures.parquet"
"""A row a trial and way to prune: accuracy, robustness (PGD), disagreement (with the best classifier), label_noise
(share of the kept points that the best classifier has wrong)."""

GRID = 101  # places along each axis
PGD_STEPS, PGD_STEP = 20, 0.25  # of the evaluation


def run(job: Job, spec: CloudsSpec) -> dict[str, Any]:
    """Publish the three files; returns how many networks were trained."""
    settings, ways = spec.settings, get_args(CloudPruning)
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


def _write(job: Job, name: str, table: pd.DataFrame) -> None:
    with replacing(job.partial / name) as temporary:
        table.to_parquet(temporary, index=False)


def _grid() -> pd.DataFrame:
    axis = np.linspace(0, 1, GRID, dtype=np.float32)
    x, y = np.meshgrid(axis, axis)
    return pd.DataFrame({"x": x.ravel(), "y": y.ravel()})


def _trained(settings: CloudSettings, trial: int, table: pd.DataFrame, field: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Train once for each way to prune; fills ``table`` and ``field`` in, and yields what was measured."""
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


@torch.no_grad()
def _gap(network: nn.Module, field: pd.DataFrame) -> Any:
    places = torch.tensor(field[["x", "y"]].to_numpy(np.float32)).reshape(-1, 1, 1, 2)
    logits = network(places)
    return (logits[:, 1] - logits[:, 0]).numpy()


@torch.no_grad()
def _evaluate(
    network: nn.Module, points: Tensor, labels: Tensor, settings: CloudSettings, trial: int
) -> dict[str, float]:
    draw = torch.Generator().manual_seed(derive_seed(settings.seed, "evaluation", trial))
    start = (2 * torch.rand(points.shape, generator=draw) - 1) * settings.epsilon
    attacked = attack(network, points, labels, settings, start=start, steps=PGD_STEPS, step=PGD_STEP)
    prediction = network(points).argmax(1)
    return {
        "accuracy": float((prediction == labels).float().mean()),
        "robustness": float(((network(attacked).argmax(1) == labels) & (prediction == labels)).float().mean()),
        "disagreement": float((prediction != best_prediction(points)).float().mean()),
    }
