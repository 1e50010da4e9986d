"""Answers to the last looks at jobs, where the same request fetches what the jobs have made."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from airflow_provider_lamini.api.call import Call

T = TypeVar("T")

MOST = 16 * 1024 * 1024
"""Bytes of all answers that are kept; the results of other jobs are fetched."""


class Answers:
    """Left by the watch of a task that waits in its own process, so that no result is sent to it twice."""

    def __init__(self) -> None:
        self._bodies: dict[str, bytes] = {}

    def keep(self, path: str, body: bytes) -> None:
        """Keep an answer, as far as there is room.

        :param path: of the request
        :param body: the answer's
        """
        self._bodies.pop(path, None)
        # A copy: the task may be reading others in its own thread meanwhile.
        if sum(map(len, list(self._bodies.values()))) + len(body) <= MOST:
            self._bodies[path] = body

    def read(self, call: Call[T]) -> T | None:
        """What a call would answer; ``None`` where its answer was not kept, or cannot be read. It is kept no longer.

        :param call: a request that the watch may have made, too
        """
        body = self._bodies.pop(call.path, None)
        if body is not None:
            with suppress(ValueError, RecursionError):  # whoever sends the call learns what is wrong with it
                return call.parse(body)
        return None
