"""Tests for the evaluation metrics."""

from __future__ import annotations

import pytest

from airflow_provider_lamini.local.metrics import (
    class_metrics,
    exact_match,
    fuzzy_match,
    side_by_side,
    text_metrics,
)


def test_class_metrics_weight_all_classes_equally() -> None:
    """Precision and recall by hand: a: 2 of 3, 2 of 2; b: 1 of 1, 1 of 2; c: 0 of 0, 0 of 1; d: 0 of 1, 0 of 0."""
    targets = ["a", "a", "b", "b", "c"]
    outputs = ["a", "a", "b", "a", "d"]
    found = class_metrics(outputs, targets, exact_match)
    assert found.accuracy == pytest.approx(3 / 5)
    assert found.precision == pytest.approx((2 / 3 + 1 + 0 + 0) / 4)
    assert found.recall == pytest.approx((1 + 1 / 2 + 0 + 0) / 4)
    assert found.f1 == pytest.approx((4 / 5 + 2 / 3 + 0 + 0) / 4)


def test_all_right_is_one_and_all_wrong_is_zero() -> None:
    for measure in (class_metrics, text_metrics):
        right = measure(["a b", "c"], ["a b", "c"], exact_match)
        wrong = measure(["x", "y"], ["a b", "c"], exact_match)
        assert set(right.to_dict().values()) == {1.0}
        assert wrong.to_dict("base_") == {
            "base_accuracy": 0.0,
            "base_precision": 0.0,
            "base_recall": 0.0,
            "base_f1": 0.0,
        }


def test_text_metrics_compare_words() -> None:
    found = text_metrics(["the red house", "nothing", ""], ["The house.", "nothing", "word"], exact_match)
    assert found.accuracy == pytest.approx(1 / 3)
    assert found.precision == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert found.recall == pytest.approx((1 + 1 + 0) / 3)
    assert found.f1 == pytest.approx((4 / 5 + 1 + 0) / 3)


@pytest.mark.parametrize(
    ("output", "exact", "near"),
    [
        ("feature request", True, True),
        (" feature request\n", True, True),
        ("Feature-Request!", False, True),
        ("feature requests", False, True),
        ("future requests", False, False),
        ("feature", False, False),
        ("", False, False),
    ],
)
def test_a_fuzzy_match_ignores_case_punctuation_and_a_typo(output: str, exact: bool, near: bool) -> None:
    assert exact_match(output, "feature request") is exact
    assert fuzzy_match(output, "feature request") is near


def test_a_fuzzy_match_counts_as_the_right_class() -> None:
    found = class_metrics(["Feature-Request", "login"], ["feature request", "login"], fuzzy_match)
    assert set(found.to_dict().values()) == {1.0}


def test_side_by_side_counts_the_wins_of_each_model() -> None:
    targets = ["a", "a", "a", "a", "b"]
    assert side_by_side(["a", "a", "x", "x", "b"], ["a", "x", "a", "x", "x"], targets, exact_match) == {
        "test_wins": 2,
        "base_wins": 1,
        "both_right": 1,
        "both_wrong": 1,
    }
