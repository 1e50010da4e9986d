"""Long lists of jobs, read while they arrive: they grow over the years, and few of their jobs matter.

Turning a list of 100,000 jobs into models takes a second, in which nothing else on the event loop runs. So only a piece of the
list is in memory at a time, only the fields that matter are decoded, and only some jobs are looked at any further.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import msgspec

from airflow_provider_lamini.api.call import RESULTS, Call, Retry

J = TypeVar("J")
T = TypeVar("T")

PIECE = 131_072
"""Bytes that are decoded in one step."""

MAX_PIECE = 4_194_304
"""Maximum bytes of a step, for jobs that are so long or contain such objects that it is hard to see where they end."""

_SPACE = rb"[ \t\r\n]*+"
_START = re.compile(rb"\[" + _SPACE + rb"(?=\{" + _SPACE + rb'("[^"\\]{1,100}"))')
"""The beginning of a list of objects, and the name of the first field."""

_TRIES = 3


@dataclass(frozen=True, slots=True)
class ListedJobs(Generic[T]):
    """Some jobs of a list.

    :param found: what was kept of them
    :param size: bytes of the whole list
    """

    found: list[T]
    size: int


@dataclass(frozen=True, slots=True)
class ListForm(Generic[J]):
    """What a list of jobs looks like.

    :param jobs: decodes a list of jobs to the fields that matter
    :param whole: decodes the whole response to the same; raises ``ValueError`` if that is not a list of jobs
    """

    jobs: msgspec.json.Decoder[list[J]]
    whole: Callable[[bytes], list[J]]


def list_call(
    operation: str, path: str, form: ListForm[J], keep: Callable[[J], T | None]
) -> Call[ListedJobs[T]]:
    """Return a call that reads a list of jobs.

    :param operation: the platform's operation id
    :param path: path below the base URL
    :param form: what the list looks like
    :param keep: returns what is kept of a job; ``None`` leaves it out
    """

    def parse(content: bytes) -> ListedJobs[T]:
        reader = JobListReader(form, keep)
        reader.feed(content)
        return reader.result()

    return Call(
        operation=operation,
        method="GET",
        path=path,
        parse=parse,
        retry=Retry.SAFE,
        max_bytes=RESULTS,
        reader=lambda: JobListReader(form, keep),
    )


class JobListReader(Generic[J, T]):
    """Reads a list of jobs while it arrives.

    It decodes what seems to be a piece of whole jobs. If that is not valid JSON, the piece did not end between two jobs, and
    a longer one is tried.

    :param form: what the list looks like
    :param keep: returns what is kept of a job; ``None`` leaves it out
    """

    def __init__(self, form: ListForm[J], keep: Callable[[J], T | None]) -> None:
        self._form = form
        self._keep = keep
        self._found: list[T] = []
        self._size = 0
        self._head = b""
        """What precedes the first job, once that is known."""
        self._between: re.Pattern[bytes]
        """Where a job seems to end and the next one to begin."""
        self._rest = b""
        self._piece = PIECE

    def feed(self, block: bytes) -> None:
        """Read the next bytes.

        :param block: some bytes
        :raises ValueError: if they are not part of a list of jobs
        """
        self._size += len(block)
        data, start = self._rest + block, 0
        if not self._head and len(data) >= PIECE:
            start = self._begin(data)
        while self._head and len(data) - start >= self._piece:
            taken = self._take(data, start, start + self._piece)
            start += taken
            if taken:
                self._piece = PIECE
            elif self._piece < MAX_PIECE:
                self._piece *= 2
            else:
                raise ValueError(f"a list of jobs was expected: none ends within {MAX_PIECE} bytes")
        self._rest = data[start:]

    def result(self) -> ListedJobs[T]:
        """Return the jobs that were kept.

        :raises ValueError: if it is not a list of jobs
        """
        try:
            jobs = self._form.whole(self._head + self._rest)
        except ValueError as error:
            raise ValueError(f"a list of jobs was expected: {error}") from None
        self._keep_some(jobs)
        return ListedJobs(self._found, self._size)

    def _begin(self, data: bytes) -> int:
        """Read what precedes the first job; return its length."""
        if start := _START.search(data, 0, PIECE):
            head = data[: start.end()]
            for tail in (b"]", b"]}"):
                try:
                    if self._form.whole(head + tail):
                        continue
                except ValueError:
                    continue
                self._head = head
                # All jobs begin with the same field. Inside a string, its quotes would follow backslashes.
                self._between = re.compile(
                    rb"\}" + _SPACE + b"," + _SPACE + rb"(?=\{" + _SPACE + re.escape(start[1]) + b")"
                )
                return len(head)
        raise ValueError("a list of jobs was expected")

    def _take(self, data: bytes, start: int, end: int) -> int:
        """Read the jobs that end before ``end``; return how many bytes they have, 0 if it is not clear where they end."""
        for match in reversed(list(self._between.finditer(data, start, end))[-_TRIES:]):
            try:
                jobs = self._form.jobs.decode(b"".join((b"[", data[start : match.start() + 1], b"]")))
            except (msgspec.MsgspecError, RecursionError):
                continue
            self._keep_some(jobs)
            return match.end() - start
        return 0

    def _keep_some(self, jobs: list[J]) -> None:
        self._found += [kept for kept in map(self._keep, jobs) if kept is not None]
