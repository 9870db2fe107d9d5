"""Fixtures that several test files share."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from robustprune.execution import Execution
from robustprune.job import Job

SHARED = Path(__file__).resolve().parents[2] / "shared"


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
