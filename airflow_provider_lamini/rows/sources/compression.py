"""Compressed and differently encoded files as streams of plain UTF-8 bytes. Memory does not depend on their size."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import sys
import zlib
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from airflow_provider_lamini.rows.errors import InputError, MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Self

SUFFIXES = {".gz": "gzip", ".bz2": "bzip2", ".xz": "xz", ".zst": "zstd"}
"""Compression by the suffix of a file's name."""

_MAGIC = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
_WIDE_MARKS = {  # the mark of UTF-32 begins with that of UTF-16
    b"\xff\xfe\0\0": "utf-32",
    b"\0\0\xfe\xff": "utf-32",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
}
_INVALID = "airflow_provider_lamini.invalid"
"""Error handler for characters that are not in the encoding of a text: they become a byte that UTF-8 does not have."""
codecs.register_error(_INVALID, lambda error: ("\udcff", error.end))  # type: ignore[attr-defined] # all have an end
_BLOCK = 64 * 1024
_ZSTD_BLOCK = 256


class DamagedStreamError(Exception):
    """The compression of a file is damaged or truncated, or a byte is not in its encoding."""


def compression_of(head: bytes) -> str | None:
    """The compression of a file by its first bytes; ``None`` if it is not compressed.

    :param head: at least 6 bytes, unless the file is shorter
    """
    return next((name for magic, name in _MAGIC.items() if head.startswith(magic)), None)


def encoding_of(head: bytes) -> str | None:
    """The encoding that the byte order mark of a file says: UTF-16 or UTF-32; ``None`` if it has neither mark.

    :param head: its first bytes
    """
    return next((encoding for mark, encoding in _WIDE_MARKS.items() if head.startswith(mark)), None)


def decompressed(stream: BinaryIO, compression: str, name: str) -> BinaryIO:
    """A stream of decompressed bytes. It can seek by reading from the beginning.

    :param stream: the compressed file
    :param compression: ``gzip``, ``bzip2``, ``xz`` or ``zstd``
    :param name: name of the file, for messages
    :raises MissingExtraError: if a library is missing
    """
    openers: dict[str, Callable[[], Any]] = {
        "gzip": lambda: gzip.GzipFile(fileobj=stream),
        "bzip2": lambda: bz2.BZ2File(stream),
        "xz": lambda: lzma.LZMAFile(stream),  # noqa: SIM115 - whoever reads the stream closes it
        "zstd": lambda: _ZstdStream(stream, name),
    }
    return cast(
        "BinaryIO", _Guarded(openers[compression](), f"{name} is incomplete: its {compression} compression")
    )


def recoded(stream: BinaryIO, encoding: str, name: str, *, keep_bad: bool = False) -> BinaryIO:
    """A stream of the same text in UTF-8.

    :param stream: the text in another encoding
    :param encoding: its encoding
    :param name: name of the file, for messages
    :param keep_bad: make what is not in the encoding invalid UTF-8, so that only its line cannot be used
    """
    return cast("BinaryIO", _RecodedStream(stream, encoding, name, keep_bad=keep_bad))


def is_transformed(stream: BinaryIO) -> bool:
    """Whether the bytes of a stream are not those of its file.

    :param stream: a stream, perhaps of `decompressed` or `recoded`
    """
    return isinstance(stream, (_Guarded, _TransformedStream))


class _Guarded(io.RawIOBase):
    """Turns the errors of decompression into `InputError`, and leaves those of a connection alone.

    :param stream: the decompressed stream
    :param subject: what is damaged, for the message
    """

    def __init__(self, stream: Any, subject: str) -> None:
        self._stream = stream
        self._subject = subject

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        return cast("bytes", self._call(self._stream.read, size))

    def seek(self, offset: int, whence: int = 0, /) -> int:
        return cast("int", self._call(self._stream.seek, offset, whence))

    def close(self) -> None:
        self._stream.close()
        super().close()

    def _call(self, function: Callable[..., object], *arguments: int) -> object:
        try:
            return function(*arguments)
        except (gzip.BadGzipFile, EOFError, zlib.error, lzma.LZMAError, DamagedStreamError) as error:
            raise InputError(f"{self._subject} is damaged or truncated.") from error
        except OSError as error:
            if type(error) is OSError and error.errno is None:  # this is how bz2 reports damage
                raise InputError(f"{self._subject} is damaged or truncated.") from error
            raise


class _TransformedStream(io.RawIOBase):
    """A stream whose bytes are made from those of another one, block by block."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._restart()

    @abstractmethod
    def transform(self) -> Iterator[bytes]:
        """The bytes from the beginning of the stream, in blocks."""

    def _restart(self) -> Self:
        self._blocks = self.transform()
        self._rest = memoryview(b"")
        self._position = 0
        return self

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        """Read as many bytes as asked for; fewer only at the end."""
        pieces: list[memoryview] = []
        missing = size if size >= 0 else sys.maxsize
        while missing:
            if not self._rest:
                block = next(self._blocks, None)
                if block is None:
                    break
                self._rest = memoryview(block)
            pieces.append(self._rest[:missing])
            self._rest = self._rest[missing:]
            missing -= len(pieces[-1])
            self._position += len(pieces[-1])
        return b"".join(pieces)

    def seek(self, offset: int, whence: int = 0, /) -> int:
        if whence:
            raise io.UnsupportedOperation("only positions from the beginning")
        if offset < self._position:
            self._stream.seek(0)
            self._restart()
        while self._position < offset and self.read(min(_BLOCK, offset - self._position)):
            pass
        return self._position


class _ZstdStream(_TransformedStream):
    """Zstandard, also with several frames. The library itself does not report a truncated file."""

    def __init__(self, stream: BinaryIO, name: str) -> None:
        try:
            import zstandard
        except ImportError:
            raise MissingExtraError(
                f"{name}: reading Zstandard needs zstandard: pip install 'airflow-provider-lamini[zstd]'"
            ) from None
        self._library = zstandard
        super().__init__(stream)

    def transform(self) -> Iterator[bytes]:
        frame = None
        # A few bytes may become many: a small block keeps the memory for its content small.
        while block := self._stream.read(_ZSTD_BLOCK):
            while block:
                frame = frame or self._library.ZstdDecompressor().decompressobj()
                try:
                    yield frame.decompress(block)
                except self._library.ZstdError as error:
                    raise DamagedStreamError from error
                block = b""
                if frame.eof:
                    block, frame = frame.unused_data, None
        if frame is not None:
            raise DamagedStreamError


class _RecodedStream(_TransformedStream):
    """A text in another encoding, as UTF-8."""

    def __init__(self, stream: BinaryIO, encoding: str, name: str, *, keep_bad: bool) -> None:
        self._encoding = encoding
        self._name = name
        self._errors = _INVALID if keep_bad else "strict"
        super().__init__(stream)

    def transform(self) -> Iterator[bytes]:
        decoder = codecs.getincrementaldecoder(self._encoding)(self._errors)
        block = b"x"
        while block:
            block = self._stream.read(_BLOCK)
            try:
                yield decoder.decode(block, final=not block).encode(errors="surrogateescape")
            except UnicodeError as error:
                raise InputError(
                    f"{self._name} is not valid {self._encoding} text. Pass its encoding in csv_options, or convert it to UTF-8."
                ) from error
