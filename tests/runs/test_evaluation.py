"""Metrics compute what their names promise, and those of users are checked."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_lamini.exceptions import InvalidArgumentError
from airflow_provider_lamini.runs.evaluation import (
    ThresholdResult,
    check_thresholds,
    exact_match,
    parse_metrics,
    parse_thresholds,
    score,
    token_f1,
)


@pytest.mark.parametrize(
    ("expected", "output", "exact", "f1"),
    [
        ("Paris", "paris.", 1, 1),
        ("the capital is Paris", "Paris", 0, 0.4),
        ("a a b", "a b b", 0, 2 / 3),
        ("yes", "no", 0, 0),
        ("ﬁve", "five", 1, 1),
        ("Straße", "STRASSE", 1, 1),
        ("?", "!", 0, 0),
        ("👍", "👍 ", 1, 1),
        ("👍", "👎", 0, 0),
        ("❤️", "❤️!", 0, 0),
        ("Love ❤️", "love", 1, 1),
        ("-5", "5", 0, 0),
        ("-5", "\N{MINUS SIGN}5.", 1, 1),
        ("2026-11-29", "2026 11 29", 1, 1),
        ("well-known", "Well known", 1, 1),
        ("C++", "C#", 0, 0),
        ("C++", "`C++`.", 1, 1),
        ("1+1", "1 + 1", 1, 1),
        ("कि", "की", 0, 0),
        ("कि।", "कि", 1, 1),
        ("ไม่", "ไม้", 0, 0),
        ("cafe\u0301", "caf\u00e9", 1, 1),
        ("yes", "", 0, 0),
        ("2", 2, 1, 1),
        ('{"a": 1}', {"a": 1}, 1, 1),
        ('{"b": "x", "a": [{"d": 1, "c": 2.0}]}', {"a": [{"c": 2, "d": 1.0}], "b": "X"}, 1, 1),
        ('{"a": 1, "b": 2}', {"a": 2, "b": 1}, 0, 1),
        ("5", 5.0, 1, 1),
        ("5.0", "It is 5.", 0, 0.5),
        ("-5.00", "-5", 1, 1),
        ("5.0", "50", 0, 0),
        ("1.0.2", "1.2", 0, 0.8),
        ("v1.0", "v1", 0, 2 / 3),
        ("5.0", 5, 1, 1),
        ("0.5", 0.5, 1, 1),
        ("-5", 5, 0, 0),
        ("True", True, 1, 1),
        ("1e400", 5, 0, 0),
        ("not JSON", {"a": "not JSON"}, 0, 0.8),
        ("é", ["é"], 1, 1),
    ],
)
def test_known_answers_have_known_scores(expected, output, exact, f1):
    assert exact_match(expected, output) == exact
    assert token_f1(expected, output) == pytest.approx(f1)


@given(st.text(), st.text())
def test_scores_are_symmetric_between_0_and_1_and_1_for_equal_answers(one, other):
    for metric in (exact_match, token_f1):
        assert 0 <= metric(one, other) <= 1
        assert metric(one, other) == pytest.approx(metric(other, one))
        assert metric(one, one) == 1
    assert exact_match(one, other) <= token_f1(one, other) + 1e-9


def by_length(expected, output):
    return len(expected) == len(output)


def test_metrics_may_be_names_callables_or_paths():
    found = parse_metrics(["token_f1", by_length, "operator.eq", "math:isclose"])
    assert list(found) == ["token_f1", "by_length", "eq", "isclose"]
    assert found["by_length"] is by_length
    assert found["isclose"] is math.isclose


@pytest.mark.parametrize(
    ("value_", "problem"),
    [
        ("exact_match", "metrics must be a list"),
        ([], "metrics must be a list"),
        (None, "metrics must be a list"),
        ([5], "metrics has an int"),
        (["bleu"], "'bleu' is not known"),
        (["no.such.module"], "'no.such.module' cannot be imported"),
        (["math.no_such"], "'math.no_such' cannot be imported"),
        (["math.pi"], "'math.pi' is a float, not a callable"),
        (["token_f1", "token_f1"], "two with the name 'token_f1'"),
    ],
)
def test_an_invalid_metric_is_rejected(value_, problem):
    with pytest.raises(InvalidArgumentError, match=problem):
        parse_metrics(value_)


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (None, "returned None for row 3"),
        ("1", "returned a str for row 3"),
        (math.nan, "returned nan"),
        (math.inf, "returned inf"),
    ],
)
def test_a_metric_that_returns_no_number_is_reported_with_the_row(value, problem):
    with pytest.raises(InvalidArgumentError, match=problem):
        score("mine", lambda *_: value, "a", "b", 3)


def test_a_metric_that_raises_is_reported_with_the_row_but_not_its_content():
    def divide(expected, output):
        raise ZeroDivisionError(expected + output)

    with pytest.raises(
        InvalidArgumentError, match="'divide' failed on row 3 with ZeroDivisionError"
    ) as failed:
        score("divide", divide, "secret", "secret", 3)
    assert "secret" not in str(failed.value)


def test_a_boolean_counts_as_0_or_1():
    assert score("mine", by_length, "ab", "cd", 0) == 1.0


@pytest.mark.parametrize(
    ("value_", "expected"), [(None, {}), ('{"a": "0.5"}', {"a": 0.5}), ({"a": 1}, {"a": 1.0})]
)
def test_thresholds_may_be_a_mapping_or_json_text(value_, expected):
    assert parse_thresholds("thresholds", value_) == expected


@pytest.mark.parametrize("metric", ["exact_match", "token_f1"])
def test_a_threshold_that_no_model_can_reach_is_refused(metric):
    known = parse_metrics([metric, by_length])
    check_thresholds("thresholds", {metric: 1, "by_length": 90}, known)
    with pytest.raises(
        InvalidArgumentError, match=f"min_gain: {metric} is at most 1, so it cannot be 90. Write"
    ):
        check_thresholds("min_gain", {metric: 90}, known)


@pytest.mark.parametrize(
    "value_", [{"a": "much"}, {"a": None}, {"a": True}, {"a": math.nan}, [0.5], "0.5", "much"]
)
def test_invalid_thresholds_are_rejected(value_):
    with pytest.raises(InvalidArgumentError, match="thresholds"):
        parse_thresholds("thresholds", value_)


def test_rounding_errors_do_not_miss_a_threshold():
    assert ThresholdResult("a", 0.1 + 0.2 - 0.1, 0.2).met
    assert ThresholdResult("a", 0.2, 0.1 + 0.2 - 0.1).met
    assert not ThresholdResult("a", 0.19, 0.2).met
