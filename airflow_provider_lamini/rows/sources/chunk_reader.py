"""Chunks of an input, read in their order, and again when their results are there."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from airflow_provider_lamini.rows.sources.batch import Cursor, SourceChunk
    from airflow_provider_lamini.rows.sources.source import Source


class ChunkReader:
    """Reads chunks from where each starts, best in their order: one that follows the last is read on from there.

    A gzipped file can be read from its beginning only. So there what lies between two chunks is read, too: without
    that, each chunk would cost as much as all before it, and the last ones of a large file would take minutes.

    :param source: the input
    :param size: rows of each chunk but the last
    :param columns: the columns that are needed
    """

    def __init__(self, source: Source, size: int, columns: Collection[str]) -> None:
        self._source = source
        self._size = size
        self._columns = columns
        self._chunks: Iterator[SourceChunk] = iter(())
        self._row = -1

    def read(self, start: Cursor) -> SourceChunk | None:
        """The rows of a chunk; fewer, others or ``None`` where the input has changed.

        :param start: the place before its first row
        """
        ahead, odd = divmod(start.row - self._row, self._size)
        if self._row < 0 or ahead < 0 or odd or (ahead and self._source.can_seek):
            self._chunks = self._source.chunks(self._size, start, columns=self._columns)
            ahead = 0
        for _ in range(ahead):
            next(self._chunks, None)
        found = next(self._chunks, None)
        self._row = start.row + self._size
        return found

    def let_go(self) -> None:
        """Keep nothing open; the next chunk is read from where it starts."""
        self._chunks = iter(())
        self._row = -1


class Readers:
    """What reads one input chunk by chunk.

    :param source: the input
    :param size: rows of each chunk but the last
    :param needed: the columns that prompts are made of, and those that go into the output
    :param passthrough: the columns that go into the output

    :ivar source: the input
    :ivar ahead: reads chunks that no job has yet
    :ivar again: reads chunks that were begun
    :ivar through: reads of them what goes into the output
    """

    def __init__(
        self, source: Source, size: int, needed: Collection[str], passthrough: Collection[str]
    ) -> None:
        self.source = source
        self.ahead = ChunkReader(source, size, needed)
        self.again = ChunkReader(source, size, needed)
        self.through = ChunkReader(source, size, passthrough)

    def let_go(self) -> None:
        """Keep nothing open; the next chunks are read from where they start."""
        for reader in (self.ahead, self.again, self.through):
            reader.let_go()
