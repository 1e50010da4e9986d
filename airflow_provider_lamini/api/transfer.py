"""The steps of an exchange, which clients carry out: send a request and receive its response, or sleep."""

from __future__ import annotations

import asyncio
import contextlib
import io
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import IO, TYPE_CHECKING, BinaryIO, TypeVar

import httpx

from airflow_provider_lamini.api.content_coding import decompressor

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator

    from airflow_provider_lamini.api.call import BodyReader, FilePart
    from airflow_provider_lamini.api.content_coding import Decompressor

R = TypeVar("R")

RawHeaders = Sequence[tuple[bytes, bytes]]

_ERROR_BYTES = 65_536

_PAGE_BYTES = 1024
"""Bytes that a reader's body keeps, to recognize a web page."""

_MAX_DIGITS = 19
"""Digits of an announced size that are parsed: Python refuses very long numbers."""

_READER_FROM = 1_000_000
"""Bytes of a body above which a reader reads it as it arrives."""

MIN_SPEED = 10_000.0
"""Bytes per second that a body must have once the timeout has passed: a server that drips bytes would never end."""


class TooLargeError(Exception):
    """A response is larger than the call allows.

    :param limit: the limit in bytes
    """

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.limit = limit


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a response may take.

    :param timeout: seconds that the body may take; it may take longer only at ``MIN_SPEED`` or more
    :param max_bytes: maximum size of a successful response, compressed and decompressed
    :param body_seconds: maximum seconds that the body may take at any speed
    :param max_seconds: maximum seconds from connecting until the response is complete
    """

    timeout: float
    max_bytes: int
    body_seconds: float
    max_seconds: float


class Sleep:
    """Wait before the next step.

    :param seconds: how long
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds


