"""What goes into the output of chunks under way, for a process that stays until their results are there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from airflow_provider_lamini.rows.columns import Table, column_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_lamini.rows.values import Row

ROOM = 16 * 1024 * 1024
"""Bytes of all that is remembered; the rows of other chunks are read again."""


class PassthroughCache:
    """Rows in few bytes: a chunk of numbers takes a tenth of what Python makes of them.

    :param columns: what goes into the output
    :param room: bytes of all rows at the most
    """

    def __init__(self, columns: Sequence[str], room: int) -> None:
        self._columns = columns
        self._room = room
        self._chunks: dict[int, tuple[int, bytes]] = {}

    def keep(self, number: int, rows: Sequence[Row]) -> None:
        """Remember the rows of a chunk, where there is room.

        :param number: the chunk's number
        :param rows: its rows, at least one
        """
        # One row first: to pack what then does not fit would cost as much as to read it again.
        if len(self._packed(rows[:1])) * len(rows) > self._room:
            return
        packed = self._packed(rows)
        if 0 < len(packed) <= self._room:
            self._room -= len(packed)
            self._chunks[number] = len(rows), packed

    def take(self, number: int) -> Table | None:
        """The rows of a chunk, which are forgotten then; ``None`` where they were not remembered."""
        count, packed = self._chunks.pop(number, (0, b""))
        self._room += len(packed)
        if not packed:
            return None
        columns = msgspec.msgpack.decode(packed)
        return Table(dict(zip(self._columns, columns, strict=True)), count)

    def _packed(self, rows: Sequence[Row]) -> bytes:
        """The columns of some rows; nothing where they hold an integer of more than 64 bits."""
        try:
            return msgspec.msgpack.encode([list(column_of(rows, column)) for column in self._columns])
        except OverflowError:
            return b""
