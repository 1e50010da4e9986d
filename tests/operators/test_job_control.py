"""Existing jobs are resumed once, or cancelled, whichever task started them."""

from __future__ import annotations

import json

import pytest

from airflow_provider_lamini.api.errors import BadRequestError, JobNotFoundError
from airflow_provider_lamini.exceptions import InvalidArgumentError, JobFailedError
from airflow_provider_lamini.operators.job_control import LaminiCancelJobOperator, LaminiResumeJobOperator
from tests.support.tasks import TI, WAITING, begin, execute, log_lines, maker, run_to_end
from tests.support.tuning_platform import Job, LinkedTask

BODY = {"dataset_id": "dataset1", "custom_model_name": "mine"}


@pytest.fixture
def task():
    return LinkedTask(task_id="resume")


@pytest.fixture
def resume(tmp_path):
    """Returns a function that takes arguments and returns a factory of operators."""
    return maker(
        LaminiResumeJobOperator, task_id="resume", job_id=7, state_path=str(tmp_path / "state"), **WAITING
    )


def put(tuning, *states):
    tuning.jobs["7"] = Job(7, BODY, list(states), [{"step": 9, "loss": 0.5}])
    return tuning.jobs["7"]


@pytest.mark.parametrize(
    ("word", "deferrable"), [("FAILED", True), ("CANCELLED", False), ("TIMED OUT", True)]
)
def test_an_ended_job_is_resumed_and_awaited(tuning, resume, tmp_path, word, deferrable):
    task, job = LinkedTask(task_id="resume"), put(tuning, word)
    tuning.after_resume = [("TRAINING MODEL", "TRAINING MODEL", "COMPLETED")]
    with log_lines() as lines:
        ended = run_to_end(resume(deferrable=deferrable, output=str(tmp_path / "out")), task)
    assert job.resumes == 1
    assert "Resumed tuning job 7." in lines
    assert not any("Submitted" in line for line in lines)
    assert ended.result == {
        "job_id": "7",
        "status": "COMPLETED",
        "model_name": "tuned-7",
        "custom_model_name": "mine",
        "dataset_id": "dataset1",
        "steps": 9,
        "final_loss": 0.5,
        "history": f"{tmp_path}/out/loss_history.jsonl",
    }
    assert json.loads((tmp_path / "out" / "loss_history.jsonl").read_text()) == {"step": 9, "loss": 0.5}
    assert task.xcoms["airflow_provider_lamini_job_url"] == "https://web.test/train/7"


@pytest.mark.parametrize(
    "states", [("COMPLETED",), ("PARTIALLY COMPLETED",), ("TRAINING MODEL", "COMPLETED")]
)
def test_a_job_that_runs_or_has_succeeded_is_not_resumed(tuning, resume, task, states):
    job = put(tuning, *states)
    with log_lines() as lines:
        assert run_to_end(resume(), task).result["status"] == states[-1]
    assert job.resumes == 0
    assert any(line.startswith("Attached to tuning job 7; waiting up to") for line in lines)
    assert not any("Submitted" in line for line in lines)


def test_a_task_that_does_not_wait_returns_the_job_id(tuning, resume, task):
    job = put(tuning, "FAILED")
    assert run_to_end(resume(wait=False), task).result == {"job_id": "7"}
    assert job.resumes == 1


def test_a_retry_attaches_to_the_resumed_job(tuning, resume, task):
    job = put(tuning, "FAILED")
    tuning.after_resume = [(*["TRAINING MODEL"] * 4, "COMPLETED")]
    begin(resume(), task)
    run_to_end(resume(), task)
    assert job.resumes == 1


def test_a_retry_resumes_again_a_job_that_failed_again(tuning, resume, task):
    job = put(tuning, "FAILED")
    tuning.after_resume = [("TRAINING MODEL", "FAILED"), ("TRAINING MODEL", "COMPLETED")]
    with pytest.raises(JobFailedError, match="A retry resumes it again"):
        run_to_end(resume(), task)
    assert run_to_end(resume(), task).result["status"] == "COMPLETED"
    assert job.resumes == 2


