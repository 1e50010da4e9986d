"""Decompresses response bodies in small pieces, so that a small body cannot fill the memory."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import httpx

if TYPE_CHECKING:
    from collections.abc import Iterator

ACCEPT_ENCODING = "gzip, deflate"
"""What the clients ask for. Other codings are refused: their libraries decompress a block without a limit."""

PIECE = 65_536
"""Maximum bytes of one decompressed piece."""

_ACCEPTED = (b"gzip", b"x-gzip", b"deflate")
_GZIP_OR_ZLIB = zlib.MAX_WBITS | 32


class Decompressor:
    """Decompresses one body, in any of the accepted codings."""

    def __init__(self) -> None:
        self._zlib = zlib.decompressobj(_GZIP_OR_ZLIB)

    def pieces(self, block: bytes) -> Iterator[bytes]:
        """Yield what the next block of the body decompresses to, in pieces of at most ``PIECE`` bytes.

        :param block: some bytes
        :raises httpx.DecodingError: if they are not validly compressed
        """
        while block:
            try:
                piece = self._zlib.decompress(block, PIECE)
            except zlib.error:
                raise httpx.DecodingError("it is not validly compressed") from None
            if self._zlib.unused_data:
                raise httpx.DecodingError("data follows the end of what is compressed")
            block = self._zlib.unconsumed_tail
            if piece:
                yield piece

    def check_end(self) -> None:
        """Check that the body was complete.

        :raises httpx.RemoteProtocolError: if compressed data is missing
        """
        if not self._zlib.eof:
            raise httpx.RemoteProtocolError("the compressed data ends too early")


def decompressor(coding: bytes, *, strict: bool) -> Decompressor | None:
    """Return what decompresses a body; ``None`` if it is not compressed.

    :param coding: the value of the header ``Content-Encoding``
    :param strict: whether to refuse other codings; otherwise the body counts as not compressed
    :raises httpx.DecodingError: if the coding is refused
    """
    name = coding.strip().lower()
    if name in _ACCEPTED:
        return Decompressor()
    if strict and name not in (b"", b"identity"):
        raise httpx.DecodingError("its Content-Encoding was not asked for")
    return None
