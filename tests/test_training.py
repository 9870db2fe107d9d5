"""Training's pieces against closed forms, torch's own scheduler, hand-made tables and float64 arithmetic."""

import math
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from robustprune.core.errors import UserError
from robustprune.core.randomness import BatchNoise
from robustprune.core.settings import ThreatModel
from robustprune.core.yaml_files import merge
from robustprune.experiments.row import Row
from robustprune.images.pool import Member, Pool, PoolInfo
from robustprune.networks.batchnorm import frozen_statistics, set_statistics_momentum
from robustprune.planning.config import load_config
from robustprune.training.averaging import WeightAverage, averaging_decay
from robustprune.training.fit import crop_flip
from robustprune.training.losses import divergence_objective, trades_losses
from robustprune.training.optimizers import build_optimizer, update
from robustprune.training.recipes.base import AnyRecipe, Schedule
from robustprune.training.recipes.pgd_at import PgdAtRecipe
from robustprune.training.recipes.rs_fgsm import RsFgsmRecipe
from robustprune.training.recipes.standard import StandardRecipe
from robustprune.training.recipes.trades import TradesRecipe
from robustprune.training.sampler import EpochSampler
from robustprune.training.schedules import Clock, Position, cycle_point, one_cycle, piecewise_linear
from robustprune.training.trainset import KeptImages, Stratum
from tiny import TINY, plan_rows

# Wang et al.'s schedule, epoch (from 1) -> learning rate, for 400 epochs at 0.2.
PRINTED_RATES = {
    1: 0.008, 2: 0.01379, 3: 0.03046, 4: 0.056, 5: 0.08733, 6: 0.12067, 7: 0.152, 8: 0.17754, 9: 0.19421, 10: 0.2,
    51: 0.19460, 101: 0.17432, 201: 0.10322, 399: 4.04e-6, 400: 8e-7,
}  # fmt: skip


def test_learning_rate_of_the_400_epoch_recipe() -> None:
    found = {epoch: one_cycle(epoch - 1, 400, peak=0.2).learning_rate for epoch in PRINTED_RATES}
    assert found == pytest.approx(PRINTED_RATES, rel=2e-3)


@pytest.mark.parametrize("total", [41, 80, 300, 400, 1960])
def test_the_cycle_is_torchs(total: int) -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.2, pct_start=0.025, total_steps=total)
    for index in range(total):
        group = optimizer.param_groups[0]
        expected = (group["lr"], group["momentum"])
        assert one_cycle(index, total, peak=0.2) == pytest.approx(expected, rel=1e-9)
        optimizer.step()
        if index < total - 1:
            scheduler.step()


@pytest.mark.parametrize("total", [1, 2, 39, 40])
def test_a_cycle_too_short_for_a_warm_up_starts_at_its_peak(total: int) -> None:
    assert one_cycle(0, total, peak=0.2) == (0.2, 0.85)
    assert one_cycle(total - 1, total, peak=0.2).learning_rate == pytest.approx(0.2 if total == 1 else 8e-7)


# With a warm-up of 980 steps (400 epochs of 98).
PRINTED_DECAYS = {
    1: 0, 979: 0, 980: 1 / 10, 981: 2 / 11, 989: 10 / 19, 1980: 0.9910891, 2769: 0.9949972, 2771: 0.995
}  # fmt: skip


def test_averaging_decay() -> None:
    found = {step: averaging_decay(step, warm_up=980, highest=0.995) for step in PRINTED_DECAYS}
    assert found == pytest.approx(PRINTED_DECAYS, abs=1e-6)


def test_averaging_moves_parameters_and_takes_buffers_as_they_are() -> None:
    linear, norm = nn.Linear(2, 2, bias=False), nn.BatchNorm1d(2)
    average = WeightAverage(nn.Sequential(linear, norm))
    old = linear.weight.detach().clone()
    with torch.no_grad():
        linear.weight.fill_(1.0)
        norm.get_buffer("running_mean").fill_(5.0)
    average.update(0.9)
    state = average.averaged_model().state_dict()
    torch.testing.assert_close(state["0.weight"], 0.9 * old + 0.1)
    assert (state["1.running_mean"] == 5).all()


