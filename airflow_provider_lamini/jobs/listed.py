"""Jobs as people look at them: lists of the newest ones, and the loss curve of one. Polls use `jobs.kinds` instead."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from airflow_provider_lamini.api.call import Call
    from airflow_provider_lamini.jobs.kinds import JobKind
    from airflow_provider_lamini.jobs.state import JobStatus

MAX_LISTED = 500
"""Maximum number of jobs or scopes that a list shows."""
MAX_POINTS = 1000
"""Maximum number of points of a loss curve."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedJob:
    """A job in a list.

    :param status: its status
    :param name: the name that its user gave it, if any
    :param created_at: Unix timestamp; ``None`` if the platform does not say it
    :param updated_at: when the platform changed it last, likewise
    """

    status: JobStatus
    name: str | None = None
    created_at: float | None = None
    updated_at: float | None = None


@dataclass(frozen=True, slots=True)
class JobPage:
    """The newest jobs of a list.

    :param jobs: the jobs, the newest first
    :param total: number of jobs in the whole list
    """

    jobs: Sequence[ListedJob]
    total: int


class LossAxis(StrEnum):
    """What the points of a loss curve are numbered by."""

    STEP = "step"
    TIME = "time"
    """Unix timestamps."""


@dataclass(frozen=True, slots=True)
class JobDetail:
    """One job, with its loss curve.

    :param job: the job
    :param losses: positions and losses, in order; none before the first step
    :param axis: what the positions are
    """

    job: ListedJob
    losses: Sequence[tuple[float, float]] = ()
    axis: LossAxis = LossAxis.STEP


@dataclass(frozen=True, slots=True)
class Scope:
    """What holds some of the jobs, such as a project.

    :param scope_id: the platform's id
    :param name: its name for people
    """

    scope_id: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobList:
    """How the jobs of a kind are listed for people.

    :param kind: the kind
    :param title: the list's title, such as ``Training jobs``
    :param jobs: lists the jobs of a scope; without scopes it is empty
    :param scopes: lists the scopes, if each list belongs to one
    :param detail: reads one job with its loss curve, if jobs of this kind have one
    """

    kind: JobKind
    title: str
    jobs: Callable[[str], Call[JobPage]]
    scopes: Call[list[Scope]] | None = None
    detail: Callable[[str], Call[JobDetail]] | None = None


def newest(jobs: Iterable[ListedJob]) -> JobPage:
    """Return the newest jobs of a list. Where a platform does not say when they were created, the last ones count as new.

    :param jobs: all jobs, in the platform's order
    """
    listed = list(reversed(list(jobs)))
    listed.sort(key=lambda job: -(job.created_at or 0))
    return JobPage(listed[:MAX_LISTED], len(listed))


def curve(points: Iterable[tuple[float | None, float | None]]) -> list[tuple[float, float]]:
    """Return the points of a loss curve that can be drawn, at most about `MAX_POINTS`, evenly chosen; the last is one of them.

    :param points: positions and losses; either may be missing or not finite
    """
    known = [
        (float(position), float(loss))
        for position, loss in points
        if position is not None and loss is not None and math.isfinite(position) and math.isfinite(loss)
    ]
    stride = -(-len(known) // MAX_POINTS) or 1
    return known[::-1][::stride][::-1]
