"""The rows of an earlier run as an input: its failed rows are left out."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from airflow_provider_lamini.rows.columns import column_of
from airflow_provider_lamini.rows.sources.batch import Batch, Cursor

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from airflow_provider_lamini.rows.values import Row

FAILED = "error"
"""The column that says why a row failed."""


def kept_batches(batches: Iterable[Batch], start: Cursor) -> Iterator[Batch]:
    """Leave out the rows that have failed.

    :param batches: rows of one part of the run, with the column `FAILED`
    :param start: the position at which reading starts; rows are counted from there
    """
    row = start.row
    for batch in batches:
        errors = column_of(batch.rows, FAILED)
        kept = [offset for offset, error in enumerate(errors) if error is None]
        if kept:
            # The rows before the first kept one belong to this batch, so that its start is the end of the batch before.
            position = batch.start
            yield KeptBatch(batch, Cursor(row, position.file, position.offset, position.line), kept)
            row += len(kept)


class KeptBatch(Batch):
    """Some rows of a batch.

    :param inner: the batch
    :param start: position of the first row
    :param kept: which rows of the batch they are
    """

    def __init__(self, inner: Batch, start: Cursor, kept: list[int]) -> None:
        super().__init__((), start)
        self._inner = inner
        self._kept = kept
        self.bad = {at: inner.bad[offset] for at, offset in enumerate(kept) if offset in inner.bad}

    @cached_property
    def rows(self) -> Sequence[Row]:
        """The rows."""
        rows = self._inner.rows
        return rows if len(self._kept) == len(rows) else [rows[offset] for offset in self._kept]

    def __len__(self) -> int:
        return len(self._kept)

    def after(self, count: int) -> Cursor:
        if not count:
            return self.start
        position = self._inner.after(self._kept[count - 1] + 1)
        return Cursor(self.start.row + count, position.file, position.offset, position.line)

    def location(self, offset: int) -> str:
        return self._inner.location(self._kept[offset])
