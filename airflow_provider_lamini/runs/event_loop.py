"""Event loops of tasks run in a thread of their own, so that whatever ends a task ends them, too."""

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

ENDING_SECONDS = 10.0
"""So long a loop may take to close what it has open; a call to storage that hangs is not waited for."""


class LoopThread:
    """An event loop in a thread of its own, which begins with the first coroutine.

    Airflow ends tasks by exceptions that a signal handler raises in the main thread. Where that thread runs the
    event loop, asyncio catches many of them: it logs them as an error of a connection or a callback, and the task
    goes on. Here the main thread only waits; when it leaves the block, what still runs is cancelled.
    """

    def __init__(self) -> None:
        self._begun: Future[asyncio.AbstractEventLoop] = Future()
        self._thread: threading.Thread | None = None
        self._over = asyncio.Event()
        self._open = AsyncExitStack()
        self._running: set[asyncio.Task[object]] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._thread is not None and self._thread.is_alive():
            with suppress(RuntimeError):  # it has closed its loop at this very moment
                self._begun.result(ENDING_SECONDS).call_soon_threadsafe(self._over.set)
            self._thread.join(ENDING_SECONDS)

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
        return asyncio.run_coroutine_threadsafe(self._noted(main), self._begun.result()).result()

    def enter(self, manager: AbstractAsyncContextManager[T]) -> T:
        """Enter a context in the loop; it is left when the loop ends.

        :param manager: the context
        :return: what it gives
        """
        return self.run(self._open.enter_async_context(manager))

    async def _serve(self) -> None:
        async with self._open:
            self._begun.set_result(asyncio.get_running_loop())
            await self._over.wait()
            for task in self._running:
                task.cancel()
            if self._running:
                await asyncio.wait(self._running)

    async def _noted(self, main: Coroutine[object, object, T]) -> T:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - for the types
        self._running.add(task)
        try:
            return await main
        finally:
            self._running.discard(task)


def run_in_thread(main: Coroutine[object, object, T]) -> T:
    """Run one coroutine to its end, as ``asyncio.run`` does, see :class:`LoopThread`.

    It may also be called where a loop is running already, as within a signal handler.

    :param main: the coroutine
    :return: what it returns
    :raises BaseException: what it raises, or what a signal handler raises meanwhile
    """
    with LoopThread() as apart:
        return apart.run(main)
