from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_lamini.rows.limits import FailureLimit


@pytest.mark.parametrize(
    ("value", "allowed", "total", "words"),
    [
        (0, 0, 10, "0 rows"),
        ("0", 0, 10, "0 rows"),
        (1, 1, 10, "1 row"),
        (" 7 ", 7, 10, "7 rows"),
        (0.05, 5, 100, "5% of all rows"),
        ("0.05", 4, 99, "5% of all rows"),
        ("5%", 5, 100, "5% of all rows"),
        ("2.5 %", 25, 1000, "2.5% of all rows"),
        (0.1, 3, 30, "10% of all rows"),
        (1.0, 10, 10, "100% of all rows"),
        ("1.0", 10, 10, "100% of all rows"),
        ("100%", 10, 10, "100% of all rows"),
        (".5", 5, 10, "50% of all rows"),
        ("1e-1", 1, 10, "10% of all rows"),
        (1e-05, 1, 100_000, "0.001% of all rows"),
        ("1e-05", 1, 100_000, "0.001% of all rows"),
        ("1.e-1", 1, 10, "10% of all rows"),
        (0.0, 0, 10, "0% of all rows"),
    ],
)
def test_counts_and_fractions_are_distinguished(value, allowed, total, words):
    limit = FailureLimit.parse(value)
    assert not limit.exceeded(allowed, total)
    assert limit.exceeded(allowed + 1, total)
    assert str(limit) == words


@pytest.mark.parametrize("value", [None, "", "None", "null"])
def test_without_a_limit_any_number_may_fail(value):
    limit = FailureLimit.parse(value)
    assert not limit.exceeded(10**9, 10**9)
    assert str(limit) == "no limit"


@pytest.mark.parametrize(
    "value",
    [
        -1,
        "-1",
        1.5,
        "1.5",
        -0.1,
        float("nan"),
        float("inf"),
        "101%",
        "-5%",
        "5 rows",
        "%",
        ".",
        True,
        [1],
        b"1",
        "1e999",
    ],
)
def test_other_values_are_refused_with_what_is_expected(value):
    with pytest.raises(ValueError, match=r"max_failed_rows.*Pass a number of rows"):
        FailureLimit.parse(value)


@given(failed=st.integers(0, 10**6), total=st.integers(0, 10**6), percent=st.integers(0, 100))
def test_a_percentage_is_exact(failed, total, percent):
    assert FailureLimit.parse(f"{percent}%").exceeded(failed, total) == (failed * 100 > percent * total)
