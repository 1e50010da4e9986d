"""The figures of many lives, one line for each kind of task."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tests.support.crash.life import Life


@dataclass(frozen=True, slots=True)
class Line:
    """The figures of one kind of task.

    :param steps: different named steps that it was killed at, in lives of their own
    :param lives: how many tasks were led to their ends
    :param kills: processes that were killed
    :param broken: connections of a submission that have broken
    :param restarts: lives in which the platform was killed and started again
    :param retries: tries that Airflow had to begin after the first one of each life
    :param repeated: work that was paid for again where the documentation says so
    :param duplicates: work that was paid for again without that
    :param lost: rows, or jobs, that are missing
    :param doubled: rows that are there twice
    :param wrong: lives of which something else was not as it must be
    """

    case: str
    steps: int
    lives: int
    kills: int
    broken: int
    restarts: int
    retries: int
    repeated: int
    duplicates: int
    lost: int
    doubled: int
    wrong: int


def line(case: str, steps: int, lives: Sequence[Life]) -> Line:
    """Sum up the lives of one kind of task."""
    found = [life.found for life in lives if life.found is not None]
    return Line(
        case,
        steps,
        len(lives),
        sum(life.kills for life in lives),
        sum(life.broken for life in lives),
        sum(life.restarted for life in lives),
        sum(life.tries - 1 for life in lives),
        sum(life.repeated for life in lives),
        sum(life.duplicates for life in lives),
        sum(each.lost for each in found),
        sum(each.doubled for each in found),
        sum(bool(life.failed or (life.found and life.found.wrong)) for life in lives),
    )


HEAD = (
    "operator",
    "steps",
    "tasks",
    "kills",
    "broken connections",
    "platform restarts",
    "retries",
    "repeated as documented",
    "duplicates",
    "lost",
    "doubled",
    "otherwise wrong",
)


def markdown(lines: Iterable[Line]) -> str:
    """The figures as a table for the documentation."""
    rows: list[tuple[object, ...]] = [astuple(each) for each in lines]
    sums = [sum(int(str(row[column])) for row in rows) for column in range(1, len(HEAD))]
    rows.append(("**all**", *sums))
    shown = [HEAD, ("---", *["---:"] * (len(HEAD) - 1)), *rows]
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in shown)
