"""What to do next about a job, decided from what is known and the time. Pure: no clock, no network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_lamini.api.errors import (
    AuthenticationError,
    JobNotFoundError,
    ModelLoadingError,
    NotFoundError,
    PlatformError,
    PlatformTimeoutError,
    ProtocolError,
    RateLimitedError,
    UnavailableError,
)

if TYPE_CHECKING:
    from airflow_provider_lamini.jobs.state import JobStatus

TRANSIENT_ERRORS = (
    ModelLoadingError,
    PlatformTimeoutError,
    ProtocolError,
    RateLimitedError,
    UnavailableError,
)
"""Errors that say nothing about the job and pass by themselves."""

NOT_FOUND_GRACE = 60.0
"""A platform may need this long after a submission until every replica knows the job."""

REFUSED_KEY_ATTEMPTS = 3
"""A key may be rotated while a job runs: the watch reads the connection anew between these tries."""

AGE_FRACTION = 0.08
"""A job that has run for a while is asked after again when this share of its age has passed."""

MAX_REPORT_INTERVAL = 300.0
"""Seconds between two lines in a task's log that say how far its jobs are, at the most."""

JITTER = 0.2
"""Waiting times differ by up to this share, so that jobs submitted together spread out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PollPlan:
    """How one job is to be watched.

    :param submitted_at: when the job was submitted, seconds since 1970
    :param deadline: when waiting ends, seconds since 1970
    :param max_interval: seconds between two looks at the most
    :param min_interval: seconds between two looks at the least
    """

    submitted_at: float
    deadline: float
    max_interval: float = 30.0
    min_interval: float = 0.5


@dataclass(frozen=True, slots=True)
class PollAgain:
    """Look again.

    :param seconds: after this time
    """

    seconds: float


@dataclass(frozen=True, slots=True)
class Ended:
    """The platform does no more on the job.

    :param status: how it ended
    """

    status: JobStatus


@dataclass(frozen=True, slots=True)
class DeadlinePassed:
    """The time given is over; the job may still run."""


@dataclass(frozen=True, slots=True)
class Lost:
    """Looking again is pointless, and how the job stands is not known.

    :param error: what the platform answered
    """

    error: PlatformError


Decision = PollAgain | Ended | DeadlinePassed | Lost


def decide_after_status(plan: PollPlan, status: JobStatus, now: float, chance: float) -> Decision:
    """Decide after the platform has answered.

    :param plan: how the job is watched
    :param status: what the platform said
    :param now: seconds since 1970
    :param chance: a random number from 0 to 1, for the jitter
    :return: the end, or when to look again; a state that is not known is not an end
    """
    if status.state.ended:
        return Ended(status)
    return _again(plan, now, chance)


def decide_after_error(
    plan: PollPlan, error: PlatformError, errors: int, now: float, chance: float
) -> Decision:
    """Decide after a look has failed.

    :param plan: how the job is watched
    :param error: what went wrong
    :param errors: how many looks in a row have failed, this one included
    :param now: seconds since 1970
    :param chance: a random number from 0 to 1, for the jitter
    :return: when to look again, or that the job is lost; an outage is sat out until the deadline
    """
    if isinstance(error, TRANSIENT_ERRORS):
        pause = max(error.retry_after or 0.0, min(2.0**errors, plan.max_interval))
        return _again(plan, now, chance, at_least=pause)
    # Before its submission by this clock: then the clocks differ, and a job that is there must not be paid for twice.
    settling = now - plan.submitted_at < NOT_FOUND_GRACE
    if isinstance(error, JobNotFoundError | NotFoundError) and settling:
        return _again(plan, now, chance)
    if isinstance(error, AuthenticationError) and errors < REFUSED_KEY_ATTEMPTS:
        return _again(plan, now, chance)
    return Lost(error)


def first_poll(plan: PollPlan, now: float, chance: float) -> Decision:
    """Decide when to look for the first time, also after the watch has moved to another process.

    :param plan: how the job is watched
    :param now: seconds since 1970
    :param chance: a random number from 0 to 1, for the jitter
    :return: when to look
    """
    pause = _again(plan, now, chance)
    if isinstance(pause, DeadlinePassed):
        # One last look: a job that ended while nobody watched has not timed out.
        return PollAgain(0.0)
    return PollAgain(pause.seconds * chance)


def report_interval(plan: PollPlan, now: float) -> float:
    """Decide after how many seconds a task's log is told again how far its jobs are.

    Thousands of waiting tasks would else write a line for each of their looks, which costs many times the looks.

    :param plan: how the jobs are watched
    :param now: seconds since 1970
    """
    age = max(0.0, now - plan.submitted_at)
    return max(plan.max_interval, min(age * AGE_FRACTION, MAX_REPORT_INTERVAL))


def _again(plan: PollPlan, now: float, chance: float, at_least: float = 0.0) -> PollAgain | DeadlinePassed:
    if now >= plan.deadline:
        return DeadlinePassed()
    age = now - plan.submitted_at
    if age < -NOT_FOUND_GRACE:  # the clock was set back: how young the job is cannot be told
        age = plan.max_interval / AGE_FRACTION
    age = max(0.0, age)
    pause = min(max(age * AGE_FRACTION, plan.min_interval), max(plan.max_interval, plan.min_interval))
    pause *= 1 + JITTER * (2 * chance - 1)
    return PollAgain(min(max(pause, at_least), plan.deadline - now))
