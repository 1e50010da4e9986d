"""A model is tuned once, whatever happens to the task, and the result describes the job."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from airflow.providers.common.compat.sdk import AirflowNotFoundException

from airflow_provider_lamini.api.errors import BadRequestError, UnavailableError
from airflow_provider_lamini.exceptions import (
    InvalidArgumentError,
    JobCancelledError,
    JobFailedError,
    JobLostError,
    JobTimedOutError,
    StorageError,
    TaskKilledError,
    WaitTimeoutError,
)
from airflow_provider_lamini.operators.train import LaminiTrainOperator
from tests.support.local_platform import wait_until
from tests.support.object_store import refusal
from tests.support.tasks import WAITING, begin, log_lines, maker, resume, run_to_end
from tests.support.tuning_platform import LinkedTask, connect

ROWS = [{"input": f"question {number}", "output": f"answer {number}"} for number in range(4)]
HISTORY = [
    {"step": 50, "loss": 2.5, "learning_rate": 9e-4, "epoch": 0.5, "remaining_time": 60.0},
    {"step": 100, "loss": 1.25, "learning_rate": 1e-4, "epoch": 1.0, "remaining_time": 0.0},
]
SLOW = ("CREATED", *["TRAINING MODEL"] * 1000)


class QuickTrain(LaminiTrainOperator):
    """Searches for an orphaned job without a delay."""

    list_delay = 0.05


@pytest.fixture
def task():
    return LinkedTask()


@pytest.fixture
def train(tuning, tmp_path):
    """Returns a function that takes arguments and returns a factory of operators."""
    tuning.datasets["dataset1"] = ROWS
    return maker(
        QuickTrain,
        task_id="train",
        model_name="base-model",
        dataset_id="dataset1",
        state_path=str(tmp_path / "state"),
        **WAITING,
    )


@pytest.mark.parametrize("deferrable", [True, False])
def test_a_model_is_tuned_and_its_name_returned(tuning, train, task, deferrable):
    tuning.history = HISTORY
    ended = run_to_end(train(finetune_args={"max_steps": 100}, deferrable=deferrable), task)
    assert ended.result == {
        "job_id": "1",
        "status": "COMPLETED",
        "model_name": "tuned-1",
        "custom_model_name": None,
        "dataset_id": "dataset1",
        "steps": 100,
        "final_loss": 1.25,
        "history": None,
        "base_model": "base-model",
        "resumes": 0,
    }
    assert tuning.sent("/v1/train") == [
        {
            "model_name": "base-model",
            "dataset_id": "dataset1",
            "upload_file_path": "/app/datasets/dataset1.jsonl",
            "finetune_args": {"max_steps": 100},
        }
    ]
    assert len(ended.deferrals) == deferrable


@pytest.mark.parametrize("deferrable", [True, False])
def test_a_key_that_is_rotated_while_a_task_waits_is_read_again(tuning, train, task, monkeypatch, deferrable):
    tuning.script = [("CREATED", *["TRAINING MODEL"] * 8, "COMPLETED")]

    def rotate():
        wait_until(lambda: "1" in tuning.jobs and tuning.jobs["1"].polls)
        tuning.key = "another-key"
        connect(monkeypatch, tuning)

    with ThreadPoolExecutor() as threads:
        rotating = threads.submit(rotate)
        ended = run_to_end(train(deferrable=deferrable), task)
        rotating.result()
    assert (ended.result["status"], len(tuning.jobs)) == ("COMPLETED", 1)


LOST = {
    "revoked": "The tuning job 1 may still run and bill; a retry polls it again. Check the key of the connection. ",
    "deleted": "The tuning job 1 may still run and bill; a retry polls it again. Define the connection 'lamini_default'",
    "emptied": "The tuning job 1 may still run and bill; a retry polls it again. Connection 'lamini_default': API key",
}


@pytest.mark.parametrize("what", LOST)
def test_a_connection_that_is_lost_during_a_wait_is_told_with_the_job(tuning, train, task, monkeypatch, what):
    tuning.script = [SLOW]
    deferral = begin(train(), task)
    lose_connection(tuning, monkeypatch, what)
    event = deferral.wait()
    with pytest.raises(JobLostError) as caught:
        resume(train(), deferral, event, task)
    assert str(caught.value).startswith(LOST[what])
    tuning.jobs["1"].states = ["COMPLETED"]
    lose_connection(tuning, monkeypatch, "deleted")
    with pytest.raises(AirflowNotFoundException) as again:
        run_to_end(train(), task.retried())
    assert str(again.value) == (
        "There is no connection 'lamini_default'. Define it, or name another one. Jobs that an earlier try has submitted "
        "may still run and bill."
    )
    connect(monkeypatch, tuning)
    assert run_to_end(train(), task).result["job_id"] == "1"
    assert len(tuning.jobs) == 1


@pytest.mark.parametrize("what", ["deleted", "emptied"])
def test_a_connection_that_is_lost_before_a_task_resumes_is_told_with_the_job(
    tuning, train, task, monkeypatch, what
):
    deferral = begin(train(), task)
    event = deferral.wait()
    lose_connection(tuning, monkeypatch, what)
    with pytest.raises(JobLostError) as caught:
        resume(train(), deferral, event, task)
    assert str(caught.value).endswith(
        "The jobs of this task have ended; a retry attaches to what was submitted."
    )
    connect(monkeypatch, tuning)
    assert run_to_end(train(), task).result["job_id"] == "1"


def test_a_connection_that_is_lost_while_the_worker_waits_is_told_with_the_job(
    tuning, train, task, monkeypatch
):
    tuning.script = [SLOW]

    def lose():
        wait_until(lambda: "1" in tuning.jobs and tuning.jobs["1"].polls)
        lose_connection(tuning, monkeypatch, "deleted")
        tuning.key = "another-key"

    with ThreadPoolExecutor() as threads:
        losing = threads.submit(lose)
        with pytest.raises(JobLostError) as caught:
            run_to_end(train(deferrable=False), task)
        losing.result()
    assert str(caught.value) == (
        "Define the connection 'lamini_default', which no longer exists. 1 job may still run and bill (1); a retry "
        "attaches to what was submitted."
    )


def lose_connection(tuning, monkeypatch, what):
    name = "AIRFLOW_CONN_LAMINI_DEFAULT"
    if what == "revoked":
        monkeypatch.setattr(tuning, "key", "another-key")
        wrong = {**json.loads(os.environ[name]), "password": "a-key-that-was-revoked"}
        monkeypatch.setenv(name, json.dumps(wrong))
    elif what == "emptied":
        monkeypatch.setenv(name, json.dumps({**json.loads(os.environ[name]), "password": ""}))
    else:
        monkeypatch.delenv(name, raising=False)


def test_validated_arguments_are_sent(tuning, train, task):
    arguments = {
        "finetune_args": '{"max_steps": "50", "learning_rate": 3e-4, "something_new": [1]}',
        "gpu_config": {"gpus": 2, "nodes": 1},
        "custom_model_name": "mine",
        "train_type": "mome_mini",
        "is_public": "false",
    }
    result = run_to_end(train(**arguments), task).result
    (sent,) = tuning.sent("/v1/train")
    assert sent["finetune_args"] == {"max_steps": 50, "learning_rate": 3e-4, "something_new": [1]}
    assert sent["gpu_config"] == {"gpus": 2, "nodes": 1}
    assert (sent["custom_model_name"], sent["train_type"], sent["is_public"]) == ("mine", "mome_mini", False)
    assert result["custom_model_name"] == "mine"


def test_an_undocumented_argument_is_passed_on_and_logged(tuning, train, task):
    with log_lines() as lines:
        run_to_end(train(finetune_args={"maxsteps": 5, "learnig_rate": 1e-3, "lora_r": 8}), task)
    assert tuning.sent("/v1/train")[0]["finetune_args"] == {"maxsteps": 5, "learnig_rate": 1e-3, "lora_r": 8}
    named = (
        "Check the spelling in finetune_args: the platform does not document maxsteps (max_steps?), "
        "learnig_rate (learning_rate?), lora_r."
    )
    assert [line for line in lines if line.startswith(named)]
    with log_lines() as lines:
        run_to_end(train(finetune_args={"max_steps": 5}, force_new=True), task)
    assert not [line for line in lines if "finetune_args" in line]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"finetune_args": {"max_length": 3000}}, "finetune_args.max_length: .*power of two"),
        ({"finetune_args": {"max_length": 16384}}, "max_length"),
        ({"finetune_args": {"optim": "sgd"}}, "optim"),
        ({"finetune_args": {"index_pq_nbits": 17}}, "index_pq_nbits"),
        ({"finetune_args": "max_steps=3"}, "finetune_args is a text that is not JSON"),
        ({"finetune_args": [1]}, "finetune_args must be a mapping"),
        ({"gpu_config": {"gpus": -1}}, "gpus"),
        ({"train_type": "distillation"}, "train_type"),
        ({"model_name": ""}, "model_name"),
        ({"dataset_id": None}, "exactly one of dataset_id and input"),
        ({"input": ROWS}, "exactly one of dataset_id and input"),
        ({"max_resumes": -1}, "max_resumes"),
        ({"accept_partial": "maybe"}, "accept_partial"),
        ({"on_unknown_submission": "guess"}, "on_unknown_submission"),
        ({"dataset_id": None, "input": [*ROWS, {"input": "q"}]}, "row 4 .* no column 'output'"),
        ({"dataset_id": None, "input": "gone.jsonl"}, "does not exist"),
        ({"dataset_id": None, "input": ROWS, "prompt": 5}, "prompt must be a text"),
        ({"timeout": "soon"}, "timeout"),
    ],
)
def test_invalid_arguments_are_rejected_before_anything_is_sent(tuning, train, task, arguments, problem):
    with pytest.raises(InvalidArgumentError, match=problem):
        run_to_end(train(**arguments), task)
    assert not tuning.request_counts


def test_rows_are_uploaded_once_before_the_job_is_submitted(tuning, train, task):
    tuning.fail["/v1/train"] = [(400, "no such model")]
    rows = {"dataset_id": None, "input": [{"q": "1 + 1", "a": 2}], "prompt": "q", "answer": "a"}
    with pytest.raises(BadRequestError, match="no such model"):
        run_to_end(train(**rows), task)
    result = run_to_end(train(**rows), task).result
    assert tuning.datasets.keys() == {"dataset1", "dataset2"}
    assert tuning.datasets["dataset2"] == [{"input": "1 + 1", "output": "2"}]
    assert result["dataset_id"] == "dataset2"


def test_the_losses_are_written_to_the_output(tuning, train, task, tmp_path):
    tuning.history = [*HISTORY, {"step": 101, "loss": float("nan")}]
    result = run_to_end(train(output=str(tmp_path / "out")), task).result
    assert result["history"] == f"{tmp_path}/out/loss_history.jsonl"
    lines = [json.loads(line) for line in (tmp_path / "out" / "loss_history.jsonl").read_text().splitlines()]
    assert lines[:2] == HISTORY
    assert len(lines) == 3
    assert (result["steps"], result["final_loss"]) == (101, 1.25)


def test_the_log_shows_step_loss_learning_rate_and_time_left(tuning, train, task):
    tuning.history = HISTORY[:1]
    tuning.script = [("CREATED", *["TRAINING MODEL"] * 3, "COMPLETED")]
    with log_lines() as lines:
        run_to_end(train(), task)
    shown = "TRAINING MODEL (step 50, loss 2.5, learning rate 0.0009, about 1 min left)"
    assert any(shown in line for line in lines)


def test_the_jobs_page_is_linked_right_after_the_submission(tuning, train, task):
    tuning.script = [SLOW]
    begin(train(), task)
    assert task.xcoms["airflow_provider_lamini_job_url"] == "https://web.test/train/1"


@pytest.mark.parametrize("deferrable", [True, False])
def test_the_link_to_the_job_stays_after_a_failure(tuning, train, task, deferrable):
    tuning.script = [("CREATED", "FAILED")]
    with pytest.raises(JobFailedError):
        run_to_end(train(max_resumes=0, deferrable=deferrable), task)
    assert task.xcoms["airflow_provider_lamini_job_url"] == "https://web.test/train/1"


def test_without_a_web_address_there_is_no_link(tuning, train, task, monkeypatch):
    connect(monkeypatch, tuning, web_url="")
    run_to_end(train(), task)
    assert task.xcoms["airflow_provider_lamini_job_url"] == ""


@pytest.mark.parametrize("deferrable", [True, False])
def test_a_task_that_does_not_wait_returns_the_job_id(tuning, train, task, deferrable):
    tuning.script = [SLOW]
    ended = run_to_end(train(wait=False, deferrable=deferrable), task)
    assert ended.result == {"job_id": "1", "base_model": "base-model"}
    assert run_to_end(train(wait=False), task).result["job_id"] == "1"
    assert len(tuning.jobs) == 1


# ---- the job's end -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "error"),
    [("FAILED", JobFailedError), ("TIMED OUT", JobTimedOutError), ("CANCELED", JobCancelledError)],
)
def test_a_failed_job_fails_the_task_and_a_retry_submits_a_new_one(tuning, train, task, word, error):
    tuning.script = [("CREATED", word), ("CREATED", "COMPLETED")]
    with pytest.raises(error, match=f"Tuning job 1 ended as {word}. It no longer runs. A retry"):
        run_to_end(train(max_resumes=0), task)
    assert run_to_end(train(max_resumes=0), task).result["model_name"] == "tuned-2"
    assert tuning.jobs["1"].resumes == 0


@pytest.mark.parametrize("deferrable", [True, False])
def test_a_failed_job_names_the_dataset_that_was_uploaded_for_it_and_a_retry_uses_it(
    tuning, train, task, deferrable
):
    tuning.script = [("CREATED", "TRAINING MODEL", "FAILED"), ("CREATED", "COMPLETED")]
    make = train(dataset_id=None, input=ROWS, max_resumes=0, deferrable=deferrable)
    with pytest.raises(JobFailedError) as failed:
        run_to_end(make, task)
    (uploaded,) = tuning.datasets.keys() - {"dataset1"}
    assert f"A retry submits a new job. Dataset {uploaded}, which this task has uploaded, stays" in str(
        failed.value
    )
    assert "a retry uses it again" in str(failed.value)
    assert run_to_end(make, task).result["dataset_id"] == uploaded
    assert len(tuning.datasets) == 2


def test_without_a_record_the_dataset_can_be_given_to_another_task(tuning, train):
    tuning.script = [("FAILED",)]
    make = train(dataset_id=None, input=ROWS, max_resumes=0, deferrable=False, state_path=None)
    with pytest.raises(JobFailedError, match="stays on the platform: pass it as dataset_id to use it again"):
        run_to_end(make)


@pytest.mark.parametrize("refused", [refusal("AccessDenied"), TimeoutError("too slow")])
def test_a_store_that_refuses_at_the_end_does_not_hide_the_error_of_the_job(
    tuning, train, task, object_store, refused
):
    tuning.script = [("FAILED",)]
    object_store.fail_while("cat_file", lambda: "rm_file" in object_store.calls, refused)
    make = train(dataset_id=None, input=ROWS, max_resumes=0, state_path="memory://bucket/state")
    with log_lines() as lines, pytest.raises(JobFailedError, match="Tuning job 1 ended as FAILED"):
        run_to_end(make, task)
    assert any(line.startswith("Could not read whether this task has uploaded a dataset") for line in lines)


def test_a_failed_job_does_not_name_a_dataset_that_was_given(tuning, train, task):
    tuning.script = [("FAILED",)]
    with pytest.raises(JobFailedError) as failed:
        run_to_end(train(max_resumes=0), task)
    assert "Dataset" not in str(failed.value)


@pytest.mark.parametrize("word", ["FAILED", "TIMED OUT"])
def test_a_job_that_failed_or_timed_out_is_resumed(tuning, train, task, word):
    tuning.script = [("CREATED", word)]
    tuning.after_resume = [("TRAINING MODEL", "TRAINING MODEL", word), ("TRAINING MODEL", "COMPLETED")]
    result = run_to_end(train(max_resumes=2), task).result
    assert (result["job_id"], result["resumes"], result["status"]) == ("1", 2, "COMPLETED")
    assert len(tuning.jobs) == 1


def test_resumes_are_counted_over_all_tries(tuning, train, task):
    """The first try uses one resume and dies; the second has one left, then trains again."""
    tuning.script = [("FAILED",), ("COMPLETED",)]
    tuning.after_resume = [("TRAINING MODEL", "TRAINING MODEL", "FAILED")]
    make = train(max_resumes=2)

    begin(make, task)
    assert tuning.jobs["1"].resumes == 1
    with pytest.raises(JobFailedError, match="resumed 2 time"):
        run_to_end(make, task)
    assert tuning.jobs["1"].resumes == 2
    assert run_to_end(make, task).result["job_id"] == "2"


def test_a_refused_resume_fails_the_task(tuning, train, task):
    tuning.script = [("CREATED", "FAILED"), ("COMPLETED",)]
    tuning.fail["/v1/train/jobs/1/resume"] = [(400, "max_steps is reached")]
    with pytest.raises(JobFailedError, match=r"cannot be resumed: .*max_steps is reached.*submits a new job"):
        run_to_end(train(), task)
    assert run_to_end(train(), task).result["job_id"] == "2"


def test_a_resume_whose_answer_was_lost_is_not_repeated(tuning, train, task):
    tuning.script = [("CREATED", "FAILED")]
    tuning.lose = ["/v1/train/jobs/1/resume"]
    result = run_to_end(train(), task).result
    assert (result["status"], result["resumes"]) == ("COMPLETED", 1)
    assert tuning.jobs["1"].resumes == 1


def test_without_a_record_a_job_is_not_resumed(tuning, train, task):
    tuning.script = [("CREATED", "FAILED")]
    with pytest.raises(JobFailedError):
        run_to_end(train(state_path=None), task)
    assert tuning.jobs["1"].resumes == 0


def test_the_user_decides_about_a_partly_completed_job(tuning, train, task):
    tuning.script = [("CREATED", "PARTIALLY COMPLETED")]
    for _ in range(2):
        with pytest.raises(JobFailedError, match="accept_partial=True to take its model"):
            run_to_end(train(), task)
    result = run_to_end(train(accept_partial="true"), task).result
    assert (result["job_id"], result["status"]) == ("1", "PARTIALLY COMPLETED")
    assert len(tuning.jobs) == 1
    assert run_to_end(train(accept_partial=True, force_new=True), task).result["job_id"] == "2"


def test_a_job_that_vanishes_is_lost(tuning, train, task):
    tuning.script = [SLOW]
    deferral = begin(train(), task)
    del tuning.jobs["1"]
    event = deferral.wait(submitted_at=0.0)
    assert event["lost"]["1"]["vanished"]
    with pytest.raises(JobLostError, match="A retry submits a new job"):
        train()().execute_complete({"ti": task}, event=event, **deferral.kwargs)


def test_the_timeout_leaves_the_job_to_a_retry(tuning, train, task):
    tuning.script = [SLOW]
    with pytest.raises(WaitTimeoutError, match="may still run and bill"):
        run_to_end(train(timeout=0.7), task)
    tuning.jobs["1"].states = ["COMPLETED"]
    assert run_to_end(train(), task).result["job_id"] == "1"


# ---- never a second job -------------------------------------------------------------------------------------


def test_a_retry_attaches_to_the_running_job(tuning, train, task):
    tuning.script = [("CREATED", *["TRAINING MODEL"] * 3, "COMPLETED")]
    begin(train(), task)
    with log_lines() as lines:
        assert run_to_end(train(), task).result["job_id"] == "1"
    assert any("Attached to tuning job 1" in line for line in lines)
    assert len(tuning.jobs) == 1


def test_a_repeated_run_returns_the_existing_model(train, task):
    run_to_end(train(), task)
    assert run_to_end(train(), task).result["model_name"] == "tuned-1"
    assert run_to_end(train(force_new="true"), task).result["model_name"] == "tuned-2"


@pytest.mark.parametrize("policy", ["cancel", "fail"])
def test_changed_arguments_cancel_the_job_or_fail_the_task(tuning, train, task, policy):
    tuning.script = [SLOW, ("COMPLETED",)]
    begin(train(), task)
    changed = train(finetune_args={"max_steps": 7}, on_changed_input=policy)
    if policy == "cancel":
        assert run_to_end(changed, task).result["job_id"] == "2"
        assert tuning.jobs["1"].state == "CANCELLED"
    else:
        with pytest.raises(InvalidArgumentError, match="with other arguments"):
            run_to_end(changed, task)
        assert len(tuning.jobs) == 1


@dataclass(frozen=True)
class TaskInLoop(LinkedTask):
    """A task instance of Airflow 3.4 in a task-group loop, whose iterations all have map index -1."""

    region_id: str = "loop"
    region_index: int = 0

    @property
    def iteration(self):
        return self.region_index


def test_each_iteration_of_a_loop_tunes_its_own_model(tuning, train):
    results = [run_to_end(train(), TaskInLoop(region_index=number)).result for number in range(3)]
    assert [result["job_id"] for result in results] == ["1", "2", "3"]
    assert run_to_end(train(), TaskInLoop(region_index=1)).result["job_id"] == "2"
    assert len(tuning.jobs) == 3


def die_at(tuning, make, task, path):
    """The try loses the answer of a request, so only the intent is recorded."""
    tuning.lose = [path]
    with pytest.raises(UnavailableError) as failed:
        run_to_end(make, task)
    assert failed.value.may_have_started


@pytest.mark.parametrize(
    "marked", [{"custom_model_name": "run-1-model"}, {"dataset_id": None, "input": ROWS}]
)
def test_a_job_whose_id_was_lost_is_found_in_the_platforms_list(tuning, train, task, marked):
    """Among older jobs of the same name, and those of others."""
    make = train(**marked)
    run_to_end(make, task)
    die_at(tuning, train(**marked, force_new=True), task, "/v1/train")
    run_to_end(train(model_name="others", custom_model_name="theirs"), LinkedTask(task_id="other"))
    with log_lines() as lines:
        assert run_to_end(make, task).result["job_id"] == "2"
    assert any("Found tuning job 2, whose id was not recorded" in line for line in lines)
    assert len(tuning.jobs) == 3


def test_a_job_that_is_not_listed_was_not_started_and_is_submitted(tuning, train, task):
    make = train()
    die_at(tuning, make, task, "/v1/train")
    tuning.jobs.clear()
    with log_lines() as lines:
        assert run_to_end(make, task).result["job_id"] == "1"
    assert any("stopped before it started a tuning job" in line for line in lines)


def test_a_job_that_cannot_be_identified_is_left_to_a_person(tuning, train, task):
    """Another task may have started it on the same dataset."""
    die_at(tuning, train(), task, "/v1/train")
    with pytest.raises(JobLostError, match=r"^Check the platform for a tuning job, then clear the task"):
        run_to_end(train(), task)
    assert len(tuning.jobs) == 1
    assert run_to_end(train(on_unknown_submission="submit"), task).result["job_id"] == "2"


def test_an_interrupted_upload_starts_no_job(tuning, train, task):
    make = train(dataset_id=None, input=ROWS)
    die_at(tuning, make, task, "/v1/local-data")
    result = run_to_end(make, task).result
    assert (result["job_id"], result["dataset_id"]) == ("1", "dataset3")


# ---- killed -------------------------------------------------------------------------------------------------


def test_killing_the_task_cancels_the_job(tuning, train, task):
    tuning.script = [SLOW]
    operator = train(wait=True, deferrable=True)()
    from airflow.providers.common.compat.sdk import TaskDeferred

    with pytest.raises(TaskDeferred):
        operator.execute({"ti": task})
    with log_lines() as lines:
        operator.on_kill()
    assert tuning.jobs["1"].state == "CANCELLED"
    assert any("Cancelled tuning job 1." in line for line in lines)


def test_a_task_killed_before_its_submission_starts_no_job(tuning, train, task):
    operator = train()()
    operator.on_kill()
    with pytest.raises(TaskKilledError, match="before it started a tuning job"):
        operator.execute({"ti": task})
    assert not tuning.jobs


@pytest.mark.parametrize("cancel", [True, False])
def test_killing_the_deferred_task_cancels_the_job_if_cancel_on_kill_is_on(tuning, train, task, cancel):
    tuning.script = [SLOW]
    trigger = begin(train(cancel_on_kill=cancel), task).make_trigger()
    asyncio.run(trigger.on_kill())
    assert (tuning.jobs["1"].state == "CANCELLED") is cancel


def test_a_new_try_does_not_use_the_job_that_the_kill_of_the_old_one_cancelled(tuning, train, task):
    tuning.script = [SLOW, ("COMPLETED",)]
    deferral = begin(train(), task)
    begin(train(), task)  # the new try has attached before the old one's trigger cancels
    asyncio.run(deferral.make_trigger().on_kill())
    assert run_to_end(train(), task).result["job_id"] == "2"


@pytest.mark.skipif(sys.platform != "linux", reason="needs /dev/full")
def test_a_full_disk_for_temporary_files_may_have_space_for_the_retry(tuning, train, task, monkeypatch):
    rows = [{"input": f"question {number} " + "x" * 1000, "output": "answer"} for number in range(100)]
    uploading = train(dataset_id=None, input=rows)
    with monkeypatch.context() as patch:
        patch.setattr(tempfile, "TemporaryFile", partial(Path("/dev/full").open, "r+b"))
        with pytest.raises(StorageError, match=r"disk for temporary files .* is full.*Nothing was sent"):
            begin(uploading, task)
    assert tuning.sent("/v1/train") == []
    assert run_to_end(uploading, task.retried()).result["job_id"] == "1"
