"""Every request that a platform receives is in the metrics, once, whoever has sent it and however the task ends."""

from __future__ import annotations

import asyncio
import inspect
from contextlib import nullcontext
from dataclasses import dataclass, replace

import pytest
from airflow.triggers import base

from airflow_provider_lamini.api.errors import NotFoundError, PlatformError
from airflow_provider_lamini.hooks.lamini import LaminiHook
from airflow_provider_lamini.platforms.lamini.api import models
from tests.bad_input.conftest import emissary_stub, stub, world  # noqa: F401 - fixtures
from tests.bad_input.world import connection, operator_classes
from tests.operators.test_metrics import PREFIX, metrics  # noqa: F401 - a fixture
from tests.support.local_platform import wait_until_async
from tests.support.tasks import TI, TaskInstance, run_to_end
from tests.support.tuning_platform import Job

WAYS = [
    *((name, {}) for name in operator_classes()),
    *(
        (name, {"endpoint": sent_to})
        for name in ("BatchInferenceOperator", "EvaluateOperator")
        for sent_to in ("chat", "completions")
    ),
    *(
        (name, {"output": None})
        for name in ("ClassifyOperator", "EmbeddingOperator", "MemoryRagQueryOperator")
    ),
    ("EvaluateClassifierOperator", {"output": "{out}"}),
    (
        "BatchInferenceOperator",
        {"endpoint": "chat", "input": [f"row {row}" for row in range(40)], "chunk_size": 3},
    ),
]
"""Operators, and arguments with which they send their requests in other ways."""
DIRECT = {
    "BatchInferenceOperator": {"endpoint": "chat"},
    "ClassifyOperator": {},
    "EmissaryBatchInferenceOperator": {},
    "MemoryRagQueryOperator": {},
}
"""Operators whose rows are requests, and arguments with which they are."""


@pytest.fixture
def run(world):  # noqa: F811
    """Returns a function that runs an operator, and returns the number of requests that the platforms have received."""

    def run_operator(name, arguments, ti=TI):
        world.note_files()
        parameters = inspect.signature(operator_classes()[name].__init__).parameters
        polled = {"poll_interval": 0.1} if "poll_interval" in operator_classes()[name].template_fields else {}
        given = polled | {
            key: value for key, value in arguments.items() if key != "deferrable" or key in parameters
        }
        run_to_end(lambda: world.make(name, given), ti)

    return run_operator


def received(world):  # noqa: F811
    return sum(world.platform.request_counts.values()) + sum(world.emissary.request_counts.values())


@pytest.mark.parametrize("way", WAYS, ids=lambda way: "-".join((way[0], *map(str, way[1].values())))[:60])
@pytest.mark.parametrize("deferrable", [True, False], ids=["deferred", "in its worker"])
def test_the_requests_of_an_operator_are_counted(world, run, metrics, way, deferrable):  # noqa: F811
    name, arguments = way
    run(name, arguments | {"deferrable": deferrable})
    assert metrics.total("requests") == received(world) > 0
    assert metrics.total("retries") == metrics.total("failures") == 0


@pytest.mark.parametrize("name", DIRECT)
def test_those_of_a_task_that_fails_are_counted_too(world, run, metrics, name, monkeypatch):  # noqa: F811
    for platform in (world.platform, world.emissary):
        kind = platform.conn_type
        monkeypatch.setenv(
            f"AIRFLOW_CONN_{kind.upper()}_DEFAULT",
            connection(platform.url, conn_type=kind, extra={"retry_budget": 1}),
        )
        monkeypatch.setattr(platform, "unavailable", True)
    with pytest.raises(PlatformError):
        run(name, DIRECT[name])
    assert metrics.total("requests") > metrics.total("retries") > 0
    assert metrics.total("failures") > 0
    assert any(stat == f"{PREFIX}retry_pause" and seconds > 0 for stat, seconds, _ in metrics.timings)


@pytest.mark.parametrize("path", [models.list_downloaded().path, "/refused"], ids=["answered", "refused"])
def test_those_of_a_hook_are_counted_when_its_client_is_closed(world, metrics, path):  # noqa: F811
    call = replace(models.list_downloaded(), path=path)

    async def send():
        async with LaminiHook().aclient() as client:
            await client.send(call)

    for ask in (lambda: asyncio.run(send()), lambda: LaminiHook().poll(call), lambda: _send(call)):
        with nullcontext() if path != "/refused" else pytest.raises(NotFoundError):
            ask()
        assert metrics.total("requests") == received(world)
        assert metrics.total("failures") == (received(world) if path == "/refused" else 0)
    assert received(world) == 3


def _send(call):
    with LaminiHook() as hook:
        hook.send(call)


def test_those_of_a_connection_test_are_counted(world, metrics):  # noqa: F811
    assert LaminiHook().test_connection()[0]
    assert metrics.total("requests") == received(world) == 1


@pytest.mark.skipif(not hasattr(base, "BaseEventTrigger"), reason="Airflow 2 has no asset watchers")
@pytest.mark.usefixtures("world")
def test_those_of_a_watcher_are_counted_while_it_runs(metrics):  # noqa: F811
    from airflow_provider_lamini.triggers.job_event import JobEventTrigger

    trigger = JobEventTrigger(platform="lamini", kind="tuning", conn_id="lamini_default", poll_interval=0.1)

    async def watch():
        async def run():
            async for _ in trigger.run():
                pass

        running = asyncio.create_task(run())
        await wait_until_async(lambda: metrics.total("requests") >= 2 or running.done())
        assert not running.done()
        running.cancel()

    asyncio.run(watch())


@pytest.mark.parametrize("deferrable", [True, False], ids=["deferred", "poking"])
def test_the_wait_of_a_sensor_is_measured_wherever_it_waits(world, run, metrics, deferrable):  # noqa: F811
    world.platform.jobs["1"] = Job(1, {}, ["TRAINING MODEL", "TRAINING MODEL", "COMPLETED"])
    run("JobSensor", {"deferrable": deferrable, "poke_interval": 0.3})
    ((seconds, tags),) = [
        (seconds, tags) for stat, seconds, tags in metrics.timings if stat == f"{PREFIX}wait"
    ]
    assert seconds > 0.2
    assert tags == {"platform": "lamini", "kind": "tuning"}
    assert metrics.total("requests") == received(world)


@pytest.mark.skipif(
    not hasattr(base, "BaseEventTrigger"), reason="Airflow 2 looks for earlier pokes in its database"
)
def test_a_sensor_that_is_rescheduled_measures_no_wait(run, metrics):  # noqa: F811

    @dataclass(frozen=True)
    class PokedOnce(TaskInstance):
        def get_first_reschedule_date(self, _):
            return None

    run("JobSensor", {"deferrable": False, "mode": "reschedule"}, PokedOnce())
    assert metrics.total("requests") == 1
    assert metrics.timings == []
