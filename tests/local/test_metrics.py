"""Accuracy, precision, recall and F1."""

from __future__ import annotations

import pytest

from airflow_provider_lamini.local.metrics import (
    exactly,
    nearly,
    of_classes,
    of_texts,
    side_by_side,
)


def test_classes_count_the_same_however_frequent_they_are() -> None:
    """Worked out by hand: a: 2 of 3 answers right, 2 of 2 found; b: 1 of 1, 1 of 2; c: 0 of 1, 0 of 1; d: 0 of 0."""
    targets = ["a", "a", "b", "b", "c"]
    outputs = ["a", "a", "b", "a", "d"]
    found = of_classes(outputs, targets, exactly)
    assert found.accuracy == pytest.approx(3 / 5)
    assert found.precision == pytest.approx((2 / 3 + 1 + 0 + 0) / 4)
    assert found.recall == pytest.approx((1 + 1 / 2 + 0 + 0) / 4)
    assert found.f1 == pytest.approx((4 / 5 + 2 / 3 + 0 + 0) / 4)


def test_all_right_is_one_and_all_wrong_is_nothing() -> None:
    for measure in (of_classes, of_texts):
        right = measure(["a b", "c"], ["a b", "c"], exactly)
        wrong = measure(["x", "y"], ["a b", "c"], exactly)
        assert set(right.named().values()) == {1.0}
        assert wrong.named("base_") == {
            "base_accuracy": 0.0,
            "base_precision": 0.0,
            "base_recall": 0.0,
            "base_f1": 0.0,
        }


def test_texts_are_compared_by_their_words() -> None:
    found = of_texts(["the red house", "nothing", ""], ["The house.", "nothing", "word"], exactly)
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
def test_a_fuzzy_comparison_forgives_case_signs_and_a_slip(output: str, exact: bool, near: bool) -> None:
    assert exactly(output, "feature request") is exact
    assert nearly(output, "feature request") is near


def test_a_fuzzy_match_counts_under_the_right_name() -> None:
    found = of_classes(["Feature-Request", "login"], ["feature request", "login"], nearly)
    assert set(found.named().values()) == {1.0}


def test_side_by_side_counts_who_was_right_alone() -> None:
    targets = ["a", "a", "a", "a", "b"]
    assert side_by_side(["a", "a", "x", "x", "b"], ["a", "x", "a", "x", "x"], targets, exactly) == {
        "test_wins": 2,
        "base_wins": 1,
        "both_right": 1,
        "both_wrong": 1,
    }
