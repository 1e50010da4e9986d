"""The linear model and its calibration."""

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


def nothing() -> None:
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
    """At the minimum, what the examples pull is what the size of the weights pulls back."""
    given = blobs(6, 0.6, 1)
    weights = fit(given, 4, nothing)
    off = softmax(weights.logits(given.vectors)) - np.eye(4)[given.labels]
    assert np.abs(off.T @ given.vectors + weights.slopes).max() < 1e-3
    assert np.abs(off.sum(axis=0) + 1e-3 * weights.offsets).max() < 1e-3


def test_an_example_that_counts_twice_is_the_same_as_two() -> None:
    given = blobs(5, 0.6, 2)
    twice = examples(np.vstack([given.vectors, given.vectors[:1]]), [*given.labels, given.labels[0]])
    weighted = Examples(
        given.vectors, given.labels, np.array([2.0] + [1.0] * (len(given.labels) - 1)), given.held_out
    )
    texts = np.random.default_rng(0).normal(size=(20, 24))
    assert fit(twice, 4, nothing).logits(texts) == pytest.approx(
        fit(weighted, 4, nothing).logits(texts), abs=1e-3
    )


@pytest.mark.parametrize(("per_class", "spread"), [(30, 0.3), (30, 1.0), (100, 1.6)])
def test_confidence_is_near_accuracy_on_texts_that_were_not_seen(per_class: int, spread: float) -> None:
    """Easy or hard, mean confidence is within 6 points of the share of right answers."""
    everything = blobs(per_class * 2, spread, 3)
    seen = np.arange(len(everything.labels)) % 2 == 0
    given, fresh = everything.part(seen), everything.part(~seen)
    calibration = calibrate(given, 4, nothing)
    likely = softmax(fit(given, 4, nothing).logits(fresh.vectors) * calibration.sharpness)
    accuracy = float((likely.argmax(axis=1) == fresh.labels).mean())
    assert likely.max(axis=1).mean() == pytest.approx(accuracy, abs=0.06)
    assert calibration.accuracy == pytest.approx(accuracy, abs=0.1)


def test_without_examples_to_leave_out_the_sharpness_is_the_usual_one() -> None:
    descriptions = examples(np.eye(3), range(3), held_out=False)
    assert calibrate(descriptions, 3, nothing) == type(calibrate(descriptions, 3, nothing))(SHARPNESS, None)
    alone = examples(np.eye(3), range(3))
    assert calibrate(alone, 3, nothing).accuracy is None


def test_a_class_with_one_example_keeps_it_to_learn_from() -> None:
    given = examples(np.vstack([np.eye(3), np.eye(3)[:2] + 0.1]), [0, 1, 2, 0, 1])
    assert calibrate(given, 3, nothing).accuracy == 1.0


def test_the_fit_can_be_stopped() -> None:
    class StoppedError(Exception):
        pass

    def stop() -> None:
        raise StoppedError

    with pytest.raises(StoppedError):
        fit(blobs(5, 1.0, 4), 4, stop)
