"""Tries of one task: a job is never started twice, never lost, and never another task's."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_lamini.api.errors import ModelNotFoundError, UnavailableError
from airflow_provider_lamini.exceptions import InvalidArgumentError, JobLostError, WaitTimeoutError
from tests.support.local_platform import wait_until
from tests.support.platforms import posts, submissions, totals
from tests.support.results import outputs
from tests.support.tasks import begin, log_lines, resume, run_to_end
from tests.support.upstream import text_for

pytestmark = pytest.mark.any_airflow

PROMPTS = [f"row {number} of all" for number in range(25)]
OUTPUTS = [text_for(prompt) for prompt in PROMPTS]
RESULT = "/v1/batch_completions/.*/result"


def recorded_jobs(out):
    """The ids of the running jobs, from the ledger."""
    try:
        chunks = json.loads((out / "_ledger.json").read_text())["open"]
    except FileNotFoundError:
        return []
    return [
        submission["job_id"] for chunk in chunks for submission in chunk["rounds"] if submission["job_id"]
    ]


# -- a try that died -------------------------------------------------------------------------------


def test_the_next_try_attaches_to_the_jobs_of_one_that_died_while_it_waited(
    platform, inference, rows, engine
):
    platform.control.hold()
    begin(inference())
    assert submissions(platform) == 2
    platform.control.release()
    wait_until(lambda: all(job["ended"] for job in platform.control.jobs()))

    with log_lines() as lines:
        ended = run_to_end(inference())
    assert totals(platform) == [10, 10, 5]
    assert outputs(rows()) == OUTPUTS
    assert sorted(engine.prompts) == sorted(PROMPTS)
    assert ended.result["counts"]["retried"] == 0
    jobs = [job["id"] for job in platform.control.jobs()]
    assert f"Attached to job {jobs[0]} for rows 0 to 9." in lines
    assert f"Attached to job {jobs[1]} for rows 10 to 19." in lines


def test_the_next_try_waits_for_jobs_that_still_run(platform, inference, rows):
    platform.control.hold()
    first = begin(inference())
    second = begin(inference())
    assert second.trigger["job_ids"] == first.trigger["job_ids"]
    assert second.trigger["submitted_at"] == first.trigger["submitted_at"]
    assert second.trigger["deadline"] > first.trigger["deadline"]
    platform.control.release()
    run_to_end(inference())
    assert submissions(platform) == 3
    assert outputs(rows()) == OUTPUTS


def test_an_old_try_that_resumes_late_finds_nothing_left_to_do(platform, inference):
    """This happens if a triggerer that was taken for dead reports its event after all."""
    old = begin(inference())
    event = old.wait()
    ended = run_to_end(inference())
    before = posts(platform)
    assert resume(inference(), old, event) == ended.result
    assert posts(platform) == before


def test_two_simultaneous_tries_send_each_chunk_once(platform, inference, rows, out):
    """Airflow takes the old one for dead, but it waits in its worker. It stops as soon as it continues."""
    from airflow_provider_lamini.rows.errors import LedgerLostError

    platform.control.hold()
    with ThreadPoolExecutor(1) as thread:
        old = thread.submit(run_to_end, inference(deferrable=False))
        wait_until(lambda: len(recorded_jobs(out)) == 2)
        begin(inference())
        platform.control.release()
        with pytest.raises(LedgerLostError):
            old.result(30)
    assert run_to_end(inference()).result["counts"]["ok"] == 25
    assert submissions(platform) == 3
    assert outputs(rows()) == OUTPUTS


def test_clearing_a_finished_task_sends_nothing_and_returns_the_same_result(platform, inference):
    first = run_to_end(inference())
    before = posts(platform)
    again = run_to_end(inference())
    assert again.result == first.result
    assert again.deferrals == []
    assert posts(platform) == before


def test_settings_that_do_not_decide_results_may_change_between_tries(platform, inference, rows):
    platform.control.hold()
    begin(inference())
    platform.control.release()
    run_to_end(inference(max_in_flight=1, row_retries=3, poll_interval=0.7, max_failed_rows="1%", timeout=60))
    assert submissions(platform) == 3
    assert outputs(rows()) == OUTPUTS


def test_a_run_goes_on_if_keys_come_in_another_order(platform, inference, rows):
    given = [{"id": number, "prompt": prompt} for number, prompt in enumerate(PROMPTS)]
    platform.control.hold()
    begin(inference(input=given, prompt="prompt"))
    platform.control.release()
    run_to_end(inference(input=[dict(reversed(row.items())) for row in given], prompt="prompt"))
    assert submissions(platform) == 3
    assert outputs(rows()) == OUTPUTS


@pytest.mark.parametrize("deferrable", [True, False])
def test_a_run_goes_on_with_another_chunk_size(platform, inference, rows, deferrable):
    platform.control.hold()
    begin(inference())
    platform.control.release()
    ended = run_to_end(inference(chunk_size=2, deferrable=deferrable))
    assert totals(platform) == [10, 10, 2, 2, 1]
    assert outputs(rows()) == OUTPUTS
    assert ended.result["chunks"] == 5
    assert run_to_end(inference(chunk_size=3)).result == ended.result
    assert totals(platform) == [10, 10, 2, 2, 1]


@pytest.mark.parametrize(
    "changed",
    [
        {"max_new_tokens": 5},
        {"output_type": {"said": "str"}},
        {"prompt": "Say {prompt}"},
        {"passthrough": ["prompt"]},
        {"endpoint": "completions"},
    ],
)
def test_other_settings_between_tries_are_rejected(platform, inference, changed):
    platform.control.hold()
    begin(inference())
    before = posts(platform)
    with pytest.raises(InvalidArgumentError, match="this task and run with other settings"):
        run_to_end(inference(**changed))
    assert posts(platform) == before


@pytest.mark.parametrize("endpoint", ["batch", "completions"])
def test_correcting_the_model_needs_no_new_folder(inference, rows, endpoint):
    """Nothing was submitted, so other settings lose nothing."""
    with pytest.raises(ModelNotFoundError, match="594"):
        run_to_end(inference(endpoint=endpoint, model_name="test/nothing"))
    run_to_end(inference(endpoint=endpoint))
    assert outputs(rows()) == OUTPUTS


def test_another_platform_behind_the_connection_is_another_run(platform, inference, monkeypatch):
    from tests.support.platforms import connect

    platform.control.hold()
    begin(inference())
    connect(monkeypatch, platform, host=platform.url.replace("127.0.0.1", "localhost"))
    with pytest.raises(InvalidArgumentError, match="this task and run with other settings"):
        run_to_end(inference())


# -- a submission whose response was lost ---------------------------------------------------------------


@pytest.mark.parametrize("lost", [{"drop": True}, {"status": 504}, {"truncate": 5}])
def test_the_error_of_a_submission_without_a_response_says_that_the_job_may_run(
    platform, inference, rows, lost
):
    platform.control.fault("/v1/batch_completions", when="after", skip=1, **lost)
    with pytest.raises(Exception, match="may run and bill") as caught:
        run_to_end(inference())
    assert caught.value.may_have_started
    assert totals(platform) == [10, 10]

    with log_lines() as lines:
        run_to_end(inference())
    assert totals(platform) == [10, 10, 10, 5]  # the second chunk again, nothing else
    assert outputs(rows()) == OUTPUTS
    again = "A job for rows 10 to 19 may have been started before; submitting it again. "
    assert any(line.startswith(again) for line in lines)


def test_a_submission_without_a_response_is_not_repeated_if_that_is_forbidden(platform, inference):
    make = inference(on_unknown_submission="fail")
    platform.control.fault("/v1/batch_completions", when="after", drop=True)
    with pytest.raises(UnavailableError):
        run_to_end(make)
    for _ in range(2):
        with pytest.raises(
            JobLostError,
            match=r"^Check the platform for a job for rows 0 to 9.*on_unknown_submission='submit'",
        ):
            run_to_end(make)
    assert totals(platform) == [10]

    run_to_end(inference(on_unknown_submission="submit"))
    assert totals(platform) == [10, 10, 10, 5]


@pytest.mark.parametrize("refused", [{"status": 401}, {"status": 404}, {"status": 497}])
def test_a_refused_submission_started_nothing(platform, inference, rows, refused):
    platform.control.fault("/v1/batch_completions", skip=1, **refused)
    with pytest.raises(Exception, match="Nothing was started") as caught:
        run_to_end(inference())
    assert not caught.value.may_have_started
    run_to_end(inference(on_unknown_submission="fail"))
    assert totals(platform) == [10, 10, 5]
    assert outputs(rows()) == OUTPUTS


def test_a_submission_is_retried_while_the_platform_is_too_busy(platform, inference):
    platform.control.fault("/v1/batch_completions", status=429, times=2, headers={"Retry-After": "0.2"})
    run_to_end(inference())
    assert totals(platform) == [10, 10, 5]


# -- jobs that the platform no longer knows -------------------------------------------------------------


def age_submissions(out, seconds, chunks=None):
    """Make the running jobs look older than they are."""
    ledger = json.loads((out / "_ledger.json").read_text())
    for chunk in ledger["open"]:
        if chunks is None or chunk["number"] in chunks:
            for submission in chunk["rounds"]:
                submission["submitted_at"] -= seconds
    (out / "_ledger.json").write_text(json.dumps(ledger))


def test_a_vanished_job_is_sent_again_once(platform, inference, rows):
    platform.control.hold()
    deferral = begin(inference())
    job_id = deferral.trigger["job_ids"][0]
    path = f"/v1/batch_completions/{job_id}/result"
    platform.control.fault(path, status=498, times=None)
    event = deferral.wait(submitted_at=time.time() - 600)
    assert event["lost"][job_id]["vanished"]
    platform.control.release()

    with log_lines() as lines, pytest.raises(TaskDeferred):
        resume(inference(), deferral, event)
    assert totals(platform) == [10, 10, 10]
    assert f"Job {job_id} has vanished from the platform; sending rows 0 to 9 again." in lines
    run_to_end(inference())
    assert totals(platform) == [10, 10, 10, 5]
    assert outputs(rows()) == OUTPUTS


def test_a_vanished_job_fails_the_task_if_resubmitting_is_forbidden(platform, inference):
    platform.control.hold()
    make = inference(on_unknown_submission="fail")
    deferral = begin(make)
    platform.control.fault(RESULT, status=498, times=None)
    event = deferral.wait(submitted_at=time.time() - 600)
    with pytest.raises(JobLostError, match="on_unknown_submission='submit'"):
        resume(make, deferral, event)
    assert totals(platform) == [10, 10]


def test_a_new_job_that_is_not_known_yet_is_polled_again(platform, inference, rows):
    """The replicas of a platform do not learn of a job at the same time."""
    platform.control.fault(RESULT, status=498, times=4)
    run_to_end(inference())
    assert totals(platform) == [10, 10, 5]
    assert outputs(rows()) == OUTPUTS


def test_a_new_job_is_not_taken_for_vanished_beside_an_old_one(platform, inference, rows, out):
    platform.control.hold()
    begin(inference())
    age_submissions(out, 3600, chunks=[0])
    new = platform.control.jobs()[1]["id"]
    platform.control.fault(f"/v1/batch_completions/{new}/result", status=498, times=3)

    run_to_end(inference(), while_deferred=lambda _: platform.control.release())
    assert totals(platform) == [10, 10, 5]
    assert outputs(rows()) == OUTPUTS


def test_a_job_that_cannot_be_polled_fails_the_task_and_stays_recorded(platform, inference, rows):
    platform.control.hold()
    deferral = begin(inference())
    platform.control.fault(RESULT, status=400, times=None)
    with pytest.raises(JobLostError, match="may still run and bill") as caught:
        resume(inference(), deferral, deferral.wait())
    assert any(job_id in str(caught.value) for job_id in deferral.trigger["job_ids"])
    platform.control.clear_faults()
    platform.control.release()
    run_to_end(inference())
    assert totals(platform) == [10, 10, 5]
    assert outputs(rows()) == OUTPUTS


# -- the timeout ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("deferrable", [True, False])
def test_a_timeout_fails_the_task_and_the_next_try_attaches(platform, inference, rows, deferrable):
    platform.control.hold()
    began = time.monotonic()
    with pytest.raises(WaitTimeoutError, match=r"timeout of 1 s has passed.*a retry attaches"):
        run_to_end(inference(timeout=1, deferrable=deferrable))
    assert 0.9 < time.monotonic() - began < 4
    platform.control.release()
    run_to_end(inference(deferrable=deferrable))
    assert submissions(platform) == 3
    assert outputs(rows()) == OUTPUTS


def test_all_deferrals_of_a_try_have_the_same_deadline(inference):
    before = time.time()
    ended = run_to_end(inference(chunk_size=5))
    assert len(ended.deferrals) >= 2
    assert before + 30 <= ended.deferrals[0].trigger["deadline"] <= before + 31
    assert {deferral.trigger["deadline"] for deferral in ended.deferrals} == {
        ended.deferrals[0].trigger["deadline"]
    }


def test_a_timeout_ends_a_direct_run_and_keeps_its_chunks(platform, inference, rows):
    # Few requests before the fault, because the machine may be busy.
    make = inference(endpoint="chat", chunk_size=2, max_in_flight=1, timeout=1.5)
    platform.control.fault("/inf/chat/completions", delay=30, skip=3, times=None)
    with pytest.raises(WaitTimeoutError, match="finished chunks are kept"):
        run_to_end(make)
    assert len(rows()) == 2
    platform.control.clear_faults()
    run_to_end(inference(endpoint="chat", chunk_size=2))
    assert outputs(rows()) == OUTPUTS


def test_the_progress_of_a_retry_counts_from_the_jobs_that_it_attaches_to(platform, inference, out):
    """Rows of chunks that the previous try has finished, and the time since it began, say nothing about the speed."""
    platform.control.hold(after_rows=10)
    deferral = begin(inference(max_in_flight=1))
    wait_until(lambda: platform.control.jobs()[0]["ended"] is not None)
    platform.control.release()
    platform.control.hold(after_rows=5)
    event, before = deferral.wait(), time.time()
    with pytest.raises(TaskDeferred):
        resume(inference(max_in_flight=1), deferral, event)
    ledger = json.loads((out / "_ledger.json").read_text())
    ledger["header"]["created_at"] -= 3600
    (out / "_ledger.json").write_text(json.dumps(ledger))
    progress = begin(inference(max_in_flight=1)).trigger["progress"]
    assert (progress["done"], progress["skipped"], progress["total"]) == (10, 10, 25)
    assert before <= progress["since"] <= time.time()


def test_a_superseded_process_leaves_the_folder_to_the_newer_one(platform, inference, rows):
    """A direct run notices it before its next request, not only at the end of a chunk."""
    from airflow_provider_lamini.rows.errors import LedgerLostError

    platform.control.fault("/v2/completions", delay=0.15, times=None)
    make = inference(endpoint="completions", max_in_flight=1, chunk_size=25)
    with ThreadPoolExecutor(1) as thread:
        old = thread.submit(run_to_end, make)
        wait_until(lambda: posts(platform).get("POST /v2/completions", 0) >= 2)
        assert run_to_end(make).result["counts"]["ok"] == 25
        with pytest.raises(LedgerLostError):
            old.result(30)
    assert posts(platform)["POST /v2/completions"] < 45
    assert outputs(rows()) == OUTPUTS
