"""A cache of status responses that already contain the job's results."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from airflow_provider_lamini.api.call import Call
    from airflow_provider_lamini.jobs.state import JobStatus

T = TypeVar("T")

MAX_BYTES = 32 * 1024 * 1024
"""Default for the total size of the cached responses."""


class ResultCache:
    """Response bodies of the last status calls, so that a task that waits in its own process fetches nothing twice.

    Only for kinds of jobs with :attr:`~.kinds.JobKind.status_call_returns_results`.

    :param max_bytes: total size of the cached responses; ``None`` for ``MAX_BYTES``. Results that do not fit are fetched again
    """

    def __init__(self, max_bytes: int | None = None) -> None:
        self._max_bytes = MAX_BYTES if max_bytes is None else max_bytes
        self._bodies: dict[str, bytes] = {}
        self._statuses: dict[str, JobStatus] = {}

    def put(self, path: str, body: bytes, status: JobStatus) -> None:
        """Cache a response if there is room for it.

        :param path: path of the request
        :param body: body of the response
        :param status: what the response says about the job, which has ended
        """
        self._statuses[path] = status
        self._bodies.pop(path, None)
        # A copy of the values: the task may take other entries in its own thread meanwhile.
        if sum(map(len, list(self._bodies.values()))) + len(body) <= self._max_bytes:
            self._bodies[path] = body

    def status(self, path: str) -> JobStatus | None:
        """The status of a job whose end is known and whose results were not taken; ``None`` if it is to be polled.

        :param path: path of the request
        """
        return self._statuses.get(path)

    def take(self, call: Call[T]) -> T | None:
        """Return the result of a call from the cache and remove it there.

        :param call: the call that would fetch the result
        :return: the result; ``None`` if it is not cached or cannot be parsed
        """
        self._statuses.pop(call.path, None)
        body = self._bodies.pop(call.path, None)
        if body is not None:
            with suppress(
                ValueError, RecursionError
            ):  # sending the call reports what is wrong with the response
                return call.parse(body)
        return None
