"""DeepFool and bisection against exact distances to hyperplanes, linear programs, foolbox and adv-lib."""

import sys
import types
import warnings
from collections.abc import Callable
from typing import Literal

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.optimize import linprog
from sklearn.datasets import load_digits
from torch import Tensor, nn

from robustprune.attacks import margins as signed
from robustprune.attacks.boundary_settings import BoundarySearchSettings
from robustprune.attacks.cross_entropy import losses
from robustprune.attacks.deepfool import STEP_FLOOR, Slopes
from robustprune.attacks.deepfool_settings import DeepFoolSettings
from robustprune.attacks.margin_method import MarginMethod
from robustprune.attacks.margins import Margins
from robustprune.attacks.norms import norm_named
from robustprune.attacks.walk import Crossing, in_few_sizes, narrow, run_active
from robustprune.core.errors import UserError
from robustprune.networks.architecture import build_model
from robustprune.scores.margin import heuristic_error

Images = tuple[Tensor, Tensor]
NORMS = ("Linf", "L2")
EVERY_CLASS = DeepFoolSettings(bisection_steps=0, slope_ratio=None)
"""DeepFool as foolbox and adv-lib have it."""
DUAL_ORDERS: dict[str, float] = {"Linf": 1, "L2": 2}


def linear_model(weights: Tensor) -> nn.Sequential:
    layer = nn.Linear(weights.shape[1], weights.shape[0], bias=False)
    with torch.no_grad():
        layer.weight.copy_(weights)
    return nn.Sequential(nn.Flatten(), layer).eval().requires_grad_(False)


def signed_margins(model: nn.Module, images: Tensor, labels: Tensor, settings: MarginMethod, norm: str) -> Margins:
    """In batches small enough that images come and go."""
    geometry = norm_named(norm)
    return signed.signed_margins(model, images, labels, settings=settings, norm=geometry, batch_size=16)


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
    result = signed_margins(linear_model(weights), images, labels, settings, name)
    assert_just_beyond(result.margin, exact_distances(weights, images, labels, name), settings)
    assert result.converged.all()
    assert (result.steps == 1).all()
    assert torch.equal(result.prediction, labels)


@pytest.mark.parametrize("name", NORMS)
def test_misclassified_images_of_a_linear_model(name: str) -> None:
    weights, images, labels = problem(2)
    settings = DeepFoolSettings()
    result = signed_margins(linear_model(weights), images, 1 - labels, settings, name)
    assert_just_beyond(-result.margin, exact_distances(weights, images, labels, name), settings)
    assert torch.equal(result.prediction, labels)


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize(("negative", "sign"), [("unsigned", 1), ("nearest", -1)])
def test_other_margins_of_misclassified_images_are_from_the_predicted_class(
    name: str, negative: Literal["unsigned", "nearest"], sign: int
) -> None:
    weights, images, labels = problem(5)
    settings = DeepFoolSettings(negative=negative)
    result = signed_margins(linear_model(weights), images, (labels + 1) % 5, settings, name)
    assert_just_beyond(sign * result.margin, exact_distances(weights, images, labels, name), settings)
    right = signed_margins(linear_model(weights), images, labels, settings, name)
    torch.testing.assert_close(right.margin, result.margin.abs())


def test_the_way_back_to_a_class_is_about_as_short_as_a_linear_program_finds() -> None:
    """With five classes the label's class is a polytope; DeepFool ends inside it, so it cannot beat the program."""
    weights, images, labels = problem(5)
    towards = (labels + 2) % 5
    result = signed_margins(linear_model(weights), images, towards, DeepFoolSettings(), "Linf")
    exact = [_linf_distance_into(weights, image, int(label)) for image, label in zip(images, towards, strict=True)]
    ratio = -result.margin.numpy() / np.array(exact)
    assert (ratio >= 1 - 1e-3).all()
    assert np.median(ratio) < 1.05
    assert ratio.max() < 1.5


