"""Rows that cannot be used: who decides about them, and what is said about them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airflow_provider_lamini.rows.counts import describe_failures
from airflow_provider_lamini.rows.errors import BadRowError
from airflow_provider_lamini.rows.limits import FailureLimit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_lamini.rows.batch import Batch
    from airflow_provider_lamini.rows.failures import RowFailure

NO_FAILURES = FailureLimit(count=0)
_MAX_EXAMPLES = 3
_PREFIX = "failed_"


@dataclass(slots=True)
class BadRows:
    """The rows of an input that cannot be used.

    :param failures: their number by `FailureReason`
    :param examples: the first of them, each with what is wrong
    """

    failures: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)

    @property
    def count(self) -> int:
        """Number of the rows."""
        return self.failures.total()

    def add(self, batch: Batch, found: Mapping[int, RowFailure]) -> None:
        """Count rows of a batch.

        :param batch: the rows
        :param found: why rows cannot be used, by offset
        """
        for offset, failure in sorted(found.items()):
            # The error of a reader says where the row is.
            where = "" if offset in batch.bad else f"{batch.describe_row(offset)}: "
            self.add_one(failure, where)

    def add_one(self, failure: RowFailure, where: str = "") -> None:
        """Count one row.

        :param failure: why it cannot be used
        :param where: where it is, in front of that
        """
        self.failures[failure.reason.value] += 1
        if len(self.examples) < _MAX_EXAMPLES:
            self.examples.append(f"{where}{failure.text.removesuffix('.')}")

    def verdict(self) -> str:
        """What a log says about an input of which these rows were left out."""
        if not self.count:
            return "all valid"
        rows = "1 row was" if self.count == 1 else f"{self.count} rows were"
        return f"{rows} left out ({describe_failures(self.failures)}). The first: {'; '.join(self.examples)}"


@dataclass(frozen=True, slots=True)
class BadRowPolicy:
    """What becomes of rows that cannot be used.

    :param keep: use the other rows; otherwise the first bad row is an error
    :param limit: how many rows may be bad
    """

    keep: bool = False
    limit: FailureLimit = NO_FAILURES

    def check(self, bad: BadRows, total: int, source: str) -> str | None:
        """Compare the bad rows with the limit.

        :param bad: the bad rows
        :param total: number of all rows
        :param source: a description of the input
        :return: a sentence about them, without a full stop, and without examples; ``None`` if there are none
        :raises BadRowError: if there are more than may be
        """
        if not bad.count:
            return None
        found = f"{bad.count} of {total} rows of {source} cannot be sent ({describe_failures(bad.failures)})"
        if self.limit.exceeded(bad.count, total):
            raise BadRowError(
                f"{found}, and max_failed_rows allows {self.limit}. Nothing was sent. The first: "
                f"{'; '.join(bad.examples)}. Correct the rows, or raise max_failed_rows."
            )
        return found

    def check_used(self, bad: BadRows, total: int, source: str) -> None:
        """The same where the other rows are used together, so that one of them at least must be there.

        :param bad: the bad rows
        :param total: number of all rows
        :param source: a description of the input
        :raises BadRowError: if there are more bad rows than may be, or no others
        """
        found = self.check(bad, total, source)
        if found is not None and bad.count == total:
            raise BadRowError(
                f"{found}, so none is left. Nothing was sent. The first: {'; '.join(bad.examples)}."
            )


def failure_numbers(failures: Mapping[str, int]) -> dict[str, int]:
    """Numbers of bad rows as a submission record keeps them.

    :param failures: number of rows by reason
    """
    return {f"{_PREFIX}{reason}": count for reason, count in failures.items()}


def recorded_failures(numbers: Mapping[str, int]) -> dict[str, int]:
    """Numbers of bad rows by reason, from a submission record.

    :param numbers: the numbers of the record, with those of `failure_numbers`
    """
    return {name.removeprefix(_PREFIX): count for name, count in numbers.items() if name.startswith(_PREFIX)}
