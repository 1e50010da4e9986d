"""The status that each kind of Lamini job has for each response."""

from __future__ import annotations

import json
import time

import pytest

from airflow_provider_lamini.jobs.state import FailureCause, JobProgress, JobState, ProgressUnit
from airflow_provider_lamini.platforms import job_kind


def status_of(kind: str, response: object, job_id: str = "7"):
    call = job_kind(kind).status(job_id)
    return call.parse(json.dumps(response).encode())


def test_a_tuning_job_has_the_state_of_the_status_word():
    status = status_of("lamini/tuning", {"job_id": 7, "status": "TRAINING MODEL"})
    assert (status.job_id, status.state, status.raw) == ("7", JobState.RUNNING, "TRAINING MODEL")


@pytest.mark.parametrize(("count", "state"), [(0, JobState.QUEUED), (2, JobState.TIMED_OUT)])
def test_a_timed_out_tuning_job_has_not_ended_while_the_platform_resumes_it_itself(count, state):
    response = {"job_id": 7, "status": "TIMED OUT", "resume_count": count, "resume_limit": 2}
    assert status_of("lamini/tuning", response).state is state


@pytest.mark.parametrize(
    ("fields", "detail"),
    [({"detail": "out of memory"}, "out of memory"), ({"detail": {"a": 1}}, None), ({}, None)],
)
def test_a_failed_tuning_job_has_the_platforms_reason_as_its_detail(fields, detail):
    status = status_of("lamini/tuning", {"job_id": 7, "status": "FAILED", **fields})
    assert (status.state, status.detail) == (JobState.FAILED, detail)


def test_one_list_contains_all_tuning_jobs():
    call = job_kind("lamini/tuning").list_statuses("", ["1", "2"])
    response = [{"job_id": 1, "status": "COMPLETED"}, {"job_id": "2", "status": "FAILED"}]
    found = call.parse(json.dumps(response).encode()).statuses
    assert {job: status.state for job, status in found.items()} == {
        "1": JobState.SUCCEEDED,
        "2": JobState.FAILED,
    }


@pytest.mark.parametrize("response", [{"status": "COMPLETED"}, {"outputs": {"status": "completed"}}])
def test_a_memory_rag_status_is_read_in_both_forms(response):
    assert status_of("lamini/memory_rag", response).state is JobState.SUCCEEDED


@pytest.mark.parametrize(
    ("response", "state"),
    [
        ({"job_id": "7", "status": "TRAINING_MODEL", "model_id": None}, JobState.RUNNING),
        ({"job_id": "7", "status": "COMPLETED", "model_id": "m"}, JobState.SUCCEEDED),
        ({"job_id": "7", "status": "FAILED"}, JobState.FAILED),
    ],
)
def test_a_classifier_job_has_the_state_of_the_status_word(response, state):
    assert status_of("lamini/classifier", response).state is state


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        ({"status": "FAILED", "detail": "too few examples"}, "too few examples"),
        ({"outputs": {"status": "FAILED", "detail": "too few examples"}}, "too few examples"),
        ({"status": "FAILED", "detail": " "}, None),
        ({"status": "FAILED", "detail": {"code": 7}}, None),
        ({"status": "FAILED"}, None),
    ],
)
def test_a_classifier_job_has_the_platforms_reason_if_it_is_a_text(response, reason):
    assert status_of("lamini/classifier", response).detail == reason


@pytest.mark.parametrize(
    ("response", "state", "done"),
    [
        ({}, JobState.QUEUED, 0),
        ({"outputs": [None, None], "finish_reason": [None, "stop"]}, JobState.RUNNING, 1),
        ({"outputs": ["a", "b"], "finish_reason": ["length", "stop"]}, JobState.SUCCEEDED, 2),
    ],
)
def test_a_batch_has_ended_when_each_row_has(response, state, done):
    status = status_of("lamini/batch_completions", response)
    assert (status.state, status.rows.done) == (state, done)


def test_batch_embeddings_have_ended_once_there_are_vectors():
    assert status_of("lamini/batch_embeddings", {}).state is JobState.QUEUED
    assert status_of("lamini/batch_embeddings", {"embedding": [[0.5], [0.25]]}).state is JobState.SUCCEEDED


