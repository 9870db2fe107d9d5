"""DeepFool and bisection against exact distances to hyperplanes, linear programs, foolbox and adv-lib."""

import sys
import types
import warnings
from typing import Literal

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.optimize import linprog
from torch import Tensor, nn

from robustprune.attacks.norms import norm_named
from robustprune.margins.bisection import bisect
from robustprune.margins.deepfool import STEP_FLOOR, Margins, signed_margins
from robustprune.models.registry import build_model
from robustprune.settings import DeepFoolSettings

NORMS = ("Linf", "L2")
DUAL_ORDERS: dict[str, float] = {"Linf": 1, "L2": 2}


def linear_model(weights: Tensor) -> nn.Sequential:
    layer = nn.Linear(weights.shape[1], weights.shape[0], bias=False)
    with torch.no_grad():
        layer.weight.copy_(weights)
    return nn.Sequential(nn.Flatten(), layer).eval().requires_grad_(False)


def problem(classes: int, *, seed: int = 0, count: int = 40) -> tuple[Tensor, Tensor, Tensor]:
    """Weights, images in the middle of the box, and the labels a linear model gives them."""
    source = torch.Generator().manual_seed(seed)
    weights = torch.randn(classes, 27, generator=source)
    weights -= weights.mean(1, keepdim=True)  # so that grey images, near 0.5 everywhere, are near all boundaries
    images = 0.45 + 0.1 * torch.rand(count, 3, 3, 3, generator=source)
    return weights, images, (images.flatten(1) @ weights.T).argmax(1)


def exact_distances(weights: Tensor, images: Tensor, labels: Tensor, norm: str) -> npt.NDArray[np.float64]:
    """The smallest |f_y - f_k| / ||w_y - w_k||_q over the other classes k, in float64."""
    wide, flat = weights.double().numpy(), images.flatten(1).double().numpy()
    result = []
    for image, label in zip(flat, labels.tolist(), strict=True):
        apart = np.delete(wide[label] - wide, label, axis=0)
        result.append(np.min(np.abs(apart @ image) / np.linalg.norm(apart, DUAL_ORDERS[norm], axis=1)))
    return np.array(result)


def assert_just_beyond(distance: Tensor, exact: npt.NDArray[np.float64], settings: DeepFoolSettings) -> None:
    """A distance found on a linear model is the exact one, plus at most what the halvings leave of the overshoot."""
    segment = (1 + settings.overshoot) * (exact + STEP_FLOOR)
    if settings.bisection_steps == 0:
        np.testing.assert_allclose(distance.numpy(), segment, rtol=1e-4)
        return
    beyond = distance.numpy() - exact
    assert (beyond >= -1e-6).all()
    assert (beyond <= segment / 2**settings.bisection_steps + 1e-6).all()


@pytest.mark.parametrize("bisection_steps", [0, 10, 20])
@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("name", NORMS)
def test_correct_images_of_a_linear_model(name: str, classes: int, bisection_steps: int) -> None:
    weights, images, labels = problem(classes)
    settings = DeepFoolSettings(bisection_steps=bisection_steps)
    result = signed_margins(linear_model(weights), images, labels, settings=settings, norm=norm_named(name))
    assert_just_beyond(result.margin, exact_distances(weights, images, labels, name), settings)
    assert result.converged.all()
    assert (result.steps == 1).all()
    assert torch.equal(result.prediction, labels)


@pytest.mark.parametrize("name", NORMS)
def test_misclassified_images_of_a_linear_model(name: str) -> None:
    weights, images, labels = problem(2)
    settings = DeepFoolSettings()
    result = signed_margins(linear_model(weights), images, 1 - labels, settings=settings, norm=norm_named(name))
    assert_just_beyond(-result.margin, exact_distances(weights, images, labels, name), settings)
    assert torch.equal(result.prediction, labels)


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize(("negative", "sign"), [("unsigned", 1), ("nearest", -1)])
def test_other_margins_of_misclassified_images_are_from_the_class_they_are_taken_for(
    name: str, negative: Literal["unsigned", "nearest"], sign: int
) -> None:
    weights, images, labels = problem(5)
    settings = DeepFoolSettings(negative=negative)
    result = signed_margins(linear_model(weights), images, (labels + 1) % 5, settings=settings, norm=norm_named(name))
    assert_just_beyond(sign * result.margin, exact_distances(weights, images, labels, name), settings)
    right = signed_margins(linear_model(weights), images, labels, settings=settings, norm=norm_named(name))
    torch.testing.assert_close(right.margin, result.margin.abs())


