"""Files of an input, and text files in blocks of complete lines."""

from __future__ import annotations

import errno
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO

from airflow_provider_lamini.rows.batch import MAX_LINE, TextBatch, bad_row
from airflow_provider_lamini.rows.errors import BadRowError, InputError, InputMissingError, InputRefusedError
from airflow_provider_lamini.rows.sources.compression import (
    compression_of,
    decompressed,
    encoding_of,
    is_transformed,
    recoded,
)
from airflow_provider_lamini.rows.sources.options import CsvOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from airflow_provider_lamini.rows.batch import Position
    from airflow_provider_lamini.rows.storage.base import FileInfo, Store

# Blocks of 128 KiB or more take 50% more time: what is decoded from them does not fit into the processor's cache, and
# their memory is requested from the system again for each block.
_BLOCK = 64 * 1024
UTF8_MARK = b"\xef\xbb\xbf"
"""At the beginning of a file; where files were joined, also at that of a line."""
_HEAD = 512
_WIDE = 6
_ENCODED_FORMATS = ("csv", "tsv", "txt")


def _ignore(_: str) -> None:
    """Do nothing with a remark."""


@dataclass(frozen=True, slots=True)
class InputFile:
    """One file of an input.

    :param store: its store
    :param info: its path, size and version
    :param name: its name in messages
    :param format: ``jsonl``, ``csv``, ``tsv``, ``txt`` or ``parquet``
    :param compression: its compression, as its name tells it; ``None`` if it is not compressed
    :param csv: how it is written, if it is CSV
    :param partitions: columns that its folders add to each row
    :param of_run: whether it is a part of an earlier run, in which failed rows have an error
    :param keep_bad: whether rows that cannot be used are kept (`Batch.bad`) instead of raising an error
    :param remark: takes what was found out about the file, for the log
    :param headers: the header of the first CSV file of the input that was read; empty before
    """

    store: Store
    info: FileInfo
    name: str
    format: str = "jsonl"
    compression: str | None = None
    csv: CsvOptions = field(default_factory=CsvOptions)
    partitions: Mapping[str, str | None] = field(default_factory=dict)
    of_run: bool = False
    keep_bad: bool = False
    remark: Callable[[str], None] = _ignore
    headers: list[Sequence[str]] = field(default_factory=list)

    @property
    def encoding(self) -> str:
        """The character encoding that the user has given."""
        return self.csv.encoding if self.format in _ENCODED_FORMATS else "utf-8"

    @property
    def can_seek(self) -> bool:
        """Whether reading can start in the middle, as far as its name tells."""
        return self.compression is None and self.encoding == "utf-8"

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """Open the file and read it uncompressed.

        :raises InputError: if it does not exist, or there is no permission to read it
        """
        try:
            stream = self.store.open(self.info.path)
        except PermissionError as error:
            raise InputRefusedError.of(
                f"There is no permission to read {self.name}. Check the permissions, and the connection to the store.",
                error,
            ) from error
        except (FileNotFoundError, IsADirectoryError) as error:
            raise InputMissingError(
                f"{self.name} cannot be opened: {error.strerror or type(error).__name__}."
            ) from error
        with stream:
            yield stream if self.compression is None else decompressed(stream, self.compression, self.name)

    @contextmanager
    def open_text(self, *, may_be_other: bool = False) -> Iterator[BinaryIO]:
        """Open the file as UTF-8 text. Compression, UTF-16 and UTF-32 are recognized by the first bytes, too.

        :param may_be_other: do not look whether it is something else than text
        :raises InputError: as for `open`, and if the text is not in its encoding, or something else than text
        """
        with self.open() as plain:
            stream = plain
            try:
                head = stream.read(_HEAD)
            except OSError as error:
                if error.errno != errno.EIO:  # others may pass, such as those of a network
                    raise
                raise InputError(
                    f"The input {self.name} cannot be read: it is not a file of rows."
                ) from error
            stream.seek(0)
            if self.compression is None and (found := compression_of(head)) is not None:
                self.remark(f"decompressed {found}")
                stream = decompressed(stream, found, self.name)
                head = stream.read(_HEAD)
                stream.seek(0)
            if not may_be_other and (other := _other_content(head)) is not None:
                raise InputError(f"{self.name} is {other}")
            encoding = self.encoding
            if encoding == "utf-8" and (marked := encoding_of(head)) is not None:
                encoding = marked
                self.remark(f"decoded {marked.upper()}")
            elif encoding == "utf-8" and (wide := _wide_encoding(head[:_WIDE])) is not None:
                raise InputError(
                    f"{self.name} looks like {wide[:6].upper()} without a mark: bytes of each character are zero. Convert it to "
                    f"UTF-8, or, if it is CSV or text, pass csv_options={{'encoding': {wide!r}}}."
                )
            yield (
                stream
                if encoding == "utf-8"
                else recoded(stream, encoding, self.name, keep_bad=self.keep_bad)
            )


def _wide_encoding(head: bytes) -> str | None:
    """The encoding of a text whose first characters have two or four bytes, of which only one is not zero."""
    if len(head) < _WIDE or not any(head) or (any(head[1::2]) and any(head[::2])):
        return None
    unit = "16" if any(head[:2]) and any(head[2:4]) else "32"
    return f"utf-{unit}-{'le' if head[0] else 'be'}"


