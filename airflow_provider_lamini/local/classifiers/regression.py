"""Multinomial logistic regression with L2, and the temperature that makes its probabilities honest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    Matrix = npt.NDArray[np.float64]
    Labels = npt.NDArray[np.intp]

STRENGTH: Final = 1.0
"""Weight of the examples against the wish for small weights; from 1 to 100 accuracy is the same."""

GRADIENT_DONE: Final = 1e-5
STEPS_LIMIT: Final = 5000

FOLDS: Final = 8
MANY_EXAMPLES: Final = 1000
FOLDS_OF_MANY: Final = 3
"""With many examples each part is large enough; a fit takes seconds then."""

SHARPNESS: Final = 9.0
"""What logits are multiplied with where no held-out example tells: right for a class's description alone."""

SHARPNESS_SPREAD: Final = 0.3
"""How far from that the examples may easily take it, in natural logarithms."""

SHARPNESS_GRID: Final = np.exp(np.linspace(np.log(0.5), np.log(200.0), 240))


@dataclass(frozen=True, slots=True)
class Weights:
    """A linear model.

    :param slopes: one row per class, one column per dimension
    :param offsets: one number per class
    """

    slopes: Matrix
    offsets: Matrix

    def logits(self, vectors: Matrix) -> Matrix:
        """How much speaks for each class.

        :param vectors: one row per text
        :returns: one row per text, one column per class
        """
        return vectors @ self.slopes.T + self.offsets


@dataclass(frozen=True, slots=True)
class Examples:
    """What is learned from.

    :param vectors: one row per text
    :param labels: number of its class
    :param weights: how much each counts
    :param held_out: whether it may be left out to measure with, which a description may not
    """

    vectors: Matrix
    labels: Labels
    weights: Matrix
    held_out: npt.NDArray[np.bool_]

    def part(self, chosen: npt.NDArray[np.bool_]) -> Examples:
        """Only some of them."""
        return Examples(
            self.vectors[chosen], self.labels[chosen], self.weights[chosen], self.held_out[chosen]
        )


@dataclass(frozen=True, slots=True)
class Calibration:
    """What held-out examples tell.

    :param sharpness: what logits are to be multiplied with
    :param accuracy: share of held-out examples whose class was found; None where none could be held out
    """

    sharpness: float
    accuracy: float | None


def softmax(logits: Matrix) -> Matrix:
    """Probabilities from logits, row by row."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))


def fit(examples: Examples, classes: int, check: Callable[[], None]) -> Weights:
    """Fit a linear model, by accelerated gradient descent on a strictly convex loss.

    :param examples: what to learn from; each class has one at least
    :param classes: how many classes there are
    :param check: called now and then; what it raises ends the fitting
    """
    # The last column is the offset, which is not held small.
    inputs = np.hstack([examples.vectors, np.ones((len(examples.labels), 1))])
    targets = np.eye(classes)[examples.labels]
    counts = STRENGTH * examples.weights[:, None]
    small = np.ones(inputs.shape[1])
    small[-1] = 1e-3
    step = 1.0 / (0.5 * _largest_eigenvalue(inputs * np.sqrt(counts)) + 1.0)
    weights = ahead = np.zeros((classes, inputs.shape[1]))
    momentum = 1.0
    for number in range(STEPS_LIMIT):
        if number % 100 == 0:
            check()
        slope = ((softmax(inputs @ ahead.T) - targets) * counts).T @ inputs + ahead * small
        if float(np.abs(slope).max()) < GRADIENT_DONE * (1 + float(examples.weights.sum())):
            break
        after = ahead - step * slope
        if float(np.sum(slope * (after - weights))) > 0:
            momentum = 1.0  # it overshot: start anew from here
        grown = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        ahead = after + (momentum - 1) / grown * (after - weights)
        weights, momentum = after, grown
    return Weights(weights[:, :-1], weights[:, -1])


def _largest_eigenvalue(rows: Matrix) -> float:
    smaller = rows @ rows.T if len(rows) < rows.shape[1] else rows.T @ rows
    return float(np.linalg.eigvalsh(smaller)[-1])


def calibrate(examples: Examples, classes: int, check: Callable[[], None]) -> Calibration:
    """Find the sharpness under which probabilities are honest, by leaving out a part of the examples in turn.

    With few examples the result stays near :data:`SHARPNESS`.

    :param examples: all examples
    :param classes: how many classes there are
    :param check: called now and then; what it raises ends the work
    """
    places = _folds(examples, classes)
    folds = int(places.max()) + 1 if places.size else 0
    logits: list[Matrix] = []
    labels: list[Labels] = []
    for fold in range(folds):
        out = places == fold
        fitted = fit(examples.part(~out), classes, check)
        logits.append(fitted.logits(examples.vectors[out]))
        labels.append(examples.labels[out])
    if not logits:
        return Calibration(SHARPNESS, None)
    return _calibrated(np.vstack(logits), np.concatenate(labels))


def _folds(examples: Examples, classes: int) -> Labels:
    """The fold of each example, -1 for one that is never left out; classes are spread evenly."""
    places = np.full(len(examples.labels), -1, dtype=np.intp)
    begin = 0
    folds = FOLDS if len(examples.labels) < MANY_EXAMPLES else FOLDS_OF_MANY
    for number in range(classes):
        members = np.flatnonzero(examples.held_out & (examples.labels == number))
        has_others = bool(np.any(~examples.held_out & (examples.labels == number)))
        if len(members) < 2 and not has_others:  # noqa: PLR2004 - the only one of its class is needed to learn from
            continue
        # The folds go round through the classes, so that none of them is short of every class at once.
        places[members] = (begin + np.arange(len(members))) % folds
        begin += len(members)
    used = np.unique(places[places >= 0])
    return np.where(places >= 0, np.searchsorted(used, places), -1)


def _calibrated(logits: Matrix, labels: Labels) -> Calibration:
    rows = np.arange(len(labels))
    losses = []
    for sharpness in SHARPNESS_GRID:
        likely = np.log(np.maximum(softmax(logits * sharpness)[rows, labels], 1e-12))
        far = (np.log(sharpness) - np.log(SHARPNESS)) / SHARPNESS_SPREAD
        losses.append(-float(likely.sum()) + far**2 / 2)
    accuracy = float((logits.argmax(axis=1) == labels).mean())
    return Calibration(float(SHARPNESS_GRID[int(np.argmin(losses))]), accuracy)
