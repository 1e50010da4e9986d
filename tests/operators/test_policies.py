"""Attach, submit or fail: what a try does with the job of the previous try, row by row of the table in the docs."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_lamini.exceptions import (
    JobCancelledError,
    StorageError,
    TaskKilledError,
    UnreadableRecordError,
    WaitTimeoutError,
)
from airflow_provider_lamini.operators.train import LaminiTrainOperator
from airflow_provider_lamini.runs.task_errors import KILL_SETTLES
from tests.support.tasks import WAITING, begin, log_lines, maker, resume, run_to_end
from tests.support.tuning_platform import LinkedTask

pytestmark = pytest.mark.any_airflow

SLOW = ("CREATED", *["TRAINING MODEL"] * 1000)


@pytest.fixture
def task():
    return LinkedTask()


@pytest.fixture
def train(tuning, tmp_path):
    """Returns a function that takes arguments and returns a factory of operators."""
    tuning.datasets["dataset1"] = [{"input": "q", "output": "a"}]
    return maker(
        LaminiTrainOperator,
        task_id="train",
        model_name="base-model",
        dataset_id="dataset1",
        state_path=str(tmp_path / "state"),
        **WAITING,
    )


@pytest.fixture
def record(tmp_path):
    """Returns a function that updates the submission record with the given values, and returns it."""

    def of(**changed):
        (file,) = (tmp_path / "state").glob("submission-*.json")
        values = json.loads(file.read_text()) | changed
        if changed:
            file.write_text(json.dumps(values))
        return values

    return of


# ---- timeout ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("deferrable", [True, False])
def test_a_timeout_leaves_the_job_to_the_retry_that_follows(tuning, train, task, deferrable):
    tuning.script = [SLOW]
    with pytest.raises(WaitTimeoutError, match="tuning job 1 may still run and bill; the retry attaches"):
        run_to_end(train(timeout=0.6, deferrable=deferrable), task)
    assert tuning.jobs["1"].state != "CANCELLED"
    assert begin(train(), task.retried()).trigger["job_ids"] == ["1"]


@pytest.mark.parametrize("deferrable", [True, False])
def test_the_last_timeout_cancels_the_job_and_a_clear_resumes_it(tuning, train, task, deferrable):
    tuning.script = [SLOW]
    last = replace(task, try_number=2)
    with pytest.raises(WaitTimeoutError, match="tuning job 1 is cancelled, because no retry follows"):
        run_to_end(train(timeout=0.6, deferrable=deferrable), last)
    assert tuning.jobs["1"].state == "CANCELLED"
    result = run_to_end(train(), last.cleared()).result
    assert (result["job_id"], tuning.jobs["1"].resumes, len(tuning.jobs)) == ("1", 1, 1)


def test_on_timeout_leave_cancels_nothing(tuning, train, task):
    tuning.script = [SLOW]
    with pytest.raises(WaitTimeoutError, match="may still run and bill, because on_timeout is leave"):
        run_to_end(train(timeout=0.6, on_timeout="leave"), replace(task, try_number=2))
    assert tuning.jobs["1"].state != "CANCELLED"


def test_a_job_that_no_retry_could_find_is_cancelled_at_the_timeout(tuning, train, task):
    """Without a record, the retry would pay for a second one."""
    tuning.script = [SLOW]
    with pytest.raises(WaitTimeoutError, match="tuning job 1 is cancelled"):
        run_to_end(train(timeout=0.6, state_path=None), task)
    assert tuning.jobs["1"].state == "CANCELLED"


def test_a_failed_cancellation_at_the_timeout_is_reported(tuning, train, task):
    tuning.script = [SLOW]
    tuning.fail["/v1/train/jobs/1/cancel"] = [(400, "not now")]
    with pytest.raises(
        WaitTimeoutError, match="Could not cancel the tuning job 1; it may still run and bill"
    ):
        run_to_end(train(timeout=0.6), replace(task, try_number=2))


# ---- force_new -----------------------------------------------------------------------------------------------


def test_force_new_submits_once_for_all_retries_and_again_for_each_clear(tuning, train, task):
    tuning.script = [SLOW]
    make = train(force_new="true")
    assert begin(make, task).trigger["job_ids"] == ["1"]
    assert begin(make, task.retried()).trigger["job_ids"] == ["1"]
    again = task.retried().cleared()
    assert begin(make, again).trigger["job_ids"] == ["2"]
    assert begin(make, again.retried()).trigger["job_ids"] == ["2"]
    assert len(tuning.jobs) == 2


def test_force_new_after_a_run_without_it_submits_a_new_job(train, task):
    run_to_end(train(), task)
    assert run_to_end(train(force_new=True), task.cleared()).result["job_id"] == "2"
    assert run_to_end(train(), task.cleared().cleared()).result["job_id"] == "2"


# ---- killed --------------------------------------------------------------------------------------------------


def kill(deferral):
    asyncio.run(deferral.make_trigger().on_kill())


@pytest.mark.parametrize(
    "order", ["before the record is read", "after attaching", "long before the first poll"]
)
def test_a_kill_at_any_moment_leaves_the_new_try_with_a_job_of_its_own(tuning, train, task, order):
    tuning.script = [SLOW, ("COMPLETED",)]
    old = begin(train(), task)
    new = task.cleared()
    if order == "before the record is read":
        kill(old)
        assert run_to_end(train(), new).result["job_id"] == "2"
        return
    attached = begin(train(), new)
    kill(old)
    event = attached.wait()
    if order == "long before the first poll":
        event["ended"]["1"]["last_alive_at"] = None  # the first poll came too late to see it running
    assert resume(train(), attached, event, new)["job_id"] == "2"
    assert tuning.request_counts["POST /v1/train/jobs/2/cancel"] == 0


def test_a_job_that_a_person_cancels_later_fails_the_task(tuning, train, task):
    tuning.script = [SLOW]
    begin(train(), task)
    attached = begin(train(), task.retried())
    tuning.jobs["1"].states = ["CANCELLED"]
    event = attached.wait()
    event["ended"]["1"]["last_alive_at"] = time.time() + KILL_SETTLES + 1
    with pytest.raises(JobCancelledError):
        resume(train(), attached, event, task.retried())


def test_a_kill_while_a_resumed_job_is_waited_for_leaves_a_job_of_its_own(tuning, train, task):
    tuning.script = [("FAILED",), ("COMPLETED",)]
    tuning.after_resume = [SLOW]
    old = begin(train(), task)
    attached = begin(train(), task.cleared())
    kill(old)
    assert resume(train(), attached, attached.wait(), task.cleared())["job_id"] == "2"


def test_a_kill_during_the_submission_cancels_the_job(tuning, train, task):
    operator = train()()
    tuning.script = [SLOW]
    answer = tuning._train

    def kill_and_answer(body):
        operator.on_kill()
        return answer(body)

    tuning._train = kill_and_answer
    with pytest.raises(TaskKilledError, match="while it started tuning job 1"):
        operator.execute({"ti": task})
    assert tuning.jobs["1"].state == "CANCELLED"
    tuning._train = answer
    tuning.script = [("COMPLETED",)]
    assert run_to_end(train(), task.cleared()).result["job_id"] == "2"


def test_changed_arguments_after_a_kill_submit_a_new_job_although_nothing_is_left_to_cancel(
    tuning, train, task
):
    tuning.script = [SLOW, ("COMPLETED",)]
    kill(begin(train(), task))
    tuning.fail["/v1/train/jobs/1/cancel"] = [(400, "it has ended")]
    assert run_to_end(train(finetune_args={"max_steps": 7}), task.cleared()).result["job_id"] == "2"


def test_without_waiting_a_job_that_has_failed_since_is_submitted_again(tuning, train, task):
    tuning.script = [("CREATED", "FAILED"), SLOW]
    make = train(wait=False)
    assert run_to_end(make, task).result["job_id"] == "1"
    assert run_to_end(make, task.retried()).result["job_id"] == "1"  # it still runs
    assert run_to_end(make, task.cleared()).result["job_id"] == "2"


# ---- clocks --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hours", [-5, 5])
def test_a_clock_jump_between_tries_costs_no_second_job(tuning, train, record, task, hours):
    tuning.script = [("CREATED", *["TRAINING MODEL"] * 2, "COMPLETED")]
    begin(train(), task)
    known = record()
    shifted = {name: known[name] - hours * 3600 for name in ("intended_at", "submitted_at")}
    record(**shifted)
    assert run_to_end(train(), task.retried()).result["job_id"] == "1"
    assert len(tuning.jobs) == 1


# ---- the record ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"version": 99}', '{"version": 1, "other": 2}'])
def test_a_record_that_cannot_be_read_submits_nothing_unless_forced(tuning, train, tmp_path, task, content):
    begin(train(), task)
    (file,) = (tmp_path / "state").glob("submission-*.json")
    file.write_text(content)
    with pytest.raises(UnreadableRecordError, match="force_new=True"):
        run_to_end(train(), task.retried())
    assert len(tuning.jobs) == 1
    assert run_to_end(train(force_new=True), task.cleared()).result["job_id"] == "2"


class BrokenState:
    """A task state store that cannot be reached."""

    def get(self, key):
        raise ConnectionError(key)

    set = delete = get


def test_an_unreachable_store_fails_the_task_before_anything_is_submitted(tuning, train, task):
    with pytest.raises(ConnectionError):
        LaminiTrainOperator.execute.__wrapped__(
            train(state_path=None)(), {"ti": task, "task_state_store": BrokenState()}
        )
    assert not tuning.jobs


class WriteOnceState(dict):
    """A task state store that becomes unreachable after the intent is written."""

    def set(self, key, value):
        if value["before"] is not None and value["job_id"] is not None:
            raise ConnectionError("gone")
        self[key] = value

    def delete(self, key):
        self.pop(key)


def test_an_id_that_cannot_be_recorded_is_in_the_log(tuning, train, task):
    tuning.script = [SLOW]
    with log_lines() as lines, pytest.raises(StorageError, match="tuning job 1 was started, but its id"):
        LaminiTrainOperator.execute.__wrapped__(
            train(state_path=None)(), {"ti": task, "task_state_store": WriteOnceState()}
        )
    assert any(line.startswith("Submitted tuning job 1;") for line in lines)


def test_the_tasks_state_path_takes_precedence_over_airflows_store(train, tmp_path, task):
    state = WriteOnceState()
    with pytest.raises(TaskDeferred):
        LaminiTrainOperator.execute.__wrapped__(train()(), {"ti": task, "task_state_store": state})
    assert len(list((tmp_path / "state").iterdir())) == 1
    assert not state
