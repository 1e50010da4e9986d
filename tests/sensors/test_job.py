"""A sensor waits for a job of any kind, succeeds or fails with it, and never cancels it."""

from __future__ import annotations

import asyncio
import logging
from contextlib import nullcontext

import pytest

from airflow_provider_lamini.exceptions import (
    InvalidArgumentError,
    JobCancelledError,
    JobFailedError,
    JobLostError,
    JobTimedOutError,
)
from airflow_provider_lamini.sensors.job import LaminiJobSensor
from tests.support.tasks import begin, log_lines, maker, resume, run_to_end
from tests.support.tuning_platform import Job, LinkedTask

TRAINING = "TRAINING MODEL"


@pytest.fixture
def sensor():
    """Returns a function that makes a new sensor with the same arguments each time."""
    return maker(LaminiJobSensor, task_id="wait", job_id=7, deferrable=True, poke_interval=0.1, timeout=30)


@pytest.fixture(params=[True, False], ids=["deferred", "poking"])
def deferrable(request):
    return request.param


def put(tuning, *states):
    tuning.jobs["7"] = Job(7, {}, list(states), [{"step": 9, "loss": 0.5}])
    return tuning.jobs["7"]


def test_the_sensor_waits_for_a_job(tuning, sensor, deferrable):
    put(tuning, "CREATED", TRAINING, TRAINING, "COMPLETED")
    ended = run_to_end(sensor(deferrable=deferrable))
    assert ended.result == {
        "job_id": "7",
        "kind": "tuning",
        "state": "succeeded",
        "status": "COMPLETED",
    }
    assert len(ended.deferrals) == deferrable


@pytest.mark.parametrize("word", ["COMPLETED", "FAILED"])
def test_the_job_is_linked_also_if_it_has_failed(tuning, sensor, deferrable, word):
    put(tuning, TRAINING, TRAINING, word)
    task = LinkedTask(task_id="wait")
    with nullcontext() if word == "COMPLETED" else pytest.raises(JobFailedError):
        run_to_end(sensor(deferrable=deferrable), task)
    assert task.xcoms["airflow_provider_lamini_job_url"] == "https://web.test/train/7"


def test_a_job_without_a_page_is_not_linked(tuning, sensor):
    tuning.downloads["org/model"] = ["available"]
    task = LinkedTask(task_id="wait")
    run_to_end(sensor(job_id="org/model", kind="model_download"), task)
    assert task.xcoms["airflow_provider_lamini_job_url"] == ""


def test_the_sensor_does_not_wait_for_an_ended_job(tuning, sensor):
    put(tuning, "COMPLETED")
    ended = run_to_end(sensor())
    assert ended.deferrals == []
    assert ended.result["status"] == "COMPLETED"


@pytest.mark.parametrize("kind", ["model_download", "Model Download"])
def test_the_sensor_waits_for_other_kinds_by_name(tuning, sensor, deferrable, kind):
    tuning.downloads["org/model"] = ["requested", "downloading", "downloading", "available"]
    result = run_to_end(sensor(job_id="org/model", kind=kind, deferrable=deferrable)).result
    assert result == {
        "job_id": "org/model",
        "kind": "model_download",
        "state": "succeeded",
        "status": "available",
    }


@pytest.mark.parametrize(
    ("word", "error"),
    [
        ("FAILED", JobFailedError),
        ("CANCELLED", JobCancelledError),
        ("TIMED OUT", JobTimedOutError),
        ("PARTIALLY COMPLETED", JobFailedError),
    ],
)
@pytest.mark.parametrize("before", [(), (TRAINING, TRAINING)], ids=["at once", "later"])
def test_a_job_that_did_not_end_well_fails_the_task(tuning, sensor, word, error, before):
    put(tuning, *before, word)
    with pytest.raises(error, match=f"Tuning job 7 ended as {word}. It no longer runs"):
        run_to_end(sensor())
    put(tuning, *before, word)
    with pytest.raises(error):
        run_to_end(sensor(deferrable=False))


@pytest.mark.parametrize("before", [(), (TRAINING, TRAINING)], ids=["at once", "later"])
def test_with_soft_fail_the_sensor_is_skipped(tuning, sensor, deferrable, before):
    from airflow.providers.common.compat.sdk import AirflowSkipException

    put(tuning, *before, "FAILED")
    with pytest.raises(AirflowSkipException, match="Tuning job 7 ended as FAILED"):
        run_to_end(sensor(soft_fail=True, deferrable=deferrable))


