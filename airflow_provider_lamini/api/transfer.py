"""The steps of an exchange, which the drivers carry out: send a request and take its answer, or pause."""

from __future__ import annotations

import io
from collections.abc import Callable, Generator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, BinaryIO, TypeVar

import httpx

if TYPE_CHECKING:
    from airflow_provider_lamini.api.call import FilePart


import asyncio
import contextlib
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from airflow_provider_lamini.api.call import FilePart

R = TypeVar("R")

RawHeaders = Sequence[tuple[bytes, bytes]]

_ERROR_BYTES = 65_536

SLOWEST = 1000.0
"""Bytes per second, beyond the time for an answer: what comes slower, a few bytes now and then, never ends."""


class Sleep:
    """Wait before the next step.

    :param seconds: how long
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds


class DownloadTarget:
    """A file that an answer is written to.

    :param to: open for writing bytes
    """

    def __init__(self, to: BinaryIO) -> None:
        self._to = to
        self._start = to.tell() if to.seekable() else None
        self.short_name = 0

    @property
    def spoiled(self) -> bool:
        """Whether something was written that cannot be taken back."""
        return self.short_name > 0 and self._start is None

    def write(self, block: bytes) -> None:
        """Write the next bytes."""
        self._to.write(block)
        self.short_name += len(block)

    def rewind(self) -> None:
        """Take back what was written."""
        if self.short_name and self._start is not None:
            self._to.seek(self._start)
            self._to.truncate()
            self.short_name = 0


class Transfer:
    """Send one request and take its answer.

    A driver calls :meth:`build` and sends that, then :meth:`begin`, :meth:`take` per block of the answer, and
    in any case :meth:`close`.

    :param make: makes the request from the files to upload
    :param parts: those files
    :param to: where a good answer's body goes; ``None`` keeps it in memory
    :param path: of a request that only asks the platform for what lies below its address, so that a driver may send
        it in a way of its own instead
    :param timeout: seconds that the body may take, and longer only where it comes at a speed of ``SLOWEST``
    :param clock: the time in seconds, from any start
    """

    def __init__(
        self,
        make: Callable[[Sequence[Upload]], httpx.Request],
        parts: Sequence[FilePart] = (),
        to: DownloadTarget | None = None,
        *,
        path: str | None = None,
        timeout: float,
        clock: Callable[[], float],
    ) -> None:
        self.path = path
        self.timeout = timeout
        self._make = make
        self._parts = parts
        self._to = to
        self._clock = clock
        self._ends = 0.0
        self._uploads: list[Upload] = []
        self._head: RawHeaders = ()
        self.status = 0
        self._body = io.BytesIO()  # it gives its bytes away without a copy

    @cached_property
    def headers(self) -> httpx.Headers:
        """The answer's headers."""
        return httpx.Headers(list(self._head))

    def has_header(self, name: bytes) -> bool:
        """Whether the answer has a header; costs less than to read them all.

        :param name: in lower case
        """
        return any(each.lower() == name for each, _ in self._head)

    @property
    def body(self) -> bytes:
        """The answer's body; of an error, its beginning."""
        return self._body.getvalue()

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

    def begin(self, status: int, headers: RawHeaders) -> None:
        """Note the answer's head.

        :param status: its status
        :param headers: its headers, names and values as they came
        """
        self.status = status
        self._head = headers
        self._ends = self._clock() + self.timeout

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
            self._body.write(block[: _ERROR_BYTES - self._body.tell()])
            return self._body.tell() < _ERROR_BYTES
        if self._to is None:
            self._body.write(block)
        else:
            self._to.write(block)
        return True

    def close(self) -> None:
        """Close the files to upload."""
        for upload in self._uploads:
            upload.close()


Flow = Generator[Sleep | Transfer, None, R]
"""Yields steps; each is carried out before the next is asked for, and an error of a step is thrown in."""


class Upload(io.RawIOBase):
    """A file that is opened by the first read and closed at its end.

    A thousand files of one body need one open file at a time. Its length is taken at once, so that a file
    that is not there is noticed before anything is sent.

    :param part: the file
    :raises OSError: where it cannot be opened
    """

    def __init__(self, part: FilePart) -> None:
        super().__init__()
        self._part = part
        self._file: IO[bytes] | None = None
        self._length: int | None = None
        with part.open() as file, contextlib.suppress(io.UnsupportedOperation):
            self._length = file.seek(0, io.SEEK_END)

    def readable(self) -> bool:
        """It can be read."""
        return True

    def tell(self) -> int:
        """It stands at its beginning whenever httpx asks."""
        return 0

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Rewind, or tell the length: httpx asks nothing else.

        :param offset: 0
        :param whence: the beginning or the end
        """
        if whence == io.SEEK_SET and offset == 0:
            self._release()
            return 0
        if whence == io.SEEK_END and offset == 0 and self._length is not None:
            return self._length
        raise io.UnsupportedOperation("only the beginning and a known end can be sought")

    def read(self, size: int = -1) -> bytes:
        """Read the next block.

        :param size: bytes at most
        """
        if self._file is None:
            self._file = self._part.open()
        block = self._file.read(size)
        if not block:
            self._release()
        return block

    def close(self) -> None:
        """Close what is open."""
        self._release()
        super().close()

    def _release(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


class OffLoop(httpx.AsyncByteStream):
    """A body that is read in a thread, so that a slow disk or bucket does not hold up the event loop.

    :param blocks: the body's blocks
    """

    def __init__(self, blocks: httpx.SyncByteStream) -> None:
        self._blocks = blocks

    async def __aiter__(self) -> AsyncIterator[bytes]:
        blocks = iter(self._blocks)
        while (block := await asyncio.to_thread(_next, blocks)) is not None:
            yield block


def _next(blocks: Iterator[bytes]) -> bytes | None:
    return next(blocks, None)
