"""Worker threads that several owners share fairly."""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BACKGROUND_TURN: Final = 4
"""One turn in so many goes to a background flow, however much interactive work waits."""


class Flow:
    """The units of work of one owner, taken one at a time, in turn with those of other owners.

    Units are made when a worker is free for them, so a flow of a million units takes no room. A unit that
    raises ends its flow: the exception is the flow's result.

    :param units: makes the units
    :param interactive: somebody waits for the answer
    """

    def __init__(self, units: Iterator[Callable[[], None]], *, interactive: bool) -> None:
        self.interactive = interactive
        self.finished: Future[None] = Future()
        self.finished.set_running_or_notify_cancel()  # who stops waiting for it does not end it
        self._units = units
        self._lock = threading.Lock()
        self._running = 0
        self._exhausted = False
        self._settled = False
        self._error: BaseException | None = None

    def cancel(self) -> None:
        """Start no further unit; what runs ends by itself."""
        with self._lock:
            self._exhausted = True
            settle = self._may_settle()
        if settle:
            self._settle()

    def take(self) -> Callable[[], None] | None:
        """The next unit, None where there is none left."""
        with self._lock:
            if self._exhausted:
                return None
            try:
                unit = next(self._units)
            except StopIteration:
                self._exhausted = True
            except BaseException as error:  # noqa: BLE001 - it is the flow's result
                self._exhausted, self._error = True, self._error or error
            else:
                self._running += 1
                return unit
            settle = self._may_settle()
        if settle:
            self._settle()
        return None

    def done(self, error: BaseException | None) -> None:
        """Note that a unit ended."""
        with self._lock:
            self._running -= 1
            if error is not None:
                self._exhausted, self._error = True, self._error or error
            settle = self._may_settle()
        if settle:
            self._settle()

    def _may_settle(self) -> bool:
        """Whether this caller, which holds the lock, is the one that settles the result."""
        if self._settled or self._running or not self._exhausted:
            return False
        self._settled = True
        return True

    def _settle(self) -> None:
        if self._error is None:
            self.finished.set_result(None)
        else:
            self.finished.set_exception(self._error)


class WorkPool:
    """Worker threads that take units from flows in turn, interactive flows first.

    Background flows never hold the last worker: an interactive request finds one free whatever batches run.

    :param workers: threads; one of them is kept for interactive flows
    :param name: what the threads are called
    """

    def __init__(self, workers: int, name: str) -> None:
        self._background_limit = max(1, workers - 1)
        self._condition = threading.Condition()
        self._interactive: deque[Flow] = deque()
        self._background: deque[Flow] = deque()
        self._running_background = 0
        self._turn = 0
        self._stopping = False
        for number in range(workers):
            threading.Thread(target=self._work, name=f"{name}-{number}", daemon=True).start()

    def add(self, flow: Flow) -> Flow:
        """Let workers take a flow's units.

        :returns: the flow
        """
        with self._condition:
            (self._interactive if flow.interactive else self._background).append(flow)
            self._condition.notify_all()
        return flow

    def run(self, units: Iterator[Callable[[], None]], *, interactive: bool) -> Flow:
        """Let workers take these units."""
        return self.add(Flow(units, interactive=interactive))

    def close(self) -> None:
        """Take no further unit; what runs ends by itself or with the process."""
        with self._condition:
            self._stopping = True
            self._condition.notify_all()

    def _work(self) -> None:
        while (flow := self._next_flow()) is not None:
            unit = flow.take()
            error: BaseException | None = None
            if unit is not None:
                try:
                    unit()
                except BaseException as caught:  # noqa: BLE001 - it is the flow's result
                    error = caught
            with self._condition:
                if not flow.interactive:
                    self._running_background -= 1
                    self._condition.notify()
                if unit is None:
                    queue = self._interactive if flow.interactive else self._background
                    if flow in queue:
                        queue.remove(flow)
            if unit is not None:
                flow.done(error)

    def _next_flow(self) -> Flow | None:
        with self._condition:
            while not self._stopping:
                background = bool(self._background) and self._running_background < self._background_limit
                if self._interactive and not (background and self._turn % BACKGROUND_TURN == 0):
                    queue = self._interactive
                elif background:
                    queue = self._background
                    self._running_background += 1
                else:
                    self._condition.wait()
                    continue
                self._turn += 1
                flow = queue[0]
                queue.rotate(-1)
                return flow
            return None
