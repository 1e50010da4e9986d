"""A pool of worker threads that background jobs and interactive requests share fairly."""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BACKGROUND_SHARE: Final = 4
"""Every n-th unit of work comes from a background queue, even under constant interactive load."""


class WorkQueue:
    """The units of work of one job or request. The pool takes them in turn with those of other queues.

    Units are created only when a worker is free, so a queue of a million units takes no memory. An exception
    in a unit ends the queue and becomes its result.

    :param units: creates the units
    :param interactive: whether a client is waiting for the result
    """

    def __init__(self, units: Iterator[Callable[[], None]], *, interactive: bool) -> None:
        self.interactive = interactive
        self.finished: Future[None] = Future()
        self.finished.set_running_or_notify_cancel()  # a waiter that gives up must not cancel it
        self._units = units
        self._lock = threading.Lock()
        self._running = 0
        self._exhausted = False
        self._settled = False
        self._error: BaseException | None = None

    def cancel(self) -> None:
        """Start no more units. Running ones continue to their end."""
        with self._lock:
            self._exhausted = True
            settle = self._may_settle()
        if settle:
            self._settle()

    def next_unit(self) -> Callable[[], None] | None:
        """Return the next unit, or None if there are no more."""
        with self._lock:
            if self._exhausted:
                return None
            try:
                unit = next(self._units)
            except StopIteration:
                self._exhausted = True
            except BaseException as error:  # noqa: BLE001 - it becomes the queue's result
                self._exhausted, self._error = True, self._error or error
            else:
                self._running += 1
                return unit
            settle = self._may_settle()
        if settle:
            self._settle()
        return None

    def unit_done(self, error: BaseException | None) -> None:
        """Record that a unit ended, and with which error."""
        with self._lock:
            self._running -= 1
            if error is not None:
                self._exhausted, self._error = True, self._error or error
            settle = self._may_settle()
        if settle:
            self._settle()

    def _may_settle(self) -> bool:
        """Whether the caller, who holds the lock, must set the result. True only once."""
        if self._settled or self._running or not self._exhausted:
            return False
        self._settled = True
        return True

    def _settle(self) -> None:
        if self._error is None:
            self.finished.set_result(None)
        else:
            self.finished.set_exception(self._error)


class WorkerPool:
    """Worker threads that take units from queues in turn, interactive queues first.

    Background queues never occupy the last worker, so an interactive request finds a free one at any load.

    :param workers: number of threads; one of them is reserved for interactive queues
    :param name: prefix of the threads' names
    """

    def __init__(self, workers: int, name: str) -> None:
        self._background_limit = max(1, workers - 1)
        self._condition = threading.Condition()
        self._interactive: deque[WorkQueue] = deque()
        self._background: deque[WorkQueue] = deque()
        self._running_background = 0
        self._turn = 0
        self._stopping = False
        for number in range(workers):
            threading.Thread(target=self._work, name=f"{name}-{number}", daemon=True).start()

    def add(self, queue: WorkQueue) -> WorkQueue:
        """Start to work on a queue.

        :return: the queue
        """
        with self._condition:
            (self._interactive if queue.interactive else self._background).append(queue)
            self._condition.notify_all()
        return queue

    def run(self, units: Iterator[Callable[[], None]], *, interactive: bool) -> WorkQueue:
        """Start to work on a new queue of these units."""
        return self.add(WorkQueue(units, interactive=interactive))

    def close(self) -> None:
        """Start no more units. Running ones end by themselves or with the process."""
        with self._condition:
            self._stopping = True
            self._condition.notify_all()

    def _work(self) -> None:
        while (queue := self._next_queue()) is not None:
            unit = queue.next_unit()
            error: BaseException | None = None
            if unit is not None:
                try:
                    unit()
                except BaseException as caught:  # noqa: BLE001 - it becomes the queue's result
                    error = caught
            with self._condition:
                if not queue.interactive:
                    self._running_background -= 1
                    self._condition.notify()
                if unit is None:
                    queues = self._interactive if queue.interactive else self._background
                    if queue in queues:
                        queues.remove(queue)
            if unit is not None:
                queue.unit_done(error)

    def _next_queue(self) -> WorkQueue | None:
        with self._condition:
            while not self._stopping:
                background = bool(self._background) and self._running_background < self._background_limit
                if self._interactive and not (background and self._turn % BACKGROUND_SHARE == 0):
                    queues = self._interactive
                elif background:
                    queues = self._background
                    self._running_background += 1
                else:
                    self._condition.wait()
                    continue
                self._turn += 1
                queue = queues[0]
                queues.rotate(-1)
                return queue
            return None
