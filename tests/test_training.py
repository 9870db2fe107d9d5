"""Training's pieces against closed forms, torch's own scheduler, hand-made tables and float64 arithmetic."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from robustprune.settings import ThreatModel, TradesRecipe
from robustprune.training.augmentation import crop_flip
from robustprune.training.averaging import WeightAverage, averaging_decay
from robustprune.training.losses import attack_objective, trades_loss
from robustprune.training.optimizers import build_optimizer
from robustprune.training.sampler import EpochSampler
from robustprune.training.schedules import one_cycle
from robustprune.training.step import TradesStep, frozen_statistics, set_statistics_momentum

# Facts 1.2: Wang et al.'s schedule, epoch (from 1) -> learning rate, for 400 epochs at 0.2.
PRINTED_RATES = {
    1: 0.008, 2: 0.01379, 3: 0.03046, 4: 0.056, 5: 0.08733, 6: 0.12067, 7: 0.152, 8: 0.17754, 9: 0.19421, 10: 0.2,
    51: 0.19460, 101: 0.17432, 201: 0.10322, 399: 4.04e-6, 400: 8e-7,
}  # fmt: skip


@pytest.mark.parametrize(("epoch", "rate"), PRINTED_RATES.items())
def test_learning_rate_of_the_400_epoch_recipe(epoch: int, rate: float) -> None:
    assert one_cycle(epoch - 1, 400, peak=0.2).learning_rate == pytest.approx(rate, rel=2e-3)


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


# Facts 1.5, with a warm-up of 980 steps (400 epochs of 98).
PRINTED_DECAYS = {
    1: 0.0,
    979: 0.0,
    980: 1 / 10,
    981: 2 / 11,
    989: 10 / 19,
    1980: 0.9910891,
    2769: 0.9949972,
    2771: 0.995,
}


@pytest.mark.parametrize(("step", "decay"), PRINTED_DECAYS.items())
def test_averaging_decay(step: int, decay: float) -> None:
    assert averaging_decay(step, warm_up=980, highest=0.995) == pytest.approx(decay, abs=1e-6)


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
    settings = TradesRecipe.model_validate(
        {"epochs": 1, "epoch_images": 1, "step_size": 0, "batch_size": batch_size, "synthetic_fraction": fraction}
    )
    assert (batch_size - settings.synthetic_in_batch, settings.synthetic_in_batch) == expected


def sampler(**changes: int) -> EpochSampler:
    settings = {
        "real": 1000,
        "synthetic": 50,
        "real_count": 154,
        "synthetic_count": 358,
        "steps_per_epoch": 6,
        "seed": 3,
        **changes,
    }
    return EpochSampler(**settings)


def test_real_images_come_without_replacement_within_an_epoch() -> None:
    drawn = torch.cat([sampler().real_positions(step) for step in range(6)])
    assert len(drawn) == 6 * 154
    assert len(set(drawn.tolist())) == len(drawn)
    again = torch.cat([sampler().real_positions(step) for step in range(6, 12)])
    assert not torch.equal(drawn, again)


def test_a_small_real_pool_is_gone_through_whole_before_it_repeats() -> None:
    drawn = torch.cat([sampler(real=100).real_positions(step) for step in range(6)])
    counts = torch.bincount(drawn, minlength=100)
    assert counts.min() == 9  # 924 draws over 100 images
    assert counts.max() == 10


def test_what_a_step_draws_does_not_depend_on_the_steps_before() -> None:
    forward, backward = sampler(), sampler()
    first = [forward.real_positions(step) for step in range(12)]
    second = [backward.real_positions(step) for step in reversed(range(12))][::-1]
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert torch.equal(forward.synthetic_positions(4), backward.synthetic_positions(4))
    assert forward.synthetic_positions(4).max() < 50


def trades_by_hand(
    natural: np.ndarray, adversarial: np.ndarray, labels: np.ndarray, beta: float, smoothing: float
) -> float:
    """Float64, sample by sample, straight from the definition (facts 1.2, 1.3)."""
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
    loss = trades_loss(
        torch.tensor(natural).float(),
        torch.tensor(adversarial).float(),
        torch.tensor(labels),
        beta=beta,
        label_smoothing=smoothing,
    )
    assert loss.item() == pytest.approx(trades_by_hand(natural, adversarial, labels, beta, smoothing), rel=1e-5)


def test_trades_gradient_flows_through_both_arguments() -> None:
    natural, adversarial = (
        torch.randn(4, 3, generator=torch.Generator().manual_seed(i), dtype=torch.float64) for i in (0, 1)
    )
    labels = torch.tensor([0, 1, 2, 0])

    def loss(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        a_log, b_log = a.log_softmax(1), b.log_softmax(1)
        return (a_log.exp() * (a_log - b_log)).sum() / 4 - a_log[range(4), labels].mean()

    reference = torch.autograd.grad(
        loss(natural.requires_grad_(), adversarial.requires_grad_()), (natural, adversarial)
    )
    ours = torch.autograd.grad(
        trades_loss(natural, adversarial, labels, beta=1.0, label_smoothing=0.0), (natural, adversarial)
    )
    for expected, actual in zip(reference, ours, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-6)


def test_trades_loss_is_finite_where_a_probability_is_zero() -> None:
    natural = torch.tensor([[200.0, -200.0]], requires_grad=True)
    adversarial = torch.tensor([[-200.0, 200.0]], requires_grad=True)
    loss = trades_loss(natural, adversarial, torch.tensor([0]), beta=5.0, label_smoothing=0.1)
    gradients = torch.autograd.grad(loss, (natural, adversarial))
    assert all(torch.isfinite(value).all() for value in (loss, *gradients))


def test_the_attack_ascends_the_kl_or_descends_the_cross_entropy() -> None:
    natural, logits = torch.randn(2, 4, 5, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 1, 2, 3])
    log_natural = natural.log_softmax(1)
    negative = torch.tensor([True, False, True, False])
    objective = attack_objective(logits, log_natural=log_natural, labels=labels, towards_label=negative)
    kl = (log_natural.exp() * (log_natural - logits.log_softmax(1))).sum(1)
    cross_entropy = nn.functional.cross_entropy(logits, labels, reduction="none")
    torch.testing.assert_close(objective, torch.where(negative, -cross_entropy, kl))


@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_a_step_attacks_each_sample_within_its_own_radius_and_towards_or_from_its_label(norm: str) -> None:
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

    settings = TradesRecipe(epochs=1, epoch_images=4, batch_size=4, step_size="1/40", attack_steps=10)
    images = torch.full((4, 1, 2, 2), 0.5)
    epsilon = torch.tensor([0.1, 0.05, -0.1, 0.0])
    step = TradesStep(settings, ThreatModel(norm=norm, epsilon="1/10"))
    step.loss(Linear().train(), images, torch.tensor([0, 0, 0, 0]), epsilon, torch.Generator().manual_seed(0))
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
    settings = TradesRecipe(epochs=1, epoch_images=1, batch_size=2, step_size=0, weight_decay=5e-4)
    decayed, spared = build_optimizer(model, settings).param_groups
    assert (len(decayed["params"]), decayed["weight_decay"]) == (4, 5e-4)
    assert (len(spared["params"]), spared["weight_decay"]) == (2, 0.0)
    assert decayed["nesterov"]


def test_crop_flip_against_a_plain_loop() -> None:
    images = torch.randint(256, (6, 3, 10, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    ours = crop_flip(images, torch.Generator().manual_seed(7))
    draws = torch.Generator().manual_seed(7)
    down, right = (torch.randint(9, (6,), generator=draws) for _ in range(2))
    mirrored = torch.rand(6, generator=draws) < 0.5
    for i, image in enumerate(images):
        padded = nn.functional.pad(image, (4, 4, 4, 4))
        expected = padded[:, down[i] : down[i] + 10, right[i] : right[i] + 8]
        assert torch.equal(ours[i], expected.flip(2) if mirrored[i] else expected)
