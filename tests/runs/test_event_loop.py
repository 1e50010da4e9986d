"""A task that waits in its own process ends when Airflow ends it, whatever asyncio is doing at that moment."""

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
    """Returns a function that ends the task as Airflow does: a signal handler raises in the main thread."""

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


def test_the_coroutines_result_is_returned():
    assert run_in_thread(doubled(21)) == 42


def test_the_coroutines_error_is_raised():
    with pytest.raises(LookupError, match="not here"):
        run_in_thread(failing())


def test_it_works_while_another_loop_is_running():
    async def outer() -> int:
        return run_in_thread(doubled(1))

    assert asyncio.run(outer()) == 2


def test_an_exception_of_a_signal_handler_ends_it_even_during_a_callback(die):
    """A loop in the main thread would only log what a callback raises, and continue."""
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


def test_a_cancelled_coroutine_can_clean_up(die):
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

    async def read() -> str:
        return who.get()

    assert run_in_thread(read()) == "a task"
