"""What each kind of job makes of the platform's answers."""

from __future__ import annotations

import json
import time

import pytest

from airflow_provider_lamini.jobs.state import JobState
from airflow_provider_lamini.platforms import job_kind


def look(kind: str, answer: object, job_id: str = "7"):
    call = job_kind(kind).status(job_id)
    return call.parse(json.dumps(answer).encode())


def test_a_tuning_job_has_the_platforms_state():
    status = look("lamini/tuning", {"job_id": 7, "status": "TRAINING MODEL"})
    assert (status.job_id, status.state, status.raw) == ("7", JobState.RUNNING, "TRAINING MODEL")


@pytest.mark.parametrize(("count", "state"), [(0, JobState.QUEUED), (2, JobState.TIMED_OUT)])
def test_a_timed_out_tuning_job_has_not_ended_while_the_platform_resumes_it_itself(count, state):
    answer = {"job_id": 7, "status": "TIMED OUT", "resume_count": count, "resume_limit": 2}
    assert look("lamini/tuning", answer).state is state


@pytest.mark.parametrize(
    ("told", "detail"),
    [({"detail": "out of memory"}, "out of memory"), ({"detail": {"a": 1}}, None), ({}, None)],
)
def test_a_tuning_job_that_failed_tells_why_where_the_platform_does(told, detail):
    status = look("lamini/tuning", {"job_id": 7, "status": "FAILED", **told})
    assert (status.state, status.detail) == (JobState.FAILED, detail)


def in_list(listing, job_ids):
    """How these jobs stand by a list."""
    return {job: status for piece in listing.read(job_ids) for job, status in piece.items()}


def test_all_tuning_jobs_are_told_by_one_list():
    call = job_kind("lamini/tuning").list_statuses()
    answer = [{"job_id": 1, "status": "COMPLETED"}, {"job_id": "2", "status": "FAILED"}]
    found = in_list(call.parse(json.dumps(answer).encode()), ["1", "2"])
    assert {job: status.state for job, status in found.items()} == {
        "1": JobState.SUCCEEDED,
        "2": JobState.FAILED,
    }


@pytest.mark.parametrize("answer", [{"status": "COMPLETED"}, {"outputs": {"status": "completed"}}])
def test_a_memory_rag_index_is_told_in_both_forms(answer):
    assert look("lamini/memory_rag", answer).state is JobState.SUCCEEDED


@pytest.mark.parametrize(
    ("answer", "state"),
    [
        ({"job_id": "7", "status": "TRAINING_MODEL", "model_id": None}, JobState.RUNNING),
        ({"job_id": "7", "status": "COMPLETED", "model_id": "m"}, JobState.SUCCEEDED),
        ({"job_id": "7", "status": "FAILED"}, JobState.FAILED),
    ],
)
def test_a_classifier_job_has_the_platforms_state(answer, state):
    assert look("lamini/classifier", answer).state is state


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({"status": "FAILED", "detail": "too few examples"}, "too few examples"),
        ({"outputs": {"status": "FAILED", "detail": "too few examples"}}, "too few examples"),
        ({"status": "FAILED", "detail": " "}, None),
        ({"status": "FAILED", "detail": {"code": 7}}, None),
        ({"status": "FAILED"}, None),
    ],
)
def test_a_classifier_job_tells_the_platforms_reason_where_that_is_a_text(answer, reason):
    assert look("lamini/classifier", answer).detail == reason


@pytest.mark.parametrize(
    ("answer", "state", "done"),
    [
        ({}, JobState.QUEUED, 0),
        ({"outputs": [None, None], "finish_reason": [None, "stop"]}, JobState.RUNNING, 1),
        ({"outputs": ["a", "b"], "finish_reason": ["length", "stop"]}, JobState.SUCCEEDED, 2),
    ],
)
def test_a_batch_has_ended_when_each_row_has(answer, state, done):
    status = look("lamini/batch_completions", answer)
    assert (status.state, status.done) == (state, done)


