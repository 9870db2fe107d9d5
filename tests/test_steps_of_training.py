"""Training's steps on a device: what they read, that they wait for nothing, and what they refuse."""

from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import noise
from noise import kept_of, write_noise
from robustprune.core.errors import UserError
from robustprune.core.randomness import BatchNoise
from robustprune.images.pool import Pool, PoolInfo
from robustprune.networks.architecture import build_model
from robustprune.networks.batchnorm import fewest_images
from robustprune.networks.halving import HalvingConv2d
from robustprune.training.batches import Batch, Batches, MappedImages, ResidentImages, fit_on
from robustprune.training.fit import Training
from robustprune.training.losses import BatchLoss
from robustprune.training.online import OnlinePuma
from robustprune.training.recipes.trades import TradesRecipe
from robustprune.training.trainset import KeptImages

CPU = torch.device("cpu")
STOPPERS = {"aten::_local_scalar_dense", "aten::is_nonzero", "aten::nonzero", "aten::masked_select", "aten::equal"}
COPIES = {"aten::scalar_tensor", "aten::lift_fresh"}  # how a Python number becomes a tensor, which a GPU waits for


def kept_images(folder: Path, seed: int = 0) -> KeptImages:
    """Images of noise, with a radius for each image."""
    return kept_of(write_noise(folder, seed), radii=(-0.1, 0.1))


def training(folder: Path, architecture: str = "small_cnn", **recipe: Any) -> Training:
    settings = {"epochs": 2, "epoch_images": 48, "batch_size": 16, "step_size": 0.02, "synthetic_fraction": 0.5}
    trades = TradesRecipe.model_validate({**settings, "attack_steps": 2, **recipe})
    kept = [kept_images(folder / name, seed) for seed, name in enumerate(("real", "other"))]
    return noise.training(folder, trades, *kept, architecture=architecture)


@pytest.mark.parametrize(
    ("architecture", "side", "fewest"), [("resnet18", 8, 2), ("resnet18", 32, 1), ("small_cnn", 8, 1)]
)
def test_batchnorm_takes_statistics_of_one_image_only_if_its_maps_have_two_values(
    architecture: str, side: int, fewest: int
) -> None:
    model = build_model(architecture, image_shape=(1, side, side), classes=10).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert fewest_images(model, (1, side, side)) == fewest
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    if fewest == 2:
        with pytest.raises(ValueError, match="more than 1 value per channel"):
            model(torch.zeros(1, 1, side, side))
    model(torch.zeros(fewest, 1, side, side))


@pytest.mark.parametrize(("batch_size", "shares", "left", "needed"), [(13, 1, 1, 2), (37, 2, 3, 4)])
def test_a_last_batch_too_small_for_batchnorm_is_refused_at_the_start(
    tmp_path: Path, batch_size: int, shares: int, left: int, needed: int
) -> None:
    """Of the 40 real images kept."""
    recipe = {"epoch_images": None, "batch_size": batch_size, "batchnorm_shares": shares}
    with pytest.raises(UserError, match=f"has {left} images, .* {needed} or more, .* {shares} shares"):
        training(tmp_path, architecture="resnet18", **recipe)


def weights(trained: Training) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in trained.model.state_dict().items()}


def test_batches_are_the_rows_of_the_pools_in_whatever_order_steps_come(tmp_path: Path) -> None:
    kept = [kept_images(tmp_path / str(seed), seed) for seed in range(2)]
    sources = [MappedImages(images, CPU) for images in kept]
    positions = [[torch.tensor([step, 3]), torch.tensor([2 * step])] for step in range(9)]
    ahead, plain = (Batches(lambda step: positions[step], 9, sources, ahead=ahead) for ahead in (True, False))
    for step in (0, 1, 2, 6, 7, 0):
        read = [(images, int(chosen)) for images, part in zip(kept, positions[step], strict=True) for chosen in part]
        for batch in (ahead.at(step), plain.at(step)):
            assert batch.images.dtype == torch.uint8
            for i, (images, chosen) in enumerate(read):
                row = images.rows[chosen]
                assert (batch.images[i].numpy() == images.pool.images[row]).all()
                assert batch.labels[i] == images.pool.labels[row]
                assert batch.epsilon[i] == images.epsilon[chosen]


