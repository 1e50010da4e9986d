"""The kinds of remote jobs, and what the platform can do for each. A new kind is one entry here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_lamini.api.lamini import batches
from airflow_provider_lamini.jobs.state import JobState, JobStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow_provider_lamini.api.call import Call


@dataclass(frozen=True, slots=True, kw_only=True)
class JobKind:
    """What can be done with one kind of job.

    :param name: the kind's name, in trigger arguments and in messages
    :param look: asks how one job stands
    :param look_all: asks how all jobs stand, where the platform can list them
    :param cancel: cancels one job, where the platform can
    """

    name: str
    look: Callable[[str], Call[JobStatus]]
    look_all: Callable[[], Call[Mapping[str, JobStatus]]] | None = None
    cancel: Callable[[str], Call[object]] | None = None


def _look_at_batch_completions(job_id: str) -> Call[JobStatus]:
    return batches.completions_progress(job_id).then(lambda seen: _rows_status(job_id, seen.done, seen.total))


def _look_at_batch_embeddings(job_id: str) -> Call[JobStatus]:
    return batches.embeddings_result(job_id).then(
        lambda vectors: (
            JobStatus(job_id, JobState.RUNNING, "no result yet")
            if vectors is None
            else _rows_status(job_id, len(vectors), len(vectors))
        )
    )


def _rows_status(job_id: str, done: int, total: int) -> JobStatus:
    """A batch has no state of its own: it has ended when each of its rows has."""
    if total == 0:
        return JobStatus(job_id, JobState.QUEUED, "no rows yet", 0, 0)
    if done < total:
        return JobStatus(job_id, JobState.RUNNING, f"{done} of {total} rows", done, total)
    return JobStatus(job_id, JobState.SUCCEEDED, f"all {total} rows", done, total)


BATCH_COMPLETIONS = JobKind(name="batch completions", look=_look_at_batch_completions)
BATCH_EMBEDDINGS = JobKind(name="batch embeddings", look=_look_at_batch_embeddings)

_KINDS = {kind.name: kind for kind in (BATCH_COMPLETIONS, BATCH_EMBEDDINGS)}


def kind_named(name: str) -> JobKind:
    """The kind with this name.

    :param name: as in a trigger's arguments
    :raises ValueError: where there is none
    """
    try:
        return _KINDS[name]
    except KeyError:
        raise ValueError(
            f"No kind of job is called {name!r}; there are {', '.join(sorted(_KINDS))}."
        ) from None
