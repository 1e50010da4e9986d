"""Event loops of tasks run in a thread of their own, so that whatever ends a task ends them, too."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine

T = TypeVar("T")

ENDING_SECONDS = 10.0
"""So long a loop that is ended may take to close its connections; a call to storage that hangs is not waited for."""


def run_apart(main: Coroutine[object, object, T]) -> T:
    """Run a coroutine to its end, as ``asyncio.run`` does, in another thread.

    Airflow ends tasks by exceptions that a signal handler raises in the main thread. Where that thread runs the
    event loop, asyncio catches many of them: it logs them as an error of a connection or a callback, and the task
    goes on. It may also be called where a loop is running already, as within a signal handler.

    :param main: the coroutine
    :return: what it returns
    :raises BaseException: what it raises, or what a signal handler raises meanwhile; then it has been cancelled
    """
    begun: Future[tuple[asyncio.AbstractEventLoop, asyncio.Task[T]]] = Future()
    over: Future[T] = Future()

    async def begin() -> T:
        task: asyncio.Task[T] | None = asyncio.current_task()
        if task is not None:  # it never is, within a coroutine that a loop runs
            begun.set_result((asyncio.get_running_loop(), task))
        return await main

    def work() -> None:
        try:
            over.set_result(asyncio.run(begin()))
        except BaseException as error:  # noqa: BLE001 - the main thread raises it
            over.set_exception(error)

    thread = threading.Thread(target=contextvars.copy_context().run, args=(work,), daemon=True)
    try:
        thread.start()
        return over.result()
    finally:
        if thread.is_alive() and not over.done():
            with suppress(RuntimeError):  # it has closed its loop at this very moment
                loop, task = begun.result(ENDING_SECONDS)
                loop.call_soon_threadsafe(task.cancel)
            thread.join(ENDING_SECONDS)
