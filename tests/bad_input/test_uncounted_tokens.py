"""A limit on tokens where the endpoint may report them, and the platform behind it does not."""

from __future__ import annotations

import pytest

from airflow_provider_lamini.exceptions import BudgetExceededError
from tests.bad_input.test_inputs import sent
from tests.support.results import rows_in

BATCH = "BatchInferenceOperator"
ROWS = list("abcde")
NOTHING = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}


@pytest.mark.parametrize("usage", [None, NOTHING])
@pytest.mark.parametrize("chunk_size", [2, 100])
def test_the_run_ends_with_an_error_and_keeps_its_rows(world, chunk_size, usage):
    world.platform.usage = usage
    given = {"input": ROWS, "endpoint": "chat", "chunk_size": chunk_size, "max_in_flight": 1}
    limited = {**given, "max_total_tokens": 1000}
    with pytest.raises(BudgetExceededError, match=r"reports no tokens\. \d of 5 rows are done and kept in /"):
        world.run(BATCH, limited)
    paid = sent(world)
    assert (paid == ROWS) == (chunk_size == 100)
    with pytest.raises(BudgetExceededError, match="reports no tokens"):
        world.run(BATCH, limited)
    assert sent(world) == paid
    assert world.run(BATCH, given)["counts"]["ok"] == 5
    assert sent(world) == ROWS
    assert [row["output"] for row in rows_in(world.folder / "out")] == ROWS


def test_a_limit_that_is_kept_or_was_not_needed_is_no_error(world):
    world.platform.usage = {**NOTHING, "total_tokens": 7}
    given = {"endpoint": "chat", "max_total_tokens": 1000}
    assert world.run(BATCH, {**given, "input": ROWS})["counts"]["sums"]["total_tokens"] == 35
    world.platform.usage = None
    again = {**given, "input": ROWS, "reuse_from": "{out}", "output": "{here}/again"}
    assert world.run(BATCH, again)["counts"]["reused"] == 5
    assert sent(world) == ROWS
