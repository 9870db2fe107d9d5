"""What two processes do together in the tests; a module of its own, since both import it."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from noise import finish, training, write_noise
from robustprune.core.job import Job
from robustprune.core.team import Team
from robustprune.images.pool import open_pool
from robustprune.networks.batchnorm import take_statistics
from robustprune.training.fit import Training
from robustprune.training.mid_training import MidTraining
from robustprune.training.online import OnlinePuma
from robustprune.training.recipes.rs_fgsm import RsFgsmRecipe
from robustprune.training.recipes.trades import TradesRecipe
from robustprune.training.trainset import KeptImages

TRADES: dict[str, Any] = {"epochs": 2, "epoch_images": 60, "batch_size": 15, "step_size": 0.05, "attack_steps": 2}
ONE_PASS: dict[str, Any] = {"epochs": 4, "epoch_images": None, "batch_size": 11, "clip_start": False}
DEEP: dict[str, Any] = {"epochs": 1, "epoch_images": 24, "batch_size": 24, "step_size": 1e-9, "attack_steps": 1}
"""One step of a ResNet-18 and a tiny one of its attack: on a few images of noise more would hang on rounding."""

CASES: dict[str, dict[str, Any]] = {
    "synthetic": {"training": TradesRecipe(**TRADES, augmentation="crop_flip")},
    "online": {"training": TradesRecipe(**TRADES), "online": OnlinePuma(threshold=Fraction(1, 100))},
    "midway": {
        "training": RsFgsmRecipe(**ONE_PASS),
        "mid_training": MidTraining(keep=0.7, strategy="low_distance", at="clean"),
    },
    "deep": {"training": TradesRecipe(**DEEP), "architecture": "resnet18"},
    "deep_local": {"training": TradesRecipe(**DEEP, batchnorm_shares=2), "architecture": "resnet18"},
}
"""Trainings on noise, all that may differ between one process and two."""


def write_pools(folder: Path) -> None:
    """A real and a synthetic pool."""
    for seed, name in enumerate(("real", "synthetic")):
        write_noise(folder / name, seed)


def train(folder: Path, name: str, team: Team) -> Training:
    """The whole training ``name``; where a process alone does it, in a directory of its own."""
    how = dict(CASES[name])
    recipe = how.pop("training")
    pools = [open_pool(folder / pool) for pool in ("real", "synthetic")[: 1 + (recipe.synthetic_in_batch > 0)]]
    kept = [KeptImages(pool, np.arange(60), np.linspace(-0.1, 0.1, 60, dtype=np.float32)) for pool in pools]
    trained = training(folder / f"{name}-{team.size}", recipe, *kept, team=team, **how)
    finish(trained)
    return trained


def small_network(*, shares: int, team: Team) -> nn.Module:
    """A convolution and a BatchNorm with weights that are not its first."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 3, 3, bias=False), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten())
    with torch.no_grad():
        model.get_parameter("1.weight").uniform_(0.5, 2)
        model.get_parameter("1.bias").normal_()
    take_statistics(model, shares=shares, team=team)
    return model.train()


def normalised(*, shares: int, team: Team) -> dict[str, Tensor]:
    """Outputs and gradients of ``small_network`` for this process's rows of 7 images, and its state."""
    model = small_network(shares=shares, team=team)
    images = torch.rand(7, 2, 6, 6, generator=torch.Generator().manual_seed(1))
    towards = torch.randn(7, 48, generator=torch.Generator().manual_seed(2))
    images = images[team.rows].requires_grad_()
    outputs = model(images)
    (outputs * towards[team.rows]).sum().backward()
    assert images.grad is not None
    gradients = {
        f"gradient of {name}": value.grad for name, value in model.named_parameters() if value.grad is not None
    }
    team.add_up(list(gradients.values()))
    return {
        "outputs": outputs.detach(),
        "gradient of images": images.grad,
        **gradients,
        **{name: value for name, value in model.state_dict().items() if "running" in name or "tracked" in name},
    }


def follow(job: Job, team: Team) -> None:
    """The other process's part of the tests, what it finds kept beside the job."""
    found = {shares: normalised(shares=shares, team=team) for shares in (1, 2)}
    torch.save(found, job.partial / "follower.pt")
    for name in CASES:
        trained = train(job.directory, name, team)
        torch.save(trained.model.state_dict(), job.partial / f"follower-{name}.pt")
