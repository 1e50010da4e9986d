"""The steps of an exchange, which clients carry out: send a request and receive its response, or sleep."""

from __future__ import annotations

import asyncio
import contextlib
import io
from collections.abc import Callable, Generator, Sequence
from functools import cached_property
from typing import IO, TYPE_CHECKING, BinaryIO, TypeVar

import httpx

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from airflow_provider_lamini.api.call import FilePart

R = TypeVar("R")

RawHeaders = Sequence[tuple[bytes, bytes]]

_ERROR_BYTES = 65_536

MIN_SPEED = 1000.0
"""Bytes per second that a body must have once the timeout has passed: a server that drips bytes would never end."""


class Sleep:
    """Wait before the next step.

    :param seconds: how long
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds


class DownloadTarget:
    """A file that a response is written to.

    :param to: a file open for writing bytes
    """

    def __init__(self, to: BinaryIO) -> None:
        self._to = to
        self._start = to.tell() if to.seekable() else None
        self.size = 0

    @property
    def spoiled(self) -> bool:
        """Whether something was written and the file cannot be rewound."""
        return self.size > 0 and self._start is None

    def write(self, block: bytes) -> None:
        """Write the next bytes."""
        self._to.write(block)
        self.size += len(block)

    def rewind(self) -> None:
        """Remove what was written, if the file can be rewound."""
        if self.size and self._start is not None:
            self._to.seek(self._start)
            self._to.truncate()
            self.size = 0


class Transfer:
    """Send one request and receive its response.

    A client calls :meth:`build` and sends the result, then :meth:`begin`, :meth:`take` for each block of the response,
    and in any case :meth:`close`.

    :param make: makes the request from the files to upload
    :param parts: those files
    :param to: where the body of a successful response goes; ``None`` keeps it in memory
    :param path: path of a plain ``GET`` below the base URL, which a client may send without httpx; else ``None``
    :param timeout: seconds that the body may take; it may take longer only at ``MIN_SPEED`` or more
    :param clock: monotonic time in seconds
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
        self._body = io.BytesIO()  # getvalue makes no copy

    @cached_property
    def headers(self) -> httpx.Headers:
        """The response's headers."""
        return httpx.Headers(list(self._head))

    def has_header(self, name: bytes) -> bool:
        """Return whether the response has a header, without parsing all headers.

        :param name: in lower case
        """
        return any(key.lower() == name for key, _ in self._head)

    @property
    def body(self) -> bytes:
        """The response's body; of an error, only its beginning."""
        return self._body.getvalue()

    @property
    def reads_files(self) -> bool:
        """Whether building and sending the request reads files."""
        return bool(self._parts)

    @property
    def writes_file(self) -> bool:
        """Whether receiving the response writes to a file."""
        return self._to is not None

    @property
    def ok(self) -> bool:
        """Whether the status is a success."""
        return 200 <= self.status < 300  # noqa: PLR2004 - HTTP's range of success

    def build(self) -> httpx.Request:
        """Build the request; opens each file to upload once.

        :raises OSError: if a file cannot be opened
        """
        for part in self._parts:
            self._uploads.append(Upload(part))
        return self._make(self._uploads)

    def begin(self, status: int, headers: RawHeaders) -> None:
        """Set status and headers of the response.

        :param status: its status
        :param headers: its headers, undecoded
        """
        self.status = status
        self._head = headers
        self._ends = self._clock() + self.timeout

    def take(self, block: bytes) -> bool:
        """Receive the next block of the body.

        :param block: some bytes
        :returns: whether to read on; of an error, only the beginning is read
        :raises httpx.ReadTimeout: if the body is too slow
        """
        self._ends += len(block) / MIN_SPEED
        if self._clock() > self._ends:  # each block came in time, so httpx does not notice
            raise httpx.ReadTimeout("the body is too slow")
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
"""A generator of steps. Each is carried out before the next is requested; its error is thrown in."""


class Upload(io.RawIOBase):
    """A file that is opened at the first read and closed at its end.

    A body with a thousand files needs one open file at a time. The length is read at once, so that a missing file fails
    before anything is sent.

    :param part: the file
    :raises OSError: if it cannot be opened
    """

    def __init__(self, part: FilePart) -> None:
        super().__init__()
        self._part = part
        self._file: IO[bytes] | None = None
        self._length: int | None = None
        with part.open() as file, contextlib.suppress(io.UnsupportedOperation):
            self._length = file.seek(0, io.SEEK_END)

    def readable(self) -> bool:
        """Return true."""
        return True

    def tell(self) -> int:
        """Return 0: httpx calls this only at the beginning."""
        return 0

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Rewind, or return the length: httpx needs nothing else.

        :param offset: 0
        :param whence: the beginning or the end
        """
        if whence == io.SEEK_SET and offset == 0:
            self._release()
            return 0
        if whence == io.SEEK_END and offset == 0 and self._length is not None:
            return self._length
        raise io.UnsupportedOperation("only the beginning and a known end can be seeked")

    def read(self, size: int = -1) -> bytes:
        """Read the next block.

        :param size: maximum bytes
        """
        if self._file is None:
            self._file = self._part.open()
        block = self._file.read(size)
        if not block:
            self._release()
        return block

    def close(self) -> None:
        """Close the file if it is open."""
        self._release()
        super().close()

    def _release(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


class ThreadedStream(httpx.AsyncByteStream):
    """A body that is read in a thread, so that a slow disk or bucket does not block the event loop.

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