def test_the_way_back_to_a_class_is_about_as_short_as_a_linear_program_finds() -> None:
    """With five classes the own class is a polytope; DeepFool ends inside it, so it cannot beat the program."""
    weights, images, labels = problem(5)
    own = (labels + 2) % 5
    result = signed_margins(linear_model(weights), images, own, settings=DeepFoolSettings(), norm=norm_named("Linf"))
    exact = np.array(
        [_linf_distance_into(weights, image, int(label)) for image, label in zip(images, own, strict=True)]
    )
    ratio = -result.margin.numpy() / exact
    assert (ratio >= 1 - 1e-3).all()
    assert np.median(ratio) < 1.05
    assert ratio.max() < 1.5


def _linf_distance_into(weights: Tensor, image: Tensor, label: int) -> float:
    """Least t with |d_i| <= t and f_label(x + d) >= f_k(x + d) for all k."""
    wide, flat = weights.double().numpy(), image.flatten().double().numpy()
    others = np.delete(wide - wide[label], label, axis=0)
    size = len(flat)
    bound = np.ones((size, 1))
    rows = np.vstack(
        [
            np.hstack([others, np.zeros((len(others), 1))]),
            np.hstack([np.eye(size), -bound]),
            np.hstack([-np.eye(size), -bound]),
        ]
    )
    limits = np.concatenate([-(others @ flat), np.zeros(2 * size)])
    objective = np.append(np.zeros(size), 1.0)
    return float(linprog(objective, A_ub=rows, b_ub=limits, bounds=(None, None)).fun)


