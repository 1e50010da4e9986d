"""A sensor waits for a job of any kind, judges its end, and never cancels it."""

from __future__ import annotations

import asyncio

import pytest

from airflow_provider_lamini.exceptions import (
    InvalidArgumentError,
    JobCancelledError,
    JobFailedError,
    JobLostError,
    JobTimedOutError,
)
from airflow_provider_lamini.sensors.job import LaminiJobSensor
from tests.support.tasks import begin, log_lines, maker, run_to_end, wake
from tests.support.tuning_platform import Job

TRAINING = "TRAINING MODEL"


@pytest.fixture
def sensor():
    """Returns a function that makes a new sensor of the same arguments each time."""
    return maker(LaminiJobSensor, task_id="wait", job_id=7, deferrable=True, poke_interval=0.1, timeout=30)


@pytest.fixture(params=[True, False], ids=["deferred", "poking"])
def deferrable(request):
    return request.param


def put(tuning, *states):
    tuning.jobs["7"] = Job(7, {}, list(states), [{"step": 9, "loss": 0.5}])
    return tuning.jobs["7"]


def test_a_job_is_waited_for(tuning, sensor, deferrable):
    put(tuning, "CREATED", TRAINING, TRAINING, "COMPLETED")
    ended = run_to_end(sensor(deferrable=deferrable))
    assert ended.result == {
        "job_id": "7",
        "kind": "tuning",
        "state": "succeeded",
        "status": "COMPLETED",
    }
    assert len(ended.deferrals) == deferrable


def test_a_job_that_has_ended_is_not_waited_for(tuning, sensor):
    put(tuning, "COMPLETED")
    ended = run_to_end(sensor())
    assert ended.deferrals == []
    assert ended.result["status"] == "COMPLETED"


@pytest.mark.parametrize("kind", ["model_download", "Model Download"])
def test_other_kinds_are_waited_for_by_their_name(tuning, sensor, deferrable, kind):
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
    with pytest.raises(error, match=f"tuning job 7 ended as {word}. It no longer runs"):
        run_to_end(sensor())
    put(tuning, *before, word)
    with pytest.raises(error):
        run_to_end(sensor(deferrable=False))


@pytest.mark.parametrize("before", [(), (TRAINING, TRAINING)], ids=["at once", "later"])
def test_a_soft_sensor_is_skipped_instead(tuning, sensor, deferrable, before):
    from airflow.providers.common.compat.sdk import AirflowSkipException

    put(tuning, *before, "FAILED")
    with pytest.raises(AirflowSkipException, match="tuning job 7 ended as FAILED"):
        run_to_end(sensor(soft_fail=True, deferrable=deferrable))


def test_a_job_that_ended_in_part_is_taken_where_that_is_good_enough(tuning, sensor, deferrable):
    put(tuning, TRAINING, TRAINING, "PARTIALLY COMPLETED")
    result = run_to_end(sensor(accept_partial="True", deferrable=deferrable)).result
    assert result["state"] == "partly succeeded"


@pytest.mark.parametrize("soft", [True, False])
def test_a_job_that_takes_too_long_times_the_sensor_out(tuning, sensor, deferrable, soft):
    from airflow.providers.common.compat.sdk import AirflowSensorTimeout, AirflowSkipException

    put(tuning, TRAINING)
    with pytest.raises(AirflowSkipException if soft else AirflowSensorTimeout):
        run_to_end(sensor(timeout=0.6, soft_fail=soft, deferrable=deferrable))


def test_a_word_that_nobody_knows_is_no_end(tuning, sensor, deferrable):
    put(tuning, TRAINING, TRAINING, "POLISHING", "COMPLETED")
    assert run_to_end(sensor(deferrable=deferrable)).result["status"] == "COMPLETED"


def test_outages_are_sat_out(tuning, sensor, deferrable):
    put(tuning, TRAINING, TRAINING, "COMPLETED")
    tuning.fail["/v1/train/jobs/7"] = [(503, "away")] * 3
    assert run_to_end(sensor(deferrable=deferrable)).result["status"] == "COMPLETED"


@pytest.mark.parametrize("status", [404, 422, 498])
def test_a_job_that_is_not_there_is_lost(tuning, sensor, deferrable, status):
    """Ids of another kind of job may not even look like ids to the platform."""
    tuning.fail["/v1/train/jobs/7"] = [(status, "not an id")]
    with pytest.raises(JobLostError, match=r"knows no tuning job 7\. .*set kind\. .*not an id"):
        run_to_end(sensor(deferrable=deferrable))


def test_a_job_that_vanishes_while_it_is_waited_for_is_lost(tuning, sensor):
    put(tuning, TRAINING)
    deferral = begin(sensor())
    tuning.jobs.clear()
    event = deferral.wait(submitted_at=0.0)
    with pytest.raises(JobLostError, match="cannot be looked at any more"):
        sensor()().execute_complete({}, event=event)


def test_ending_the_task_leaves_the_job_alone(tuning, sensor):
    job = put(tuning, TRAINING)
    trigger = begin(sensor()).make_trigger()
    with log_lines() as lines:
        asyncio.run(trigger.on_kill())
    assert job.state == TRAINING
    assert any("go on" in line for line in lines)


@pytest.mark.parametrize("order", ["before the next try", "while the next try waits"])
def test_a_kill_of_the_try_before_does_the_next_one_no_harm_whenever_it_comes(tuning, sensor, order):
    """Airflow does not order it before the next try."""
    job = put(tuning, TRAINING)
    old = begin(sensor()).make_trigger()
    if order == "before the next try":
        asyncio.run(old.on_kill())
    new = begin(sensor())
    if order == "while the next try waits":
        asyncio.run(old.on_kill())
    job.states = [TRAINING, "COMPLETED"]
    assert wake(sensor(), new, new.wait())["status"] == "COMPLETED"


def test_the_log_shows_how_far_the_job_is(tuning, sensor, deferrable):
    put(tuning, *[TRAINING] * 5, "COMPLETED")
    with log_lines() as lines:
        run_to_end(sensor(deferrable=deferrable, poke_interval=0.3))
    assert any("TRAINING MODEL (step 9, loss 0.5)" in line for line in lines)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"kind": "deployment"}, "kind must be one of"),
        ({"job_id": None}, "job_id"),
        ({"lamini_conn_id": ""}, "lamini_conn_id"),
    ],
)
def test_what_means_nothing_is_refused_before_anything_is_sent(tuning, sensor, given, problem):
    with pytest.raises(InvalidArgumentError, match=problem):
        run_to_end(sensor(**given))
    assert not tuning.asked
