"""Triggers as a triggerer runs them: many on one event loop, each deserialized from the database."""

from __future__ import annotations

import asyncio
import json
import time

import psutil
import pytest

from airflow_provider_lamini.jobs.event import EndedJob, JobEvent, LostJob
from airflow_provider_lamini.jobs.state import JobState
from airflow_provider_lamini.triggers.job import JobTrigger
from tests.support.local_platform import wait_until_async
from tests.support.platforms import connect
from tests.support.tasks import first_event, load_trigger, log_lines, through_json

ARGUMENTS = {
    "version": 1,
    "conn_id": "lamini_night",
    "kind": "lamini/batch_completions",
    "job_ids": ["a", "b"],
    "submitted_at": 1.5,
    "deadline": 2.5,
    "poll_interval": 3.0,
    "min_ended": 2,
    "cancel_on_kill": False,
    "progress": {"done": 1, "total": 2, "skipped": 0, "since": 0.5},
}


def event_of(trigger, timeout=20):
    return JobEvent.from_payload(asyncio.run(asyncio.wait_for(first_event(trigger), timeout)))


def polls(platform):
    return platform.control.stats()["requests"].get("GET /v1/batch_completions/{id}/result", 0)


def connections_to(platform):
    """Return the number of open connections of this process to the platform, including the control's."""
    port = int(platform.url.rsplit(":", 1)[1])
    connections = psutil.Process().net_connections("tcp")
    return sum(
        1 for each in connections if each.raddr and each.raddr.port == port and each.status == "ESTABLISHED"
    )


def test_a_trigger_survives_serialization():
    classpath, kwargs = JobTrigger(**ARGUMENTS).serialize()
    assert kwargs == ARGUMENTS
    assert load_trigger(classpath, through_json(kwargs)).serialize() == (classpath, ARGUMENTS)


def test_airflow_can_serialize_the_arguments():
    from airflow.serialization.serialized_objects import BaseSerialization

    _, kwargs = JobTrigger(**ARGUMENTS).serialize()
    stored = json.loads(json.dumps(BaseSerialization.serialize(kwargs)))
    assert BaseSerialization.deserialize(stored) == ARGUMENTS


def test_the_error_for_arguments_of_a_newer_version_says_what_to_do():
    with pytest.raises(TypeError, match=r"arguments of version 2.*Update the triggerer, then clear the task"):
        JobTrigger(**ARGUMENTS | {"version": 2, "something_new": True})


def test_unknown_arguments_of_the_same_version_are_rejected():
    with pytest.raises(TypeError, match="JobTrigger got unknown arguments: something_odd"):
        JobTrigger(**ARGUMENTS | {"something_odd": 1})


def test_the_event_has_a_batch_that_ended(start, trigger):
    (job_id,) = start()
    one = trigger([job_id])
    ended = {job_id: EndedJob(JobState.SUCCEEDED, "all 2 rows")}
    assert event_of(one) == JobEvent(ended=ended, deadline=one.deadline)


def test_a_trigger_yields_no_earlier_than_min_trigger_seconds_after_its_start(start, trigger, monkeypatch):
    monkeypatch.setenv("AIRFLOW__AIRFLOW_PROVIDER_LAMINI__MIN_TRIGGER_SECONDS", "1.5")
    began = time.monotonic()
    assert event_of(trigger(start())).ended
    assert 1.5 <= time.monotonic() - began < 10


def test_there_is_exactly_one_event(start, trigger):
    async def all_events():
        return [event async for event in trigger(start()).run()]

    assert len(asyncio.run(asyncio.wait_for(all_events(), 20))) == 1


def test_the_task_resumes_when_enough_batches_have_ended(platform, start, trigger):
    job_ids = start(3)
    asyncio.run(wait_until_async(lambda: all(job["ended"] for job in platform.control.jobs())))
    platform.control.hold()
    (held,) = start()
    event = event_of(trigger([held, *job_ids], min_ended=3))
    assert sorted(event.ended) == sorted(job_ids)
    assert not event.timed_out


def test_the_event_says_that_the_deadline_has_passed(platform, start, trigger):
    platform.control.hold()
    began = time.monotonic()
    event = event_of(trigger(start(2), seconds=0.8))
    assert event.timed_out
    assert not event.ended
    assert 0.7 < time.monotonic() - began < 4


def test_a_trigger_that_starts_after_its_deadline_reports_what_has_ended(platform, start, trigger):
    """This happens after a night without a running triggerer."""
    (ended,) = start()
    asyncio.run(wait_until_async(lambda: platform.control.jobs()[0]["ended"]))
    event = event_of(trigger([ended], age=7200, seconds=-3600))
    assert list(event.ended) == [ended]
    assert not event.timed_out


def test_a_trigger_that_starts_after_its_deadline_polls_a_running_job_once(platform, start, trigger):
    platform.control.hold()
    event = event_of(trigger(start(), age=7200, seconds=-3600))
    assert event.timed_out
    assert polls(platform) == 1


def test_an_outage_is_tolerated_and_logged(platform, start, trigger):
    platform.control.fault("/v1/batch_completions/.*", status=503, times=2)
    with log_lines() as lines:
        event = event_of(trigger(start(), poll_interval=0.6))
    assert len(event.ended) == 1
    assert any(line.startswith("The last poll failed, ") and "answers 503" in line for line in lines)


