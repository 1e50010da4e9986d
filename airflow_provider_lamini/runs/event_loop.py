"""Running a task's event loop in a thread of its own, so that whatever ends the task also ends the loop."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from concurrent.futures import Future
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType
    from typing import Self

T = TypeVar("T")

CLOSE_TIMEOUT = 10.0
"""Seconds that a loop may take to close its clients. A call to storage that hangs is abandoned after that."""


class LoopThread:
    """An event loop in a thread of its own, which starts with the first coroutine.

    Airflow ends a task by an exception that a signal handler raises in the main thread. If that thread ran the event loop,
    asyncio would catch many such exceptions, log them as an error of a connection or a callback, and the task would
    continue. Here the main thread only waits. When it leaves the ``with`` block, running coroutines are cancelled.
    """

    def __init__(self) -> None:
        self._loop: Future[asyncio.AbstractEventLoop] = Future()
        self._thread: threading.Thread | None = None
        self._stop = asyncio.Event()
        self._open = AsyncExitStack()
        self._running: set[asyncio.Task[object]] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._thread is not None and self._thread.is_alive():
            with suppress(RuntimeError):  # the loop may close at this very moment
                self._loop.result(CLOSE_TIMEOUT).call_soon_threadsafe(self._stop.set)
            self._thread.join(CLOSE_TIMEOUT)

    def run(self, main: Coroutine[object, object, T]) -> T:
        """Run a coroutine to its end.

        :param main: the coroutine
        :return: what it returns
        :raises BaseException: what it raises, or what a signal handler raises meanwhile
        """
        if self._thread is None:
            context = contextvars.copy_context()
            self._thread = threading.Thread(
                target=context.run, args=(asyncio.run, self._serve()), daemon=True
            )
            self._thread.start()
        return asyncio.run_coroutine_threadsafe(self._tracked(main), self._loop.result()).result()

    def enter(self, manager: AbstractAsyncContextManager[T]) -> T:
        """Enter an asynchronous context manager in the loop; it exits when the loop ends.

        :param manager: the context manager
        :return: what entering it returns
        """
        return self.run(self._open.enter_async_context(manager))

    async def _serve(self) -> None:
        async with self._open:
            self._loop.set_result(asyncio.get_running_loop())
            await self._stop.wait()
            for task in self._running:
                task.cancel()
            if self._running:
                await asyncio.wait(self._running)

    async def _tracked(self, main: Coroutine[object, object, T]) -> T:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - for the types
        self._running.add(task)
        try:
            return await main
        finally:
            self._running.discard(task)


def run_in_thread(main: Coroutine[object, object, T]) -> T:
    """Run one coroutine to its end, in a `LoopThread`.

    Unlike ``asyncio.run``, it may be called while a loop is running, for example in a signal handler.

    :param main: the coroutine
    :return: what it returns
    :raises BaseException: what it raises, or what a signal handler raises meanwhile
    """
    with LoopThread() as loop:
        return loop.run(main)