def _linf_distance_into(weights: Tensor, image: Tensor, label: int) -> float:
    """Least t with |d_i| <= t and f_label(x + d) >= f_k(x + d) for all k."""
    wide, flat = weights.double().numpy(), image.flatten().double().numpy()
    others = np.delete(wide - wide[label], label, axis=0)
    size = len(flat)
    rows = np.block(
        [
            [others, np.zeros((len(others), 1))],
            [np.eye(size), -np.ones((size, 1))],
            [-np.eye(size), -np.ones((size, 1))],
        ]
    )
    limits = np.concatenate([-(others @ flat), np.zeros(2 * size)])
    objective = np.append(np.zeros(size), 1.0)
    return float(linprog(objective, A_ub=rows, b_ub=limits, bounds=(None, None)).fun)


def small_model(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return build_model("small_cnn", image_shape=(1, 8, 8), classes=10).eval().requires_grad_(False)


class Flat(nn.Module):
    """Logits that do not depend on the image, but have a gradient, of 0."""

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)[:, :3] * 0 + torch.tensor([3.0, 2, 1])


@pytest.mark.parametrize("name", NORMS)
def test_gradients_of_zero_make_infinite_margins_with_a_sign_and_no_nan(name: str) -> None:
    images, labels = torch.full((4, 1, 2, 2), 0.5), torch.tensor([0, 1, 2, 0])
    result = signed_margins(Flat().eval(), images, labels, DeepFoolSettings(max_steps=3), name)
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
    images, labels = torch.full((1, 1, 2, 2), 0.5), torch.tensor([0])
    result = signed_margins(Beyond().eval(), images, labels, DeepFoolSettings(), "Linf")
    assert result.margin.tolist() == [float("inf")]
    assert not result.converged.any()
    assert result.steps.tolist() == [50]


class DividesByTheFirstPixel(nn.Module):
    """Logits that are infinite at images whose first pixel is black, and NaN where the second is, too."""

    def forward(self, images: Tensor) -> Tensor:
        flat = images.flatten(1)
        return torch.stack([flat[:, 1] / flat[:, 0], flat[:, 1]], dim=1)


@pytest.mark.parametrize("pixels", [(0.0, 0.5), (0.0, 0.0)])
def test_logits_that_are_not_finite_are_no_infinite_margins(pixels: tuple[float, float]) -> None:
    images = torch.full((3, 1, 1, 2), 0.5)
    images[1] = torch.tensor(pixels)
    model, labels = DividesByTheFirstPixel().eval(), torch.zeros(3, dtype=torch.int64)
    with pytest.raises(UserError, match="not finite at 1 of 3 images"):
        signed_margins(model, images, labels, DeepFoolSettings(), "L2")
    with pytest.raises(UserError, match="not finite at 1 of 3 images"):
        losses(model, images, labels)


def test_a_model_in_train_mode_is_refused() -> None:
    with pytest.raises(ValueError, match="train mode"):
        signed_margins(small_model().train(), torch.zeros(1, 1, 8, 8), torch.tensor([0]), DeepFoolSettings(), "L2")


Function = Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]
KINDS: dict[str, Callable[[float], Function]] = {
    "straight": lambda root: lambda share: root - share,
    "bent": lambda root: lambda share: (root - share) * np.exp(-6 * share),
    "flat at the root": lambda root: lambda share: (root - share) ** 3,
    "a jump": lambda root: lambda share: np.where(share < root, 1e6, -1e-6),
    "several crossings": lambda root: lambda share: np.cos(9 * np.pi * share) + root - 0.5,
}