def test_a_lost_response_does_not_resume_the_job_twice(tuning, resume, task):
    job = put(tuning, "FAILED")
    tuning.lose = ["/v1/train/jobs/7/resume"]
    assert run_to_end(resume(), task).result["status"] == "COMPLETED"
    assert job.resumes == 1


def test_a_refusal_to_resume_fails_the_task(tuning, resume, task):
    put(tuning, "FAILED")
    tuning.fail["/v1/train/jobs/7/resume"] = [(400, "max_steps is reached")]
    with pytest.raises(BadRequestError, match="max_steps is reached"):
        run_to_end(resume(), task)


@pytest.mark.parametrize("job_id", ["", None, 1.5, True, ["7"]])
def test_an_invalid_id_is_rejected_before_anything_is_sent(tuning, resume, task, job_id):
    with pytest.raises(InvalidArgumentError, match="job_id"):
        run_to_end(resume(job_id=job_id), task)
    assert not tuning.request_counts


def test_a_job_that_does_not_exist_fails_the_task(tuning, resume, task):
    with pytest.raises(JobNotFoundError):
        run_to_end(resume(), task)
    assert list(tuning.request_counts) == ["GET /v1/train/jobs/7"]


def test_killing_the_task_cancels_the_job_again(tuning, resume, task):
    job = put(tuning, "FAILED")
    tuning.after_resume = [("TRAINING MODEL",)]
    operator = resume()()
    from airflow.providers.common.compat.sdk import TaskDeferred

    with pytest.raises(TaskDeferred):
        operator.execute({"ti": task})
    operator.on_kill()
    assert job.state == "CANCELLED"


# ---- cancel -------------------------------------------------------------------------------------------------


def cancel(ti=TI, **arguments):
    return execute(LaminiCancelJobOperator(task_id="cancel", **{"job_id": "7", **arguments}), ti)


def test_a_running_job_is_cancelled(tuning):
    put(tuning, "TRAINING MODEL", "TRAINING MODEL")
    assert cancel(job_id=7) == {"job_id": "7", "kind": "tuning", "cancelled": True, "status": "CANCELLED"}


@pytest.mark.parametrize("word", ["COMPLETED", "FAILED", "CANCELLED"])
def test_an_ended_job_is_left_as_it_is(tuning, word):
    job = put(tuning, word)
    assert cancel() == {"job_id": "7", "kind": "tuning", "cancelled": False, "status": word}
    assert job.state == word
    assert "POST /v1/train/jobs/7/cancel" not in tuning.request_counts


def test_a_cancelled_job_is_linked(tuning):
    put(tuning, "TRAINING MODEL", "TRAINING MODEL")
    task = LinkedTask(task_id="cancel")
    cancel(task)
    assert task.xcoms["airflow_provider_lamini_job_url"] == "https://web.test/train/7"


def test_cancelling_twice_does_no_harm(tuning):
    put(tuning, "TRAINING MODEL", "TRAINING MODEL")
    assert [cancel()["cancelled"], cancel()["cancelled"]] == [True, False]


@pytest.mark.parametrize("kind", ["memory_rag", "Batch Completions", "model download"])
def test_kinds_that_cannot_be_cancelled_are_rejected_before_anything_is_sent(tuning, kind):
    with pytest.raises(InvalidArgumentError, match=r"cannot cancel .* and bills"):
        cancel(kind=kind)
    assert not tuning.request_counts


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"kind": "deployment"}, "kind must be one of tuning, memory_rag, classifier"),
        ({"kind": None}, "kind must be one of"),
        ({"job_id": " "}, "job_id"),
        ({"lamini_conn_id": ""}, "lamini_conn_id"),
    ],
)
def test_invalid_arguments_are_rejected_before_anything_is_sent(tuning, arguments, problem):
    with pytest.raises(InvalidArgumentError, match=problem):
        cancel(**arguments)
    assert not tuning.request_counts


def test_the_log_names_the_cancelled_job(tuning):
    put(tuning, "TRAINING MODEL", "TRAINING MODEL")
    with log_lines() as lines:
        cancel()
    assert any("Tuning job 7 is cancelled" in line for line in lines)