def _shrink_to_nothing(_: bytes) -> bytes:
    return b""


class LineReader:
    """Reads a text file in blocks of complete lines and keeps track of the position.

    :param file: the file
    :param stream: the open file
    :param offset: bytes before the position to start at
    :param lines: lines before that position; the caller updates it after each block, for error messages
    :param drop_long: drop a line that is too long instead of raising an error; `dropped_line` then stands for it
    :param shrink: what is left of each piece of such a line; by default nothing is

    :ivar dropped: length of the dropped line in bytes that the current block stands for; 0 if it is one of lines
    """

    def __init__(
        self,
        file: InputFile,
        stream: BinaryIO,
        offset: int = 0,
        lines: int = 0,
        *,
        drop_long: bool = False,
        shrink: Callable[[bytes], bytes] = _shrink_to_nothing,
    ) -> None:
        self._name = file.name
        self._drop_long = drop_long
        self._shrink = shrink
        self.dropped = 0
        self._stream = stream
        self._size = None if is_transformed(stream) else file.info.size
        self.offset = offset
        self.lines = lines

    def blocks(self) -> Iterator[bytes]:
        """Read the remaining lines in blocks that end with a line end.

        If the last line of the file has no line end, one is added. `offset` is the start of the current block until the
        next block is requested.

        :raises BadRowError: for a line that is too long, unless it is dropped
        :raises InputError: if its compression is damaged
        """
        if self.offset:
            self._skip()
        else:
            self._skip_mark()
        rest: list[bytes] = []
        left: list[bytes] = []
        held = 0
        while piece := self._stream.read(_BLOCK):
            end = piece.find(b"\n") + 1
            if held + (end or len(piece)) > MAX_LINE:
                if not self._drop_long:
                    raise self.too_long()
                left += map(self._shrink, (*rest, piece[:end] if end else piece))
                rest, held = [], held + (end or len(piece))
                if not end:
                    continue
                yield from self._drop(held, b"".join(left))
                left, held, piece = [], 0, piece[end:]
            cut = piece.rfind(b"\n") + 1
            if not cut:
                rest.append(piece)
                held += len(piece)
                continue
            rest.append(piece[:cut])
            block = b"".join(rest)
            yield block
            self.offset += len(block)
            rest, held = [piece[cut:]], len(piece) - cut
        if held > MAX_LINE:
            yield from self._drop(held + 1, b"".join((*left, self._shrink(b"\n"))))
        elif held:
            rest.append(b"\n")
            yield b"".join(rest)

    def dropped_line(self, place: Position) -> TextBatch | None:
        """The row that stands for a line that was too long; ``None`` if the current block is one of lines.

        :param place: the position of the current block
        """
        if not self.dropped:
            return None
        bad = {0: bad_row(self.too_long())}
        return TextBatch(
            [{}], place, name=self._name, ends=[self.offset + self.dropped], lines=[self.lines + 1], bad=bad
        )

    def _drop(self, length: int, left: bytes) -> Iterator[bytes]:
        """Yield what is left of a line."""
        self.dropped = length
        yield left
        self.offset += length
        self.dropped = 0

    def too_long(self) -> BadRowError:
        """The error of a line that is too long, the next one after `lines`."""
        return BadRowError(
            f"{self._name}, line {self.lines + 1}: the line is longer than {MAX_LINE >> 20} MiB. "
            "Does the file have one row per line, separated by line feeds?"
        )

    def _skip_mark(self) -> None:
        start = self._stream.read(len(UTF8_MARK))
        if start == UTF8_MARK:
            self.offset = len(start)
        else:
            self._stream.seek(0)

    def _skip(self) -> None:
        # The line end that is added at the end of the file may be one byte beyond it.
        self._stream.seek(self.offset if self._size is None else min(self.offset, self._size))


_BEGINNINGS = (
    (b"PK\x03\x04", "a ZIP archive or an Excel file. Unpack it, or export it as CSV."),
    (b"\xd0\xcf\x11\xe0", "an old Office file. Export it as CSV."),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive. Unpack it."),
    (b"Rar!\x1a\x07", "a RAR archive. Unpack it."),
    (b"%PDF-", "a PDF file. Export its rows as CSV or JSON Lines."),
    (b"PAR1", "Parquet. Rename it, or pass input_format='parquet'."),
    (b"ARROW1\0", "an Arrow file. Pass its rows as a table, or write it as Parquet."),
    (b"Obj\x01", "an Avro file. Convert it to JSON Lines or Parquet."),
    (b"SQLite format 3\0", "a SQLite database. Pass a query as input_sql."),
    (
        b"version https://git-lfs.github.com/spec/",
        "a pointer of Git LFS and not the file itself. Run git lfs pull.",
    ),
)
_TAR_MARK, _TAR_AT = b"ustar", 257


def _other_content(head: bytes) -> str | None:
    """What a file is and what to do with it, as the end of a sentence; ``None`` if it may be text.

    :param head: the first 512 bytes, decompressed
    """
    if head[_TAR_AT : _TAR_AT + len(_TAR_MARK)] == _TAR_MARK and b"\0" in head[:_TAR_AT]:
        return "a tar archive. Unpack it."
    return next((what for beginning, what in _BEGINNINGS if head.startswith(beginning)), None)
