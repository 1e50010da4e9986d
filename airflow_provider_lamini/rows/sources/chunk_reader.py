"""Reads the chunks of an input by their positions."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from airflow_provider_lamini.rows.sources.batch import Cursor, SourceChunk
    from airflow_provider_lamini.rows.sources.source import Source


class ChunkReader:
    """Reads chunks by their start position. Reading them in order is fast: the file stays open in between.

    A gzipped file can only be read from its beginning, so there the reader also reads the chunks that it skips.
    Otherwise each chunk would cost as much as all chunks before it.

    :param source: the input
    :param size: rows per chunk; the last chunk may have fewer
    :param columns: the columns to read
    """

    def __init__(self, source: Source, size: int, columns: Collection[str]) -> None:
        self._source = source
        self._size = size
        self._columns = columns
        self._chunks: Iterator[SourceChunk] = iter(())
        self._row = -1

    def read(self, start: Cursor) -> SourceChunk | None:
        """Read a chunk. If the input has changed, the chunk may have fewer or other rows, or be missing.

        :param start: position of its first row
        :return: the chunk; ``None`` if there are no rows
        """
        skipped, remainder = divmod(start.row - self._row, self._size)
        if self._row < 0 or skipped < 0 or remainder or (skipped and self._source.can_seek):
            self._chunks = self._source.chunks(self._size, start, columns=self._columns)
            skipped = 0
        for _ in range(skipped):
            next(self._chunks, None)
        chunk = next(self._chunks, None)
        self._row = start.row + self._size
        return chunk

    def close(self) -> None:
        """Close the file. The next chunk is read from its own start position."""
        self._chunks = iter(())
        self._row = -1
