"""Pools drawn from a generator: which class an image has, resuming, errors, and the picture of the pool."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from robustprune.core.errors import Interrupted, UserError
from robustprune.core.interruption import Checkpoints
from robustprune.core.job import Job
from robustprune.core.stage_file import write_spec
from robustprune.generation.generated_pool import GeneratedPoolStage, load_generator
from robustprune.generation.generator import GeneratorStage
from robustprune.generation.network import build_network
from robustprune.generation.sampler import draw_images
from robustprune.generation.settings import GeneratorSettings, SamplerSettings
from robustprune.images.contact_sheet import GAP, LABEL_WIDTH, contact_sheet
from robustprune.images.pool import open_pool
from robustprune.networks.weights import save_weights
from stopping import StopAfterTwo

Make = Callable[..., Job]
IMAGES: dict[str, Any] = {"dataset": "digits", "classes": 3, "image_shape": (1, 8, 8)}
SETTINGS = GeneratorSettings(base_channels=8, channel_multipliers=(1, 2), blocks=1, steps=1)
GENERATOR = GeneratorStage(pool="digits-train-0000000000", settings=SETTINGS, **IMAGES)
SPEC = GeneratedPoolStage(generator=GENERATOR.id, count=25, sampler=SamplerSettings(steps=4, seed=5), **IMAGES)
OUTPUTS = ("images.npy", "labels.npy", "image_digests.npy", "pool.json", "contact_sheet.png")


@pytest.fixture
def generator(make_job: Make) -> Job:
    job = make_job("generators", GENERATOR.id)
    torch.manual_seed(0)
    network = build_network(SETTINGS, GENERATOR.image_shape, GENERATOR.classes).requires_grad_(False)
    for parameter in network.parameters():
        parameter.normal_(std=0.15)
    write_spec(job.directory / "spec.json", GENERATOR)
    save_weights(network.state_dict(), job.directory / "weights.safetensors")
    return job


def test_pool_holds_the_classes_in_turn(generator: Job, make_job: Make) -> None:
    job = make_job("pools", SPEC.id, batch_size=10)
    facts = SPEC.run(job)
    pool = open_pool(job.directory)
    assert pool.labels.tolist() == [i % 3 for i in range(25)]
    assert facts == {"count": 25, "class_counts": [9, 8, 8], "digest": pool.info.digest, "selected": []}
    assert GENERATOR.id in pool.info.source
    network = load_generator(generator.directory, SPEC, torch.device("cpu"))
    ids = torch.arange(25)
    expected = draw_images(network, ids, ids % 3, SPEC.sampler, (1, 8, 8)).numpy()
    assert np.abs(pool.images[:].astype(int) - expected).max() <= 1  # another batch size may round a pixel otherwise
    assert [output.name for output in job.outputs] == list(OUTPUTS)
    with Image.open(job.directory / "contact_sheet.png") as sheet:
        assert np.array_equal(np.asarray(sheet), np.asarray(contact_sheet(pool.images, pool.labels, 3)))


def test_a_resumed_pool_has_the_same_bytes(generator: Job, make_job: Make) -> None:
    broken = make_job("pools", "broken", batch_size=10)
    broken.checkpoints = StopAfterTwo(0)
    with pytest.raises(Interrupted):
        SPEC.run(broken)
    broken.checkpoints = Checkpoints(0)
    assert_same_as_whole(broken, make_job)


def test_jobs_that_share_a_pool_draw_the_bytes_of_one(generator: Job, make_job: Make) -> None:
    shared = make_job("pools", "shared", batch_size=10)
    for rows in (range(20, 25), range(10)):
        list(SPEC.row_pass(shared)(rows=rows))
    assert_same_as_whole(shared, make_job)


def assert_same_as_whole(job: Job, make_job: Make) -> None:
    """Finish the job; its files are those of one that was never interrupted."""
    whole = make_job("pools", SPEC.id, batch_size=10)
    for one in (whole, job):
        SPEC.run(one)
    for name in OUTPUTS:
        assert (whole.directory / name).read_bytes() == (job.directory / name).read_bytes()


def test_a_loaded_generator_is_frozen(generator: Job) -> None:
    network = load_generator(generator.directory, SPEC, torch.device("cpu"))
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_a_generator_of_other_images_is_refused(generator: Job) -> None:
    other = SPEC.model_copy(update={"image_shape": (3, 8, 8)})
    with pytest.raises(UserError, match=r"draws images of shape \(1, 8, 8\) in 3 classes, .* has \(3, 8, 8\) in 3"):
        load_generator(generator.directory, other, torch.device("cpu"))


def test_another_stage_is_no_generator(make_job: Make) -> None:
    job = make_job("pools", SPEC.id)
    write_spec(job.directory / "spec.json", SPEC)
    with pytest.raises(UserError, match="kind pools, not a generator"):
        load_generator(job.directory, SPEC, torch.device("cpu"))


@pytest.mark.parametrize(
    "damage",
    [
        Path.unlink,
        lambda path: os.truncate(path, 100),
        lambda path: save_weights({"other": torch.zeros(2)}, path),
    ],
    ids=["absent", "cut", "foreign"],
)
def test_damaged_weights_are_named(damage: Callable[[Path], object], generator: Job) -> None:
    damage(generator.directory / "weights.safetensors")
    with pytest.raises(UserError, match=r"weights\.safetensors"):
        load_generator(generator.directory, SPEC, torch.device("cpu"))


@pytest.mark.parametrize(("shape", "scale"), [((1, 8, 8), 8), ((1, 28, 28), 2), ((3, 32, 32), 2), ((3, 64, 64), 1)])
def test_sheet_has_a_row_a_class(shape: tuple[int, int, int], scale: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (40, *shape), dtype=np.uint8)
    labels = np.arange(40) % 4
    sheet = np.asarray(contact_sheet(images, labels, 5, per_class=6))
    pitch = scale * shape[1] + GAP
    assert sheet.shape == (GAP + 5 * pitch, LABEL_WIDTH + 6 * pitch, 3)
    for label in range(4):
        for column in range(6):
            top, left = GAP + label * pitch, LABEL_WIDTH + column * pitch
            tile = sheet[top : top + pitch - GAP : scale, left : left + pitch - GAP : scale]
            expected = images[labels == label][column].transpose(1, 2, 0)
            assert np.array_equal(tile, np.broadcast_to(expected, tile.shape))


def test_large_images_are_scaled_down() -> None:
    """Halves of 128 x 96 pixels, left black, right white, are as many halves of 64 x 48."""
    images = np.zeros((1, 1, 96, 128), dtype=np.uint8)
    images[..., 64:] = 255
    sheet = np.asarray(contact_sheet(images, np.array([0]), 1, per_class=1))
    assert sheet.shape == (48 + 2 * GAP, LABEL_WIDTH + 64 + GAP, 3)
    tile = sheet[GAP:-GAP, LABEL_WIDTH:-GAP]
    assert (tile[:, :31] == 0).all()
    assert (tile[:, 33:] == 255).all()


def test_blanks_and_labels() -> None:
    images = np.full((2, 1, 8, 8), 200, dtype=np.uint8)
    sheet = np.asarray(contact_sheet(images, np.array([1, 1]), 2, per_class=3))
    background = sheet[0, 0]
    pitch = 64 + GAP
    assert (sheet[:pitch, LABEL_WIDTH:] == background).all()  # there is no image of class 0
    assert (sheet[GAP + pitch :, LABEL_WIDTH + 2 * pitch :] == background).all()  # nor a third one of class 1
    assert (sheet[GAP + pitch : -GAP, LABEL_WIDTH : LABEL_WIDTH + 64] == 200).all()
    for row in range(2):
        margin = sheet[row * pitch : (row + 1) * pitch, :LABEL_WIDTH]
        assert (margin == 0).all(axis=2).sum() > 4  # the class number, in black
        assert (margin == background).all(axis=2).mean() > 0.8


def test_a_memory_mapped_pool_will_do(tmp_path: Path) -> None:
    images = np.arange(64, dtype=np.uint8).reshape(1, 1, 8, 8)
    np.save(tmp_path / "images.npy", images)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    assert contact_sheet(mapped, np.array([0]), 1).tobytes() == contact_sheet(images, np.array([0]), 1).tobytes()
