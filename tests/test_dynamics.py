"""Training dynamics: the metrics by hand and by brute force."""

from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from robustprune.scores.metrics.difficulty import difficulty
from robustprune.scores.metrics.el2n import el2n
from robustprune.scores.metrics.forgetting import forgetting
from robustprune.scores.metrics.frequency import frequency
from robustprune.scores.metrics.uncertainty import uncertainty

Floats = npt.NDArray[np.float64]

CONFIDENCES = arrays(np.float16, st.tuples(st.integers(2, 14), st.integers(1, 4)), elements=st.floats(0, 1, width=16))
ANSWERS = arrays(np.bool_, st.tuples(st.integers(1, 12), st.integers(1, 4)))


def column(*values: float) -> npt.NDArray[np.float16]:
    """A trajectory of one image."""
    return np.array(values, dtype=np.float16)[:, None]


def test_a_constant_prediction_has_neither_uncertainty_nor_frequency() -> None:
    for value in (0.0, 0.1, 1 / 3, 1.0):
        constant = column(*[value] * 50)
        assert uncertainty(constant, window=10, last_window=False) == 0
        assert frequency(constant) == 0


def test_alternating_between_0_and_1_has_the_uncertainty_of_ten_coin_flips() -> None:
    # Five 0s and five 1s in every window of 10: ten squared deviations of 1/4 over 10 - 1.
    assert uncertainty(column(*[0, 1] * 15), window=10, last_window=False) == pytest.approx(np.sqrt(10 / 36))


def test_windows_by_hand_with_and_without_the_last() -> None:
    values = column(0, 1, 1, 0)  # pairs: (0, 1), (1, 1), (1, 0); a pair's ddof-1 std is |a - b| / sqrt 2
    assert uncertainty(values, window=2, last_window=False) == pytest.approx((1 + 0) / np.sqrt(2) / 2)
    assert uncertainty(values, window=2, last_window=True) == pytest.approx((1 + 0 + 1) / np.sqrt(2) / 3)


def test_too_few_epochs_for_a_window_are_refused() -> None:
    with pytest.raises(ValueError, match="10 epochs make no window of 10"):
        uncertainty(column(*[0.5] * 10), window=10, last_window=False)


@given(CONFIDENCES, st.integers(2, 6), st.booleans())
def test_uncertainty_is_the_plain_loop_in_float64(confidence: Floats, window: int, last_window: bool) -> None:
    epochs = len(confidence)
    ends = range(window, epochs + last_window)  # the published code: windows that end before the last epoch
    if not ends:
        return
    for image, ours in enumerate(uncertainty(confidence, window=window, last_window=last_window)):
        values = [float(value) for value in confidence[:, image]]
        stds = []
        for end in ends:
            inside = values[end - window : end]
            mean = sum(inside) / window
            stds.append((sum((value - mean) ** 2 for value in inside) / (window - 1)) ** 0.5)
        assert ours == pytest.approx(sum(stds) / len(stds), abs=1e-6)


@pytest.mark.parametrize("epochs", [24, 25])
def test_a_sinusoid_is_a_single_line(epochs: int) -> None:
    # A cosine of amplitude a over whole periods has |X_f| = a T / 2 at f and its mirror, and 0 elsewhere.
    wave = 0.5 + 0.25 * np.cos(2 * np.pi * 3 * np.arange(epochs) / epochs)
    assert frequency(wave[:, None]) == pytest.approx(2 * 0.25 * epochs / 2, rel=1e-5)


def test_the_highest_line_of_an_even_number_of_epochs_counts_once() -> None:
    assert frequency(column(0, 1, 0, 1)) == pytest.approx(2)  # X = (2, 0, -2, 0)


@given(CONFIDENCES)
def test_frequency_is_the_whole_transform_but_its_constant(confidence: Floats) -> None:
    epochs = len(confidence)
    turns = np.exp(-2j * np.pi * np.outer(np.arange(epochs), np.arange(epochs)) / epochs)
    expected = np.abs(turns @ confidence.astype(np.float64))[1:].sum(axis=0)
    np.testing.assert_allclose(frequency(confidence), expected, atol=2e-5)


@given(ANSWERS)
def test_difficulty_and_forgetting_are_the_plain_loops(correct: npt.NDArray[np.bool_]) -> None:
    for image, (wrong, forgotten) in enumerate(zip(difficulty(correct), forgetting(correct), strict=True)):
        answers = correct[:, image].tolist()
        assert wrong == pytest.approx(answers.count(False) / len(answers))
        events = sum(before and not after for before, after in pairwise(answers))
        assert forgotten == (events if any(answers) else np.inf)


def test_difficulty_and_forgetting_by_hand() -> None:
    correct = np.array([[1, 1, 0, 0], [0, 1, 0, 1], [1, 1, 0, 1], [0, 1, 0, 1]], dtype=bool)
    assert difficulty(correct).tolist() == [0.5, 0, 1, 0.25]
    assert forgetting(correct).tolist() == [2, 0, np.inf, 0]


def test_el2n_by_hand() -> None:
    # softmax (0.5, 0.5) against (1, 0) is sqrt(1/2) away; certain of the wrong class is sqrt 2 away.
    errors = [np.array([0.5**0.5, 0.0], dtype=np.float16), np.array([2**0.5, 0.0], dtype=np.float16)]
    np.testing.assert_allclose(el2n(errors), [1.5 * 0.5**0.5, 0], rtol=1e-3)


def test_scores_do_not_depend_on_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    confidence = np.random.default_rng(0).random((30, 100)).astype(np.float16)
    whole = uncertainty(confidence, window=10, last_window=False), frequency(confidence)
    monkeypatch.setattr("robustprune.scores.metrics.frequency.TRANSFORMED", 7)
    for start, stop in ((0, 1), (1, 64), (64, 100)):
        block = confidence[:, start:stop]
        assert (uncertainty(block, window=10, last_window=False) == whole[0][start:stop]).all()
        assert (frequency(block) == whole[1][start:stop]).all()
