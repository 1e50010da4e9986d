"""Tests for the logistic regression and its calibration."""

from __future__ import annotations

import numpy as np
import pytest

from airflow_provider_lamini.local.classifiers.regression import (
    SHARPNESS,
    Examples,
    calibrate,
    fit,
    softmax,
)


def no_check() -> None:
    pass


def examples(vectors: object, labels: object, held_out: bool = True) -> Examples:
    found = np.asarray(vectors, dtype=np.float64)
    count = len(found)
    return Examples(found, np.asarray(labels), np.ones(count), np.full(count, held_out))


def blobs(per_class: int, spread: float, seed: int) -> Examples:
    random = np.random.default_rng(seed)
    centres = random.normal(size=(4, 24))
    labels = np.repeat(np.arange(4), per_class)
    vectors = centres[labels] + spread * random.normal(size=(len(labels), 24))
    return examples(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), labels)


def test_the_fit_is_the_minimum_of_the_loss() -> None:
    """At the minimum, the gradient of the loss and the gradient of the penalty cancel out."""
    data = blobs(6, 0.6, 1)
    weights = fit(data, 4, no_check)
    errors = softmax(weights.logits(data.vectors)) - np.eye(4)[data.labels]
    assert np.abs(errors.T @ data.vectors + weights.slopes).max() < 1e-3
    assert np.abs(errors.sum(axis=0) + 1e-3 * weights.offsets).max() < 1e-3


def test_weight_two_equals_two_copies_of_an_example() -> None:
    data = blobs(5, 0.6, 2)
    twice = examples(np.vstack([data.vectors, data.vectors[:1]]), [*data.labels, data.labels[0]])
    weighted = Examples(
        data.vectors, data.labels, np.array([2.0] + [1.0] * (len(data.labels) - 1)), data.held_out
    )
    texts = np.random.default_rng(0).normal(size=(20, 24))
    assert fit(twice, 4, no_check).logits(texts) == pytest.approx(
        fit(weighted, 4, no_check).logits(texts), abs=1e-3
    )


@pytest.mark.parametrize(("per_class", "spread"), [(30, 0.3), (30, 1.0), (100, 1.6)])
def test_confidence_is_close_to_accuracy_on_unseen_texts(per_class: int, spread: float) -> None:
    """On easy and hard data, the mean confidence is within 6 points of the accuracy."""
    everything = blobs(per_class * 2, spread, 3)
    is_training = np.arange(len(everything.labels)) % 2 == 0
    data, unseen = everything.subset(is_training), everything.subset(~is_training)
    calibration = calibrate(data, 4, no_check)
    probabilities = softmax(fit(data, 4, no_check).logits(unseen.vectors) * calibration.sharpness)
    accuracy = float((probabilities.argmax(axis=1) == unseen.labels).mean())
    assert probabilities.max(axis=1).mean() == pytest.approx(accuracy, abs=0.06)
    assert calibration.accuracy == pytest.approx(accuracy, abs=0.1)


def test_the_sharpness_is_the_default_without_examples_to_hold_out() -> None:
    descriptions = examples(np.eye(3), range(3), held_out=False)
    assert calibrate(descriptions, 3, no_check) == type(calibrate(descriptions, 3, no_check))(SHARPNESS, None)
    one_per_class = examples(np.eye(3), range(3))
    assert calibrate(one_per_class, 3, no_check).accuracy is None


def test_the_only_example_of_a_class_is_never_held_out() -> None:
    data = examples(np.vstack([np.eye(3), np.eye(3)[:2] + 0.1]), [0, 1, 2, 0, 1])
    assert calibrate(data, 3, no_check).accuracy == 1.0


def test_the_check_can_stop_the_fit() -> None:
    class StoppedError(Exception):
        pass

    def stop() -> None:
        raise StoppedError

    with pytest.raises(StoppedError):
        fit(blobs(5, 1.0, 4), 4, stop)
