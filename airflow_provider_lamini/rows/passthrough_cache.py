"""Passthrough columns of submitted chunks, for a task that waits in its worker."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from airflow_provider_lamini.rows.columns import Table, column_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_lamini.rows.values import Row

MAX_BYTES = 16 * 1024 * 1024
"""Default size of the cache. Chunks that do not fit are read again from the input."""


class PassthroughCache:
    """Keeps the passthrough columns of chunks until their results arrive, so that the input is read once.

    Columns are encoded: a chunk of numbers takes a tenth of the memory of Python objects.

    :param columns: the passthrough columns
    :param max_bytes: maximum size of all encoded chunks together; 0 turns the cache off
    """

    def __init__(self, columns: Sequence[str], max_bytes: int) -> None:
        self._columns = columns
        self._free_bytes = max_bytes
        self._chunks: dict[int, tuple[int, bytes]] = {}

    def put(self, number: int, rows: Sequence[Row]) -> None:
        """Keep the rows of a chunk, if they fit.

        :param number: the chunk's number
        :param rows: its rows, at least one
        """
        # Estimate from one row first: encoding rows that do not fit would cost as much as reading them again.
        if len(self._encode(rows[:1])) * len(rows) > self._free_bytes:
            return
        encoded = self._encode(rows)
        if 0 < len(encoded) <= self._free_bytes:
            self._free_bytes -= len(encoded)
            self._chunks[number] = len(rows), encoded

    def pop(self, number: int) -> Table | None:
        """Remove the rows of a chunk from the cache and return them; ``None`` if they are not in it."""
        count, encoded = self._chunks.pop(number, (0, b""))
        self._free_bytes += len(encoded)
        if not encoded:
            return None
        columns = msgspec.msgpack.decode(encoded)
        return Table(dict(zip(self._columns, columns, strict=True)), count)

    def _encode(self, rows: Sequence[Row]) -> bytes:
        """Encode the columns of some rows; empty if they contain an integer with more than 64 bits."""
        try:
            return msgspec.msgpack.encode([list(column_of(rows, column)) for column in self._columns])
        except OverflowError:
            return b""
