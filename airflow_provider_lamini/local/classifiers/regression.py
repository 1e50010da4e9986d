"""Multinomial logistic regression with L2 regularization, and its calibration by temperature scaling."""

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
"""Weight of the examples relative to the L2 penalty; accuracy is the same from 1 to 100."""

GRADIENT_TOLERANCE: Final = 1e-5
MAX_STEPS: Final = 5000

FOLDS: Final = 8
MANY_EXAMPLES: Final = 1000
FOLDS_OF_MANY: Final = 3
"""Fewer folds for many examples: each fold is large enough, and every fit takes seconds."""

SHARPNESS: Final = 9.0
"""Default inverse temperature without held-out examples: calibrated for training on class descriptions alone."""

SHARPNESS_SPREAD: Final = 0.3
"""Standard deviation of the prior around the default, in natural logarithms."""

SHARPNESS_GRID: Final = np.exp(np.linspace(np.log(0.5), np.log(200.0), 240))


@dataclass(frozen=True, slots=True)
class Weights:
    """A linear model.

    :param slopes: coefficients, one row per class, one column per dimension
    :param offsets: intercepts, one per class
    """

    slopes: Matrix
    offsets: Matrix

    def logits(self, vectors: Matrix) -> Matrix:
        """Compute the logits of the classes.

        :param vectors: one row per text
        :return: one row per text, one column per class
        """
        return vectors @ self.slopes.T + self.offsets


@dataclass(frozen=True, slots=True)
class Examples:
    """Training data.

    :param vectors: one row per text
    :param labels: class index per text
    :param weights: weight per text
    :param held_out: whether a text may be held out for validation; class descriptions may not
    """

    vectors: Matrix
    labels: Labels
    weights: Matrix
    held_out: npt.NDArray[np.bool_]

    def subset(self, mask: npt.NDArray[np.bool_]) -> Examples:
        """Return the examples selected by a mask."""
        return Examples(self.vectors[mask], self.labels[mask], self.weights[mask], self.held_out[mask])


@dataclass(frozen=True, slots=True)
class Calibration:
    """Result of cross-validation.

    :param sharpness: inverse temperature to multiply logits by
    :param accuracy: accuracy on held-out examples; ``None`` if none could be held out
    """

    sharpness: float
    accuracy: float | None


def softmax(logits: Matrix) -> Matrix:
    """Convert logits to probabilities, row by row."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))


def fit(
    examples: Examples,
    classes: int,
    check: Callable[[], None],
    on_loss: Callable[[int, float], None] | None = None,
) -> Weights:
    """Fit a linear model by Nesterov's accelerated gradient descent on a strictly convex loss.

    :param examples: training data with at least one example per class
    :param classes: number of classes
    :param check: called every 100 steps; an exception it raises stops the fit
    :param on_loss: called with the number of a step, from 1, and the mean loss per example before it: at each step that
        is a power of two, and at the last one
    """
    # The last column is the intercept, which is hardly penalized.
    inputs = np.hstack([examples.vectors, np.ones((len(examples.labels), 1))])
    targets = np.eye(classes)[examples.labels]
    example_weights = STRENGTH * examples.weights[:, None]
    penalties = np.ones(inputs.shape[1])
    penalties[-1] = 1e-3
    step = 1.0 / (0.5 * _largest_eigenvalue(inputs * np.sqrt(example_weights)) + 1.0)
    weights = ahead = np.zeros((classes, inputs.shape[1]))
    momentum = 1.0
    for number in range(MAX_STEPS):
        if number % 100 == 0:
            check()
        probabilities = softmax(inputs @ ahead.T)
        gradient = ((probabilities - targets) * example_weights).T @ inputs + ahead * penalties
        is_done = float(np.abs(gradient).max()) < GRADIENT_TOLERANCE * (1 + float(examples.weights.sum()))
        if on_loss is not None and (is_done or number + 1 == MAX_STEPS or number & (number + 1) == 0):
            on_loss(number + 1, _mean_loss(probabilities, examples))
        if is_done:
            break
        new_weights = ahead - step * gradient
        if float(np.sum(gradient * (new_weights - weights))) > 0:
            momentum = 1.0  # it overshot: restart the momentum
        new_momentum = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        ahead = new_weights + (momentum - 1) / new_momentum * (new_weights - weights)
        weights, momentum = new_weights, new_momentum
    return Weights(weights[:, :-1], weights[:, -1])


def _mean_loss(probabilities: Matrix, examples: Examples) -> float:
    right = probabilities[np.arange(len(examples.labels)), examples.labels]
    return float(np.average(-np.log(np.maximum(right, 1e-12)), weights=examples.weights))


def _largest_eigenvalue(rows: Matrix) -> float:
    gram = rows @ rows.T if len(rows) < rows.shape[1] else rows.T @ rows
    return float(np.linalg.eigvalsh(gram)[-1])


def calibrate(examples: Examples, classes: int, check: Callable[[], None]) -> Calibration:
    """Find the inverse temperature that calibrates the probabilities, by cross-validation.

    With few examples the result stays near :data:`SHARPNESS`.

    :param examples: all training data
    :param classes: number of classes
    :param check: called every 100 steps of a fit; an exception it raises stops the calibration
    """
    fold_of = _assign_folds(examples, classes)
    folds = int(fold_of.max()) + 1 if fold_of.size else 0
    logits: list[Matrix] = []
    labels: list[Labels] = []
    for fold in range(folds):
        validation = fold_of == fold
        fitted = fit(examples.subset(~validation), classes, check)
        logits.append(fitted.logits(examples.vectors[validation]))
        labels.append(examples.labels[validation])
    if not logits:
        return Calibration(SHARPNESS, None)
    return _choose_sharpness(np.vstack(logits), np.concatenate(labels))


def _assign_folds(examples: Examples, classes: int) -> Labels:
    """Return the fold of each example, -1 for one that is never held out; folds are stratified by class."""
    fold_of = np.full(len(examples.labels), -1, dtype=np.intp)
    start = 0
    folds = FOLDS if len(examples.labels) < MANY_EXAMPLES else FOLDS_OF_MANY
    for label in range(classes):
        members = np.flatnonzero(examples.held_out & (examples.labels == label))
        has_others = bool(np.any(~examples.held_out & (examples.labels == label)))
        if len(members) < 2 and not has_others:  # noqa: PLR2004 - training needs the only example of a class
            continue
        # Each class starts at the fold after the last one used, so the remainders spread over all folds.
        fold_of[members] = (start + np.arange(len(members))) % folds
        start += len(members)
    used = np.unique(fold_of[fold_of >= 0])
    return np.where(fold_of >= 0, np.searchsorted(used, fold_of), -1)


def _choose_sharpness(logits: Matrix, labels: Labels) -> Calibration:
    rows = np.arange(len(labels))
    losses = []
    for sharpness in SHARPNESS_GRID:
        log_likelihoods = np.log(np.maximum(softmax(logits * sharpness)[rows, labels], 1e-12))
        deviation = (np.log(sharpness) - np.log(SHARPNESS)) / SHARPNESS_SPREAD
        losses.append(-float(log_likelihoods.sum()) + deviation**2 / 2)
    accuracy = float((logits.argmax(axis=1) == labels).mean())
    return Calibration(float(SHARPNESS_GRID[int(np.argmin(losses))]), accuracy)