def test_batch_embeddings_are_done_when_there_are_vectors():
    assert look("lamini/batch_embeddings", {}).state is JobState.QUEUED
    assert look("lamini/batch_embeddings", {"embedding": [[0.5], [0.25]]}).state is JobState.SUCCEEDED


def test_a_model_download_is_found_in_the_list_by_its_name():
    listed = [
        {"model_name": "a", "status": "available"},
        {"model_name": "b", "status": "failed", "prev_download_error": "no such model"},
    ]
    assert look("lamini/model_download", listed, "a").state is JobState.SUCCEEDED
    assert look("lamini/model_download", listed, "b").detail == "no such model"
    assert look("lamini/model_download", listed, "c").state is JobState.QUEUED


@pytest.mark.parametrize(
    ("reason", "shown"),
    [
        ("401 for hf_AbCdEfGhIjKlMnOpQrSt: no such repository", "401 for ***: no such repository"),
        ("Authorization: Bearer abc.def-123456 was refused", "Authorization: Bearer *** was refused"),
        (
            "cannot clone https://me:secret@hub.example.com/org/b",
            "cannot clone https://***@hub.example.com/org/b",
        ),
        ("hf_transfer is not installed", "hf_transfer is not installed"),
    ],
)
def test_why_a_download_failed_is_told_without_the_hubs_token(reason, shown):
    listed = [{"model_name": "b", "status": "failed", "prev_download_error": reason}]
    assert look("lamini/model_download", listed, "b").detail == shown


@pytest.mark.parametrize(("kind", "method"), [("lamini/tuning", "POST"), ("lamini/classifier", "POST")])
def test_what_can_be_cancelled_is_cancelled_by_its_id(kind, method):
    call = job_kind(kind).cancel("7")
    assert call.method == method
    assert "7" in f"{call.path} {call.json}"


def steps(*each):
    return json.dumps(
        [{"step": step, "loss": loss, "learning_rate": 9e-4, "epoch": 0.5} for step, loss in each]
    )


def test_a_running_tuning_job_tells_how_far_it_is():
    history = json.dumps([{"step": 60, "loss": 2.5, "learning_rate": 9e-4, "remaining_time": 750.2}])
    status = look("lamini/tuning", {"job_id": 7, "status": "TRAINING MODEL", "history": history})
    assert status.done == 60
    assert status.detail == "step 60, loss 2.5, learning rate 0.0009, about 13 min left"


@pytest.mark.parametrize(
    ("history", "step"),
    [
        (steps((10, 2.0), (20, 1.5)), 20),
        (steps((10, 2.0), (20, 1.5)) + "\n", 20),
        (json.dumps([{"step": 1}, {"step": 2, "loss": 1, "more": {"deep": 1}}]), 2),
        ("[]", None),
        ("", None),
        (None, None),
        ("not json }", None),
        ([{"step": 5}], 5),
    ],
)
def test_the_last_step_is_found_in_histories_of_all_forms(history, step):
    assert look("lamini/tuning", {"job_id": 7, "status": "TRAINING MODEL", "history": history}).done == step


def test_an_ended_tuning_job_tells_no_step_as_its_reason():
    answer = {"job_id": 7, "status": "FAILED", "history": steps((10, 2.0))}
    assert look("lamini/tuning", answer).detail is None


def test_a_list_of_long_histories_is_read_quickly():
    """One list answers for hundreds of jobs, each with thousands of steps, while a triggerer waits."""
    history = steps(*((step, 1.0) for step in range(5000)))
    call = job_kind("lamini/tuning").list_statuses()
    jobs = [{"job_id": n, "status": "TRAINING MODEL", "history": history} for n in range(200)]
    answer = json.dumps(jobs).encode()
    started = time.perf_counter()
    found = in_list(call.parse(answer), [str(n) for n in range(200)])
    assert time.perf_counter() - started < 5
    assert {status.done for status in found.values()} == {4999}
