"""Reads the chunks of an input by their positions."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from airflow_provider_lamini.rows.batch import Position, SourceChunk
    from airflow_provider_lamini.rows.sources.source import Source


class ChunkReader:
    """Reads chunks by their start position. Reading them in order is fast: the file stays open in between.

    A gzipped file can only be read from its beginning, so there the reader also reads the chunks that it skips.
    Otherwise each chunk would cost as much as all chunks before it.

    :param source: the input
    :param columns: the columns to read
    """

    def __init__(self, source: Source, columns: Collection[str]) -> None:
        self._source = source
        self._columns = columns
        self._chunks: Iterator[SourceChunk] = iter(())
        self._row = -1
        self._size = 0

    def read(self, start: Position, size: int) -> SourceChunk | None:
        """Read a chunk. If the input has changed, the chunk may have fewer or other rows, or be missing.

        :param start: position of its first row
        :param size: number of its rows; at the end of the input there may be fewer
        :return: the chunk; ``None`` if there are no rows
        """
        skipped = start.row - self._row
        if self._row < 0 or skipped < 0 or (skipped and self._source.can_seek):
            self._chunks = self._source.chunks(lambda: self._size, start, columns=self._columns)
            skipped = 0
        while skipped:
            self._size = min(skipped, size)
            skipped -= self._size
            next(self._chunks, None)
        self._size = size
        chunk = next(self._chunks, None)
        self._row = start.row + (len(chunk.rows) if chunk else 0)
        return chunk

    def close(self) -> None:
        """Close the file. The next chunk is read from its own start position."""
        self._chunks = iter(())
        self._row = -1
