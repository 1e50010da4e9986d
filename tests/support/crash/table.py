"""The figures of many lives as a table with one line per kind of task."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tests.support.crash.life import Life


@dataclass(frozen=True, slots=True)
class Line:
    """The figures of one kind of task.

    :param steps: number of different named steps with a kill
    :param lives: number of tasks
    :param kills: number of killed processes
    :param broken: number of broken connections of submissions
    :param restarts: number of lives in which the platform was restarted
    :param retries: number of tries after the first ones
    :param repeated: paid work that was repeated as documented
    :param duplicates: paid work that was repeated without being documented
    :param lost: missing rows or jobs
    :param doubled: rows that exist twice
    :param wrong: lives with other defects
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
    """Return the figures of one kind of task."""
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
        sum(result.lost for result in found),
        sum(result.doubled for result in found),
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
    """Return the figures as a Markdown table."""
    rows: list[tuple[object, ...]] = [astuple(entry) for entry in lines]
    sums = [sum(int(str(row[column])) for row in rows) for column in range(1, len(HEAD))]
    rows.append(("**all**", *sums))
    shown = [HEAD, ("---", *["---:"] * (len(HEAD) - 1)), *rows]
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in shown)