def test_a_model_download_is_found_in_the_list_by_its_name():
    listed = [
        {"model_name": "a", "status": "available"},
        {"model_name": "b", "status": "failed", "prev_download_error": "no such model"},
    ]
    assert status_of("lamini/model_download", listed, "a").state is JobState.SUCCEEDED
    assert status_of("lamini/model_download", listed, "b").detail == "no such model"
    assert status_of("lamini/model_download", listed, "c").state is JobState.QUEUED


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
def test_the_reason_of_a_failed_download_contains_no_token(reason, shown):
    listed = [{"model_name": "b", "status": "failed", "prev_download_error": reason}]
    assert status_of("lamini/model_download", listed, "b").detail == shown


@pytest.mark.parametrize(("kind", "method"), [("lamini/tuning", "POST"), ("lamini/classifier", "POST")])
def test_cancel_calls_contain_the_job_id(kind, method):
    call = job_kind(kind).cancel("7")
    assert call.method == method
    assert "7" in f"{call.path} {call.json}"


def steps(*losses):
    return json.dumps(
        [{"step": step, "loss": loss, "learning_rate": 9e-4, "epoch": 0.5} for step, loss in losses]
    )


def test_a_running_tuning_job_has_its_step_as_progress():
    history = json.dumps([{"step": 60, "loss": 2.5, "learning_rate": 9e-4, "remaining_time": 750.2}])
    status = status_of("lamini/tuning", {"job_id": 7, "status": "TRAINING MODEL", "history": history})
    assert status.progress == JobProgress(60, ProgressUnit.STEPS)
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
def test_the_last_step_is_found_in_every_form_of_history(history, step):
    status = status_of("lamini/tuning", {"job_id": 7, "status": "TRAINING MODEL", "history": history})
    assert (status.progress.done if status.progress else None) == step


def test_an_ended_tuning_job_does_not_give_a_step_as_its_reason():
    response = {"job_id": 7, "status": "FAILED", "history": steps((10, 2.0))}
    assert status_of("lamini/tuning", response).detail is None


def test_a_list_with_long_histories_is_parsed_quickly():
    """One list contains hundreds of jobs, each with thousands of steps, and the triggerer waits meanwhile."""
    history = steps(*((step, 1.0) for step in range(5000)))
    call = job_kind("lamini/tuning").list_statuses("", [str(n) for n in range(200)])
    jobs = [{"job_id": n, "status": "TRAINING MODEL", "history": history} for n in range(200)]
    response = json.dumps(jobs).encode()
    started = time.perf_counter()
    found = call.parse(response).statuses
    assert time.perf_counter() - started < 5
    assert {status.progress.done for status in found.values()} == {4999}


@pytest.mark.parametrize("kind", ["lamini/batch_completions", "lamini/batch_embeddings"])
@pytest.mark.parametrize(
    ("text", "state", "detail"),
    [
        ("Batch 7 failed: Rows 0 to 3: too long", JobState.FAILED, "Rows 0 to 3: too long"),
        ("batch '7' has failed.", JobState.FAILED, None),
        ("Batch 7 cancelled: by its owner", JobState.CANCELLED, "by its owner"),
        ("Batch 7 timed out", JobState.TIMED_OUT, None),
    ],
)
def test_an_error_that_says_how_a_batch_has_ended_is_its_status(kind, text, state, detail):
    status = job_kind(kind).status("7").of_refusal(500, text)
    assert (status.job_id, status.state, status.detail) == ("7", state, detail)


@pytest.mark.parametrize("kind", ["lamini/batch_completions", "lamini/batch_embeddings"])
@pytest.mark.parametrize(
    ("code", "reason", "cause"),
    [
        (400, "the text 'network of quota' of row 3 is too long", FailureCause.INPUT),
        (422, "row 3", FailureCause.INPUT),
        (429, "row 3 is too long", FailureCause.PLATFORM),
        (503, "row 3 is too long", FailureCause.PLATFORM),
        (513, "the model", FailureCause.PLATFORM),
        (500, "the monthly quota is used up", FailureCause.PLATFORM),
        (500, "CUDA error: 503 from a worker", FailureCause.PLATFORM),
        (500, "Rows 0 to 3: invalid input", None),
        (500, "", None),
    ],
)
def test_the_status_of_an_error_tells_more_about_the_reason_of_a_failure_than_its_words(
    kind, code, reason, cause
):
    status = job_kind(kind).status("7").of_refusal(code, f"Batch 7 failed: {reason}")
    assert (status.state, status.cause) == (JobState.FAILED, cause)


@pytest.mark.parametrize(
    "text", ["Internal Server Error", "Batch 17 failed: x", "Reading batch 7 did not work", ""]
)
def test_any_other_error_says_nothing_about_a_batch(text):
    assert job_kind("lamini/batch_embeddings").status("7").of_refusal(500, text) is None
