"""What rows cost."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from airflow_provider_lamini.rows.answers.judging import RowResult
from airflow_provider_lamini.rows.answers.prices import Price, cost_of, sum_usage

PRICES = {"m": Price(1_000_000, 3_000_000)}


class Usage(NamedTuple):
    prompt_tokens: float = 0
    completion_tokens: float = 0
    total_tokens: float = 0


COUNTED = Usage(2, 1, 3)


def test_a_cost_is_that_of_all_answers():
    assert cost_of(PRICES, "m", [COUNTED]) == 5
    assert cost_of(PRICES, "m", [COUNTED, COUNTED]) == 10
    assert cost_of(PRICES, "m", [Usage(2, 0, 2)]) == 2


@pytest.mark.parametrize("uncounted", [None, Usage(), Usage(total_tokens=7)])
def test_a_row_has_no_cost_if_one_of_its_answers_was_not_counted(uncounted):
    assert cost_of(PRICES, "m", [uncounted, COUNTED]) is None
    rows = [RowResult("a", "stop", usages=usages, model="m") for usages in ((COUNTED, uncounted), (COUNTED,))]
    unpriced: set[int] = set()
    sums = sum_usage(dict(enumerate(rows)), PRICES, unpriced)
    assert (sums["prompt_tokens"], sums["cost"], sums["rows_without_cost"], unpriced) == (4, 5, 1, {0})
    again = sum_usage({0: rows[0], 7: rows[0]}, PRICES, unpriced)
    assert (again["rows_without_cost"], unpriced) == (1, {0, 7})