@pytest.mark.parametrize("halvings", [1, 10, 18])
@pytest.mark.parametrize("kind", KINDS)
def test_narrowing_ends_beyond_and_close_to_a_crossing(kind: str, halvings: int) -> None:
    functions = [KINDS[kind](root) for root in np.random.default_rng(0).uniform(0.02, 0.98, 60)]
    ends = np.array([[function(np.array(0.0)), function(np.array(1.0))] for function in functions])
    evaluations = np.zeros(len(functions))

    def gap(rows: Tensor, shares: Tensor) -> Tensor:
        evaluations[rows.numpy()] += 1
        found = [functions[row](share) for row, share in zip(rows.tolist(), shares.numpy(), strict=True)]
        return torch.tensor(np.array(found))

    shares = narrow(gap, torch.tensor(ends[:, 0]), torch.tensor(ends[:, 1]), halvings=halvings, batch_size=7).numpy()
    for function, share in zip(functions, shares, strict=True):
        assert function(share) < 0
        assert (function(np.linspace(max(share - 2.0**-halvings, 0), share, 400)) >= 0).any()
    assert evaluations.max() <= 2 * halvings
    if kind == "straight":
        assert evaluations.max() <= 5
        assert evaluations.mean() <= 3


def test_as_many_halvings_as_are_allowed_come_to_an_end() -> None:
    """Shares are float32, of which there are none between neighbours."""
    roots = torch.linspace(0.001, 0.999, 400)
    calls = 0

    def gap(rows: Tensor, shares: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        assert calls <= 2 * 23
        return (roots[rows] - shares) ** 3

    shares = narrow(gap, roots**3, (roots - 1) ** 3, halvings=23, batch_size=400)
    assert ((shares > roots) & (shares - roots <= 2.0**-23)).all()


def test_narrowing_without_halvings_leaves_the_far_ends() -> None:
    def gap(rows: Tensor, shares: Tensor) -> Tensor:
        raise AssertionError("nothing to evaluate")

    assert narrow(gap, torch.ones(3), -torch.ones(3), halvings=0, batch_size=2).tolist() == [1, 1, 1]


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_the_active_set_is_full_until_no_row_waits(batch_size: int) -> None:
    needed = torch.tensor([5, 1, 1, 9, 2, 1, 1, 1, 3, 4])
    calls: list[list[int]] = []
    made = torch.zeros_like(needed)

    def advance(rows: Tensor) -> Tensor:
        calls.append(rows.tolist())
        made[rows] += 1
        return made[rows] == needed[rows]

    run_active(len(needed), advance, batch_size=batch_size)
    assert torch.equal(made, needed)
    last = next(number for number, rows in enumerate(calls) if 9 in rows)
    assert all(len(rows) == min(batch_size, 10) for rows in calls[: last + 1])
    assert max(map(len, calls)) <= batch_size
    run_active(0, advance, batch_size=batch_size)


@pytest.fixture
def first_test_images(mnist_test: Images) -> Images:
    return mnist_test[0][:200], mnist_test[1][:200]


@pytest.mark.parametrize(("name", "steps"), [("Linf", 50), ("L2", 10)])
def test_margins_are_foolboxs_sample_by_sample(
    name: str, steps: int, fgsm_model: nn.Module, first_test_images: Images
) -> None:
    """Foolbox has the same steps (ten candidates of ten classes are all) and no halvings: equal up to rounding.

    In L2 many images take more than ten steps under this model, and those that fail must be the same.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # foolbox imports from an old place in scipy
        import foolbox
        from foolbox.models.pytorch import PyTorchModel
    images, labels = first_test_images
    settings = EVERY_CLASS.model_copy(update={"max_steps": steps})
    ours = signed_margins(fgsm_model, images, labels, settings, name)
    attack = getattr(foolbox.attacks, f"{name}DeepFoolAttack")(steps=steps, candidates=10)
    wrapped = PyTorchModel(fgsm_model, bounds=(0, 1), device="cpu")
    theirs = attack.run(wrapped, images, foolbox.criteria.Misclassification(labels))
    assert torch.equal(ours.converged, fgsm_model(theirs).argmax(1) != labels)
    found = ours.converged
    assert int(found.sum()) > 40
    sizes = norm_named(name).size(theirs - images)
    torch.testing.assert_close(ours.margin[found], sizes[found], rtol=1e-4, atol=1e-5)


def test_linf_is_adv_libs_sample_by_sample(
    fgsm_model: nn.Module, first_test_images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    """adv-lib overshoots every step anew: equal where one step is enough, within 1 % elsewhere."""
    stub = types.ModuleType("visdom")
    stub.__dict__["Visdom"] = None  # for a live view that is not opened here
    monkeypatch.setitem(sys.modules, "visdom", stub)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # adv-lib compares versions by distutils
        from adv_lib.attacks.deepfool import df
    images, labels = first_test_images
    ours = signed_margins(fgsm_model, images, labels, EVERY_CLASS, "Linf")
    theirs = norm_named("Linf").size(df(fgsm_model, images, labels, steps=50, norm=float("inf")) - images)
    assert ours.converged.all()
    assert int((ours.steps == 1).sum()) > 100
    torch.testing.assert_close(ours.margin, theirs, rtol=1e-2, atol=0)
    torch.testing.assert_close(ours.margin[ours.steps == 1], theirs[ours.steps == 1], rtol=1e-4, atol=1e-6)


STEP = 1 / 255


@pytest.mark.parametrize("wrong", [False, True], ids=["correct", "misclassified"])
@pytest.mark.parametrize("name", NORMS)
def test_boundary_search_finds_the_exact_distances_of_a_linear_model(name: str, wrong: bool) -> None:
    """With two classes the cross-entropy's slope is that of the boundary, so that the straight way is exact."""
    weights, images, labels = problem(2)
    settings = BoundarySearchSettings(max_steps=400, bisection_steps=12)
    result = signed_margins(linear_model(weights), images, 1 - labels if wrong else labels, settings, name)
    exact = exact_distances(weights, images, labels, name)
    beyond = (-result.margin if wrong else result.margin).numpy() - exact
    assert (beyond >= -1e-6).all()
    assert (beyond <= (exact + STEP) / 2**12 + 1e-6).all()
    np.testing.assert_array_equal(result.steps.numpy(), np.ceil(exact / STEP))


@pytest.mark.parametrize("wrong", [False, True], ids=["correct", "misclassified"])
def test_boundary_search_is_the_algorithm_run_image_by_image(wrong: bool) -> None:
    """Algorithm 1 (papers.md, P5-P7) as a plain loop, and plain halving; the cross-entropy is torch's."""
    model = small_model()
    images = torch.rand(12, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    labels = model(images).argsort(1, descending=True)[:, 2 if wrong else 0]
    settings = BoundarySearchSettings.model_validate({"max_steps": 30, "step_size": "1/100"})
    result = signed_margins(model, images, labels, settings, "Linf")
    plain = [_algorithm_1(model, image[None], label[None]) for image, label in zip(images, labels, strict=True)]
    torch.testing.assert_close(result.margin, torch.tensor([margin for margin, _ in plain]), rtol=3e-3, atol=1e-5)
    assert result.steps.tolist() == [steps for _, steps in plain]
    assert result.converged.any()


def _algorithm_1(model: nn.Module, image: Tensor, label: Tensor) -> tuple[float, int]:
    sign = 1 if model(image).argmax(1) == label else -1
    point, steps = image, 0
    while bool(model(point).argmax(1) == label) == (sign > 0):
        if steps == 30:
            return sign * float("inf"), steps
        point = point.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(nn.functional.cross_entropy(model(point), label), point)
        point, steps = (point + sign * gradient.sign() / 100).detach().clamp(0, 1), steps + 1
    near, far = 0.0, 1.0
    for _ in range(12):
        middle = (near + far) / 2
        beyond = bool(model(image.lerp(point, middle)).argmax(1) == label) != (sign > 0)
        near, far = (near, middle) if beyond else (middle, far)
    return sign * float((image.lerp(point, far) - image).abs().max()), steps


@pytest.mark.parametrize(("wrong", "sign"), [(False, 1), (True, -1)])
def test_images_further_away_than_all_steps_are_censored_with_their_sign(wrong: bool, sign: int) -> None:
    weights, images, labels = problem(2)
    exact = exact_distances(weights, images, labels, "Linf")
    reached = float(np.median(exact))
    settings = BoundarySearchSettings.model_validate({"max_steps": 4, "step_size": str(reached / 4)})
    result = signed_margins(linear_model(weights), images, 1 - labels if wrong else labels, settings, "Linf")
    np.testing.assert_array_equal(result.converged.numpy(), exact < reached)
    assert (result.margin[~result.converged] == sign * torch.inf).all()
    assert (result.steps[~result.converged] == 4).all()
    assert result.margin[result.converged].isfinite().all()


def test_a_confident_image_does_not_stop_the_boundary_search() -> None:
    """Where float32 has the probability of the label at 1 the cross-entropy has no gradient, but there is a way."""
    weights, images, labels = problem(2)
    model = linear_model(weights * 1e4)
    assert (nn.functional.cross_entropy(model(images), labels, reduction="none") == 0).any()
    settings = BoundarySearchSettings(max_steps=400)
    result = signed_margins(model, images, labels, settings, "Linf")
    assert result.converged.all()


METHODS: dict[str, MarginMethod] = {
    "deepfool": DeepFoolSettings(bisection_steps=20),
    "deepfool, every class": DeepFoolSettings(bisection_steps=20, slope_ratio=None),
    "deepfool, nearest": DeepFoolSettings(bisection_steps=20, negative="nearest"),
    "deepfool, unsigned": DeepFoolSettings(bisection_steps=20, negative="unsigned"),
    "boundary_search": BoundarySearchSettings(bisection_steps=20),
}


@pytest.mark.parametrize("method", METHODS)
def test_batch_size_order_and_split_change_nothing_but_rounding(method: str) -> None:
    """With a way back so narrow that where it ends is rounding, too."""
    model, count = small_model(), 40
    images = torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(2))
    ranked = model(images).argsort(1, descending=True)  # half are wrong by a little: a long walk multiplies rounding
    labels = ranked.gather(1, (torch.arange(count) % 2)[:, None])[:, 0]
    rows = torch.arange(count)
    shuffled = torch.randperm(count, generator=torch.Generator().manual_seed(3))
    settings, norm = METHODS[method], norm_named("Linf")

    def measure(rows: Tensor, size: int = 16) -> Margins:
        return signed.signed_margins(model, images[rows], labels[rows], settings=settings, norm=norm, batch_size=size)

    whole = measure(rows)
    parts = torch.cat([measure(part).margin for part in torch.split(rows, 23)])
    for margins in (*(measure(rows, size).margin for size in (1, 7, 100)), parts):
        torch.testing.assert_close(margins, whole.margin, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(measure(shuffled).margin, whole.margin[shuffled], rtol=1e-4, atol=1e-6)
    assert torch.equal(measure(rows, 1).steps, whole.steps)
    assert torch.equal(measure(rows).margin, whole.margin)


def test_a_batch_is_filled_up_to_one_of_few_sizes_without_a_trace() -> None:
    model, seen = small_model(), set()
    model.register_forward_pre_hook(lambda _, inputs: seen.add(len(inputs[0])))
    images = torch.rand(70, 1, 8, 8, generator=torch.Generator().manual_seed(5))
    network = in_few_sizes(model)
    for count in range(1, 71):
        network(images[:count])
    assert sorted(seen) == [*range(1, 17), *range(18, 33, 2), *range(36, 65, 4), 72]
    for count in (1, 17, 33):
        points = images[:count].clone().requires_grad_()
        by_filled, by_plain = network(points), model(points)
        torch.testing.assert_close(by_filled, by_plain)
        slopes = [torch.autograd.grad(logits[:, 0].sum(), points)[0] for logits in (by_filled, by_plain)]
        torch.testing.assert_close(*slopes)


@pytest.mark.parametrize("count", [1, 2, 5, 6])
def test_slopes_are_those_of_each_point_alone(count: int) -> None:
    model, points = small_model(), torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(4))
    classes = torch.arange(6)
    crossing = Crossing(classes, classes % 2 == 1)
    here = Slopes(model, points, crossing)
    torch.testing.assert_close(here.logits, model(points))
    chosen = torch.arange(6 - count, 6)
    others = classes[chosen] + 3
    for place, other, slope in zip(chosen.tolist(), others.tolist(), here.slope(chosen, others), strict=True):
        point = points[place : place + 1].clone().requires_grad_()
        logits = model(point)[0]
        lead = logits[place] - logits[other]
        (expected,) = torch.autograd.grad(-lead if place % 2 else lead, point)
        torch.testing.assert_close(slope, expected[0], rtol=1e-4, atol=1e-6)


def test_parameters_get_no_gradients_and_ask_for_them_again_afterwards() -> None:
    model = small_model()
    next(model.parameters()).requires_grad_(True)
    asking = [parameter.requires_grad for parameter in model.parameters()]
    images = torch.rand(4, 1, 8, 8)
    signed_margins(model, images, model(images).argmax(1), DeepFoolSettings(), "L2")
    assert [parameter.requires_grad for parameter in model.parameters()] == asking
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize(("name", "count", "max_steps"), [("Linf", 400, 50), ("L2", 1000, 15)])
def test_passing_over_classes_costs_little_margin(
    name: str, count: int, max_steps: int, fgsm_model: nn.Module, mnist_test: Images
) -> None:
    """Mean over the images for which both find a boundary: in 50 steps of L2 a quarter of this model's have none.

    Which have one in few steps of L2 is chance for a sixth of them, so there are more images than for Linf.
    """
    images, labels = (part[:count] for part in mnist_test)
    fast, every = (
        signed.signed_margins(
            fgsm_model,
            images,
            labels,
            settings=DeepFoolSettings(slope_ratio=ratio, max_steps=max_steps),
            norm=norm_named(name),
            batch_size=200,
        )
        for ratio in (DeepFoolSettings().slope_ratio, None)
    )
    both = fast.converged & every.converged
    assert float(fast.margin[both].abs().mean()) <= 1.005 * float(every.margin[both].abs().mean())
    assert fast.converged.sum() >= every.converged.sum() - 0.01 * count
    if name == "Linf":
        assert float(fast.converged.float().mean()) >= 0.999


@pytest.fixture(scope="module")
def half_trained() -> tuple[nn.Module, Tensor, Tensor]:
    """A small CNN after 60 steps on scikit-learn's digits, right for three in four, and digits it never saw."""
    digits = load_digits()
    images, labels = torch.tensor(digits.images[:, None] / 16).float(), torch.tensor(digits.target)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build_model("small_cnn", image_shape=(1, 8, 8), classes=10)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
        for _ in range(60):
            rows = torch.randint(0, 1500, (128,))
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images[rows]), labels[rows]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return model.eval(), images[1500:], labels[1500:]


