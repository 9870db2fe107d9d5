"""A student perceptron, trained on FGSM examples of itself until nothing changes any more.

On a linear student FGSM has a closed form: x' = x - epsilon y sign(theta), so that x' has the margin
m = y theta.x - epsilon ||theta||_1 and adversarial training minimises the mean of log(1 + exp(-m)). That is convex, and
linear in m once theta = u - v with u, v >= 0 and ||theta||_1 = sum(u + v). (PUMA prints the attack without y, a slip:
papers.md, P18.) There are two ends to such a training:

- Some attacked samples cannot be fitted: the loss has a minimum, which L-BFGS-B finds.
- All can: the loss falls to 0 as the weights grow, and their direction goes to that of the widest margin (Soudry et al.
  2018), so slowly that no number of steps gets near. It is computed as what it is, a quadratic program.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import optimize, special

DEFINITION = {"perceptron.student": 1}

Floats = npt.NDArray[np.float64]


LARGEST_GRADIENT = 1e-6  # of the mean loss of a converged training
MARGIN_TOLERANCE = 1e-6  # by which a margin of 1 may be missed; the solver of the quadratic program is no more exact


@dataclass(frozen=True)
class Student:
    """A trained student.

    Attributes:
        weights: (K,) float64; all 0 where the attack leaves nothing to learn.
        fits: True if it has all attacked samples right, and so the widest margin.
        converged: True if no feasible direction has a slope above LARGEST_GRADIENT.
    """

    weights: Floats
    fits: bool
    converged: bool

    @property
    def overlap(self) -> float:
        """R, the cosine between student and teacher (1, 0, ..., 0); 0 for a student without weights."""
        norm = float(np.linalg.norm(self.weights))
        return float(self.weights[0]) / norm if norm > 0 else 0.0

    @property
    def angle_error(self) -> float:
        """arccos(R) / pi: the share of clean samples on which student and teacher disagree; 1/2 is chance."""
        return float(np.arccos(np.clip(self.overlap, -1, 1)) / np.pi)

    @property
    def correlation_error(self) -> float:
        """1 - R; 1 is chance."""
        return 1 - self.overlap


def train_student(samples: Floats, epsilon: float) -> Student:
    """Train a student on the logistic loss under attack until it converges.

    Samples are (N, K) float64, y x; ``epsilon`` is the size of the attack in L-infinity, in units of the samples.
    """
    weights, converged = least_loss(samples, epsilon)
    margins = attacked_margins(samples, weights, epsilon)
    if margins.min() <= 0:
        return Student(weights, fits=False, converged=converged)
    return Student(widest_margin(samples, epsilon, nearest=np.argsort(margins)), fits=True, converged=converged)


def attacked_margins(samples: Floats, weights: Floats, epsilon: float) -> Floats:
    """Return (N,) y theta.x' of each sample under attack."""
    margins: Floats = samples @ weights - epsilon * np.abs(weights).sum()
    return margins


def least_loss(samples: Floats, epsilon: float) -> tuple[Floats, bool]:
    """Return weights (K,) where the gradient of the loss vanishes, and True if it does."""
    features = samples.shape[1]
    hebb = samples.mean(axis=0)
    solution = optimize.minimize(
        _loss_and_gradient,
        np.concatenate([np.maximum(hebb, 0), np.maximum(-hebb, 0)]),
        args=(samples, epsilon),
        jac=True,
        method="L-BFGS-B",
        bounds=[(0, None)] * (2 * features),
        options={"maxiter": 10_000, "maxfun": 20_000, "ftol": 0, "gtol": LARGEST_GRADIENT / 1e3, "maxcor": 20},
    )
    slopes = np.where(solution.x > 0, np.abs(solution.jac), np.maximum(-solution.jac, 0))
    return solution.x[:features] - solution.x[features:], bool(slopes.max() < LARGEST_GRADIENT)


def widest_margin(samples: Floats, epsilon: float, *, nearest: npt.NDArray[np.intp]) -> Floats:
    """Return the smallest weights with a margin of at least 1 at every attacked sample.

    Only the samples nearest to the boundary bind. The program is solved for some of them; those that its solution
    leaves inside the margin join, until there is none.

    Args:
        samples: (N, K) float64, y x of samples that some student fits under attack.
        epsilon: size of the attack.
        nearest: (N,) the samples' numbers, by their margins under a student that is near the solution.
    """
    features = samples.shape[1]
    chosen = nearest[: 2 * features]
    while True:
        weights = _least_distance(samples[chosen], epsilon)
        margins = attacked_margins(samples, weights, epsilon)
        inside = np.setdiff1d(np.flatnonzero(margins < 1 - MARGIN_TOLERANCE), chosen)
        if not len(inside):  # what is chosen and inside all the same is as far out as the solver's precision allows
            return weights
        worst = inside[np.argsort(margins[inside])[:features]]
        chosen = np.union1d(chosen, worst)


def _least_distance(samples: Floats, epsilon: float) -> Floats:
    """Return the smallest weights with all margins >= 1, by least squares (Lawson and Hanson 1974, ch. 23).

    Halves u and v of the weights with u, v >= 0 make the margins linear; without an attack they are so already.
    """
    count, features = samples.shape
    if epsilon == 0:
        return _nearest_to_origin(samples, np.ones(count))
    rows = np.vstack([np.hstack([samples - epsilon, -samples - epsilon]), np.eye(2 * features)])
    halves = _nearest_to_origin(rows, np.append(np.ones(count), np.zeros(2 * features)))
    return halves[:features] - halves[features:]


def _nearest_to_origin(rows: Floats, bounds: Floats) -> Floats:
    """Return the smallest x with rows @ x >= bounds."""
    matrix = np.vstack([rows.T, bounds])
    target = np.append(np.zeros(rows.shape[1]), 1.0)
    multipliers, _ = optimize.nnls(matrix, target, maxiter=30 * len(rows))
    residual = matrix @ multipliers - target
    nearest: Floats = -residual[:-1] / residual[-1]
    return nearest


def _loss_and_gradient(halves: Floats, samples: Floats, epsilon: float) -> tuple[float, Floats]:
    features = samples.shape[1]
    margins = samples @ (halves[:features] - halves[features:]) - epsilon * halves.sum()
    wrong = special.expit(-margins)
    pull, push = wrong @ samples / len(samples), epsilon * wrong.mean()
    return float(-special.log_expit(margins).mean()), np.concatenate([push - pull, push + pull])
