"""Norms against NumPy, PGD against closed forms on linear models and a brute-force grid on a toy."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor, nn

from robustprune.attacks.checks import check_logits
from robustprune.attacks.margin_loss import best_other, check_gradient, cw_objective
from robustprune.attacks.norms import norm_named
from robustprune.attacks.pgd import pgd
from robustprune.core.errors import UserError

NORMS = ("Linf", "L2")
ORDERS: dict[str, float] = {"Linf": np.inf, "L2": 2}
DUAL_ORDERS: dict[str, float] = {"Linf": 1, "L2": 2}

images_3 = arrays(np.float32, (3, 1, 2, 3), elements=st.floats(-1, 1, width=32))
radii_3 = arrays(np.float32, 3, elements=st.floats(0, 2, width=32))


def linear_model(weights: Tensor) -> nn.Sequential:
    layer = nn.Linear(weights.shape[1], weights.shape[0], bias=False)
    with torch.no_grad():
        layer.weight.copy_(weights)
    return nn.Sequential(nn.Flatten(), layer).eval().requires_grad_(False)


def attack(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    radius: Tensor,
    start: Tensor,
    norm: str,
    step: float = 1 / 4,
    steps: int = 10,
    kappa: float = 0,
) -> Tensor:
    """PGD on the margin; a step is a share of the radius."""
    return pgd(
        model,
        images,
        radius=radius,
        step_size=step * radius,
        steps=steps,
        objective=partial(cw_objective, labels=labels, kappa=kappa),
        norm=norm_named(norm),
        start=start,
    )


@pytest.mark.parametrize("name", NORMS)
@given(delta=images_3)
def test_sizes_are_numpys(name: str, delta: np.ndarray) -> None:
    flat = delta.reshape(3, -1).astype(np.float64)
    norm = norm_named(name)
    expected = np.linalg.norm(flat, ORDERS[name], axis=1)
    assert norm.size(torch.tensor(delta)).numpy() == pytest.approx(expected, rel=1e-5, abs=1e-6)
    expected = np.linalg.norm(flat, DUAL_ORDERS[name], axis=1)
    assert norm.dual_size(torch.tensor(delta)).numpy() == pytest.approx(expected, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("name", NORMS)
@given(delta=images_3, radius=radii_3)
def test_projection_is_the_nearest_point_of_the_ball(name: str, delta: np.ndarray, radius: np.ndarray) -> None:
    projected = norm_named(name).project(torch.tensor(delta), torch.tensor(radius)).numpy().reshape(3, -1)
    flat = delta.reshape(3, -1).astype(np.float64)
    if name == "Linf":
        expected = np.clip(flat, -radius[:, None], radius[:, None])
    else:
        length = np.linalg.norm(flat, axis=1)
        expected = flat * np.minimum(1, radius / np.maximum(length, 1e-30))[:, None]
    np.testing.assert_allclose(projected, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize("scale", [1.0, 1e-25, 1e25])
def test_the_steepest_step_has_norm_one_and_attains_the_dual_norm(name: str, scale: float) -> None:
    norm = norm_named(name)
    gradient = torch.randn(5, 2, 3, 3, generator=torch.Generator().manual_seed(0))
    step = norm.steepest(gradient * scale)
    assert norm.size(step).tolist() == pytest.approx([1.0] * 5)
    rise = (gradient * step).flatten(1).sum(1)
    assert rise.tolist() == pytest.approx(norm.dual_size(gradient).tolist())


@pytest.mark.parametrize("name", NORMS)
def test_a_zero_gradient_gives_no_step(name: str) -> None:
    assert not norm_named(name).steepest(torch.zeros(2, 1, 3, 3)).any()


def test_random_starts_fill_the_cube_and_lie_on_the_sphere() -> None:
    source = torch.Generator().manual_seed(0)
    radius = torch.tensor([0.0, 0.1, 0.3])
    uniform = torch.rand(3, 1, 30, 30, generator=source) * 2 - 1
    start = norm_named("Linf").random_start(uniform, radius)
    assert norm_named("Linf").size(start).tolist() == pytest.approx([0, 0.1, 0.3], rel=0.01)
    assert start[2].std().item() == pytest.approx(0.3 / 3**0.5, rel=0.03)
    start = norm_named("L2").random_start(torch.randn(3, 1, 30, 30, generator=source), radius)
    assert norm_named("L2").size(start).tolist() == pytest.approx([0, 0.1, 0.3])


def test_an_unknown_norm_is_refused() -> None:
    with pytest.raises(ValueError, match="norm = 'L1' is not one of Linf, L2"):
        norm_named("L1")


@pytest.mark.parametrize("name", NORMS)
def test_pgd_on_a_linear_model_ends_at_the_closed_form(name: str) -> None:
    """Inside the box the best perturbation is radius times the steepest step, for each sample with its own radius."""
    source = torch.Generator().manual_seed(1)
    weights = torch.randn(2, 12, generator=source)
    images = 0.4 + 0.2 * torch.rand(6, 3, 2, 2, generator=source)
    labels = torch.tensor([0, 1, 0, 1, 0, 1])
    radius = torch.tensor([0.0, 0.01, 0.05, 0.1, 0.2, 0.3])
    norm = norm_named(name)
    start = norm.random_start(torch.randn(images.shape, generator=source).clamp(-1, 1), radius)
    model = linear_model(weights)
    attacked = attack(model, images, labels, radius=radius, start=start, norm=name, steps=60, kappa=torch.inf)
    rise = (weights[1 - labels] - weights[labels]).double().numpy()
    if name == "Linf":
        expected = radius.numpy()[:, None] * np.sign(rise)
    else:
        expected = radius.numpy()[:, None] * rise / np.linalg.norm(rise, axis=1, keepdims=True)
    np.testing.assert_allclose((attacked - images).flatten(1).numpy(), expected, atol=1e-5)
    assert (norm.size(attacked - images) <= radius + 1e-6).all()


def test_pgd_stays_in_the_box_and_goes_to_its_corner() -> None:
    model = linear_model(torch.tensor([[0.0, 0, 0, 0], [1.0, -1, 1, -1]]))
    images = torch.tensor([0.9, 0.1, 0.5, 0.5]).view(1, 1, 2, 2)
    radius, start = torch.tensor([0.3]), torch.full_like(images, 0.3)
    attacked = attack(model, images, torch.tensor([0]), radius=radius, start=start, norm="Linf", kappa=torch.inf)
    assert attacked.flatten().tolist() == pytest.approx([1, 0, 0.8, 0.2])


def test_pgd_leaves_mode_and_parameter_gradients_alone() -> None:
    model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(4), nn.Linear(4, 3)).train()
    images = torch.rand(5, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    labels, radius = torch.zeros(5, dtype=torch.int64), torch.full((5,), 0.1)
    with torch.no_grad():
        attacked = attack(model, images, labels, radius=radius, start=torch.zeros_like(images), norm="L2", steps=2)
    assert model.training
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    assert not attacked.requires_grad


def test_an_image_is_attacked_the_same_alone_and_in_a_batch() -> None:
    source = torch.Generator().manual_seed(2)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 16), nn.Tanh(), nn.Linear(16, 4)).eval()
    images, labels = torch.rand(7, 3, 2, 2, generator=source), torch.arange(7) % 4
    start, radius = 0.1 * (2 * torch.rand(images.shape, generator=source) - 1), torch.full((7,), 0.1)

    def attacked(rows: slice) -> Tensor:
        return attack(model, images[rows], labels[rows], radius=radius[rows], start=start[rows], norm="L2")

    alone = torch.cat([attacked(slice(row, row + 1)) for row in range(7)])
    torch.testing.assert_close(attacked(slice(None)), alone, rtol=0, atol=1e-5)


class Disc(nn.Module):
    """Class 1 is a disc in the plane of two pixels; its logit, the only one that changes, is concave."""

    def forward(self, images: Tensor) -> Tensor:
        inside = 0.25**2 - (images.flatten(1) - torch.tensor([0.6, 0.4])).square().sum(1)
        return torch.stack([torch.zeros_like(inside), inside], dim=1)


@pytest.mark.parametrize("name", NORMS)
def test_pgd_finds_what_a_brute_force_grid_finds(name: str) -> None:
    """An image outside the disc is broken by PGD exactly if it is by one of 121 x 121 points."""
    model, norm, epsilon = Disc().eval(), norm_named(name), 0.1
    source = torch.Generator().manual_seed(3)
    images = torch.rand(300, 1, 1, 2, generator=source)
    images = images[model(images).argmax(1) == 0]
    labels, radius = torch.zeros(len(images), dtype=torch.int64), torch.full((len(images),), epsilon)
    start = norm.random_start(2 * torch.rand(images.shape, generator=source) - 1, radius)
    attacked = attack(model, images, labels, radius=radius, start=start, norm=name, step=1 / 10, steps=40)
    worst = torch.full_like(radius, -torch.inf)
    side = torch.linspace(-epsilon, epsilon, 121)
    for offset in torch.cartesian_prod(side, side).view(-1, 1, 1, 1, 2):
        if norm.size(offset) <= epsilon + 1e-6:
            logits = model((images + offset[0]).clamp(0, 1))
            worst = torch.maximum(worst, cw_objective(logits, labels=labels, kappa=torch.inf))
    broken, clear = model(attacked).argmax(1) != labels, worst.abs() > 1e-3  # the grid has its own resolution
    assert 20 < int(broken.sum()) < len(images) - 20
    assert int(clear.sum()) > 0.95 * len(images)
    assert torch.equal(broken[clear], worst[clear] > 0)


def test_the_margin_objective_by_hand() -> None:
    logits = torch.tensor([[3.0, 1.0, 2.0], [0.0, 4.0, 1.0], [5.0, 5.0, 5.0]])
    labels = torch.tensor([0, 2, 1])
    assert best_other(logits, labels).tolist() == [2, 4, 5]
    assert cw_objective(logits, labels=labels).tolist() == [-1, 0, 0]
    assert cw_objective(logits, labels=labels, kappa=2).tolist() == [-1, 2, 0]
    assert cw_objective(logits, labels=labels, kappa=torch.inf).tolist() == [-1, 3, 0]


class Lambda(nn.Module):
    """Logits by a function of the flat images."""

    def __init__(self, logits: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, images: Tensor) -> Tensor:
        return self.logits(images.flatten(1))


THREE_IMAGES = torch.rand(3, 1, 2, 2, generator=torch.Generator().manual_seed(0))
CONSTANT = Lambda(lambda flat: flat * 0 + torch.arange(4.0)).eval()


@pytest.mark.parametrize(
    ("model", "problem"),
    [
        (Lambda(lambda flat: flat.softmax(1)).eval(), "gives probabilities, but should give logits"),
        (CONSTANT, "has a gradient of 0 at all of 3 images"),
        (Lambda(lambda flat: flat / 0).eval(), "gives logits that are not finite"),
        (linear_model(torch.eye(4)).train(), "is in train mode"),
    ],
    ids=["softmax", "constant", "overflowing", "training"],
)
def test_a_model_that_cannot_be_attacked_is_refused(model: nn.Module, problem: str) -> None:
    with pytest.raises(UserError, match=f"model-1 {problem}"):
        check_gradient(model, THREE_IMAGES, torch.arange(3), origin="model-1")


def test_a_sound_model_is_accepted() -> None:
    check_gradient(linear_model(torch.eye(4)), THREE_IMAGES, torch.arange(3), origin="model-1")
    check_logits(CONSTANT, THREE_IMAGES, origin="model-1")