@pytest.mark.parametrize("name", NORMS)
def test_passing_over_classes_costs_little_where_their_slopes_still_differ(
    name: str, half_trained: tuple[nn.Module, Tensor, Tensor]
) -> None:
    """A narrow bound does cost something here, so the default's cost could be seen."""
    every, default, narrow_bound = (
        signed_margins(*half_trained, DeepFoolSettings(slope_ratio=ratio), name).margin.abs()
        for ratio in (None, DeepFoolSettings().slope_ratio, 1)
    )
    assert every.isfinite().all()
    assert float(default.mean()) <= 1.005 * float(every.mean())
    assert float(narrow_bound.mean()) > 1.005 * float(every.mean())


@pytest.mark.parametrize("candidates", [1, 2, 4, 9])
def test_few_candidates_are_those_of_the_largest_logits(candidates: int) -> None:
    """In the first step, where they are known, the way leads to the nearest of them."""
    weights, images, labels = problem(5)
    ranked = (images.flatten(1) @ weights.T).argsort(1, descending=True)[:, : candidates + 1]
    settings = DeepFoolSettings(candidates=candidates, slope_ratio=None, max_steps=1, bisection_steps=0)
    result = signed_margins(linear_model(weights), images, labels, settings, "L2")
    first = torch.zeros(1, dtype=torch.int64)
    exact = np.concatenate(
        [
            exact_distances(weights[classes], image[None], first, "L2")
            for image, classes in zip(images, ranked, strict=True)
        ]
    )
    np.testing.assert_allclose(result.margin.numpy(), 1.02 * (exact + STEP_FLOOR), rtol=1e-4)
    nearest = exact_distances(weights, images, labels, "L2")
    assert (exact > nearest * 1.01).any() == (candidates < 4)


