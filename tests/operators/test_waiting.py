"""While a task waits: what Airflow stores of it, what its log says, and what a kill does."""

from __future__ import annotations

import asyncio
import json
import re
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.local_platform import wait_until
from tests.support.platforms import submissions
from tests.support.tasks import WAITING, begin, kill_once, log_lines, resume, run_to_end
from tests.support.upstream import text_for

PROMPTS = [f"row {number} of all" for number in range(25)]
PROGRESS = re.compile(r"(\d+) of 25 rows done, 2 jobs in progress(, [\d.]+ rows/s, about \d+ s left)?")


def test_airflow_stores_only_ids_and_numbers(platform, inference):
    ended = run_to_end(inference(prompt="a secret: {prompt}", output_type={"mood": ["good", "bad"]}))
    first = ended.deferrals[0]
    assert first.classpath == "airflow_provider_lamini.triggers.job.JobTrigger"
    assert first.kwargs == {}
    trigger = dict(first.trigger)
    jobs = [job["id"] for job in platform.control.jobs()]
    assert trigger.pop("job_ids") == jobs[:2]
    progress = trigger.pop("progress")
    assert (progress["done"], progress["total"]) == (0, 25)
    assert all(isinstance(value, int | float) for value in progress.values())
    assert time.time() - 30 < trigger.pop("submitted_at") < trigger.pop("deadline") < time.time() + 30
    assert trigger == {
        "version": 1,
        "conn_id": "lamini_default",
        "kind": "lamini/batch_completions",
        "poll_interval": WAITING["poll_interval"],
        "min_ended": 1,
        "cancel_on_kill": True,
    }
    for stored in (*(deferral.trigger for deferral in ended.deferrals), *ended.events):
        text = json.dumps(stored)
        assert not any(word in text for word in ("secret", "of all", "good", platform.key))


@pytest.mark.any_airflow
def test_two_hundred_jobs_take_little_space_in_airflows_database(platform, inference, rows):
    platform.control.hold()
    prompts = [f"one long prompt {'x' * 500} {number}" for number in range(200)]
    make = inference(input=prompts, chunk_size=1, max_in_flight=200)
    deferral = begin(make)
    assert submissions(platform) == 200
    assert len(deferral.trigger["job_ids"]) == 200
    assert len(json.dumps(deferral.trigger)) < 10_000
    platform.control.release()
    wait_until(lambda: all(job["ended"] for job in platform.control.jobs()))
    event = deferral.wait()
    assert len(event["ended"]) == 200
    assert len(json.dumps(event)) < 30_000
    assert resume(make, deferral, event)["counts"]["ok"] == 200
    assert [row["output"] for row in rows()] == [text_for(prompt) for prompt in prompts]


@pytest.mark.parametrize("event", [None, {}, {"version": 0}, {"status": "success"}, "done"])
def test_a_task_resumed_with_an_unknown_event_says_so(inference, event):
    make = inference()
    deferral = begin(make)
    with pytest.raises(ValueError, match="not an event of JobTrigger"):
        resume(make, deferral, event)


@pytest.mark.parametrize("deferrable", [True, False])
def test_the_log_shows_the_progress_at_most_once_per_poll(platform, inference, deferrable):
    platform.control.hold(after_rows=4)
    with log_lines() as lines, ThreadPoolExecutor(1) as thread:
        began = time.monotonic()
        running = thread.submit(run_to_end, inference(deferrable=deferrable))
        wait_until(lambda: any(line.startswith("8 of 25") for line in lines))
        waited = time.monotonic() - began
        shown = [line for line in lines if PROGRESS.match(line)]
        platform.control.release()
        assert running.result(30).result["counts"]["ok"] == 25
    assert 1 <= len(shown) <= waited / WAITING["poll_interval"]
    assert PROGRESS.fullmatch(shown[-1])[2] is not None


