"""Each recipe against a plain loop of its paper's own steps, with the same random draws."""

from fractions import Fraction
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from robustprune.core.randomness import BatchNoise
from robustprune.core.settings import ThreatModel
from robustprune.training.losses import BatchLoss
from robustprune.training.recipes.base import AnyRecipe
from robustprune.training.recipes.pgd_at import PgdAtRecipe
from robustprune.training.recipes.rs_fgsm import RsFgsmRecipe
from robustprune.training.recipes.standard import StandardRecipe
from robustprune.training.recipes.trades import TradesRecipe

COMMON: dict[str, Any] = {"epochs": 1, "epoch_images": 8, "batch_size": 8}
EPSILON = {"Linf": Fraction(8, 255), "L2": Fraction(128, 255)}
MEAN, STD = torch.tensor([0.49, 0.48, 0.45]).view(3, 1, 1), torch.tensor([0.25, 0.24, 0.26]).view(3, 1, 1)


class Standardise(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return (images - MEAN) / STD


def network(*, batchnorm: bool = True) -> nn.Sequential:
    """A smooth little network, so that a rounding error does not turn a gradient's sign."""
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(6) if batchnorm else nn.Identity()
    layers = (nn.Conv2d(3, 6, 3, padding=1), norm, nn.Tanh(), nn.Flatten(), nn.Linear(6 * 25, 4))
    return nn.Sequential(*layers).train()


def set_momentum(model: nn.Module, momentum: float) -> None:
    layer = model.get_submodule("1")
    assert isinstance(layer, nn.BatchNorm2d)
    layer.momentum = momentum


def batch() -> tuple[Tensor, Tensor]:
    """Images with pixels on and near the borders of the range, and labels."""
    images = (torch.rand(8, 3, 5, 5, generator=torch.Generator().manual_seed(1)) * 1.2 - 0.1).clamp(0, 1)
    return images, torch.arange(8) % 4


def noise() -> BatchNoise:
    return BatchNoise(torch.Generator().manual_seed(2), 8)


def ours(settings: AnyRecipe, model: nn.Module, norm: Literal["Linf", "L2"] = "Linf") -> BatchLoss:
    images, labels = batch()
    threat, radii = ThreatModel(norm=norm, epsilon=EPSILON[norm]), torch.full((8,), float(EPSILON[norm]))
    return settings.losses(model, images, labels, radii, noise(), threat=threat, online=None)


def check(found: BatchLoss, model: nn.Module, expected: Tensor, reference: nn.Module) -> None:
    """The same losses, and the same gradient of their mean in every parameter."""
    torch.testing.assert_close(found.losses, expected, rtol=1e-4, atol=1e-6)
    for loss, network in ((found.losses, model), (expected, reference)):
        loss.mean().backward()  # type: ignore[no-untyped-call]
        assert all(value.grad is not None for value in network.parameters())
    for value, theirs in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(value.grad, theirs.grad, rtol=1e-3, atol=1e-6)


def wong_mnist(model: nn.Module, images: Tensor, labels: Tensor, epsilon: float) -> Tensor:
    """Wong et al.'s MNIST step: the start may leave the pixel range, alpha = 1.25 epsilon."""
    delta = (epsilon * noise().uniform(*images.shape[1:])).requires_grad_()
    F.cross_entropy(model(images + delta), labels).backward()  # type: ignore[no-untyped-call]
    assert delta.grad is not None
    stepped = (delta.detach() + 1.25 * epsilon * delta.grad.sign()).clamp(-epsilon, epsilon)
    stepped = torch.max(torch.min(stepped, 1 - images), 0 - images)
    model.zero_grad()
    return F.cross_entropy(model((images + stepped).clamp(0, 1)), labels, reduction="none")


def wong_cifar(model: nn.Module, images: Tensor, labels: Tensor, epsilon: float) -> Tensor:
    """Wong et al.'s CIFAR step, in standardised pixels as theirs: the start is clipped to the images' range."""
    x, radius, low, high = (images - MEAN) / STD, epsilon / STD, (0 - MEAN) / STD, (1 - MEAN) / STD
    delta = noise().uniform(*images.shape[1:]) * radius
    delta = torch.max(torch.min(delta, high - x), low - x).requires_grad_()
    F.cross_entropy(model(x + delta), labels).backward()  # type: ignore[no-untyped-call]
    assert delta.grad is not None
    stepped = delta.detach() + 1.25 * radius * delta.grad.sign()
    stepped = torch.max(torch.min(stepped, radius), -radius)
    stepped = torch.max(torch.min(stepped, high - x), low - x)
    model.zero_grad()
    return F.cross_entropy(model(x + stepped), labels, reduction="none")


def test_rs_fgsm_is_wongs_for_mnist() -> None:
    model, reference = network(batchnorm=False), network(batchnorm=False)
    found = ours(RsFgsmRecipe(**COMMON, clip_start=False), model)
    check(found, model, wong_mnist(reference, *batch(), float(EPSILON["Linf"])), reference)


def test_rs_fgsm_is_wongs_for_cifar_batchnorm_included() -> None:
    model, reference = nn.Sequential(Standardise(), network()), network()
    found = ours(RsFgsmRecipe(**COMMON, clip_start=True), model)
    check(found, model, wong_cifar(reference, *batch(), float(EPSILON["Linf"])), reference)
    statistics, expected = dict(model[1].named_buffers()), dict(reference.named_buffers())
    for name, value in statistics.items():
        torch.testing.assert_close(value, expected[name])
    assert int(statistics["1.num_batches_tracked"]) == 2


def test_clipping_the_start_makes_a_difference() -> None:
    clipped, free = (ours(RsFgsmRecipe(**COMMON, clip_start=clip), network()).losses for clip in (True, False))
    assert not torch.allclose(clipped, free)


def wang_trades(model: nn.Module, images: Tensor, labels: Tensor, norm: str, smoothing: float) -> Tensor:
    """Wang et al.'s TRADES: 10 steps on the KL, of 2/255 in the box or of epsilon / 5 along the gradient in L2."""
    epsilon = float(EPSILON[norm])
    natural = model(images)
    set_momentum(model, 0.0)  # theirs does not track statistics during the attack
    if norm == "Linf":
        attacked = (images + epsilon * noise().uniform(*images.shape[1:])).clamp(0, 1)
    else:
        attacked = images + 0.001 * noise().normal(*images.shape[1:])
    for _ in range(10):
        attacked = attacked.detach().requires_grad_()
        criterion = nn.KLDivLoss(reduction="sum")
        loss = criterion(F.log_softmax(model(attacked), dim=1), F.softmax(natural.detach(), dim=1))
        (gradient,) = torch.autograd.grad(loss, attacked)
        if norm == "Linf":
            moved = attacked.detach() + 2 / 255 * gradient.sign()
            attacked = torch.min(torch.max(moved, images - epsilon), images + epsilon).clamp(0, 1)
        else:
            for number in range(len(images)):
                delta = attacked[number].detach() + epsilon / 5 * gradient[number] / gradient[number].norm()
                delta = delta.clamp(0, 1) - images[number]
                attacked = attacked.detach().clone()
                attacked[number] = images[number] + delta * min(1.0, epsilon / float(delta.norm()))
    set_momentum(model, 0.1)
    adversarial = model(attacked.detach())
    p, q = F.softmax(natural, dim=1), F.softmax(adversarial, dim=1)
    log_p = F.log_softmax(natural, dim=1)
    picked = log_p[torch.arange(len(labels)), labels]
    cross_entropy = -(1 - smoothing) * picked - smoothing * log_p.mean(1)
    return cross_entropy + 5 * (p * (p / q).log()).sum(1)


@pytest.mark.parametrize(("norm", "step"), [("Linf", "2/255"), ("L2", "128/1275")])
def test_trades_is_wangs_batchnorm_included(norm: Literal["Linf", "L2"], step: str) -> None:
    model, reference = network(), network()
    found = ours(TradesRecipe.model_validate({**COMMON, "step_size": step}), model, norm)
    check(found, model, wang_trades(reference, *batch(), norm, 0.1), reference)
    for name in ("1.running_mean", "1.running_var"):
        torch.testing.assert_close(model.get_buffer(name), reference.get_buffer(name))
    assert int(model.get_buffer("1.num_batches_tracked")) == 2


@pytest.mark.parametrize(("norm", "step"), [("Linf", "2/255"), ("L2", "32/255")])
def test_pgd_at_is_madrys(norm: Literal["Linf", "L2"], step: str) -> None:
    """From a random start, 10 steps up the cross-entropy, then one step down it at the last point."""
    model, reference = network(), network()
    (images, labels), epsilon = batch(), float(EPSILON[norm])
    found = ours(PgdAtRecipe.model_validate({**COMMON, "step_size": step}), model, norm)
    draw = noise().uniform(3, 5, 5)
    if norm == "L2":
        draw = F.normalize(noise().normal(3, 5, 5).flatten(1)).view_as(images)
    attacked, length = (images + epsilon * draw).clamp(0, 1), float(Fraction(step))
    for _ in range(10):
        attacked = attacked.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(F.cross_entropy(reference(attacked), labels), attacked)
        unit = gradient.sign() if norm == "Linf" else F.normalize(gradient.flatten(1), eps=1e-30).view_as(gradient)
        delta = (attacked.detach() + length * unit).clamp(0, 1) - images
        size = delta.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        delta = delta.clamp(-epsilon, epsilon) if norm == "Linf" else delta * (epsilon / size).clamp(max=1)
        attacked = images + delta
    check(found, model, F.cross_entropy(reference(attacked.detach()), labels, reduction="none"), reference)
    assert int(model.get_buffer("1.num_batches_tracked")) == 1


def test_standard_is_the_cross_entropy_of_the_images() -> None:
    model, reference = network(), network()
    images, labels = batch()
    found = ours(StandardRecipe(**COMMON, label_smoothing=0.1), model)
    check(found, model, F.cross_entropy(reference(images), labels, reduction="none", label_smoothing=0.1), reference)
    assert found.right.tolist() == (network()(images).argmax(1) == labels).tolist()


def test_what_is_right_is_told_of_the_attacked_images() -> None:
    """Class 0 is where the pixels' sum is above 1: 1.2 is right, and wrong where the radius takes 0.2 or more."""
    layer = nn.Linear(4, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0] * 4, [-1.0] * 4]))
        layer.bias.copy_(torch.tensor([-1.0, 1.0]))
    settings = PgdAtRecipe.model_validate({**COMMON, "step_size": "1/40"})
    radii = torch.tensor([0.0, 0.02, 0.04, 0.06, 0.08, 0.1, -0.1, -0.06])
    threat = ThreatModel(norm="Linf", epsilon=Fraction(1, 10))
    images, labels = torch.full((8, 1, 2, 2), 0.3), torch.zeros(8).long()
    model = nn.Sequential(nn.Flatten(), layer)
    found = settings.losses(model, images, labels, radii, noise(), threat=threat, online=None)
    assert found.right.tolist() == [True, True, True, False, False, False, True, True]
