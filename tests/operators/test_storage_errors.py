"""Storage that refuses for a while ends a try, not the task: jobs that were submitted are not paid for again."""

from __future__ import annotations

import errno
from itertools import count

import pytest
from airflow.providers.common.compat.sdk import AirflowException, TaskDeferred

from airflow_provider_lamini.exceptions import InvalidArgumentError, StorageError
from airflow_provider_lamini.results import read_outputs
from airflow_provider_lamini.rows.ledger.ledger import Ledger
from tests.support.object_store import refusal
from tests.support.platforms import connect, submissions
from tests.support.row_tasks import each_operator
from tests.support.tasks import TI, begin, execute, log_lines, resume, run_to_end

pytestmark = pytest.mark.any_airflow

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
        resume(make, deferral, event)
    object_store.fail(operation)
    run_to_end(make, TI.retried())
    assert [row["index"] for row in read_outputs(OUT)] == list(range(25))
    assert submissions(platform) == 3


def test_a_refusal_at_the_first_access_of_a_retry_is_retried(make, object_store):
    begin(make)
    object_store.fail("cat_file", PermissionError("Access Denied"))
    with pytest.raises(StorageError):
        execute(make(), TI.retried())


class TaskStates(dict):
    """Airflow's task state store."""

    set, delete = dict.__setitem__, dict.__delitem__


def execute_with(states, operator, ti=TI):
    """Execute an operator with a task state store."""
    return type(operator).execute.__wrapped__(operator, {"ti": ti, "task_state_store": states})


ERRORS = {
    "503": OSError("503 SlowDown"),
    "403": PermissionError("Access Denied"),
    "full": OSError(errno.ENOSPC, "No space left on device"),
}


@pytest.mark.parametrize("error", ERRORS)
def test_the_id_of_a_job_is_recorded_once_storage_works_again(platform, make, object_store, error):
    calls = iter(range(1000))
    object_store.fail_while(
        "pipe_file", lambda: submissions(platform) == 1 and next(calls) < 3, ERRORS[error]
    )
    with log_lines() as lines:
        deferral = begin(make)
    assert len(deferral.trigger["job_ids"]) == 2
    assert sum("Could not record the id of job" in line for line in lines) == 3
    assert submissions(platform) == 2


@pytest.mark.parametrize("error", ERRORS)
def test_an_id_that_cannot_be_recorded_is_left_for_the_retry(
    platform, make, object_store, monkeypatch, error
):
    connect(monkeypatch, platform, extra={"retry_budget": 0.5})
    states = TaskStates()
    object_store.fail_while("pipe_file", lambda: submissions(platform) == 1, ERRORS[error])
    with pytest.raises(StorageError, match="in Airflow's task state store, where a retry finds it"):
        execute_with(states, make())
    object_store.fail_while("pipe_file", lambda: False, ERRORS[error])
    with pytest.raises(TaskDeferred):
        execute_with(states, make(), TI.retried())
    run_to_end(make, TI.retried())
    assert [row["index"] for row in read_outputs(OUT)] == list(range(25))
    assert submissions(platform) == 3


def test_an_id_that_cannot_be_left_anywhere_is_in_the_error(platform, make, object_store, monkeypatch):
    connect(monkeypatch, platform, extra={"retry_budget": 0.5})
    object_store.fail_while("pipe_file", lambda: submissions(platform) == 1, OSError("503 SlowDown"))
    with pytest.raises(StorageError) as caught:
        execute(make())
    (job,) = platform.control.jobs()
    assert f"The job {job['id']} was started" in str(caught.value)
    assert "cancel it on the platform" in str(caught.value)


def test_a_damaged_ledger_does_not_end_a_task_whose_jobs_run(make, object_store):
    deferral = begin(make)
    event = deferral.wait()
    object_store.pipe_file("/bucket/out/_ledger.json", b'{"version": 1, "hea')
    with pytest.raises(StorageError, match="ledger"):
        resume(make, deferral, event)


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
        resume(make, deferral, event)


@pytest.fixture
def from_store(inference, given_input, out):
    """Makes operators that read from the object store."""
    return inference(input=given_input, output=str(out), max_in_flight=1)


@pytest.fixture
def given_input(object_store):
    """A file of prompts on the object store."""
    content = "".join(f'{{"prompt": "{prompt}"}}\n' for prompt in PROMPTS)
    object_store.pipe_file("/bucket/in.jsonl", content.encode())
    return "memory://bucket/in.jsonl"


@pytest.mark.parametrize("operation", ["info", "open"])
def test_an_input_that_is_gone_after_a_submission_is_looked_up_again(
    platform, from_store, object_store, operation
):
    deferral = begin(from_store)
    event = deferral.wait()
    if operation == "info":
        object_store.fail("info", *[FileNotFoundError("404")] * 3)
    else:
        object_store.fail("cat_file", FileNotFoundError("404"))
    with pytest.raises(StorageError, match="the retry attaches"):
        resume(from_store, deferral, event)
    object_store.fail("info")
    run_to_end(from_store, TI.retried())
    assert submissions(platform) == 3


def test_a_ledger_that_a_store_once_calls_missing_is_read_again(platform, make, object_store):
    deferral = begin(make)
    event = deferral.wait()
    object_store.fail("cat_file", FileNotFoundError("404"))
    with pytest.raises(TaskDeferred):
        resume(make, deferral, event)
    run_to_end(make, TI.retried())
    assert submissions(platform) == 3


def test_a_folder_that_a_store_once_calls_empty_at_the_end_is_listed_again(inference, object_store):
    said = []

    def once_at_the_end():
        if not said and any("part-00002" in path for path in object_store.store):
            said.append("empty")
            return True
        return False

    object_store.fail_while("ls", once_at_the_end, FileNotFoundError("404"))
    ended = run_to_end(inference(output=OUT, deferrable=False))
    assert said
    assert ended.result["counts"]["ok"] == len(PROMPTS)


@each_operator
@pytest.mark.parametrize(
    ("number", "message"), [(errno.ENOSPC, "is full. Free space"), (errno.EROFS, "is read-only")]
)
def test_a_disk_that_takes_no_file_is_named_at_each_write_and_a_retry_goes_on(
    task, object_store, monkeypatch, number, message
):
    monkeypatch.setattr("airflow_provider_lamini.runs.submission_record.MAX_SECONDS", 0.1)
    monkeypatch.setattr(Ledger, "late_answer", 0.0)
    for first in (0, 1, 3, 8, 21):
        output, calls = f"memory://bucket/out-{first}", count()
        object_store.fail_while(
            "pipe_file", lambda first=first, calls=calls: next(calls) >= first, OSError(number, "")
        )
        make = task(
            input=PROMPTS[:9], output=output, passthrough=["prompt"], max_in_flight=2, deferrable=False
        )
        found = error_of(lambda make=make: run_to_end(make))
        object_store.fail_while("pipe_file", lambda: False, OSError())
        if next(calls) > first:
            assert message in str(found)
            wrong_argument = number == errno.EROFS and first < 3  # the run had not begun
            assert isinstance(found, InvalidArgumentError if wrong_argument else StorageError)
        run_to_end(make, TI.retried())
        assert [row["prompt"] for row in read_outputs(output)] == PROMPTS[:9]


def error_of(call):
    """Return the error that a call raises."""
    try:
        call()
    except AirflowException as error:
        return error
    return None


def test_a_disk_without_space_for_a_lock_is_named(inference, monkeypatch, out):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("airflow_provider_lamini.rows.storage.local._acquire_lock", full)
    with pytest.raises(StorageError, match=f"The disk of {out} is full.*a retry starts over"):
        execute(inference()())
