"""What a kind of job is: how to ask for a status, list, cancel and resume. The kinds themselves are in ``platforms``."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_lamini.jobs.state import JobState

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow_provider_lamini.api.call import Call
    from airflow_provider_lamini.jobs.state import JobStatus

    StatusCall = Callable[[str], Call[JobStatus]]
    ListCall = Callable[[str, Collection[str]], Call["Listing"]]
    ActionCall = Callable[[str], Call[object]]

log = logging.getLogger(__name__)

_MAX_LOGGED = 1000
_logged: set[tuple[str, str]] = set()
"""Kinds and status words that this process has logged as unknown."""


@dataclass(frozen=True, slots=True)
class Listing:
    """What the platform's list of jobs says.

    :param statuses: the status of each requested job that the list contains; it may contain others
    :param size: bytes of the response, if it may be long
    """

    statuses: Mapping[str, JobStatus]
    size: int = 0


class _EveryJob(Collection[str]):
    """Contains every id, and names none."""

    def __contains__(self, job_id: object) -> bool:
        return True

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


EVERY_JOB = _EveryJob()
"""Instead of the ids of jobs: ``list_statuses`` then returns all jobs of the scope."""


def _no_scope(job_id: str) -> str:
    del job_id
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobKind:
    """What can be done with one kind of job. Each call takes the job's id.

    :param name: platform and kind, such as ``acme/tuning``; in trigger arguments, events and records
    :param title: the kind in messages, such as ``batch completions``
    :param status: asks for the status of one job
    :param list_statuses: asks for the statuses of some jobs of a scope with one request, if the platform can list jobs.
        Takes the scope and the ids of these jobs, or `EVERY_JOB`
    :param scope_of: returns the scope of a job that ``list_statuses`` takes, such as its project; by default all jobs have
        the same, empty scope
    :param cancel: cancels one job, if the platform can
    :param cancel_deletes: whether the platform does not know a job any more that was cancelled
    :param endless: whether one stays, and may bill, until somebody stops it, as a deployment does
    :param resume: resumes an ended job from its checkpoint, if the platform can
    :param polled_as: the kind whose polls answer for this one too, because both are about the same things on the platform
        and differ in what a wait waits for
    :param translate: with ``polled_as``: makes a status of this kind of one of that kind
    :param status_call_returns_results: whether the status call is the same request that fetches the job's results
    :param called_job: whether messages call one of them a job of the title, and not by the title alone
    """

    name: str
    title: str
    status: StatusCall
    list_statuses: ListCall | None = None
    scope_of: Callable[[str], str] = _no_scope
    cancel: ActionCall | None = None
    cancel_deletes: bool = False
    endless: bool = False
    resume: ActionCall | None = None
    polled_as: JobKind | None = None
    translate: Callable[[JobStatus], JobStatus] | None = None
    status_call_returns_results: bool = False
    called_job: bool = True

    @property
    def noun(self) -> str:
        """What one of them is called in the middle of a message, such as ``tuning job`` or ``deployment``."""
        return f"{self.title} job" if self.called_job else self.title

    @property
    def subject(self) -> str:
        """The noun at the beginning of a sentence."""
        return self.noun[0].upper() + self.noun[1:]

    @property
    def a_noun(self) -> str:
        """The noun with its article."""
        return f"{'an' if self.noun[0] in 'aeiou' else 'a'} {self.noun}"

    @property
    def cancel_verb(self) -> str:
        """What ``cancel`` does: ``cancel`` or ``delete``."""
        return "delete" if self.cancel_deletes else "cancel"

    @property
    def cancelled(self) -> str:
        """The participle of `cancel_verb`."""
        return "deleted" if self.cancel_deletes else "cancelled"

    @property
    def platform(self) -> str:
        """The platform's name."""
        return self.name.partition("/")[0]

    @property
    def short_name(self) -> str:
        """The name without its platform, as Dags write it, such as ``tuning``."""
        return self.name.rpartition("/")[2]


def warn_about_unknown_status(kind: JobKind, status: JobStatus) -> None:
    """Log a status word that this version does not know, once per process and kind.

    :param kind: the job's kind
    :param status: what the platform reported
    """
    key = (kind.name, status.raw)
    if status.state is JobState.UNKNOWN and key not in _logged and len(_logged) < _MAX_LOGGED:
        _logged.add(key)
        log.warning(
            "The platform reports a status that this version does not know, %r, for %s %s; polling continues.",
            status.raw,
            kind.noun,
            status.job_id,
        )