def small_model(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return build_model("small_cnn", image_shape=(1, 8, 8), classes=10).eval().requires_grad_(False)


@pytest.mark.parametrize("negative", ["targeted", "nearest", "unsigned"])
def test_an_image_has_the_same_margin_alone_and_in_a_batch(negative: str) -> None:
    model = small_model()
    images = torch.rand(24, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    ranked = model(images).argsort(1, descending=True)  # half are wrong by a little: a long walk multiplies rounding
    labels = ranked.gather(1, (torch.arange(24) % 2)[:, None])[:, 0]
    settings = DeepFoolSettings.model_validate({"negative": negative})

    def measure(rows: slice) -> Margins:
        return signed_margins(model, images[rows], labels[rows], settings=settings, norm=norm_named("Linf"))

    whole, alone = measure(slice(None)), [measure(slice(row, row + 1)) for row in range(24)]
    # Convolutions of other batch sizes round otherwise, and a halving may then fall on the other side.
    torch.testing.assert_close(whole.margin, torch.cat([one.margin for one in alone]), rtol=2e-3, atol=1e-5)
    assert torch.equal(whole.steps, torch.cat([one.steps for one in alone]))
    again = measure(slice(None))
    assert torch.equal(again.margin, whole.margin)


class Flat(nn.Module):
    """Logits that do not depend on the image, but have a gradient, of 0."""

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)[:, :3] * 0 + torch.tensor([3.0, 2, 1])


@pytest.mark.parametrize("name", NORMS)
def test_gradients_of_zero_make_infinite_margins_with_a_sign_and_no_nan(name: str) -> None:
    images, labels = torch.full((4, 1, 2, 2), 0.5), torch.tensor([0, 1, 2, 0])
    result = signed_margins(
        Flat().eval(), images, labels, settings=DeepFoolSettings(max_steps=3), norm=norm_named(name)
    )
    assert result.margin.tolist() == [float("inf"), -float("inf"), -float("inf"), float("inf")]
    assert not result.converged.any()
    assert result.steps.tolist() == [3] * 4
    assert result.prediction.tolist() == [0] * 4


class Beyond(nn.Module):
    """Class 1 begins where the pixels sum to 5."""

    def forward(self, images: Tensor) -> Tensor:
        total = images.flatten(1).sum(1)
        return torch.stack([torch.zeros_like(total), total - 5], dim=1)


def test_a_boundary_outside_the_box_is_not_found() -> None:
    """Four pixels of at most 1 sum to less than 5."""
    images, labels = torch.full((1, 1, 2, 2), 0.5), torch.tensor([0])
    result = signed_margins(Beyond().eval(), images, labels, settings=DeepFoolSettings(), norm=norm_named("Linf"))
    assert result.margin.tolist() == [float("inf")]
    assert not result.converged.any()
    assert result.steps.tolist() == [50]


def test_a_model_in_train_mode_is_refused() -> None:
    with pytest.raises(ValueError, match="train mode"):
        signed_margins(
            small_model().train(),
            torch.zeros(1, 1, 8, 8),
            torch.tensor([0]),
            settings=DeepFoolSettings(),
            norm=norm_named("L2"),
        )


def test_bisection_ends_beyond_and_close_to_the_border() -> None:
    source = torch.Generator().manual_seed(0)
    images, ends = torch.zeros(50, 1, 2, 2), torch.ones(50, 1, 2, 2)
    border = torch.rand(50, generator=source) * 0.99

    def crossed(points: Tensor) -> Tensor:
        return points[:, 0, 0, 0] > border

    points = bisect(images, ends, crossed, steps=12)
    assert crossed(points).all()
    assert (points[:, 0, 0, 0] - border <= 2**-12 + 1e-7).all()
    assert torch.equal(bisect(images, ends, crossed, steps=0), ends)


def test_bisection_over_several_crossings_still_ends_beyond() -> None:
    images, ends = torch.zeros(1, 1, 1, 1), torch.ones(1, 1, 1, 1)

    def crossed(points: Tensor) -> Tensor:
        return ((points.flatten() * 5).int() % 2 == 0) & (points.flatten() > 0.01)

    assert crossed(ends * 0.9).all()
    assert crossed(bisect(images, ends * 0.9, crossed, steps=15)).all()


@pytest.fixture
def first_test_images(mnist_test: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """The first 200 MNIST test images in [0, 1] and their labels."""
    return mnist_test[0][:200], mnist_test[1][:200]


def test_linf_is_foolboxs_sample_by_sample(fgsm_model: nn.Module, first_test_images: tuple[Tensor, Tensor]) -> None:
    check_against_foolbox(fgsm_model, *first_test_images, name="Linf", attack="LinfDeepFoolAttack", steps=50)


def test_l2_is_foolboxs_sample_by_sample(fgsm_model: nn.Module, first_test_images: tuple[Tensor, Tensor]) -> None:
    """Ten steps; many images take more under this model, and those that fail must be the same."""
    check_against_foolbox(fgsm_model, *first_test_images, name="L2", attack="L2DeepFoolAttack", steps=10)


def check_against_foolbox(
    model: nn.Module, images: Tensor, labels: Tensor, *, name: str, attack: str, steps: int
) -> None:
    """Foolbox has the same steps (ten candidates of ten classes are all) and no halvings: equal up to rounding."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # foolbox imports from an old place in scipy
        import foolbox
        from foolbox.models.pytorch import PyTorchModel
    settings, norm = DeepFoolSettings(bisection_steps=0, max_steps=steps), norm_named(name)
    ours = signed_margins(model, images, labels, settings=settings, norm=norm)
    wrapped = PyTorchModel(model, bounds=(0, 1), device="cpu")
    criterion = foolbox.criteria.Misclassification(labels)
    theirs = getattr(foolbox.attacks, attack)(steps=steps, candidates=10).run(wrapped, images, criterion)
    assert torch.equal(ours.converged, model(theirs).argmax(1) != labels)
    found = ours.converged
    assert int(found.sum()) > 40
    torch.testing.assert_close(ours.margin[found], norm.size(theirs - images)[found], rtol=1e-4, atol=1e-5)


def test_linf_is_adv_libs_sample_by_sample(
    fgsm_model: nn.Module, first_test_images: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """adv-lib overshoots every step anew: equal where one step is enough, within 1 % elsewhere."""
    stub = types.ModuleType("visdom")
    stub.__dict__["Visdom"] = None  # for a live view that is not opened here
    monkeypatch.setitem(sys.modules, "visdom", stub)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # adv-lib compares versions by distutils
        from adv_lib.attacks.deepfool import df
    images, labels = first_test_images
    norm = norm_named("Linf")
    ours = signed_margins(fgsm_model, images, labels, settings=DeepFoolSettings(bisection_steps=0), norm=norm)
    theirs = norm.size(df(fgsm_model, images, labels, steps=50, norm=float("inf")) - images)
    assert ours.converged.all()
    assert int((ours.steps == 1).sum()) > 100
    torch.testing.assert_close(ours.margin, theirs, rtol=1e-2, atol=0)
    torch.testing.assert_close(ours.margin[ours.steps == 1], theirs[ours.steps == 1], rtol=1e-4, atol=1e-6)


def test_halving_shortens_the_margins_of_a_real_model(
    fgsm_model: nn.Module, first_test_images: tuple[Tensor, Tensor]
) -> None:
    images, labels = first_test_images
    settings = [DeepFoolSettings(bisection_steps=steps) for steps in (0, 10)]
    without, within = (
        signed_margins(fgsm_model, images, labels, settings=s, norm=norm_named("Linf")) for s in settings
    )
    assert within.converged.all()
    assert (within.margin <= without.margin).all()
    assert (within.margin < without.margin).float().mean() > 0.95
