"""Numbers of rows by outcome."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping


class Counts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Numbers of rows by outcome.

    :param rows: all rows
    :param ok: rows with an output
    :param failed: rows with an error instead
    :param retried: rows that were sent more than once
    :param finish_reasons: rows with an output, by the finish reason that the platform gave
    :param sums: sums over the rows, such as tokens
    :param failures: rows with an error, by `FailureReason`
    :param reused: rows whose output was copied from an earlier run
    """

    rows: int = 0
    ok: int = 0
    failed: int = 0
    retried: int = 0
    finish_reasons: dict[str, int] = {}
    sums: dict[str, int | float] = {}
    failures: dict[str, int] = {}
    reused: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.rows + other.rows,
            self.ok + other.ok,
            self.failed + other.failed,
            self.retried + other.retried,
            _add(self.finish_reasons, other.finish_reasons),
            _add(self.sums, other.sums),
            _add(self.failures, other.failures),
            self.reused + other.reused,
        )


def by_number(rows: Mapping[str, int]) -> list[tuple[str, int]]:
    """Rows by group, the largest group first; groups of the same size in the order of their names.

    :param rows: number of rows by group
    """
    return sorted(rows.items(), key=lambda item: (-item[1], item[0]))


def describe_failures(failures: Mapping[str, int]) -> str:
    """Failed rows by reason for a message, the most frequent first: ``3 empty, 1 filtered``.

    :param failures: number of rows by reason
    """
    return ", ".join(f"{count} {reason}" for reason, count in by_number(failures))


def describe_tokens(sums: Mapping[str, float]) -> str:
    """The tokens of a run for a message: ``120 prompt tokens and 30 completion tokens, 150 in total``.

    :param sums: sums over the rows
    """
    prompt, completion = sums.get("prompt_tokens", 0), sums.get("completion_tokens", 0)
    return (
        f"{prompt:,.0f} prompt and {completion:,.0f} completion tokens, {sums['total_tokens']:,.0f} in total"
    )


Number = TypeVar("Number", int, float)


def _add(left: dict[str, Number], right: dict[str, Number]) -> dict[str, Number]:
    return left | {name: left[name] + value if name in left else value for name, value in right.items()}
