"""The kinds of remote jobs, and what the platform can do for each. A new kind is one entry here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from airflow_provider_lamini.api.call import Call
    from airflow_provider_lamini.jobs.state import JobStatus

    StatusCall = Callable[[str], Call[JobStatus]]
    ListCall = Callable[[], Call["Listing"]]
    Change = Callable[[str], Call[object]]


@dataclass(frozen=True, slots=True)
class Listing:
    """What the platform's list of jobs says.

    :param size: bytes of the answer
    :param read: finds the jobs with these ids, a piece of the list at a time: others get a turn in between
    """

    size: int
    read: Callable[[Collection[str]], Iterator[Mapping[str, JobStatus]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobKind:
    """What can be done with one kind of job.

    :param name: platform and kind, such as ``lamini/tuning``; in trigger arguments, events and records
    :param title: the kind in messages, such as ``Memory RAG``
    :param status: asks how one job stands
    :param look_all: asks how all jobs stand, where the platform can list them
    :param cancel: cancels one job, where the platform can
    :param resume: has an ended job go on from its checkpoint, where the platform can
    :param looks_bring_results: whether the request that asks how a job stands is the one that fetches its results
    """

    name: str
    title: str
    status: StatusCall
    list_statuses: ListCall | None = None
    cancel: Change | None = None
    resume: Change | None = None
    status_call_returns_results: bool = False

    @property
    def platform(self) -> str:
        """The platform's name."""
        return self.name.partition("/")[0]

    @property
    def short_name(self) -> str:
        """The name without its platform, as Dags write it, such as ``memory_rag``."""
        return self.name.rpartition("/")[2]
