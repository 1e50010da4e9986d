"""Files of a multipart body, open one at a time and read in blocks."""

from __future__ import annotations

import asyncio
import contextlib
import io
from typing import IO, TYPE_CHECKING

import httpx

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from airflow_provider_lamini.api.call import FilePart


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