@pytest.mark.parametrize(
    ("batch_size", "fraction", "expected"),
    [(512, 0.7, (154, 358)), (1024, 0.7, (308, 716)), (512, 0.0, (512, 0)), (256, 0.8, (52, 204))],
)
def test_batch_composition(batch_size: int, fraction: float, expected: tuple[int, int]) -> None:
    settings = StandardRecipe(epochs=1, epoch_images=1, batch_size=batch_size, synthetic_fraction=fraction)
    assert (batch_size - settings.synthetic_in_batch, settings.synthetic_in_batch) == expected


CLOCK = Clock((6, 6))


def sampler(
    *, real: int = 1000, batch_size: int = 512, synthetic_fraction: float = 0.7, one_pass: bool = False
) -> EpochSampler:
    settings = StandardRecipe(
        epochs=2, epoch_images=None if one_pass else 3000, batch_size=batch_size, synthetic_fraction=synthetic_fraction
    )
    return EpochSampler(real=real, synthetic=[Stratum(50)], settings=settings, seed=3)


def real_positions(sampler: EpochSampler, numbers: range, clock: Clock = CLOCK) -> list[torch.Tensor]:
    return [sampler.real_positions(clock.position(number)) for number in numbers]


def test_real_images_come_without_replacement_within_an_epoch() -> None:
    drawn = torch.cat(real_positions(sampler(), range(6)))
    assert len(drawn) == 6 * 154
    assert len(set(drawn.tolist())) == len(drawn)
    assert not torch.equal(drawn, torch.cat(real_positions(sampler(), range(6, 12))))


def test_a_small_real_pool_is_gone_through_whole_before_it_repeats() -> None:
    counts = torch.bincount(torch.cat(real_positions(sampler(real=100), range(6))), minlength=100)
    assert counts.min() == 9  # 924 draws over 100 images
    assert counts.max() == 10


def test_what_a_step_draws_does_not_depend_on_the_steps_before() -> None:
    forward, backward = sampler(), sampler()
    first = real_positions(forward, range(12))
    second = [real_positions(backward, range(n, n + 1))[0] for n in reversed(range(12))][::-1]
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    position = CLOCK.position(4)
    assert torch.equal(forward.synthetic_positions(position), backward.synthetic_positions(position))
    assert len(forward.synthetic_positions(position)) == 358
    assert forward.synthetic_positions(position).max() < 50


def test_an_epoch_of_one_pass_has_every_image_once_and_a_smaller_last_batch() -> None:
    drawn = sampler(real=1050, batch_size=100, synthetic_fraction=0.0, one_pass=True)
    clock = Clock((drawn.settings.steps_per_epoch(1050),) * 2)
    batches = real_positions(drawn, range(11, 22), clock)
    assert [len(batch) for batch in batches] == [100] * 10 + [50]
    assert sorted(torch.cat(batches).tolist()) == list(range(1050))


def test_a_smaller_last_batch_keeps_the_share_of_synthetic_images() -> None:
    drawn = sampler(real=1050, batch_size=100, one_pass=True)
    last = Clock((11, 11)).position(10)
    assert (len(drawn.real_positions(last)), len(drawn.synthetic_positions(last))) == (15, 35)


def test_a_permutation_of_the_whole_training_goes_on_from_epoch_to_epoch() -> None:
    """4 epochs of 3 batches of 100 are one pass over 1000 images, and 200 of the next."""
    settings = StandardRecipe(epochs=4, epoch_images=300, batch_size=100, synthetic_fraction=0, permutation="training")
    drawn = EpochSampler(real=1000, synthetic=(), settings=settings, seed=3)
    batches = real_positions(drawn, range(12), Clock((3, 3, 3, 3)))
    assert [len(batch) for batch in batches] == [100] * 12
    assert sorted(torch.cat(batches[:10]).tolist()) == list(range(1000))
    assert len(set(torch.cat(batches[10:]).tolist())) == 200
    with pytest.raises(ValueError, match="permutation = training needs epoch_images"):
        StandardRecipe(epochs=4, epoch_images=None, permutation="training")


def test_wangs_epoch_is_full_batches() -> None:
    wang = StandardRecipe(epochs=1, epoch_images=50_000)
    assert wang.steps_per_epoch(48_976) == 98
    drawn = EpochSampler(real=48_976, synthetic=[Stratum(9)], settings=wang, seed=0)
    assert drawn.batch_size(Clock((98,)).position(97)) == 512


