"""Reads text files, plain or gzipped, in blocks of complete lines."""

from __future__ import annotations

import gzip
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, cast

from airflow_provider_lamini.rows.errors import BadRowError, InputError, InputRefusedError
from airflow_provider_lamini.rows.sources.batch import MAX_LINE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_lamini.rows.storage.base import FileInfo, Store

# Blocks of 128 KiB or more take 50% more time: what is decoded from them does not fit into the processor's cache, and
# their memory is requested from the system again for each block.
_BLOCK = 64 * 1024
_UTF8_MARK = b"\xef\xbb\xbf"
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True, slots=True)
class InputFile:
    """One file of an input.

    :param store: its store
    :param info: its path, size and version
    :param name: its name in messages
    :param gzipped: whether it is gzipped
    """

    store: Store
    info: FileInfo
    name: str
    gzipped: bool = False

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """Open the file and read it uncompressed.

        :raises InputError: if it does not exist, or there is no permission to read it
        """
        try:
            stream = self.store.open(self.info.path)
        except PermissionError as error:
            raise InputRefusedError.of(f"There is no permission to read {self.name}.", error) from error
        except (FileNotFoundError, IsADirectoryError) as error:
            raise InputError(f"{self.name} cannot be opened: {type(error).__name__}.") from error
        with stream:
            if self.gzipped:
                with gzip.GzipFile(fileobj=stream) as text:
                    yield cast("BinaryIO", text)
            else:
                yield stream


class LineReader:
    """Reads a text file in blocks of complete lines and keeps track of the position.

    :param file: the file
    :param stream: the open file
    :param offset: bytes before the position to start at
    :param lines: lines before that position; the caller updates it after each block, for error messages
    """

    def __init__(self, file: InputFile, stream: BinaryIO, offset: int = 0, lines: int = 0) -> None:
        self._name = file.name
        self._stream = stream
        self._size = None if file.gzipped else file.info.size
        self.offset = offset
        self.lines = lines

    def blocks(self) -> Iterator[bytes]:
        """Read the remaining lines in blocks that end with a line end.

        If the last line of the file has no line end, one is added. `offset` is the start of the current block until the
        next block is requested.

        :raises BadRowError: for a line that is too long
        :raises InputError: if the file is not UTF-8, or its compression is damaged
        """
        if self.offset:
            self._skip()
        else:
            self._check_mark()
        rest: list[bytes] = []
        held = 0
        while piece := self._read(_BLOCK):
            cut = piece.rfind(b"\n") + 1
            held += len(piece)
            if not cut:
                rest.append(piece)
                if held > MAX_LINE:
                    raise BadRowError(
                        f"{self._name}, line {self.lines + 1}: the line is longer than {MAX_LINE >> 20} MiB. "
                        "Does the file have one row per line, separated by line feeds?"
                    )
                continue
            rest.append(piece[:cut])
            block = b"".join(rest)
            yield block
            self.offset += len(block)
            rest, held = [piece[cut:]], len(piece) - cut
        if held:
            rest.append(b"\n")
            yield b"".join(rest)

    def _check_mark(self) -> None:
        start = self._read(len(_UTF8_MARK))
        if start.startswith(_UTF16_MARKS):
            raise InputError(f"{self._name} is UTF-16 text. Convert it to UTF-8.")
        if start == _UTF8_MARK:
            self.offset = len(start)
        else:
            self._stream.seek(0)

    def _skip(self) -> None:
        try:
            # The line end that is added at the end of the file may be one byte beyond it.
            self._stream.seek(self.offset if self._size is None else min(self.offset, self._size))
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise self._broken() from error

    def _read(self, size: int) -> bytes:
        try:
            return self._stream.read(size)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise self._broken() from error

    def _broken(self) -> InputError:
        return InputError(f"{self._name} is incomplete: its gzip compression is damaged or truncated.")