def _fixed_deepfool(model: nn.Module, image: Tensor, candidates: int | None, *, box: bool = True) -> tuple[float, int]:
    """Section 3 of Kaufmann et al., second version, for one image in L2; the class is not chosen again."""
    label = int(model(image).argmax(1))
    way, point, target = torch.zeros_like(image), image, -1
    for step in range(1, 51):
        point = point.detach().requires_grad_()
        logits = model(point)[0]
        gradients = [torch.autograd.grad(logit, point, retain_graph=True)[0] for logit in logits]
        logits = logits.detach()
        leads = [(float(logits[label] - logits[k]), gradients[label] - gradients[k]) for k in range(len(logits))]
        if target < 0:
            others = [k for k in logits.argsort(descending=True).tolist() if k != label][:candidates]
            target = min(others, key=lambda k: leads[k][0] / float(leads[k][1].norm()))
        lead, slope = leads[target]
        way = way - (lead / float(slope.norm()) + STEP_FLOOR) * slope / slope.norm()
        point = image + 1.02 * way
        point = point.clamp(0, 1) if box else point
        if model(point).argmax(1) != label:
            return float((point - image).norm()), step
    return float("inf"), 50


@pytest.mark.parametrize(("candidates", "box"), [(None, True), (1, True), (None, False)])
def test_a_fixed_target_is_the_plain_loop_of_kaufmanns_text(candidates: int | None, box: bool) -> None:
    """The class stays, also where others have overtaken it since."""
    torch.manual_seed(4)
    layers = (nn.Flatten(), nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 6))
    model = nn.Sequential(*layers).eval().requires_grad_(False)
    with torch.no_grad():
        for layer in (layers[1], layers[3], layers[5]):
            layer.weight.mul_(6)
    images = torch.rand(40, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    labels = model(images).argmax(1)
    fixed = DeepFoolSettings(bisection_steps=0, slope_ratio=None, target="fixed", candidates=candidates, box=box)
    found, rechosen = (signed_margins(model, images, labels, settings, "L2") for settings in (fixed, EVERY_CLASS))
    plain = [_fixed_deepfool(model, image[None], candidates, box=box) for image in images]
    torch.testing.assert_close(found.margin, torch.tensor([distance for distance, _ in plain]), rtol=1e-3, atol=1e-5)
    assert found.steps.tolist() == [steps for _, steps in plain]
    assert (found.margin != rechosen.margin).any()
    into = signed_margins(model, images, (labels + 1) % 6, fixed, "L2")
    assert (into.margin < 0).all()


def test_a_heuristics_error_is_told_by_share_and_size() -> None:
    margins = np.array([0.1, -0.2, 0.303, 0.4, np.inf, np.inf, 0.0], np.float32)
    exact = np.array([0.1, -0.1, 0.3, 0.399, 0.5, np.inf, 0.0], np.float32)
    found = heuristic_error(margins, exact)
    assert found["images"] == 7
    assert found["missed"] == pytest.approx(2 / 7)  # twice as far, and one that was not found at all
    assert found["largest"] == pytest.approx(2)
    assert found["mean"] == pytest.approx(np.mean([1, 2, 1.01, 0.4 / 0.399]), rel=1e-6)
    assert heuristic_error(margins[4:6], exact[4:6])["largest"] is None
