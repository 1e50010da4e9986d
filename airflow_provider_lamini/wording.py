"""What messages and log lines have in common: plurals, articles, durations, names, and sentences that several of them share."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

SECONDS_PER_MINUTE = 60
SECONDS_PER_HOUR = 3600
_MAX_NAME = 60


def counted(count: int, noun: str) -> str:
    """A number and its noun.

    :param count: how many
    :param noun: the noun in the singular; its plural ends in ``s``
    :return: such as ``1 row`` or ``2,000 rows``
    """
    return f"{count:,} {noun if count == 1 else f'{noun}s'}"


def left_running(job_ids: Sequence[str], reason: str = "cancel_on_kill is off") -> str:
    """Say that a killed task does not cancel its jobs.

    :param job_ids: the platform's ids
    :param reason: why
    """
    keep = "keeps running and bills" if len(job_ids) == 1 else "keep running and bill"
    return f"{reason}: {counted(len(job_ids), 'job')} {keep} ({', '.join(job_ids)})."


def a_type(value: object) -> str:
    """The type of a value, with its article.

    :param value: any value
    :return: such as ``a dict`` or ``an int``; ``None`` for ``None``
    """
    if value is None:
        return "None"
    name = type(value).__name__
    return name if name == "bytes" else f"{'an' if name[0] in 'aeioAEIO' else 'a'} {name}"


def short_name(name: str) -> str:
    """The name of a column for a message: on one line, and shortened.

    If a file has no header line, its first line of data is taken for names.

    :param name: name of the column
    """
    text = name if name.isprintable() else ascii(name)[1:-1]
    return text if len(text) <= _MAX_NAME else f"{text[:_MAX_NAME]}..."


def no_connection(conn_id: str) -> str:
    """Say that an Airflow connection does not exist.

    :param conn_id: the connection
    """
    return f"There is no connection {conn_id!r}. Define it, or name another one."


def duration(seconds: float) -> str:
    """Format a duration for users.

    :param seconds: the duration
    :return: such as ``45 s``, ``12 min``, ``3.5 h`` or ``24 h``
    """
    if seconds < SECONDS_PER_MINUTE:
        return f"{seconds:.0f} s"
    if seconds < SECONDS_PER_HOUR:
        return f"{seconds / SECONDS_PER_MINUTE:.0f} min"
    return f"{seconds / SECONDS_PER_HOUR:.1f}".removesuffix(".0") + " h"