class DownloadTarget:
    """A file that a response is written to.

    :param to: a file open for writing bytes
    :param max_bytes: maximum size of the response
    """

    def __init__(self, to: BinaryIO, max_bytes: int) -> None:
        self._to = to
        self.max_bytes = max_bytes
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

    A client calls :meth:`build` and sends the result, then :meth:`begin`, :meth:`pieces` for each block of the response,
    :meth:`take` for each of these pieces, :meth:`end` after the last block, and in any case :meth:`close`.

    :param make: makes the request from the files to upload
    :param bounds: what the response may take
    :param parts: those files
    :param to: where the body of a successful response goes; ``None`` keeps it in memory
    :param reader: reads the body of a successful response instead, if it is large
    :param path: path of a plain ``GET`` below the base URL, which a client may send without httpx; else ``None``
    :param clock: monotonic time in seconds
    """

    def __init__(
        self,
        make: Callable[[Sequence[Upload]], httpx.Request],
        bounds: Bounds,
        parts: Sequence[FilePart] = (),
        to: DownloadTarget | None = None,
        reader: BodyReader[object] | None = None,
        *,
        path: str | None = None,
        clock: Callable[[], float],
    ) -> None:
        self.path = path
        self.bounds = bounds
        self._make = make
        self._parts = parts
        self._to = to
        self._reader = reader
        self._clock = clock
        self._ends = self._latest = 0.0
        self._uploads: list[Upload] = []
        self._head: RawHeaders = ()
        self.status = 0
        self._decompressor: Decompressor | None = None
        self._received = 0
        self._size = 0
        self._body = io.BytesIO()  # getvalue makes no copy
        self.streamed = False
        """Whether the reader reads the body; then ``body`` is only its beginning."""
        self._invalid: ValueError | None = None

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
    def takes_long(self) -> bool:
        """Whether a block of the body is so much work that other tasks of an event loop should run in between."""
        return self.streamed or self._decompressor is not None

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
        :raises TooLargeError: if the announced size is too large
        :raises httpx.DecodingError: if the body is encoded in a way that was not asked for
        """
        self.status = status
        self._head = headers
        now = self._clock()
        self._ends, self._latest = now + self.bounds.timeout, now + self.bounds.body_seconds
        for name, value in headers:
            lower = name.lower()
            if lower == b"content-length" and self.ok and _number(value) > self.bounds.max_bytes:
                raise TooLargeError(self.bounds.max_bytes)
            if lower == b"content-encoding":
                self._decompressor = decompressor(value, strict=self.ok)

    def pieces(self, block: bytes) -> Iterable[bytes]:
        """Return the next block of the body in decompressed pieces, each for :meth:`take`.

        :param block: some bytes, as they were sent
        :raises httpx.DecodingError: if they are not validly compressed
        :raises httpx.ReadTimeout: if the body is too slow
        :raises TooLargeError: if the body is too large
        """
        self._ends += len(block) / MIN_SPEED
        if self._clock() > min(self._ends, self._latest):  # each block came in time, so httpx does not notice
            raise httpx.ReadTimeout("the body is too slow")
        self._received += len(block)
        if self._received > self.bounds.max_bytes and self.ok:
            raise TooLargeError(self.bounds.max_bytes)
        return (block,) if self._decompressor is None else self._decompressor.pieces(block)

    def take(self, piece: bytes) -> bool:
        """Receive the next piece of the body.

        :param piece: some bytes, decompressed
        :returns: whether to read on; of an error, only the beginning is read
        :raises TooLargeError: if the body is too large
        """
        if not self.ok:
            self._body.write(piece[: _ERROR_BYTES - self._body.tell()])
            return self._body.tell() < _ERROR_BYTES
        self._size += len(piece)
        if self._size > self.bounds.max_bytes:
            raise TooLargeError(self.bounds.max_bytes)
        if self._to is not None:
            self._to.write(piece)
        elif self._reader is not None and self._size > _READER_FROM:
            return self._feed(self._reader, piece)
        else:
            self._body.write(piece)
        return True

    def reader_result(self) -> object:
        """Return the reader's result, if it has read the body.

        :raises ValueError: if the body is invalid
        """
        assert self._reader is not None  # noqa: S101 - for the type checker
        if self._invalid is not None:
            raise self._invalid
        return self._reader.result()

    def end(self) -> None:
        """Check that the body was complete.

        :raises httpx.RemoteProtocolError: if compressed data is missing
        """
        if self._decompressor is not None and self._received:
            self._decompressor.check_end()

    def close(self) -> None:
        """Close the files to upload."""
        for upload in self._uploads:
            upload.close()

    def _feed(self, reader: BodyReader[object], piece: bytes) -> bool:
        try:
            if not self.streamed:
                self.streamed = True
                reader.feed(self._body.getvalue())
                self._body.truncate(_PAGE_BYTES)
            reader.feed(piece)
        except ValueError as error:
            self._invalid = error
        return self._invalid is None


async def receive(transfer: Transfer, status: int, headers: RawHeaders, blocks: AsyncIterable[bytes]) -> None:
    """Receive a response on an event loop, so that other tasks run while it is decompressed and read.

    :param transfer: the step that receives it
    :param status: the response's status
    :param headers: its headers, undecoded
    :param blocks: its body, as it was sent
    :raises httpx.HTTPError: if there was no complete response
    :raises TooLargeError: if the body is too large
    """
    transfer.begin(status, headers)
    async for block in blocks:
        for piece in transfer.pieces(block):
            if transfer.writes_file:
                more = await asyncio.to_thread(transfer.take, piece)
            else:
                more = transfer.take(piece)
            if not more:
                return
            if transfer.takes_long:
                await asyncio.sleep(0)
    transfer.end()


def _number(value: bytes) -> int:
    return int(value) if value.isdigit() and len(value) < _MAX_DIGITS else 0


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
    :param at_end: called after the last block
    """

    def __init__(self, blocks: httpx.SyncByteStream, at_end: Callable[[], None]) -> None:
        self._blocks = blocks
        self._at_end = at_end

    async def __aiter__(self) -> AsyncIterator[bytes]:
        blocks = iter(self._blocks)
        while (block := await asyncio.to_thread(_next, blocks)) is not None:
            yield block
        self._at_end()


def _next(blocks: Iterator[bytes]) -> bytes | None:
    return next(blocks, None)