@given(steps=st.lists(st.integers(1, 7), min_size=1, max_size=9))
def test_the_clock_against_a_plain_loop(steps: list[int]) -> None:
    clock = Clock(tuple(steps))
    expected = [(epoch, step, count) for epoch, count in enumerate(steps) for step in range(count)]
    assert clock.total == len(expected)
    for number, (epoch, step, count) in enumerate(expected):
        position = clock.position(number)
        assert position == Position(number, epoch, step, count, len(steps))
        assert position.ends_epoch == (step == count - 1)
        assert position.done / position.whole == pytest.approx((epoch + step / count) / len(steps))


# With t = epoch + (i + 1) / 600; from 0 up to 5e-3 at t = 4 and down to 0 at t = 10, by hand.
WONG_MNIST_RATES = {0: 5e-3 / 2400, 1199: 2.5e-3, 2399: 5e-3, 2400: 5e-3 - 5e-3 / 3600, 4199: 2.5e-3, 5999: 0.0}


def test_learning_rate_of_wongs_mnist_recipe() -> None:
    settings = load_config({"preset": "mnist"}).training.rs_fgsm
    clock = Clock((settings.steps_per_epoch(60_000),) * settings.epochs)
    assert clock.total == 6000
    found = {step: cycle_point(settings, clock.position(step)).learning_rate for step in WONG_MNIST_RATES}
    assert found == pytest.approx(WONG_MNIST_RATES, abs=1e-12)


