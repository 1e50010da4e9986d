"""The results of a chunk's rows."""

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
"""The error of a row before anything else is known of it."""


class ChunkResult(msgspec.Struct, forbid_unknown_fields=True):
    """What the rows of a chunk came to so far. The three lists are as long as the chunk.

    :param outputs: each row's output; ``None`` where it has none
    :param finish_reasons: why the platform ended each output, in its own words
    :param errors: why a row has no output; ``None`` where it has one
    """

    outputs: list[Any]
    finish_reasons: list[str | None]
    errors: list[str | None]

    def __post_init__(self) -> None:
        if not len(self.outputs) == len(self.finish_reasons) == len(self.errors):
            raise ValueError("outputs, finish reasons and errors are not equally many")

    @classmethod
    def pending(cls, rows: int) -> ChunkResult:
        """Rows of which nothing is known: each has the error `NOT_ANSWERED`."""
        return cls([None] * rows, [None] * rows, [NOT_ANSWERED] * rows)

    def __len__(self) -> int:
        return len(self.outputs)

    @property
    def failed(self) -> list[int]:
        """Numbers in the chunk of the rows without an output."""
        if self.errors.count(None) == len(self.errors):
            return []
        return [number for number, error in enumerate(self.errors) if error is not None]

    def settle(self, row: int, output: Json, finish_reason: str | None = None) -> None:
        """Note the output of a row.

        :param row: its number in the chunk
        :param output: the output
        :param finish_reason: why the platform ended it
        """
        self.outputs[row] = output
        self.finish_reasons[row] = finish_reason
        self.errors[row] = None

    def fail(self, row: int, error: str, finish_reason: str | None = None) -> None:
        """Note why a row has no output.

        :param row: its number in the chunk
        :param error: the reason, for a person; never the prompt
        :param finish_reason: why the platform ended it
        """
        self.outputs[row] = None
        self.finish_reasons[row] = finish_reason
        self.errors[row] = error

    def with_rows(self, rows: Sequence[int], later: ChunkResult) -> ChunkResult:
        """The same, with later results for some of the rows.

        :param rows: their numbers in the chunk
        :param later: what they came to, as many and in this order
        """
        for column, others in (
            (self.outputs, later.outputs),
            (self.finish_reasons, later.finish_reasons),
            (self.errors, later.errors),
        ):
            for row, other in zip(rows, others, strict=True):
                column[row] = other
        return self

    def counts(self, retried: int = 0, sums: Mapping[str, float] | None = None) -> Counts:
        """The rows by outcome.

        :param retried: how many were sent more than once (`ledger.Chunk.retried`)
        :param sums: whatever else is worth summing up
        """
        failed = len(self) - self.errors.count(None)
        ended = self.finish_reasons
        if (
            not failed and ended and ended.count(ended[0]) == len(ended)
        ):  # as nearly always; several times as fast
            reasons = Counter({ended[0]: len(ended)})
        else:
            reasons = Counter(map(itemgetter(0), self._succeeded()) if failed else ended)
        del reasons[None]
        named = {str(reason): count for reason, count in reasons.items()}
        return Counts(len(self), len(self) - failed, failed, retried, named, dict(sums or {}))

    def _succeeded(self) -> Iterator[tuple[str | None, str | None]]:
        pairs = zip(self.finish_reasons, self.errors, strict=True)
        return ((reason, error) for reason, error in pairs if error is None)
