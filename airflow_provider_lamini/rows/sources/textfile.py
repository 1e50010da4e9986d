"""Blocks of whole lines from a text file, plain or gzipped."""

from __future__ import annotations

import gzip
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, cast

from airflow_provider_lamini.rows.errors import BadRowError, InputError
from airflow_provider_lamini.rows.sources.batch import MAX_LINE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_lamini.rows.storage.base import FileInfo, Store

# Larger blocks are slower, by half from 128 KiB on: what is decoded from them no longer fits the processor's cache, and
# memory for a block is fetched from the system anew each time.
_BLOCK = 64 * 1024
_UTF8_MARK = b"\xef\xbb\xbf"
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True, slots=True)
class InputFile:
    """One file of an input.

    :param store: where it lies
    :param info: path, size and version
    :param name: what messages call it
    :param gzipped: whether it is compressed
    """

    store: Store
    info: FileInfo
    name: str
    gzipped: bool = False

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """Open the file for reading, uncompressed, and close it in the end.

        :raises InputError: where it is not there, or may not be read
        """
        try:
            stream = self.store.open(self.info.path)
        except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
            raise InputError(f"{self.name} cannot be opened: {type(error).__name__}.") from error
        with stream:
            if self.gzipped:
                with gzip.GzipFile(fileobj=stream) as text:
                    yield cast("BinaryIO", text)
            else:
                yield stream


class LineReader:
    """Reads a text file in blocks of whole lines and knows at which byte each begins.

    :param file: the file
    :param stream: the file, opened
    :param at: bytes before the place to begin at
    :param lines: lines before that place; whoever reads moves it on with each block, for the errors
    """

    def __init__(self, file: InputFile, stream: BinaryIO, at: int = 0, lines: int = 0) -> None:
        self._name = file.name
        self._stream = stream
        self._size = None if file.gzipped else file.info.size
        self.at = at
        self.lines = lines

    def blocks(self) -> Iterator[bytes]:
        """The lines from the beginning place on, in blocks that end with a line end.

        Where the file's last line has none, one is added. `at` says where the current block begins; it is
        moved when the next one is asked for.

        :raises BadRowError: for a line that is too long
        :raises InputError: for a file that is not UTF-8, or whose compression is broken
        """
        if self.at:
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
                        "Is it one row per line, with line feeds between them?"
                    )
                continue
            rest.append(piece[:cut])
            block = b"".join(rest)
            yield block
            self.at += len(block)
            rest, held = [piece[cut:]], len(piece) - cut
        if held:
            rest.append(b"\n")
            yield b"".join(rest)

    def _check_mark(self) -> None:
        start = self._read(len(_UTF8_MARK))
        if start.startswith(_UTF16_MARKS):
            raise InputError(f"{self._name} is UTF-16 text. Convert it to UTF-8.")
        if start == _UTF8_MARK:
            self.at = len(start)
        else:
            self._stream.seek(0)

    def _skip(self) -> None:
        try:
            # The line end that is added at the file's end may lie one byte behind it.
            self._stream.seek(self.at if self._size is None else min(self.at, self._size))
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise self._broken() from error

    def _read(self, size: int) -> bytes:
        try:
            return self._stream.read(size)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise self._broken() from error

    def _broken(self) -> InputError:
        return InputError(f"{self._name} is not whole: its gzip compression is broken or cut off.")
