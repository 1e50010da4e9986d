"""Slow work for a page: few at a time, for a limited time, and an error that a person can read."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

SECONDS = 15.0
"""Maximum time that a platform or a store may take to answer."""
AT_ONCE = 8
"""Maximum number of platforms and stores that are asked at the same time, in one process of the API server."""
MAX_WAIT = 2.0
"""Seconds to wait for one of these to end."""


class PageError(Exception):
    """A page cannot be shown.

    :param status: HTTP status
    :param message: what happened and what to do, without any secret
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Bounded:
    """Runs functions in threads of their own, so that what hangs holds no thread of the API server.

    :param at_once: maximum number of functions that run at the same time
    :param seconds: maximum time to wait for one. It may go on afterwards; its result is dropped.
    """

    def __init__(self, at_once: int = AT_ONCE, seconds: float = SECONDS) -> None:
        self._free = threading.BoundedSemaphore(at_once)
        self._seconds = seconds

    def run(self, work: Callable[[], T], what: str) -> T:
        """Run a function and return its result.

        :param work: the function
        :param what: what is asked, for messages, such as ``The platform at https://acme.example``
        :raises PageError: if it takes too long, or too many others run
        """
        if not self._free.acquire(timeout=MAX_WAIT):
            raise PageError(
                503, "Too many pages are waiting for platforms and stores. Try again in a moment."
            )
        future: Future[T] = Future()
        threading.Thread(target=self._run, args=(work, future), daemon=True, name="llm-pages").start()
        try:
            return future.result(self._seconds)
        except TimeoutError:
            raise PageError(
                504, f"{what} did not answer within {self._seconds:g} s. Try again later."
            ) from None

    def _run(self, work: Callable[[], T], future: Future[T]) -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001 - it is raised where the result is taken
            future.set_exception(error)
        finally:
            self._free.release()


BOUNDED = Bounded()
"""What all pages of this process share."""
