"""EDM's augmentation: a filter that loses nothing, transforms known in closed form, labels and their frequencies."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from robustprune.core.randomness import BatchNoise
from robustprune.generation.augmentation import SYM6, Geometry, augment, inverse, resample
from robustprune.generation.settings import AUGMENTATION_LABELS as LABELS

SIDE = 16


def noise_of(count: int, seed: int = 0) -> BatchNoise:
    return BatchNoise(torch.Generator().manual_seed(seed), count)


def smooth(count: int = 2) -> Tensor:
    """(N, 3, 16, 16): noise whose details are larger than a pixel."""
    return (
        F.avg_pool2d(torch.randn(count, 3, SIDE + 8, SIDE + 8, generator=torch.Generator().manual_seed(1)), 9, 1) * 10
    )


def geometry(**values: float) -> Geometry:
    """One image's, 0 where not given."""
    return Geometry(**{name: torch.tensor([values.get(name, 0.0)]) for name in Geometry._fields})


def moved(image: Tensor, **values: float) -> Tensor:
    return resample(image, *inverse(geometry(**values), image.shape))


def test_the_filter_is_the_low_pass_of_an_orthogonal_wavelet_with_six_vanishing_moments() -> None:
    taps = torch.tensor(SYM6, dtype=torch.float64)
    assert float(taps.sum()) == pytest.approx(math.sqrt(2), abs=1e-10)
    for shift in range(0, 12, 2):
        assert float(taps[shift:] @ taps[: 12 - shift]) == pytest.approx(float(shift == 0), abs=1e-10)
    positions = torch.arange(12, dtype=torch.float64)
    for moment in range(6):
        high_pass = (-1) ** positions * taps.flip(0)
        assert float((positions / 12) ** moment @ high_pass) == pytest.approx(0, abs=1e-9)


def test_no_transform_changes_nothing_of_any_image() -> None:
    images = torch.randn(2, 3, SIDE, 12)
    torch.testing.assert_close(moved(images[:1], scale=0), images[:1], rtol=0, atol=5e-5)


def test_whole_pixels_and_the_mirrored_edge() -> None:
    image = torch.randn(1, 3, SIDE, SIDE)
    right = moved(image, across=2 / (SIDE * 0.125))
    torch.testing.assert_close(right[..., 2:], image[..., :-2], rtol=0, atol=5e-5)
    torch.testing.assert_close(right[..., 0], image[..., 2], rtol=0, atol=5e-5)
    torch.testing.assert_close(moved(image, down=-1 / (SIDE * 0.125))[:, :, :-1], image[:, :, 1:], rtol=0, atol=5e-5)


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_quarter_turns(quarters: int) -> None:
    """Clockwise, as the y axis points down; up to what a filter that is not symmetric loses."""
    image = smooth(1)
    turned = moved(image, rotation=quarters * math.pi / 2)
    assert (turned - image.rot90(-quarters, (2, 3))).std() < 0.15 * image.std()


def test_scales_keep_a_gradient_straight() -> None:
    """f(x) = x: twice the size is f(x / 2), along and across an axis as the anisotropic scale says."""
    across = (torch.arange(SIDE) - (SIDE - 1) / 2).expand(1, 1, SIDE, SIDE).contiguous()
    inner = (..., slice(6, 10), slice(6, 10))
    torch.testing.assert_close(moved(across, scale=5)[inner], across[inner] / 2, rtol=0, atol=0.02)
    torch.testing.assert_close(moved(across, anisotropy=5)[inner], across[inner] / 2, rtol=0, atol=0.02)
    torch.testing.assert_close(moved(across.mT, anisotropy=2.5)[inner], across.mT[inner] * 2**0.5, rtol=0, atol=0.02)
    tilted = moved(across.mT, anisotropy=2.5, axis=math.pi / 2)
    torch.testing.assert_close(tilted[inner], across.mT[inner] / 2**0.5, rtol=0, atol=0.02)


def test_transforms_are_done_in_order() -> None:
    """Scaled, turned, stretched, moved: the point that comes to lie at the centre was at the translation, undone."""
    found = inverse(geometry(scale=5, rotation=math.pi / 2, anisotropy=5, across=1, down=2), torch.Size((1, 1, 8, 8)))
    u = torch.tensor([3.0, -1.0])
    by_hand = u - torch.tensor([1.0, 2.0])  # sides of 8 and 0.125: pixels
    by_hand = by_hand * torch.tensor([1 / 2, 2.0])  # the stretch
    by_hand = torch.tensor([by_hand[1], -by_hand[0]])  # a quarter turn (x, y) -> (-y, x), undone
    torch.testing.assert_close(found[0][0] @ u + found[1][0], by_hand / 2, rtol=0, atol=1e-5)


def test_only_the_mirror_image_is_always_drawn() -> None:
    images = torch.randn(400, 1, 8, 8)
    found = augment(images, noise_of(400), 0.0)
    mirrored = found.labels[:, 0] > 0
    assert 150 < mirrored.sum() < 250
    assert not found.labels[:, 1:].any()
    expected = torch.where(mirrored.view(-1, 1, 1, 1), images.flip(3), images)
    torch.testing.assert_close(found.images, expected, rtol=0, atol=5e-5)


def test_labels_tell_each_transform_with_its_probability() -> None:
    labels = augment(torch.zeros(4000, 1, 4, 4), noise_of(4000), 0.3).labels
    assert labels.shape == (4000, LABELS)
    flipped, turned = labels[:, 1] > 0, labels[:, 3] != 0
    shares = {"scale": labels[:, 2] != 0, "turn": turned, "stretch": labels[:, 5] != 0, "right": labels[:, 7] != 0}
    for name, happened in {**shares, "down": labels[:, 8] != 0}.items():
        assert happened.float().mean() == pytest.approx(0.3, abs=0.03), name
    assert torch.equal(labels[:, 7] != 0, labels[:, 8] != 0)  # a translation is one thing, along both axes
    assert flipped.float().mean() == pytest.approx(0.15, abs=0.03)
    along_an_axis = (labels[:, 6] == 0) & shares["stretch"]
    assert (along_an_axis.sum() / shares["stretch"].sum()).item() == pytest.approx(0.5, abs=0.06)
    torch.testing.assert_close((labels[:, 3] + 1) ** 2 + labels[:, 4] ** 2, torch.ones(4000))
    for column in (2, 7, 8):
        drawn = labels[:, column][labels[:, column] != 0]
        assert (float(drawn.mean()), float(drawn.std())) == pytest.approx((0, 1), abs=0.1)


def test_an_image_is_augmented_alike_in_any_share_of_the_batch() -> None:
    images = torch.randn(6, 3, 8, 8)
    whole = augment(images, noise_of(6), 0.5)
    share = augment(images[1::2], BatchNoise(torch.Generator().manual_seed(0), 6, slice(1, None, 2)), 0.5)
    torch.testing.assert_close(share.labels, whole.labels[1::2])
    torch.testing.assert_close(share.images, whole.images[1::2])
