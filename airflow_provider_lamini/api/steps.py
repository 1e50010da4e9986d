"""The steps of an exchange, which the drivers carry out: send a request and take its answer, or pause."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, BinaryIO, TypeVar

import httpx

from airflow_provider_lamini.api.uploads import Upload

if TYPE_CHECKING:
    from airflow_provider_lamini.api.call import FilePart

R = TypeVar("R")

_ERROR_BYTES = 65_536

SLOWEST = 1000.0
"""Bytes per second, beyond the time for an answer: what comes slower, a few bytes now and then, never ends."""


class Pause:
    """Wait before the next step.

    :param seconds: how long
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds


class Target:
    """A file that an answer is written to.

    :param to: open for writing bytes
    """

    def __init__(self, to: BinaryIO) -> None:
        self._to = to
        self._start = to.tell() if to.seekable() else None
        self.written = 0

    @property
    def spoiled(self) -> bool:
        """Whether something was written that cannot be taken back."""
        return self.written > 0 and self._start is None

    def write(self, block: bytes) -> None:
        """Write the next bytes."""
        self._to.write(block)
        self.written += len(block)

    def rewind(self) -> None:
        """Take back what was written."""
        if self.written and self._start is not None:
            self._to.seek(self._start)
            self._to.truncate()
            self.written = 0


class Fetch:
    """Send one request and take its answer.

    A driver calls :meth:`build` and sends that, then :meth:`begin`, :meth:`take` per block of the answer, and
    in any case :meth:`close`.

    :param make: makes the request from the files to upload
    :param parts: those files
    :param to: where a good answer's body goes; ``None`` keeps it in memory
    :param timeout: seconds that the body may take, and longer only where it comes at a speed of ``SLOWEST``
    :param clock: the time in seconds, from any start
    """

    def __init__(
        self,
        make: Callable[[Sequence[Upload]], httpx.Request],
        parts: Sequence[FilePart] = (),
        to: Target | None = None,
        *,
        timeout: float,
        clock: Callable[[], float],
    ) -> None:
        self._make = make
        self._parts = parts
        self._to = to
        self._patience = timeout
        self._clock = clock
        self._ends = 0.0
        self._uploads: list[Upload] = []
        self.status = 0
        self.headers = httpx.Headers()
        self.body = bytearray()

    @property
    def reads_files(self) -> bool:
        """Whether building and sending the request reads files."""
        return bool(self._parts)

    @property
    def writes_file(self) -> bool:
        """Whether taking the answer writes to a file."""
        return self._to is not None

    @property
    def ok(self) -> bool:
        """Whether the platform answered with success."""
        return 200 <= self.status < 300  # noqa: PLR2004 - HTTP's range of success

    def build(self) -> httpx.Request:
        """Make the request; looks at the files to upload.

        :raises OSError: where one of them cannot be opened
        """
        for part in self._parts:
            self._uploads.append(Upload(part))
        return self._make(self._uploads)

    def begin(self, response: httpx.Response) -> None:
        """Note the answer's head.

        :param response: the answer, its body unread
        """
        self.status = response.status_code
        self.headers = response.headers
        self._ends = self._clock() + self._patience

    def take(self, block: bytes) -> bool:
        """Take the next block of the body.

        :param block: some bytes
        :returns: whether more is wanted: of an error, only the beginning is
        :raises httpx.ReadTimeout: where the body comes too slowly
        """
        self._ends += len(block) / SLOWEST
        if self._clock() > self._ends:  # each block came in time, so that nobody else notices
            raise httpx.ReadTimeout("the body comes too slowly")
        if not self.ok:
            self.body += block[: _ERROR_BYTES - len(self.body)]
            return len(self.body) < _ERROR_BYTES
        if self._to is None:
            self.body += block
        else:
            self._to.write(block)
        return True

    def close(self) -> None:
        """Close the files to upload."""
        for upload in self._uploads:
            upload.close()


Flow = Generator[Pause | Fetch, None, R]
"""Yields steps; each is carried out before the next is asked for, and an error of a step is thrown in."""