def test_the_log_of_a_resumed_task_says_what_its_triggers_saw(inference):
    """Airflow keeps the log of the last trigger only."""
    with log_lines() as lines:
        ended = run_to_end(inference(max_in_flight=1))
    shown = [line for line in lines if line.startswith("Waited ")]
    assert len(shown) == len(ended.deferrals) == 3
    assert [line.partition(": ")[2] for line in shown] == [
        f"1 of 1 job ended, {done} of 25 rows done." for done in (10, 20, 25)
    ]


def test_the_speed_of_a_task_that_attaches_counts_from_the_submission_of_its_jobs(platform, inference):
    platform.control.hold(after_rows=4)
    make = inference()
    first = begin(make)
    again = begin(make)
    assert again.trigger["job_ids"] == first.trigger["job_ids"]
    assert again.trigger["progress"]["since"] <= first.trigger["submitted_at"]
    platform.control.release()


def test_the_log_shows_the_input_and_the_output_of_a_run(inference, out):
    with log_lines() as lines:
        run_to_end(inference())
    assert (
        f"Validated a list of 25 rows: 25 rows, 315 characters of prompts. The output goes to {out}." in lines
    )
    assert f"Wrote 25 rows to {out}; 0 failed." in lines


def test_the_log_of_a_run_that_is_cleared_after_its_end_says_that_nothing_is_sent(platform, inference, out):
    run_to_end(inference())
    sent = submissions(platform)
    with log_lines() as lines:
        run_to_end(inference())
    assert submissions(platform) == sent
    assert "This run has ended before, and its arguments are the same: nothing is sent." in lines
    assert f"Earlier, this task wrote 25 rows to {out}; 0 failed." in lines
    assert not any(line.startswith(("Wrote", "Resuming")) for line in lines)


@pytest.mark.parametrize("endpoint", ["completions", "chat"])
def test_the_log_of_a_direct_run_shows_its_progress(inference, engine, endpoint):
    engine.tokens_per_second = 80  # a row takes 50 ms
    began = time.monotonic()
    with log_lines() as lines:
        run_to_end(inference(endpoint=endpoint, max_in_flight=1, poll_interval=0.4))
    seconds = time.monotonic() - began
    shown = [line for line in lines if re.match(r"\d+ of 25 rows done", line)]
    assert 1 <= len(shown) <= seconds / 0.4 + 1
    assert "rows/s" in shown[-1]
    assert not any("job" in line for line in shown)


# -- killed -----------------------------------------------------------------------------------------------


BILLS = "Batch completions job {} cannot be cancelled (the platform has no call for it): it runs to its end, and bills."


@pytest.mark.parametrize("cancel_on_kill", [True, False])
def test_the_log_of_a_killed_task_says_that_its_batches_keep_running(platform, inference, cancel_on_kill):
    platform.control.hold()
    make = inference(deferrable=False, cancel_on_kill=cancel_on_kill)
    with log_lines() as lines:
        kill_once(lambda: any(PROGRESS.match(line) for line in lines), make)
    jobs = [job["id"] for job in platform.control.jobs()]
    assert len(jobs) == 2
    if cancel_on_kill:
        assert [BILLS.format(job_id) for job_id in jobs] == [line for line in lines if "bills" in line]
    else:
        assert f"cancel_on_kill is off: 2 jobs keep running and bill ({jobs[0]}, {jobs[1]})." in lines
    assert all(job["ended"] is None for job in platform.control.jobs())


def test_a_task_killed_before_it_sent_anything_logs_nothing(inference):
    with log_lines() as lines:
        inference()().on_kill()
    assert lines == []


@pytest.mark.parametrize("cancel_on_kill", [True, False])
def test_the_trigger_of_a_killed_task_logs_that_its_batches_keep_running(platform, inference, cancel_on_kill):
    platform.control.hold()
    deferral = begin(inference(cancel_on_kill=cancel_on_kill))
    with log_lines() as lines:
        asyncio.run(deferral.make_trigger().on_kill())
    jobs = deferral.trigger["job_ids"]
    if cancel_on_kill:
        assert lines == [BILLS.format(job_id) for job_id in jobs]
    else:
        assert lines == [
            f"This task does not cancel jobs: 2 jobs keep running and bill ({jobs[0]}, {jobs[1]})."
        ]
