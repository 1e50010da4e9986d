"""The results of the rows of a chunk."""

from __future__ import annotations

from collections import Counter
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_provider_lamini.rows.counts import Counts

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from airflow_provider_lamini.api.call import Json

NOT_ANSWERED = "the platform gave no answer for this row"
"""The error of a row until something else is known about it."""


class ChunkResult(msgspec.Struct, forbid_unknown_fields=True):
    """The results of a chunk so far. All three lists have one entry per row.

    :param outputs: each row's output; ``None`` if it has none
    :param finish_reasons: why generation ended for each row, as the platform says it
    :param errors: why a row has no output; ``None`` if it has one
    """

    outputs: list[Any]
    finish_reasons: list[str | None]
    errors: list[str | None]

    def __post_init__(self) -> None:
        if not len(self.outputs) == len(self.finish_reasons) == len(self.errors):
            raise ValueError("outputs, finish_reasons and errors have different lengths")

    @classmethod
    def pending(cls, rows: int) -> ChunkResult:
        """The result of rows that nothing is known about: each has the error `NOT_ANSWERED`."""
        return cls([None] * rows, [None] * rows, [NOT_ANSWERED] * rows)

    def __len__(self) -> int:
        return len(self.outputs)

    @property
    def failed(self) -> list[int]:
        """Offsets in the chunk of the rows without an output."""
        if self.errors.count(None) == len(self.errors):
            return []
        return [offset for offset, error in enumerate(self.errors) if error is not None]

    def settle(self, row: int, output: Json, finish_reason: str | None = None) -> None:
        """Set the output of a row.

        :param row: offset of the row in the chunk
        :param output: the output
        :param finish_reason: why generation ended, as the platform says it
        """
        self.outputs[row] = output
        self.finish_reasons[row] = finish_reason
        self.errors[row] = None

    def fail(self, row: int, error: str, finish_reason: str | None = None) -> None:
        """Set the error of a row.

        :param row: offset of the row in the chunk
        :param error: why the row has no output, for a person; it must not contain the prompt
        :param finish_reason: why generation ended, as the platform says it
        """
        self.outputs[row] = None
        self.finish_reasons[row] = finish_reason
        self.errors[row] = error

    def with_rows(self, rows: Sequence[int], retried: ChunkResult) -> ChunkResult:
        """Replace the results of some rows.

        :param rows: offsets of the rows in the chunk
        :param retried: their new results, in the same order
        :return: this result
        """
        for column, new_values in (
            (self.outputs, retried.outputs),
            (self.finish_reasons, retried.finish_reasons),
            (self.errors, retried.errors),
        ):
            for row, value in zip(rows, new_values, strict=True):
                column[row] = value
        return self

    def counts(self, retried: int = 0, sums: Mapping[str, float] | None = None) -> Counts:
        """Count the rows by outcome.

        :param retried: number of rows that were sent more than once (`Chunk.retried`)
        :param sums: sums over the rows, such as tokens
        """
        failed = len(self) - self.errors.count(None)
        reasons = self.finish_reasons
        # Nearly always all rows have the same reason; this is several times as fast as counting them one by one.
        if not failed and reasons and reasons.count(reasons[0]) == len(reasons):
            by_reason = Counter({reasons[0]: len(reasons)})
        else:
            by_reason = Counter(map(itemgetter(0), self._succeeded()) if failed else reasons)
        del by_reason[None]
        named = {str(reason): count for reason, count in by_reason.items()}
        return Counts(len(self), len(self) - failed, failed, retried, named, dict(sums or {}))

    def _succeeded(self) -> Iterator[tuple[str | None, str | None]]:
        pairs = zip(self.finish_reasons, self.errors, strict=True)
        return ((reason, error) for reason, error in pairs if error is None)


DECODER = msgspec.json.Decoder(ChunkResult)