@pytest.mark.parametrize("epochs", [1, 2, 3, 10, 15])
def test_the_piecewise_linear_rate_is_numpys_interpolation(epochs: int) -> None:
    for time in np.linspace(1 / 7, epochs, 7 * epochs):
        corners = ([0, epochs * 2 // 5, epochs], [0, 0.3, 0]) if epochs * 2 // 5 else ([0, epochs], [0.3, 0])
        expected = np.interp(time, *corners)
        assert piecewise_linear(time, epochs, peak=0.3).learning_rate == pytest.approx(expected, abs=1e-12)


def test_wongs_cifar_recipe_has_torchs_cyclic_rate() -> None:
    settings = load_config({"preset": "cifar10"}).training.rs_fgsm
    clock = Clock((settings.steps_per_epoch(50_000),) * settings.epochs)
    assert clock.total == 15 * 391
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.CyclicLR(optimizer, base_lr=0, max_lr=0.2, step_size_up=clock.total / 2)  # type: ignore[arg-type]
    for step in range(clock.total):
        group = optimizer.param_groups[0]
        expected = (group["lr"], group["momentum"])
        assert cycle_point(settings, clock.position(step)) == pytest.approx(expected, abs=1e-9)
        optimizer.step()
        scheduler.step()


@pytest.mark.parametrize("schedule", ["onecycle_step", "cyclic", "piecewise_linear"])
def test_a_schedule_goes_its_whole_way_when_epochs_become_shorter(schedule: Schedule) -> None:
    """They follow the fractional epoch, so a pruned training ends where a whole one does (papers.md, K2)."""
    settings = StandardRecipe(epochs=10, epoch_images=None, schedule=schedule)
    whole, pruned = Clock((500,) * 10), Clock((500,) + (200,) * 9)
    for epoch in range(1, 10):
        expected = cycle_point(settings, whole.position(500 * epoch))
        actual = cycle_point(settings, pruned.position(500 + 200 * (epoch - 1)))
        assert actual == pytest.approx(expected, rel=0.01)
    assert cycle_point(settings, pruned.position(pruned.total - 1)).learning_rate < 1e-3


def trades_by_hand(
    natural: np.ndarray, adversarial: np.ndarray, labels: np.ndarray, beta: float, smoothing: float
) -> float:
    """Float64, sample by sample, straight from the definition."""
    total = 0.0
    for z, z_adv, y in zip(natural, adversarial, labels, strict=True):
        p, q = np.exp(z) / np.exp(z).sum(), np.exp(z_adv) / np.exp(z_adv).sum()
        cross_entropy = (1 - smoothing) * -math.log(p[y]) + smoothing * np.mean(-np.log(p))
        total += cross_entropy + beta * sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    return total / len(labels)


@pytest.mark.parametrize(("beta", "smoothing"), [(5.0, 0.1), (0.0, 0.0), (6.0, 0.0)])
def test_trades_loss_by_hand(beta: float, smoothing: float) -> None:
    rng = np.random.default_rng(0)
    natural, adversarial, labels = rng.normal(size=(7, 10)), rng.normal(size=(7, 10)), rng.integers(10, size=7)
    first, second = (torch.tensor(values).float() for values in (natural, adversarial))
    losses = trades_losses(first, second, torch.tensor(labels), beta=beta, label_smoothing=smoothing)
    expected = trades_by_hand(natural, adversarial, labels, beta, smoothing)
    assert losses.mean().item() == pytest.approx(expected, rel=1e-5)


def test_trades_gradient_flows_through_both_arguments() -> None:
    torch.manual_seed(0)
    first, second = (torch.randn(4, 3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    labels = torch.tensor([0, 1, 2, 0])

    def loss(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        a_log, b_log = a.log_softmax(1), b.log_softmax(1)
        return (a_log.exp() * (a_log - b_log)).sum() / 4 - a_log[range(4), labels].mean()

    reference = torch.autograd.grad(loss(first, second), (first, second))
    losses = trades_losses(first, second, labels, beta=1.0, label_smoothing=0.0)
    ours = torch.autograd.grad(losses.mean(), (first, second))
    for expected, actual in zip(reference, ours, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-6)


def test_trades_loss_is_finite_where_a_probability_is_zero() -> None:
    natural = torch.tensor([[200.0, -200.0]], requires_grad=True)
    adversarial = torch.tensor([[-200.0, 200.0]], requires_grad=True)
    loss = trades_losses(natural, adversarial, torch.tensor([0]), beta=5.0, label_smoothing=0.1).mean()
    gradients = torch.autograd.grad(loss, (natural, adversarial))
    assert all(torch.isfinite(value).all() for value in (loss, *gradients))


def test_the_attack_ascends_the_kl_or_descends_the_cross_entropy() -> None:
    natural, logits = torch.randn(2, 4, 5, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 1, 2, 3])
    log_natural = natural.log_softmax(1)
    negative = torch.tensor([True, False, True, False])
    objective = divergence_objective(logits, log_natural=log_natural, labels=labels, towards_label=negative)
    kl = (log_natural.exp() * (log_natural - logits.log_softmax(1))).sum(1)
    cross_entropy = nn.functional.cross_entropy(logits, labels, reduction="none")
    torch.testing.assert_close(objective, torch.where(negative, -cross_entropy, kl))


COMMON: dict[str, Any] = {"epochs": 1, "epoch_images": 4, "batch_size": 4}
ADVERSARIAL: list[AnyRecipe] = [
    PgdAtRecipe.model_validate({**COMMON, "step_size": "1/40"}),
    TradesRecipe.model_validate({**COMMON, "step_size": "1/40"}),
    RsFgsmRecipe.model_validate({**COMMON, "clip_start": False}),
    RsFgsmRecipe.model_validate({**COMMON, "clip_start": True}),
]


@pytest.mark.parametrize("norm", ["Linf", "L2"])
@pytest.mark.parametrize("settings", ADVERSARIAL, ids=lambda settings: settings.recipe)
def test_a_recipe_attacks_each_sample_within_its_own_radius_and_towards_or_from_its_label(
    norm: str, settings: AnyRecipe
) -> None:
    seen: list[torch.Tensor] = []

    class Linear(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 2, bias=False)
            nn.init.constant_(self.linear.weight[0].data, 1.0)
            nn.init.constant_(self.linear.weight[1].data, -1.0)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(x.detach().clone())
            logits: torch.Tensor = self.linear(x.flatten(1))
            return logits

    images = torch.full((4, 1, 2, 2), 0.5)
    epsilon = torch.tensor([0.1, 0.05, -0.1, 0.0])
    noise = BatchNoise(torch.Generator().manual_seed(0), 4)
    threat = ThreatModel.model_validate({"norm": norm, "epsilon": "1/10"})
    settings.losses(Linear().train(), images, torch.zeros(4).long(), epsilon, noise, threat=threat, online=None)
    shift = seen[-1] - images
    size = shift.abs().amax((1, 2, 3)) if norm == "Linf" else shift.flatten(1).norm(dim=1)
    torch.testing.assert_close(size, epsilon.abs(), atol=1e-6, rtol=1e-4)
    assert shift[0].sum() < 0  # from class 0, whose logit is the sum of the pixels
    assert shift[2].sum() > 0  # towards it
    assert (shift[3] == 0).all()


def test_frozen_statistics_uses_the_batch_and_keeps_the_running_ones() -> None:
    layer = nn.BatchNorm2d(2).train()
    x = torch.randn(8, 2, 3, 3, generator=torch.Generator().manual_seed(0)) * 3 + 1
    expected = nn.functional.batch_norm(x, None, None, layer.weight, layer.bias, training=True)
    with frozen_statistics(layer):
        torch.testing.assert_close(layer(x), expected)
    assert (layer.get_buffer("running_mean") == 0).all()
    set_statistics_momentum(layer, 1.0)
    layer(x)
    torch.testing.assert_close(layer.running_mean, x.mean((0, 2, 3)))
    set_statistics_momentum(layer, 0.01)
    assert layer.momentum == 0.01


def test_weight_decay_spares_parameters_named_batchnorm() -> None:
    model = nn.ModuleDict({"conv": nn.Conv2d(1, 1, 1), "bn1": nn.BatchNorm2d(1), "batchnorm_0": nn.BatchNorm2d(1)})
    settings = TradesRecipe(epochs=1, epoch_images=1, batch_size=2, step_size=0.01, weight_decay=5e-4)
    decayed, spared = build_optimizer(model, settings).param_groups
    assert (len(decayed["params"]), decayed["weight_decay"]) == (4, 5e-4)
    assert (len(spared["params"]), spared["weight_decay"]) == (2, 0.0)
    assert decayed["nesterov"]


@pytest.mark.parametrize("optimizer", ["nesterov", "sgd", "adam"])
def test_after_a_first_step_that_is_skipped_the_next_is_the_first(
    optimizer: Literal["nesterov", "sgd", "adam"], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "empty_like", lambda like, **_: torch.full_like(like, math.nan))
    settings = TradesRecipe(epochs=1, epoch_images=1, batch_size=2, step_size=0.01, optimizer=optimizer)
    moved = []
    for skips in ([True, False], [False]):
        torch.manual_seed(0)
        model = nn.Linear(3, 2)
        found = build_optimizer(model, settings)
        for skip in skips:
            for value in model.parameters():
                value.grad = torch.ones_like(value)
            update(found, broken=torch.tensor(skip))
        moved.append(model.weight)
    assert torch.equal(*moved)


def test_an_image_drawn_twice_counts_twice_in_its_member() -> None:
    members = (Member(pool="a", digest="", count=4, share="3/4"), Member(pool="b", digest="", count=2, share="1/4"))
    info = PoolInfo(
        dataset="d", source="", classes=1, image_shape=(1, 1, 1), count=6, class_counts=(6,), digest="", members=members
    )
    pool = Pool(np.zeros((6, 1, 1, 1), np.uint8), np.zeros(6, np.int16), info)
    kept = KeptImages(pool, np.array([0, 0, 3, 4, 4]), np.zeros(5, np.float32))
    assert kept.strata == (Stratum(3, Fraction(3, 4)), Stratum(2, Fraction(1, 4)))


def test_shares_without_real_images_beside_them_are_refused(tmp_path: Path) -> None:
    changed = {
        "unions": {"both": {"of": {"generate": "1/4", "subset:some": "3/4"}}},
        "subsets": {"some": {"of": "generate", "count": 50}},
    }
    row = Row(method="m", recipe="standard", data="synthetic", synthetic="union:both")
    with pytest.raises(UserError, match=r"trained_on = synthetic, .* digits-union-"):
        plan_rows(row, overrides=merge(TINY, changed), results=tmp_path)


def test_crop_flip_against_a_plain_loop() -> None:
    images = torch.randint(256, (6, 3, 10, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    ours = crop_flip(images, BatchNoise(torch.Generator().manual_seed(7), 6))
    draws = torch.Generator().manual_seed(7)
    down, right = (torch.randint(9, (6,), generator=draws) for _ in range(2))
    mirrored = torch.rand(6, generator=draws) < 0.5
    for i, image in enumerate(images):
        padded = nn.functional.pad(image, (4, 4, 4, 4))
        expected = padded[:, down[i] : down[i] + 10, right[i] : right[i] + 8]
        assert torch.equal(ours[i], expected.flip(2) if mirrored[i] else expected)
