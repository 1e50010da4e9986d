"""Asset watchers: each job that ends is told once, and all watchers of a connection share one list request."""

from __future__ import annotations

import asyncio
import json

import pytest
from airflow.triggers import base

from airflow_provider_lamini.jobs.known_jobs import MAX_STORED, KnownJobs
from airflow_provider_lamini.jobs.state import JobState, JobStatus
from tests.support.emissary_platform import emissary  # noqa: F401 - a fixture
from tests.support.local_platform import wait_until_async
from tests.support.tasks import load_trigger, through_json
from tests.support.tuning_platform import Job, tuning  # noqa: F401 - a fixture

if not hasattr(base, "BaseEventTrigger"):
    pytest.skip("Airflow 2 has no asset watchers", allow_module_level=True)

from airflow_provider_lamini.triggers.job_event import JobEventTrigger

LIST = "GET /v1/train/jobs"
TIMEOUT = 20


class Store:
    """Airflow's asset state store, for one asset."""

    def __init__(self):
        self.values = {}

    async def aget(self, key, default=None):
        return self.values.get(key, default)

    async def aset(self, key, value):
        self.values[key] = through_json(value)


def watcher(store=None, **changes):
    """A trigger as the triggerer makes it of what the Dag's author has written."""
    given = {"platform": "lamini", "kind": "tuning", "conn_id": "lamini_default", "poll_interval": 0.1}
    classpath, kwargs = JobEventTrigger(**given | changes).serialize()
    made = load_trigger(classpath, through_json(kwargs))
    made.asset_state_store = store
    return made


def told(platform, trigger, *changes, dies_after=None):
    """Run a trigger until it has polled after the last change, and return the payloads of its events.

    :param platform: counts the polls
    :param changes: functions that are called one after the other, each when the trigger has polled
    :param dies_after: the triggerer dies when it has this number of events
    """

    async def collect():
        found = []

        async def run():
            async for event in trigger.run():
                found.append(through_json(event.payload))
                if len(found) == dies_after:
                    return

        async def polled():
            # The second one begins when all events of the first one are taken.
            enough = sum(platform.request_counts.values()) + 2
            await wait_until_async(lambda: sum(platform.request_counts.values()) >= enough or task.done())

        task = asyncio.create_task(run())
        async with asyncio.timeout(TIMEOUT):
            for change in changes:
                await polled()
                change()
            await polled()
        if task.done():
            await task
        task.cancel()
        return found

    return asyncio.run(collect())


def add(platform, job_id, *states):
    platform.jobs[str(job_id)] = Job(job_id, {}, list(states))


def ids(payloads):
    return [payload["job_id"] for payload in payloads]


def test_a_job_that_ends_is_told_with_its_state(tuning):  # noqa: F811
    add(tuning, 1, "COMPLETED")
    add(tuning, 2, "TRAINING MODEL")

    def end():
        add(tuning, 2, "COMPLETED")

    assert told(tuning, watcher(), end) == [
        {
            "version": 1,
            "platform": "lamini",
            "kind": "tuning",
            "job_id": "2",
            "state": "succeeded",
            "status": "COMPLETED",
        }
    ]


def test_each_job_is_told_once_also_after_a_restart(tuning):  # noqa: F811
    store = Store()
    add(tuning, 1, "COMPLETED")
    assert ids(told(tuning, watcher(store), lambda: add(tuning, 2, "COMPLETED"))) == ["2"]
    add(tuning, 3, "COMPLETED")  # ends while no triggerer runs
    assert ids(told(tuning, watcher(store))) == ["3"]
    assert told(tuning, watcher(store)) == []
    (value,) = store.values.values()
    assert len(json.dumps(value)) < 65_535


def test_an_event_after_which_the_triggerer_dies_at_once_is_told_again(tuning):  # noqa: F811
    store = Store()
    change = lambda: add(tuning, 1, "COMPLETED")  # noqa: E731
    assert ids(told(tuning, watcher(store), change, dies_after=1)) == ["1"]
    assert ids(told(tuning, watcher(store))) == ["1"]
    assert told(tuning, watcher(store)) == []


def test_a_restart_without_a_store_tells_only_what_ends_afterwards(tuning):  # noqa: F811
    add(tuning, 1, "COMPLETED")
    assert told(tuning, watcher()) == []


