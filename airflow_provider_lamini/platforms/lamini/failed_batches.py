"""How a batch of Lamini has ended without a result, and whether what was sent is the reason.

A batch has no status of its own: an error in place of its result says how it has ended. The error's HTTP status is the most
certain thing that the platform says about the reason. 500 stands for anything; then the words of the reason decide.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING

from airflow_provider_lamini.jobs.state import FailureCause, JobState, JobStatus

if TYPE_CHECKING:
    from collections.abc import Callable

_BATCH_ENDED = re.compile(
    r"(?i)\bbatch\W+(?P<id>[\w.-]+?)['\"]?\s+(?:has |was )?(?P<word>failed|cancell?ed|timed out)\b[:.\s]*"
)
"""What the platform says instead of the result of a batch that has ended without one."""
_OF_THE_INPUT = (
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNPROCESSABLE_ENTITY,
)
"""Statuses of what the platform calls a user's error."""
_PLATFORMS_OWN = re.compile(
    r"quota|rate.?limit|too many requests|\b(?:credits?|billing|payment|balance|budget)\b|\b(?:429|50[234])\b|unauthori|forbidden"
    r"|permission|api.?key|unavailable|outage|overload|capacity|maintenance|shut.?down|shutting down|restart|preempt|evict"
    r"|interrupted|connection|network|\bDNS\b|\bdisk\b|storage|\bGPUs?\b|time.?out|timed out|deadline|try again|cancell?ed",
    re.IGNORECASE,
)
"""Reasons that concern the platform or the account, and not what was sent."""


def ended_batch(job_id: str, state_of: Callable[[str], JobState], status: int, text: str) -> JobStatus | None:
    """Return how a batch has ended, from the error in place of its result; ``None`` if the error is about something else.

    :param job_id: the batch's id
    :param state_of: returns the state behind a status word
    :param status: the HTTP status of the error
    :param text: its text
    """
    found = _BATCH_ENDED.search(text)
    if found is None or found["id"] != job_id:
        return None
    reason = text[found.end() :]
    return JobStatus(
        job_id, state_of(found["word"]), found["word"], detail=reason or None, cause=cause_of(status, reason)
    )


def cause_of(status: int, reason: str) -> FailureCause | None:
    """Whether what was sent is the reason of a failure, or the platform; ``None`` if nobody can tell.

    :param status: the HTTP status of the error
    :param reason: the platform's words
    """
    if status in _OF_THE_INPUT:
        return FailureCause.INPUT
    if status != HTTPStatus.INTERNAL_SERVER_ERROR or _PLATFORMS_OWN.search(reason):
        return FailureCause.PLATFORM
    return None
