"""Tasks that wait in their own process end when Airflow ends them, wherever asyncio is at that moment."""

import asyncio
import contextvars
import os
import signal
import threading
import time

import pytest

from airflow_provider_lamini.runs.event_loop import run_in_thread
from tests.support.tasks import TerminatedError


@pytest.fixture
def die():
    """What Airflow's signal handlers do: they raise, in the main thread."""

    def handler(*_: object) -> None:
        raise TerminatedError

    old = signal.signal(signal.SIGUSR1, handler)
    yield lambda: os.kill(os.getpid(), signal.SIGUSR1)
    signal.signal(signal.SIGUSR1, old)


async def doubled(number: int) -> int:
    await asyncio.sleep(0)
    return 2 * number


async def failing() -> None:
    raise LookupError("not here")


def test_it_returns_what_the_coroutine_returns():
    assert run_in_thread(doubled(21)) == 42


def test_it_raises_what_the_coroutine_raises():
    with pytest.raises(LookupError, match="not here"):
        run_in_thread(failing())


def test_it_runs_within_a_running_loop():
    async def outer() -> int:
        return run_in_thread(doubled(1))

    assert asyncio.run(outer()) == 2


def test_what_a_signal_handler_raises_ends_it_also_within_a_callback(die):
    """Where a loop runs in the main thread, asyncio logs what a callback raises, and goes on."""
    ended = threading.Event()

    async def waiting() -> None:
        asyncio.get_running_loop().call_later(0.05, die)
        try:
            await asyncio.sleep(30)
        finally:
            ended.set()

    began = time.monotonic()
    with pytest.raises(TerminatedError):
        run_in_thread(waiting())
    assert time.monotonic() - began < 5
    assert ended.is_set()


def test_a_coroutine_that_is_ended_closes_what_it_has_open(die):
    closed = []

    async def waiting() -> None:
        threading.Timer(0.05, die).start()
        try:
            await asyncio.sleep(30)
        finally:
            await asyncio.sleep(0.2)
            closed.append(True)

    with pytest.raises(TerminatedError):
        run_in_thread(waiting())
    assert closed == [True]


def test_the_coroutine_sees_its_callers_context():
    who = contextvars.ContextVar("who", default="nobody")
    who.set("a task")

    async def asked() -> str:
        return who.get()

    assert run_in_thread(asked()) == "a task"
