"""Storage that refuses for a while ends a try, not the task: jobs that were submitted are not paid for again."""

from __future__ import annotations

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_lamini.exceptions import InvalidArgumentError, StorageError
from airflow_provider_lamini.results import read_outputs
from tests.support.object_store import refusal
from tests.support.platforms import submissions
from tests.support.tasks import TI, begin, execute, run_to_end, wake

OUT = "memory://bucket/out"
PROMPTS = [f"row {number} of all" for number in range(25)]


@pytest.fixture
def make(inference, object_store):
    """Makes operators that write to the object store."""
    del object_store
    return inference(output=OUT, deferrable=True)


@pytest.mark.parametrize("operation", ["cat_file", "pipe_file"])
def test_a_refusal_after_a_submission_is_retried_and_nothing_is_submitted_twice(
    platform, make, object_store, operation
):
    deferral = begin(make)
    event = deferral.wait()
    object_store.fail(operation, *[PermissionError("Access Denied")] * 3)
    with pytest.raises(StorageError, match="may still run and bill; the retry attaches"):
        wake(make, deferral, event)
    object_store.fail(operation)
    run_to_end(make, TI.retried())
    assert [row["index"] for row in read_outputs(OUT)] == list(range(25))
    assert submissions(platform) == 3


def test_a_refusal_at_the_first_access_of_a_retry_is_retried(make, object_store):
    begin(make)
    object_store.fail("cat_file", PermissionError("Access Denied"))
    with pytest.raises(StorageError):
        execute(make(), TI.retried())


def test_a_damaged_ledger_does_not_end_a_task_whose_jobs_run(make, object_store):
    deferral = begin(make)
    event = deferral.wait()
    object_store.pipe_file("/bucket/out/_ledger.json", b'{"version": 1, "hea')
    with pytest.raises(StorageError, match="ledger"):
        wake(make, deferral, event)


def test_a_refusal_before_anything_is_sent_is_a_wrong_argument(platform, make, object_store):
    object_store.fail("pipe_file", PermissionError("Access Denied"))
    with pytest.raises(InvalidArgumentError, match="memory://bucket/out"):
        execute(make())
    assert submissions(platform) == 0


@pytest.mark.parametrize("code", ["ExpiredToken", "RequestTimeTooSkewed"])
def test_expired_credentials_are_no_wrong_argument_even_before_anything_is_sent(
    platform, make, object_store, code
):
    object_store.fail("pipe_file", refusal(code))
    with pytest.raises(StorageError, match="Nothing was sent"):
        execute(make())
    assert submissions(platform) == 0
    with pytest.raises(TaskDeferred):
        execute(make(), TI.retried())


def test_an_input_that_is_refused_after_a_submission_is_retried(inference, object_store, given_input, out):
    make = inference(input=given_input, output=str(out), max_in_flight=1)
    deferral = begin(make)
    event = deferral.wait()
    object_store.fail("info", *[PermissionError("Access Denied")] * 3)
    with pytest.raises(StorageError, match="no permission to read"):
        wake(make, deferral, event)


@pytest.fixture
def given_input(object_store):
    """A file of prompts on the object store."""
    content = "".join(f'{{"prompt": "{prompt}"}}\n' for prompt in PROMPTS)
    object_store.pipe_file("/bucket/in.jsonl", content.encode())
    return "memory://bucket/in.jsonl"
