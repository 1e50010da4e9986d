"""How the rows of a chunk, or of a run, came out."""

from __future__ import annotations

from typing import TypeVar

import msgspec


class Counts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Numbers of rows by outcome.

    :param rows: all of them
    :param ok: those with an output
    :param failed: those with an error instead
    :param retried: those that were sent more than once
    :param finish_reasons: those with an output, by the reason that the platform gave
    :param sums: sums over rows of whatever else is worth counting, such as tokens
    """

    rows: int = 0
    ok: int = 0
    failed: int = 0
    retried: int = 0
    finish_reasons: dict[str, int] = {}
    sums: dict[str, float] = {}

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.rows + other.rows,
            self.ok + other.ok,
            self.failed + other.failed,
            self.retried + other.retried,
            _added(self.finish_reasons, other.finish_reasons),
            _added(self.sums, other.sums),
        )


Number = TypeVar("Number", int, float)


def _added(one: dict[str, Number], other: dict[str, Number]) -> dict[str, Number]:
    return one | {name: one[name] + value if name in one else value for name, value in other.items()}