def test_a_job_that_is_resumed_is_told_again(tuning):  # noqa: F811
    changes = [
        lambda: add(tuning, 1, "FAILED"),
        lambda: add(tuning, 1, "TRAINING MODEL"),
        lambda: add(tuning, 1, "COMPLETED"),
    ]
    found = told(tuning, watcher(states=["failed", "succeeded"]), *changes)
    assert [payload["state"] for payload in found] == ["failed", "succeeded"]


def test_only_the_wanted_states_are_told(tuning):  # noqa: F811
    def end():
        add(tuning, 1, "FAILED")
        add(tuning, 2, "COMPLETED")

    assert ids(told(tuning, watcher(states=["failed"]), end)) == ["1"]


def test_a_failed_poll_ends_no_watcher(tuning):  # noqa: F811
    tuning.jobs = None  # the list is an error

    def mend():
        tuning.jobs = {}

    assert ids(told(tuning, watcher(), mend, lambda: add(tuning, 5, "COMPLETED"))) == ["5"]


def test_a_hundred_watchers_share_the_requests(tuning):  # noqa: F811
    async def run():
        async def first(trigger):
            async for event in trigger.run():
                return event.payload["job_id"]
            return None

        tasks = [
            asyncio.create_task(first(watcher(poll_interval=1.0, states=[state])))
            for state in ("succeeded", "failed")
            for _ in range(50)
        ]
        await wait_until_async(lambda: tuning.request_counts.get(LIST))
        await asyncio.sleep(0.2)  # all have begun to wait
        before = tuning.request_counts[LIST]
        add(tuning, 1, "FAILED")
        add(tuning, 2, "COMPLETED")
        found = await asyncio.wait_for(asyncio.gather(*tasks), TIMEOUT)
        return found, before, tuning.request_counts[LIST]

    found, before, after = asyncio.run(run())
    assert found == ["2"] * 50 + ["1"] * 50
    assert before <= 2
    assert after - before < 10


def test_jobs_of_a_project_of_emissary_are_told(emissary):  # noqa: F811
    made = {"platform": "emissary", "conn_id": "emissary_default", "kind": "training", "scope": "ms-1"}
    emissary.new("training", ("Success",), name="old")
    trigger = watcher(**made)
    (found,) = told(emissary, trigger, lambda: emissary.new("training", ("Success",), name="new"))
    assert (found["job_id"], found["state"]) == ("ms-1/tr-2", "succeeded")


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"states": "succeeded"}, ValueError, "states must be a list of some of: succeeded"),
        ({"states": ["running"]}, ValueError, "states must be"),
        ({"poll_interval": 0}, ValueError, "poll_interval"),
        ({"version": 2}, TypeError, "update its airflow-provider-lamini"),
    ],
)
def test_wrong_arguments_are_refused_when_the_dag_is_parsed(changes, error, message):
    with pytest.raises(error, match=message):
        watcher(**changes)


def test_a_kind_without_a_list_is_refused(tuning):  # noqa: F811
    with pytest.raises(ValueError, match="no list of Memory RAG jobs"):
        told(tuning, watcher(kind="memory_rag"))


def test_an_asset_watcher_takes_it():
    from airflow.sdk import Asset, AssetWatcher

    trigger = JobEventTrigger(platform="lamini", kind="tuning", conn_id="lamini_default")
    asset = Asset("tuned", watchers=[AssetWatcher(name="tuning", trigger=trigger)])
    assert asset.watchers[0].trigger is trigger
    classpath, kwargs = trigger.serialize()
    assert JobEventTrigger.hash(classpath, kwargs) == JobEventTrigger.hash(classpath, through_json(kwargs))


def status(number, state=JobState.SUCCEEDED):
    return JobStatus(str(number), state, state.value)


def test_what_is_known_has_a_bounded_size():
    statuses = {str(number): status(number) for number in range(MAX_STORED)}
    known = KnownJobs.from_text(None)
    assert known.to_text() is None
    assert known.new(statuses) == []
    text = known.to_text()
    assert len(text) < 60_000
    again = KnownJobs.from_text(text)
    more = statuses | {"x": status("x")}
    assert [each.job_id for each in again.new(more)] == ["x"]
    again.add(status("x"))
    assert again.to_text() is None
    fewer = {"x": status("x"), "y": status("y")}
    assert [each.job_id for each in again.new(fewer)] == ["y"]
    assert len(again.to_text()) < 20
