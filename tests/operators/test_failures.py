"""Rows, jobs and platforms that fail: what is sent again, what is written, and what the error says."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from airflow_provider_lamini.api.errors import (
    AuthenticationError,
    ModelNotFoundError,
    NotThePlatformError,
    UnavailableError,
)
from airflow_provider_lamini.exceptions import InvalidArgumentError, JobFailedError, TooManyFailedRowsError
from tests.support.local_platform import wait_until
from tests.support.platforms import connect, posts, submissions
from tests.support.tasks import begin, log_lines, resume, run_to_end
from tests.support.upstream import text_for

pytestmark = pytest.mark.any_airflow

PROMPTS = [f"row {number} of all" for number in range(25)]
ENDPOINTS = ("batch", "completions", "chat")


def test_only_failed_rows_are_sent_again(platform, inference, rows, error_rows, engine):
    platform.control.row_fault("row 3 of", times=1)
    platform.control.row_fault("row 17 of", times=1)
    ended = run_to_end(inference())
    assert [row["output"] for row in rows()] == [text_for(prompt) for prompt in PROMPTS]
    assert error_rows() == []
    # Failed rows do not reach the engine, so each prompt reached it once.
    assert sorted(engine.prompts) == sorted(PROMPTS)
    assert sorted(job["total"] for job in platform.control.jobs()) == [1, 1, 5, 10, 10]
    counts = ended.result["counts"]
    assert (counts["ok"], counts["failed"], counts["retried"]) == (25, 0, 2)


def test_rows_that_fail_every_time_are_in_the_errors_file(platform, inference, rows, error_rows, out):
    platform.control.row_fault("row 3 of", times=None)
    platform.control.row_fault("row 4 of", times=1)
    ended = run_to_end(inference(max_failed_rows=1, row_retries=2, passthrough=["prompt"]))
    error = "the platform gave no output (finish_reason error)"
    assert error_rows() == [
        {"index": 3, "prompt": PROMPTS[3], "error_reason": "platform_error", "error": error}
    ]
    assert [row["error"] for row in rows()] == [error if number == 3 else None for number in range(25)]
    assert rows()[3]["output"] is None
    assert rows()[4]["output"] == text_for(PROMPTS[4])
    # The first two rounds have both failing rows, the third only the one that still fails.
    assert sorted(job["total"] for job in platform.control.jobs()) == [1, 2, 5, 10, 10]
    assert ended.result["errors"] == [f"{out}/errors-00000.jsonl"]
    counts = ended.result["counts"]
    assert (counts["ok"], counts["failed"], counts["retried"]) == (24, 1, 2)
    assert counts["failures"] == {"platform_error": 1}
    assert not (out / "_work").exists()


def test_without_retries_a_row_is_sent_once(platform, inference, error_rows):
    platform.control.row_fault("row 3 of", times=1)
    run_to_end(inference(max_failed_rows="10%", row_retries=0))
    assert [row["index"] for row in error_rows()] == [3]
    assert submissions(platform) == 3


def test_too_many_failed_rows_fail_the_task_and_keep_the_results(platform, inference, rows, error_rows, out):
    platform.control.row_fault("row 2", times=None)  # 2, and 20 to 24
    make = inference(max_failed_rows=5)
    with pytest.raises(TooManyFailedRowsError) as caught:
        run_to_end(make)
    message = str(caught.value)
    assert message.startswith("6 of 25 rows failed, and max_failed_rows allows 5 rows.")
    assert "By reason: 6 platform_error." in message
    assert str(out) in message
    assert "errors-*.jsonl" in message
    assert len(rows()) == 25
    assert (out / "manifest.json").exists()
    assert [row["index"] for row in error_rows()] == [2, 20, 21, 22, 23, 24]

    before = posts(platform)
    with pytest.raises(TooManyFailedRowsError):
        run_to_end(make)
    assert posts(platform) == before

    assert run_to_end(inference(max_failed_rows="30%")).result["counts"]["failed"] == 6
    assert posts(platform) == before


@pytest.mark.parametrize("endpoint", ["completions", "chat"])
def test_too_many_failed_rows_fail_a_direct_run_too(platform, inference, error_rows, out, endpoint):
    path = {"completions": "/v2/completions", "chat": "/inf/chat/completions"}[endpoint]
    platform.control.fault(path, status=422, times=6)
    with pytest.raises(TooManyFailedRowsError, match="6 of 10 rows failed"):
        run_to_end(inference(endpoint=endpoint, max_failed_rows=0.5, input=PROMPTS[:10]))
    assert len(error_rows()) == 6
    assert (out / "manifest.json").exists()


def test_too_many_failed_rows_stop_a_run_before_its_last_chunk(platform, inference, error_rows, rows):
    platform.control.row_fault("row", times=None)
    with pytest.raises(TooManyFailedRowsError, match="10 of 25 rows failed"):
        run_to_end(inference(row_retries=0, max_in_flight=1))
    assert submissions(platform) == 1
    assert len(error_rows()) == len(rows()) == 10


def test_the_error_names_jobs_that_still_run(platform, engine, inference):
    """Two jobs are running when the first of them fails the task."""
    for number in range(10):  # the rows of the first job; those of the second one wait for the engine
        platform.control.row_fault(f"row {number} of", times=None)
    make = inference(row_retries=0)

    engine.open.clear()
    deferral = begin(make)
    first, second = (job["id"] for job in platform.control.jobs())
    event = deferral.wait()
    assert list(event["ended"]) == [first]
    with pytest.raises(TooManyFailedRowsError, match=f"Still running, and billing: {second}"):
        resume(make, deferral, event)


@pytest.mark.parametrize("endpoint", ["completions", "chat"])
def test_a_refused_request_fails_only_its_row(platform, inference, rows, endpoint):
    path = {"completions": "/v2/completions", "chat": "/inf/chat/completions"}[endpoint]
    platform.control.fault(path, status=400, times=2, skip=3)
    ended = run_to_end(inference(endpoint=endpoint, max_failed_rows=2, max_in_flight=1, row_retries=3))
    failed = [row for row in rows() if row["error"] is not None]
    assert len(failed) == 2
    assert "400" in failed[0]["error"]
    assert posts(platform) == {f"POST {path}": 25}  # a refused request is not retried
    assert ended.result["counts"]["failed"] == 2


def test_a_request_with_an_invalid_response_is_retried(platform, inference, rows):
    platform.control.fault("/v2/completions", status=200, body="<html>Welcome</html>", times=1)
    ended = run_to_end(inference(endpoint="completions"))
    assert [row["output"] for row in rows()] == [text_for(prompt) for prompt in PROMPTS]
    assert posts(platform) == {"POST /v2/completions": 26}
    assert ended.result["counts"]["retried"] == 0  # the row did not fail


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_a_wrong_key_is_reported_clearly(platform, inference, monkeypatch, endpoint):
    connect(monkeypatch, platform, password="not-the-key-0123456789")
    with pytest.raises(AuthenticationError) as caught:
        run_to_end(inference(endpoint=endpoint))
    message = str(caught.value)
    assert "with 401 (the key is missing or wrong)" in message
    assert message.startswith("Check the key of the connection. ")
    assert "not-the-key" not in message
    assert platform.control.jobs() == []


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_a_wrong_address_is_not_taken_for_refused_rows(platform, inference, endpoint):
    platform.control.fault(path="/.*(completions)", method="POST", status=405, times=None)
    with pytest.raises(NotThePlatformError, match=r"^Check the connection's host, port and path prefix"):
        run_to_end(inference(endpoint=endpoint))
    assert submissions(platform) <= 1


@pytest.mark.parametrize(
    ("input_", "fix"),
    [
        ("rows.parquet", "pip install 'airflow-provider-lamini[parquet]'"),
        ("nothere://bucket/rows.jsonl", "Install its provider"),
    ],
)
def test_the_error_of_what_is_not_installed_hides_the_tracebacks_of_the_attempt(
    inference, tmp_path, monkeypatch, input_, fix
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    Path("rows.parquet").write_bytes(b"PAR1")
    with pytest.raises(InvalidArgumentError) as caught:
        run_to_end(inference(input=input_))
    assert fix in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ is True


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_a_retry_with_a_corrected_key_succeeds(platform, inference, monkeypatch, rows, endpoint):
    connect(monkeypatch, platform, password="not-the-key")
    with pytest.raises(AuthenticationError):
        run_to_end(inference(endpoint=endpoint))
    connect(monkeypatch, platform)
    run_to_end(inference(endpoint=endpoint))
    assert [row["output"] for row in rows()] == [text_for(prompt) for prompt in PROMPTS]


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_the_error_says_that_the_model_does_not_exist(inference, endpoint):
    with pytest.raises(ModelNotFoundError, match=r"594 \(no such model\)"):
        run_to_end(inference(endpoint=endpoint, model_name="test/nothing"))


@pytest.mark.parametrize("endpoint", ["batch", "chat"])
def test_requests_are_retried_while_the_model_is_loaded(platform, inference, rows, endpoint):
    platform.control.loading(0.6)
    run_to_end(inference(endpoint=endpoint, input=PROMPTS[:3]))
    assert [row["output"] for row in rows()] == [text_for(prompt) for prompt in PROMPTS[:3]]


def test_a_long_outage_fails_a_direct_run_and_keeps_its_finished_chunks(platform, inference, rows):
    platform.control.fault("/v2/completions", status=503, skip=12, times=None)
    make = inference(endpoint="completions", max_in_flight=1)
    with pytest.raises(UnavailableError, match="503"):
        run_to_end(make)
    assert [row["index"] for row in rows()] == list(range(10))
    platform.control.clear_faults()
    run_to_end(make)
    assert [row["output"] for row in rows()] == [text_for(prompt) for prompt in PROMPTS]


def test_a_row_that_always_gets_an_error_of_the_platform_is_a_failed_row(inference, engine, rows, platform):
    """If it is the last row left, the task sends a good row again to see whether the platform works."""
    engine.broken = "row 7 of"
    ended = run_to_end(inference(endpoint="completions", max_failed_rows=1, max_in_flight=2))
    engine.broken = None
    assert [row["index"] for row in rows() if row["error"] is not None] == [7]
    assert ended.result["counts"]["ok"] == 24
    assert posts(platform)["POST /v2/completions"] < 40


def test_an_outage_while_jobs_run_is_tolerated(platform, inference, rows):
    def outage(times):
        if times == 0:
            platform.control.fault("/v1/batch_completions/.*", status=503, times=3)

    with log_lines() as lines:
        run_to_end(inference(), while_deferred=outage)
    assert [row["output"] for row in rows()] == [text_for(prompt) for prompt in PROMPTS]
    assert submissions(platform) == 3
    assert any(line.startswith("The last poll failed, ") for line in lines)


@pytest.mark.parametrize("state", ["failed", "cancelled", "timed out"])
def test_rows_of_a_job_that_the_platform_ended_are_sent_again(platform, inference, rows, state):
    """The batch endpoint reports rows only: those that such a job did not process are failed rows."""
    platform.control.hold(after_rows=4)

    def end(times):
        if times == 0:
            wait_until(lambda: [job["done"] for job in platform.control.jobs()] == [4, 4])
            platform.control.end(platform.control.jobs()[0]["id"], state)
            platform.control.release()

    run_to_end(inference(), while_deferred=end)
    assert [row["output"] for row in rows()] == [text_for(prompt) for prompt in PROMPTS]
    assert sorted(job["total"] for job in platform.control.jobs()) == [5, 6, 10, 10]


def test_a_failed_job_fails_the_task_and_a_retry_sends_its_rows(platform, inference, rows):
    """Batches report no such state, so this test makes the event itself."""
    platform.control.hold()
    make = inference()
    deferral = begin(make)
    job_id = deferral.trigger["job_ids"][0]
    event = {
        "version": 1,
        "ended": {
            job_id: {"state": "failed", "raw": "FAILED", "detail": "no GPU was free", "cause": "platform"}
        },
        "lost": {},
        "timed_out": False,
        "deadline": deferral.trigger["deadline"],
    }
    with pytest.raises(
        JobFailedError, match=f"Job {job_id} for rows 0 to 9 ended as FAILED: no GPU was free"
    ):
        resume(make, deferral, event)
    platform.control.release()
    run_to_end(make)
    assert [row["output"] for row in rows()] == [text_for(prompt) for prompt in PROMPTS]
    assert submissions(platform) == 4


def test_no_error_and_no_log_line_contains_a_prompt_or_the_key(platform, inference, out):
    platform.control.row_fault("row", times=None)
    with log_lines() as lines, pytest.raises(TooManyFailedRowsError) as caught:
        run_to_end(inference(prompt="secret {prompt}", input=PROMPTS[:5]))
    texts = [*lines, str(caught.value), *(path.read_text() for path in out.rglob("*.json*"))]
    assert lines
    assert not [text for text in texts if "secret" in text or "of all" in text or platform.key in text]