@pytest.mark.usefixtures("platform")
def test_a_batch_that_the_platform_does_not_know_is_lost(trigger):
    event = event_of(trigger(["0" * 32], age=600))
    assert event.lost["0" * 32].vanished
    assert "498 (no such job)" in event.lost["0" * 32].reason


def test_a_refused_key_is_lost_but_not_vanished(platform, start, trigger, monkeypatch):
    (job_id,) = start()
    connect(monkeypatch, platform, password="another-key-0123456789")
    event = event_of(trigger([job_id]))
    assert not event.lost[job_id].vanished
    assert "401" in event.lost[job_id].reason
    assert "another-key" not in json.dumps(event.payload())


def test_without_its_connection_the_jobs_are_lost_but_not_vanished(trigger):
    event = event_of(trigger(["a", "b"], conn_id="lamini_elsewhere"))
    assert event.lost == dict.fromkeys(
        "ab",
        LostJob(
            "Define the connection 'lamini_elsewhere' where the triggerer finds it, or set deferrable=False.",
            vanished=False,
        ),
    )


def test_with_an_invalid_connection_the_jobs_are_lost_but_not_vanished(platform, trigger, monkeypatch):
    connect(monkeypatch, platform, password="")
    lost = event_of(trigger(["a"])).lost["a"]
    assert (lost.vanished, "API key (password) is empty" in lost.reason) == (False, True)


@pytest.mark.usefixtures("platform")
def test_the_error_for_an_unknown_kind_of_job_lists_the_known_ones(trigger):
    with pytest.raises(ValueError, match="lamini/batch_completions"):
        event_of(trigger(["a"], kind="lamini/telepathy"))


@pytest.mark.any_airflow
def test_two_hundred_triggers_share_one_client_and_do_not_block_the_event_loop(platform, start, trigger):
    platform.control.hold()
    job_ids = start(200, rows=1)

    async def run():
        waits = [asyncio.create_task(first_event(trigger([job_id]))) for job_id in job_ids]
        lags, max_connections = [], 0
        for _ in range(40):
            before = time.monotonic()
            await asyncio.sleep(0.05)
            lags.append(time.monotonic() - before - 0.05)
            max_connections = max(max_connections, connections_to(platform))
        platform.control.release()
        events = await asyncio.wait_for(asyncio.gather(*waits), 60)
        return events, sorted(lags), max_connections

    events, lags, max_connections = asyncio.run(run())
    assert [list(event["ended"]) for event in events] == [[job_id] for job_id in job_ids]
    assert 1 <= max_connections <= 16 + 1  # simultaneous polls, and the control's connection
    assert lags[len(lags) // 2] < 0.1
    assert polls(platform) >= 200
    asyncio.run(wait_until_async(lambda: connections_to(platform) <= 1))


def test_a_cancelled_trigger_does_not_disturb_the_others(platform, start, trigger):
    platform.control.hold()
    leaving, staying = start(2)

    async def run():
        first = asyncio.create_task(first_event(trigger([leaving])))
        second = asyncio.create_task(first_event(trigger([staying])))
        await wait_until_async(lambda: polls(platform) >= 4)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        platform.control.release()
        return await asyncio.wait_for(second, 20)

    assert list(asyncio.run(run())["ended"]) == [staying]


def test_the_last_trigger_closes_the_client_and_the_next_one_opens_another(platform, start, trigger):
    platform.control.hold()
    (job_id,) = start()

    async def run():
        for _ in range(2):
            before = polls(platform)
            wait = asyncio.create_task(first_event(trigger([job_id])))
            await wait_until_async(lambda before=before: polls(platform) > before)
            wait.cancel()
            with pytest.raises(asyncio.CancelledError):
                await wait
            await wait_until_async(lambda: connections_to(platform) <= 1)
        platform.control.release()
        return await first_event(trigger([job_id]))

    assert list(asyncio.run(asyncio.wait_for(run(), 20))["ended"]) == [job_id]


def test_triggers_of_two_connections_do_not_share_a_key(platform, start, trigger, monkeypatch):
    connect(monkeypatch, platform, "lamini_other", password="another-key")
    mine, others = start(2)

    async def run():
        return await asyncio.gather(
            first_event(trigger([mine])), first_event(trigger([others], conn_id="lamini_other"))
        )

    good, bad = asyncio.run(asyncio.wait_for(run(), 20))
    assert list(good["ended"]) == [mine]
    assert list(bad["lost"]) == [others]


def test_on_kill_of_one_trigger_does_not_disturb_the_others(platform, start, trigger):
    platform.control.hold()
    killed, staying = start(2)

    async def run():
        wait = asyncio.create_task(first_event(trigger([staying])))
        await wait_until_async(lambda: polls(platform) >= 1)
        with log_lines() as lines:
            await trigger([killed]).on_kill()
        assert [line for line in lines if killed in line]
        platform.control.release()
        return await asyncio.wait_for(wait, 20)

    assert list(asyncio.run(run())["ended"]) == [staying]
