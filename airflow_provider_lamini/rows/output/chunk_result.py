"""The results of the rows of a chunk."""

from __future__ import annotations

from collections import Counter
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_provider_lamini.rows.counts import Counts
from airflow_provider_lamini.rows.failures import FailureReason, RowFailure
from airflow_provider_lamini.rows.tokens import TOKENS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from airflow_provider_lamini.api.call import Json

NOT_ANSWERED = RowFailure(FailureReason.NO_ANSWER, "the platform gave no answer for this row")
"""The failure of a row until something else is known about it."""


class RowUsage(msgspec.Struct, frozen=True, array_like=True):
    """What this run has used for a row, over all times that it was sent.

    :param model: the model that the row was sent to
    :param prompt_tokens: tokens of the prompts; ``None`` if the platform has not counted them, as the other two
    :param completion_tokens: tokens of the answers
    :param total_tokens: both
    """

    model: str
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None

    def __add__(self, later: RowUsage) -> RowUsage:
        """What both have used. The model is that of the later one."""
        if self.total_tokens is None or later.total_tokens is None:
            counted = self if later.total_tokens is None else later
            return msgspec.structs.replace(counted, model=later.model)
        return RowUsage(later.model, *(getattr(self, name) + getattr(later, name) for name in TOKENS))


class ChunkResult(msgspec.Struct, forbid_unknown_fields=True):
    """The results of a chunk so far. The three lists have one entry per row.

    :param outputs: each row's output; ``None`` if it has none
    :param finish_reasons: why generation ended for each row, as the platform says it
    :param errors: why a row has no output, for a person; ``None`` if it has one
    :param failures: the same out of the list of reasons, by offset in the chunk; only failed rows are in it
    :param reused: number of rows whose output was copied from an earlier run
    :param reasoning: what the model has thought, by offset, if it is kept
    :param usage: what answered rows have used, by offset, where the endpoint may report tokens
    :param unpriced: offsets of the rows that are counted as rows without a known cost
    """

    outputs: list[Any]
    finish_reasons: list[str | None]
    errors: list[str | None]
    failures: dict[int, FailureReason] = {}
    reused: int = 0
    reasoning: dict[int, str] = {}
    usage: dict[int, RowUsage] = {}
    unpriced: set[int] = set()

    def __post_init__(self) -> None:
        if not len(self.outputs) == len(self.finish_reasons) == len(self.errors):
            raise ValueError("outputs, finish_reasons and errors have different lengths")
        if set(self.failures) != set(self.failed):
            raise ValueError("failures must name the rows with errors")

    @classmethod
    def pending(cls, rows: int) -> ChunkResult:
        """The result of rows that nothing is known about: each has the failure `NOT_ANSWERED`."""
        return cls.all_failed(rows, NOT_ANSWERED)

    @classmethod
    def all_failed(cls, rows: int, failure: RowFailure) -> ChunkResult:
        """The result of rows that have all failed for one reason.

        :param rows: number of rows
        :param failure: why they failed
        """
        reasons = dict.fromkeys(range(rows), failure.reason)
        return cls([None] * rows, [None] * rows, [failure.text] * rows, reasons)

    def __len__(self) -> int:
        return len(self.outputs)

    @property
    def failed(self) -> list[int]:
        """Offsets in the chunk of the rows without an output."""
        if self.errors.count(None) == len(self.errors):
            return []
        return [offset for offset, error in enumerate(self.errors) if error is not None]

    @property
    def worth_retrying(self) -> list[int]:
        """Offsets in the chunk of the failed rows that may succeed when they are sent again."""
        return sorted(row for row, reason in self.failures.items() if not reason.permanent)

    def settle(self, row: int, output: Json, finish_reason: str | None = None) -> None:
        """Set the output of a row.

        :param row: offset of the row in the chunk
        :param output: the output
        :param finish_reason: why generation ended, as the platform says it
        """
        self.outputs[row] = output
        self.finish_reasons[row] = finish_reason
        self.errors[row] = None
        self.failures.pop(row, None)

    def fail(self, row: int, failure: RowFailure, finish_reason: str | None = None) -> None:
        """Set the failure of a row.

        :param row: offset of the row in the chunk
        :param failure: why the row has no output
        :param finish_reason: why generation ended, as the platform says it
        """
        self.outputs[row] = None
        self.finish_reasons[row] = finish_reason
        self.failures[row], self.errors[row] = failure

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
        for row in rows:
            self.failures.pop(row, None)
            self.reasoning.pop(row, None)
            self.usage.pop(row, None)
        self.failures.update((rows[offset], reason) for offset, reason in retried.failures.items())
        self.reasoning.update((rows[offset], text) for offset, text in retried.reasoning.items())
        self.usage.update((rows[offset], used) for offset, used in retried.usage.items())
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
        failures = {reason.value: count for reason, count in Counter(self.failures.values()).items()}
        return Counts(
            rows=len(self),
            ok=len(self) - failed,
            failed=failed,
            retried=retried,
            finish_reasons=named,
            failures=failures,
            reused=self.reused,
            sums=dict(sums or {}),
        )

    def _succeeded(self) -> Iterator[tuple[str | None, str | None]]:
        pairs = zip(self.finish_reasons, self.errors, strict=True)
        return ((reason, error) for reason, error in pairs if error is None)


DECODER = msgspec.json.Decoder(ChunkResult)
