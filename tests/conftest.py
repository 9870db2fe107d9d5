"""Fixtures that several test files share."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from torch import Tensor, nn

from robustprune.core.execution import Execution
from robustprune.core.job import Job
from robustprune.images.formats.idx import read_images, read_labels
from robustprune.networks.architecture import build_model

SHARED = Path(__file__).resolve().parents[2] / "shared"

FIRST = (
    "test_slurm.py",
    "test_workflow.py",
    "test_restart.py",
    "test_parallel.py",
    "test_benchmarks.py",
    "test_every_table.py",
    "test_sharing_workflow.py",
)
"""The files that take longest."""

settings.register_profile("any machine", deadline=None)  # how long a test takes says how busy the machine is
settings.load_profile("any machine")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files go first: one worker does a whole file, so that one begun last would be waited for alone."""
    order = {name: place for place, name in enumerate(FIRST)}
    items.sort(key=lambda item: order.get(item.path.name, len(FIRST)))


@pytest.fixture
def shared() -> Path:
    """The folder of real data kept beside the checkout; tests that need it are skipped where it is absent."""
    if not SHARED.is_dir():
        pytest.skip("the folder 'shared' with real data is not beside the checkout")
    return SHARED


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Tests compute on one thread, so that their bits do not depend on the machine's cores."""
    torch.set_num_threads(1)


@pytest.fixture
def make_job(tmp_path: Path) -> Callable[..., Job]:
    """A function ``make_job(kind, stage_id, **execution)`` that makes a job with an empty directory under tmp_path."""

    def make(kind: str, stage_id: str, **execution: object) -> Job:
        directory = tmp_path / "results" / "digits" / kind / stage_id
        (directory / "partial").mkdir(parents=True)
        return Job(directory, Execution.model_validate({"device": "cpu", **execution}), threads=1, live=False)

    return make


@pytest.fixture
def fgsm_model(shared: Path) -> nn.Module:
    """The public FGSM-trained MNIST model of Wong et al. (2020)."""
    model = build_model("fast_cnn", image_shape=(1, 28, 28), classes=10)
    path = shared / "data" / "models" / "fast_adversarial_mnist" / "fgsm.pth"
    model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return model.eval().requires_grad_(False)


@pytest.fixture
def mnist_test(shared: Path) -> tuple[Tensor, Tensor]:
    """All MNIST test images in [0, 1] and their labels."""
    raw = shared / "data" / "mnist" / "MNIST" / "raw"
    images, labels = raw / "t10k-images-idx3-ubyte.gz", raw / "t10k-labels-idx1-ubyte.gz"
    pixels = torch.tensor(read_images(images))
    return pixels.float() / 255, torch.tensor(read_labels(labels)).long()
