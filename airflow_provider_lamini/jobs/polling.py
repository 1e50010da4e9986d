"""What to do next about a job, decided from its status or error and the time. Pure: no clock, no network."""

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
from airflow_provider_lamini.api.retry import MAX_RETRY_AFTER

if TYPE_CHECKING:
    from airflow_provider_lamini.jobs.state import JobStatus

TRANSIENT_ERRORS = (
    ModelLoadingError,
    PlatformTimeoutError,
    ProtocolError,
    RateLimitedError,
    UnavailableError,
)
"""Errors that say nothing about the job and go away by themselves."""

NOT_FOUND_GRACE = 60.0
"""Seconds after a submission in which 'not found' is not final: not every replica may know the job yet."""

REFUSED_KEY_ATTEMPTS = 3
"""Polls in a row that may fail with a refused key. The watch reads the connection again after each: keys are rotated."""

AGE_FRACTION = 0.08
"""The poll interval as a fraction of the job's age, between the plan's minimum and maximum."""

FIRST_REPORT = 5.0
"""Seconds until the first progress line of a wait."""

MAX_REPORT_INTERVAL = 300.0
"""Maximum seconds between two progress lines in a task's log."""

JITTER_FRACTION = 0.2
"""Poll intervals vary by up to this fraction, so that polls of jobs submitted together spread out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PollPlan:
    """How to poll one job.

    :param submitted_at: when the job was submitted, Unix timestamp
    :param deadline: when waiting ends, Unix timestamp
    :param max_interval: maximum seconds between polls
    :param min_interval: minimum seconds between polls, unless ``max_interval`` is less
    """

    submitted_at: float
    deadline: float
    max_interval: float = 30.0
    min_interval: float = 0.5


@dataclass(frozen=True, slots=True)
class PollAgain:
    """Poll the job again.

    :param seconds: after this time
    """

    seconds: float


@dataclass(frozen=True, slots=True)
class Ended:
    """The job has ended.

    :param status: how it ended
    """

    status: JobStatus


@dataclass(frozen=True, slots=True)
class DeadlinePassed:
    """The deadline has passed; the job may still run."""


@dataclass(frozen=True, slots=True)
class Lost:
    """The status of the job is not known, and polling again is pointless.

    :param error: the platform's error
    """

    error: PlatformError


Decision = PollAgain | Ended | DeadlinePassed | Lost


def decide_after_status(plan: PollPlan, status: JobStatus, now: float, jitter: float) -> Decision:
    """Decide what follows a status.

    :param plan: how to poll the job
    :param status: what the platform reported
    :param now: Unix timestamp
    :param jitter: a random number from 0 to 1
    :return: the end, or when to poll again; neither an unknown nor an inactive state is an end
    """
    if status.state.ended:
        return Ended(status)
    return _next_poll(plan, now, jitter)


def decide_after_error(
    plan: PollPlan, error: PlatformError, errors: int, now: float, jitter: float
) -> Decision:
    """Decide what follows a failed poll.

    :param plan: how to poll the job
    :param error: why the poll failed
    :param errors: number of failed polls in a row, including this one
    :param now: Unix timestamp
    :param jitter: a random number from 0 to 1
    :return: when to poll again, or that the job is lost; outages are tolerated until the deadline
    """
    if isinstance(error, TRANSIENT_ERRORS):
        pause = max(min(error.retry_after or 0.0, MAX_RETRY_AFTER), min(2.0**errors, plan.max_interval))
        return _next_poll(plan, now, jitter, at_least=pause)
    # Also true before the submission by this clock: then the clocks differ, and the job must not be paid for twice.
    in_grace_period = now - plan.submitted_at < NOT_FOUND_GRACE
    if isinstance(error, JobNotFoundError | NotFoundError) and in_grace_period:
        return _next_poll(plan, now, jitter)
    if isinstance(error, AuthenticationError) and errors < REFUSED_KEY_ATTEMPTS:
        return _next_poll(plan, now, jitter)
    return Lost(error)


def first_poll(plan: PollPlan, now: float, jitter: float) -> PollAgain:
    """Decide when to poll for the first time, also after the wait has moved to another process.

    :param plan: how to poll the job
    :param now: Unix timestamp
    :param jitter: a random number from 0 to 1
    """
    pause = _next_poll(plan, now, jitter)
    if isinstance(pause, DeadlinePassed):
        # One last poll: a job that ended while nobody watched has not timed out.
        return PollAgain(0.0)
    return PollAgain(pause.seconds * jitter)


def report_interval(plan: PollPlan, now: float) -> float:
    """Return the seconds until the next progress line in the task's log.

    With thousands of waiting tasks, a line per poll would cost many times as much as the polls.

    :param plan: how to poll the jobs
    :param now: Unix timestamp
    """
    age = max(0.0, now - plan.submitted_at)
    return max(plan.max_interval, min(age * AGE_FRACTION, MAX_REPORT_INTERVAL))


def _next_poll(
    plan: PollPlan, now: float, jitter: float, at_least: float = 0.0
) -> PollAgain | DeadlinePassed:
    if now >= plan.deadline:
        return DeadlinePassed()
    age = now - plan.submitted_at
    if age < -NOT_FOUND_GRACE:  # the clock was set back: the job's age is not known
        age = plan.max_interval / AGE_FRACTION
    age = max(0.0, age)
    pause = min(max(age * AGE_FRACTION, plan.min_interval), plan.max_interval)
    pause = min(pause * (1 + JITTER_FRACTION * (2 * jitter - 1)), plan.max_interval)
    return PollAgain(min(max(pause, at_least), plan.deadline - now))