def test_accept_partial_accepts_a_partly_completed_job(tuning, sensor, deferrable):
    put(tuning, TRAINING, TRAINING, "PARTIALLY COMPLETED")
    result = run_to_end(sensor(accept_partial="True", deferrable=deferrable)).result
    assert result["state"] == "partly succeeded"


@pytest.mark.parametrize("soft", [True, False])
def test_the_sensor_times_out(tuning, sensor, deferrable, soft):
    from airflow.providers.common.compat.sdk import AirflowSensorTimeout, AirflowSkipException

    put(tuning, TRAINING)
    with pytest.raises(AirflowSkipException if soft else AirflowSensorTimeout):
        run_to_end(sensor(timeout=0.6, soft_fail=soft, deferrable=deferrable))


def test_an_unknown_status_word_is_not_an_end(tuning, sensor, deferrable):
    put(tuning, TRAINING, TRAINING, "POLISHING", "COMPLETED")
    assert run_to_end(sensor(deferrable=deferrable)).result["status"] == "COMPLETED"


def test_outages_are_tolerated(tuning, sensor, deferrable):
    put(tuning, TRAINING, TRAINING, "COMPLETED")
    tuning.fail["/v1/train/jobs/7"] = [(503, "away")] * 3
    assert run_to_end(sensor(deferrable=deferrable)).result["status"] == "COMPLETED"


@pytest.mark.parametrize(("level", "failing"), [(logging.INFO, 3), (logging.WARNING, 1)])
def test_an_outage_is_one_warning_of_a_poking_sensor(tuning, sensor, level, failing):
    put(tuning, TRAINING, TRAINING, "COMPLETED")
    tuning.fail["/v1/train/jobs/7"] = [(503, "away")] * 3
    with log_lines(level) as lines:
        run_to_end(sensor(deferrable=False))
    shown = [
        line for line in lines if line.startswith("The last poll failed, still waiting for tuning job 7: ")
    ]
    assert len(shown) == failing
    assert ("The platform answers again." in lines) == (level == logging.INFO)


@pytest.mark.parametrize("status", [404, 422, 498])
def test_a_job_that_does_not_exist_is_lost(tuning, sensor, deferrable, status):
    """The platform may refuse the id of a job of another kind as malformed."""
    tuning.fail["/v1/train/jobs/7"] = [(status, "not an id")]
    with pytest.raises(JobLostError, match=r"knows no tuning job 7\. .*set kind\. .*not an id"):
        run_to_end(sensor(deferrable=deferrable))


def test_a_job_that_vanishes_during_the_wait_is_lost(tuning, sensor):
    put(tuning, TRAINING)
    deferral = begin(sensor())
    tuning.jobs.clear()
    event = deferral.wait(submitted_at=0.0)
    with pytest.raises(JobLostError, match="may still run and bill; a retry polls it again"):
        sensor()().execute_complete({}, event=event)


def test_ending_the_task_does_not_cancel_the_job(tuning, sensor):
    job = put(tuning, TRAINING)
    trigger = begin(sensor()).make_trigger()
    with log_lines() as lines:
        asyncio.run(trigger.on_kill())
    assert job.state == TRAINING
    assert lines == ["This task does not cancel jobs: 1 job keeps running and bills (7)."]


@pytest.mark.parametrize("order", ["before the next try", "while the next try waits"])
def test_a_late_kill_of_the_previous_try_does_not_harm_the_next_one(tuning, sensor, order):
    """Airflow does not guarantee that it comes before the next try."""
    job = put(tuning, TRAINING)
    old = begin(sensor()).make_trigger()
    if order == "before the next try":
        asyncio.run(old.on_kill())
    new = begin(sensor())
    if order == "while the next try waits":
        asyncio.run(old.on_kill())
    job.states = [TRAINING, "COMPLETED"]
    assert resume(sensor(), new, new.wait())["status"] == "COMPLETED"


def test_the_log_shows_how_far_the_job_is(tuning, sensor, deferrable):
    put(tuning, *[TRAINING] * 5, "COMPLETED")
    with log_lines() as lines:
        run_to_end(sensor(deferrable=deferrable, poke_interval=0.3))
    assert any("TRAINING MODEL (step 9, loss 0.5)" in line for line in lines)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"kind": "deployment"}, "kind must be one of"),
        ({"job_id": None}, "job_id"),
        ({"lamini_conn_id": ""}, "lamini_conn_id"),
    ],
)
def test_invalid_arguments_are_refused_before_anything_is_sent(tuning, sensor, arguments, problem):
    with pytest.raises(InvalidArgumentError, match=problem):
        run_to_end(sensor(**arguments))
    assert not tuning.request_counts
