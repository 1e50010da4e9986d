"""Input as people have it, to the end of tasks that are deferred: each operator that waits without a worker reads it alike."""

from __future__ import annotations

import json

import pytest

from airflow_provider_lamini.exceptions import InvalidArgumentError
from tests.bad_input.files import READERS
from tests.bad_input.test_conversations import QUESTION, put_csv
from tests.bad_input.test_inputs import OPERATORS, columns_of, sent
from tests.support.knowledge_platform import READY, Scripted
from tests.support.tasks import WAITING, execute, run_to_end

RECORDED = {"state_path": "{here}/state"}
DEFERRED = {
    "batch": {},
    "embedding": {},
    "rag": {},
    "train": RECORDED,
    "evaluate": {"endpoint": "batch"},
    "train a classifier": RECORDED,
    "Emissary batch": {},
    "Emissary chat": {},
    "Emissary upload": RECORDED,
}
"""The operators that can be deferred, by their names in `OPERATORS`, with more arguments."""
KEEP = {"on_bad_row": "error", "max_failed_rows": "90%"}
NUMBERS = ["007", "3.10", "1e5", "1_000", "0x1F", "+48100200300"]


@pytest.fixture
def slow_world(world):
    """Platforms on which nothing is ready at once."""
    world.platform.indexes["1"] = Scripted(READY)
    world.emissary.deployments["dp-1"].states = ["Deactivated"]
    return world


def maker(world, operator, value, **arguments):
    name, options = OPERATORS[operator]
    values = {READERS[name][0]: value, **options, **DEFERRED[operator], **arguments, **WAITING}
    return lambda: world.make(name, values)


def failures_of(result):
    """Return the numbers of rows that were not sent, by reason."""
    failures = (result.get("counts") or result)["failures"]
    return failures.get("model", failures)  # of an evaluation, which has them for each model


@pytest.mark.parametrize("operator", DEFERRED)
def test_bad_rows_are_kept_and_numbers_stay_texts(slow_world, operator):
    texts = [*NUMBERS[:3], " ", json.dumps([QUESTION]), *NUMBERS[3:]]
    value = put_csv(slow_world, columns_of(operator), *texts)
    ended = run_to_end(maker(slow_world, operator, value, **KEEP))
    assert ended.deferrals
    assert sent(slow_world) == sorted(NUMBERS)
    assert failures_of(ended.result) == {"no_prompt": 1, "bad_row": 1}


@pytest.mark.parametrize("operator", DEFERRED)
def test_a_conversation_is_refused_before_the_task_waits(slow_world, operator):
    value = put_csv(slow_world, columns_of(operator), "a", json.dumps([QUESTION]))
    with pytest.raises(InvalidArgumentError, match="has a conversation"):
        execute(maker(slow_world, operator, value)())
    assert not slow_world.work


@pytest.mark.parametrize("output", ["{out}", None])
def test_few_queries_are_checked_before_the_task_waits_for_the_index(slow_world, output):
    with pytest.raises(InvalidArgumentError, match="row 1"):
        execute(maker(slow_world, "rag", ["a", " "], output=output)())
    assert not slow_world.work


@pytest.mark.parametrize("operator", ["rag", "Emissary batch"])
def test_a_dry_run_waits_for_nothing_and_wakes_nothing(slow_world, operator):
    slow_world.note_files()
    result = execute(maker(slow_world, operator, ["a", "b"], dry_run=True)())
    assert (result["dry_run"], result["rows"]) == (True, 2)
    assert not slow_world.work
    assert slow_world.files() == slow_world.files_before


def test_a_dry_run_of_few_queries_does_not_wait_for_the_index(slow_world):
    assert execute(maker(slow_world, "rag", ["a"], output=None, dry_run=True)())["rows"] == 1


@pytest.mark.parametrize("state_path", [None, "{here}/state"])
def test_an_upload_does_not_claim_that_no_row_was_left_out(slow_world, state_path):
    rows = [{"input": "a", "output": "x"}, {"input": " ", "output": "x"}]
    result = run_to_end(maker(slow_world, "Emissary upload", rows, **KEEP, state_path=state_path)).result
    assert result["failures"] == (None if state_path is None else {"no_prompt": 1})