def test_resident_images_are_the_mapped_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("robustprune.training.batches.COPIED_AT_ONCE", 7 * 64)
    kept = kept_images(tmp_path / "pool")
    positions = torch.tensor([5, 0, 39, 5])
    taken = (images(kept, CPU).take(positions) for images in (ResidentImages, MappedImages))
    for resident, mapped in zip(*taken, strict=True):
        assert resident.dtype == mapped.dtype
        assert torch.equal(resident, mapped)


def test_images_lie_on_a_gpu_that_has_room_for_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = [kept_images(tmp_path / "pool")]
    size = 40 * 64
    assert kept[0].nbytes == size
    for free, expected in [(2 * size, True), (2 * size - 1, False)]:
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _, free=free: (free, 10 * free))
        assert fit_on(torch.device("cuda"), kept) == expected
    assert not fit_on(CPU, kept)


def most_memory() -> int:
    """The most memory that this process had at a time, KiB."""
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])


def test_a_pool_larger_than_the_memory_is_read_row_by_row(tmp_path: Path) -> None:
    count, shape = 50_000_000, (3, 32, 32)
    images: npt.NDArray[np.uint8] = np.lib.format.open_memmap(
        tmp_path / "images.npy", mode="w+", dtype=np.uint8, shape=(count, *shape)
    )  # 154 GB, of which the file system stores what is written
    images[count - 1] = 7
    info = PoolInfo(
        dataset="holes", source="", classes=1, image_shape=shape, count=count, class_counts=(count,), digest=""
    )
    pool = Pool(images, np.zeros(count, dtype=np.int16), info)
    kept = KeptImages(pool, np.arange(count), np.zeros(count, dtype=np.float32))
    Path("/proc/self/clear_refs").write_text("5")  # the most that this process ever had is forgotten
    before = most_memory()
    batches = Batches(lambda step: [torch.tensor([step, count - 1])], count, [MappedImages(kept, CPU)], ahead=True)
    for step in range(0, count, count // 50):
        assert batches.at(step).images.float().mean() == 3.5
    assert most_memory() - before < 50 * 1024


class Seen(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes the names of the operators that run."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.add(func.name().split(".")[0])
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("optimizer", ["nesterov", "sgd", "adam"])
def test_a_step_waits_for_nothing(optimizer: str, tmp_path: Path) -> None:
    trained = training(tmp_path / "run", optimizer=optimizer, augmentation="crop_flip")
    with Seen() as within:
        trained.one_step()
    assert "aten::convolution" in within.names
    assert not within.names & STOPPERS
    with Seen() as at_the_end:
        trained.one_step()
        trained.one_step()  # the epoch's last
    assert at_the_end.names & STOPPERS


def test_pruning_online_copies_no_number_to_the_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = torch.rand(16, 1, 8, 8), torch.zeros(16).long()
    trained = training(tmp_path / "run")
    with Seen() as within:
        moved = OnlinePuma(threshold=Fraction(1, 2)).moved(trained.model, images, images + 0.1, labels)
    assert "aten::masked_fill" in within.names
    assert not within.names & COPIES
    found = BatchLoss(torch.ones(16), moved.easy, moved.easy)
    monkeypatch.setattr(trained, "batches", SimpleNamespace(at=lambda _: None))
    monkeypatch.setattr(trained, "_losses", lambda _: found)
    monkeypatch.setattr(trained, "_update", lambda *_, **__: None)
    with Seen() as within:
        trained.one_step()
    assert "aten::div" in within.names
    assert not within.names & COPIES


@pytest.mark.parametrize("optimizer", ["nesterov", "sgd", "adam"])
@pytest.mark.parametrize("broken", ["loss", "gradient"])
def test_weights_never_take_an_update_that_is_not_finite(
    optimizer: str, broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = training(tmp_path / "run", optimizer=optimizer)
    trained.one_step()
    before = weights(trained)
    sound = trained._losses

    def unsound(batch: Batch) -> BatchLoss:
        losses, right, _ = sound(batch)
        if broken == "loss":
            return BatchLoss(losses * float("inf"), right)
        zero = next(trained.model.parameters()).sum().mul(0).sqrt()  # with the gradient 0 / 0
        return BatchLoss(losses + zero, right)

    monkeypatch.setattr(trained, "_losses", unsound)
    trained.one_step()
    assert all(torch.equal(value, before[name]) for name, value in weights(trained).items())
    monkeypatch.setattr(trained, "_losses", sound)
    with pytest.raises(UserError, match=r"not finite at step 2 of 6.*training.trades.learning_rate than 0.2"):
        trained.state()
    with pytest.raises(UserError, match="not finite at step 2 of 6"):
        trained.one_step()  # the epoch's last


def test_an_update_that_is_finite_is_taken(tmp_path: Path) -> None:
    trained = training(tmp_path / "run")
    before = weights(trained)
    trained.one_step()
    assert not any(torch.equal(value, before[name]) for name, value in weights(trained).items())


def test_a_deep_network_in_bfloat16_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    unbroken, first, second = (
        training(tmp_path / name, "resnet18", precision="bfloat16", attack_steps=1, batch_size=4)
        for name in ("unbroken", "first", "second")
    )
    unbroken.one_step()
    unbroken.one_step()
    first.one_step()
    first.save()
    (first.job.partial / "checkpoint.pt").rename(second.job.partial / "checkpoint.pt")
    second._resume()
    second.one_step()
    assert all(torch.equal(value, weights(unbroken)[name]) for name, value in weights(second).items())


def test_bfloat16_is_the_networks_alone(tmp_path: Path) -> None:
    logits: list[Tensor] = []
    losses = {}
    for precision in ("float32", "bfloat16"):
        trained = training(tmp_path / precision, precision=precision)
        trained.model.register_forward_hook(lambda _, inputs, output: logits.extend((inputs[0], output)))
        losses[precision] = trained._losses(trained.batches.at(0)).losses.mean()
        assert {value.dtype for value in trained.model.parameters()} == {torch.float32}
        assert losses[precision].dtype == torch.float32
        assert {value.dtype for value in logits[::2]} == {torch.float32}
        assert {value.dtype for value in logits[1::2]} == {getattr(torch, precision)}
        logits.clear()
    assert losses["bfloat16"] != losses["float32"]
    torch.testing.assert_close(losses["bfloat16"], losses["float32"], rtol=0.01, atol=0)


def test_a_share_of_a_batch_draws_its_rows_of_the_whole() -> None:
    def draws(rows: slice) -> list[Tensor]:
        noise = BatchNoise(torch.Generator().manual_seed(0), 6, rows)
        return [noise.integers(9), noise.uniform(2, 3), noise.normal(2)]

    for share in (slice(0, None, 2), slice(1, None, 2)):
        for part, whole in zip(draws(share), draws(slice(None)), strict=True):
            assert torch.equal(part, whole[share])


@pytest.mark.parametrize(("channels", "side"), [(1, 28), (3, 32), (16, 14), (5, 6), (2, 2), (2, 7)])
def test_the_halving_convolution_is_the_plain_one(channels: int, side: int) -> None:
    torch.manual_seed(0)
    ours, plain = HalvingConv2d(channels, 8), nn.Conv2d(channels, 8, 4, stride=2, padding=1)
    plain.load_state_dict(ours.state_dict())
    x = torch.rand(3, channels, side, side, requires_grad=True)
    towards = torch.rand(3, 8, side // 2, side // 2)
    found, expected = (
        (layer(x), *torch.autograd.grad((layer(x) * towards).sum(), (x, *layer.parameters())))
        for layer in (ours, plain)
    )
    for actual, reference in zip(found, expected, strict=True):
        torch.testing.assert_close(actual, reference, rtol=1e-5, atol=1e-5)


def test_an_attack_by_the_halving_convolution_leaves_the_gradient_of_its_weights_out() -> None:
    layer = HalvingConv2d(1, 8)
    x = torch.rand(3, 1, 8, 8, requires_grad=True)
    with Seen() as within:
        torch.autograd.grad(layer(x).sum(), x)
    assert "aten::convolution" in within.names
    assert "aten::convolution_backward" not in within.names


def test_fast_cnn_is_built_of_them() -> None:
    model = build_model("fast_cnn", image_shape=(1, 28, 28), classes=10)
    assert sum(isinstance(layer, HalvingConv2d) for layer in model.modules()) == 2
