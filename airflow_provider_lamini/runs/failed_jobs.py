"""Jobs over rows that the platform accepted and that then failed: whether a row may be the reason, and how far to look."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_lamini.jobs.state import FailureCause, JobState
from airflow_provider_lamini.rows.failures import FailureReason, RowFailure

if TYPE_CHECKING:
    from airflow_provider_lamini.jobs.event import EndedJob
    from airflow_provider_lamini.jobs.state import JobStatus
    from airflow_provider_lamini.rows.ledger.document import Chunk

MAX_FAILED_JOBS = 7
"""Number of jobs of a chunk that may fail while none ends well. Then the rows are not the reason."""

_PIECES_PER_HALVING = 4
_MAX_REASON = 200


def may_be_of_a_row(job: EndedJob | JobStatus) -> bool:
    """Whether one of its rows may be the reason why a job has not succeeded.

    If the platform does not say what the reason is, it may be: the search costs little (`MAX_FAILED_JOBS`, `max_pieces`),
    and without it the other rows would have no result.

    :param job: how it ended
    """
    return job.state is JobState.FAILED and job.cause is not FailureCause.PLATFORM


def failed_jobs(chunk: Chunk) -> int:
    """Number of jobs of the last round of a chunk that have failed, provided that none of them ended well.

    A failed job was replaced by two pieces, or its piece is done.

    :param chunk: the chunk
    """
    pieces = chunk.rounds[-1].pieces if chunk.rounds else []
    return len(pieces) - 1 + sum(piece.done for piece in pieces) if pieces else 0


def max_pieces(rows: int) -> int:
    """In how many pieces at most a chunk is sent because jobs fail. The rows of a piece that fails then fail together.

    :param rows: number of rows of the chunk
    """
    return _PIECES_PER_HALVING * (1 + rows.bit_length())


def failure_of_job(job: EndedJob | JobStatus, *, alone: bool) -> RowFailure:
    """Why the rows of a failed job have failed.

    :param job: how it ended
    :param alone: whether it had only one row, which is then the reason
    """
    reason = " ".join((job.detail or job.raw).split())[:_MAX_REASON]
    if alone:
        return RowFailure(FailureReason.REJECTED, f"the job with this row alone failed: {reason}")
    return RowFailure(FailureReason.PLATFORM_ERROR, f"the job of this row and others failed: {reason}")
