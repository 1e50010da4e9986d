"""What a task says about its one job: how to submit it, find it and read its result, and what to do when it goes wrong."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Generic, TypeVar

from airflow_provider_lamini.runs.arguments import flag, folder, one_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping
    from contextlib import AbstractContextManager

    from airflow_provider_lamini.jobs.event import EndedJob
    from airflow_provider_lamini.jobs.kinds import JobKind
    from airflow_provider_lamini.jobs.state import JobStatus
    from airflow_provider_lamini.runs.submission_record import Submission

R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmissionOptions:
    """How a task submits its job, and what it does when something is not as expected.

    :param state_path: folder for the submission record; ``None`` for the default
    :param cancel_changed: cancel a job of this run that has other arguments; else the task fails
    :param submit_unknown: submit again if nobody can tell whether a job was started; else the task fails
    :param force_new: submit a new job for each run and each clear of the task
    :param wait: wait for the job
    :param cancel_at_deadline: cancel the job when ``timeout`` has passed and no retry follows
    """

    state_path: str | None = None
    cancel_changed: bool = True
    submit_unknown: bool = False
    force_new: bool = False
    wait: bool = True
    cancel_at_deadline: bool = True

    @classmethod
    def parse(
        cls,
        *,
        state_path: str | None,
        on_changed_input: object,
        on_unknown_submission: object,
        force_new: object,
        wait: object,
        on_timeout: object,
    ) -> SubmissionOptions:
        """Validate the arguments of an operator, their templates rendered.

        :raises InvalidArgumentError: if one is wrong
        """
        unknown = one_of("on_unknown_submission", on_unknown_submission, ("fail", "submit"))
        return cls(
            cancel_changed=one_of("on_changed_input", on_changed_input, ("cancel", "fail")) == "cancel",
            submit_unknown=unknown == "submit",
            force_new=flag("force_new", force_new),
            state_path=None if state_path is None else folder("state_path", state_path),
            cancel_at_deadline=one_of("on_timeout", on_timeout, ("cancel", "leave")) == "cancel",
            wait=flag("wait", wait),
        )


class OrphanSearch(Enum):
    """The result of a search for a job whose id was never recorded, if it did not find the job."""

    NOT_STARTED = "not started"
    """The platform would list the job, and does not."""
    UNKNOWN = "unknown"
    """The platform cannot tell."""


def find_new_job(
    list_jobs: Callable[[], Mapping[str, bool]], before: Collection[str], delay: float
) -> str | OrphanSearch:
    """Look for a job among those that the platform did not list before it was submitted.

    :param list_jobs: reads the ids of jobs that look like it, each with whether it certainly is the one if no other is new
    :param before: the ids that were listed before
    :param delay: seconds until a job that was just started is in the list
    """
    new = {job_id: certain for job_id, certain in list_jobs().items() if job_id not in before}
    if not new:
        time.sleep(delay)
        new = {job_id: certain for job_id, certain in list_jobs().items() if job_id not in before}
    if not new:
        return OrphanSearch.NOT_STARTED
    (job_id, certain), *others = new.items()
    return job_id if certain and not others else OrphanSearch.UNKNOWN


@dataclass(frozen=True, slots=True)
class Fail:
    """Fail the task.

    :param advice: what the user can do, a sentence
    :param keep_record: keep the record, so that a retry finds the same job again; else it submits a new one
    """

    advice: str
    keep_record: bool = False


@dataclass(frozen=True, slots=True)
class Resume:
    """Resume the job from its checkpoint.

    :param limit: how many resumes are allowed, for the log; ``None`` for no limit
    """

    limit: int | None = None


@dataclass(frozen=True, slots=True)
class Accept:
    """Return the job's result all the same."""


@dataclass(frozen=True, slots=True)
class SubmitAgain:
    """Forget the job and submit a new one."""


Decision = Fail | Resume | Accept | SubmitAgain


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A job that is ready to be started.

    :param create: starts the job, and returns the platform's id
    :param before: ids of the jobs that look like this one already; ``None`` if the platform cannot list such jobs
    :param numbers: facts for the result, such as how many rows a dataset has
    :param not_started: errors of ``create`` after which nothing was started, so that a retry may submit
    """

    create: Callable[[], str]
    before: Iterable[str] | None = None
    numbers: Mapping[str, int] = field(default_factory=dict)
    not_started: tuple[type[Exception], ...] = ()


class JobSpec(ABC, Generic[R]):
    """What `SubmittedJob` must know about one job: how to submit it, find it, and read its result."""

    kind: JobKind
    """The kind of the job."""

    submitted = "Submitted"
    """What the log says before the job's id once it is started."""

    @abstractmethod
    def fingerprint_inputs(self) -> Mapping[str, object]:
        """Everything that decides what is submitted, as plain values. The platform's address is added to it."""

    @abstractmethod
    def prepare(self, mark: str) -> AbstractContextManager[Prepared]:
        """Do everything that comes before the call that starts the job; the record is written in between.

        :param mark: a text that no other submission has: put it on the job, if the platform has a place for it
        :return: the job, which is created inside the context
        :raises ValueError: if an argument is wrong
        """

    @abstractmethod
    def result(self, job_id: str, status: EndedJob | JobStatus, submission: Submission | None) -> R:
        """What the task returns after the job has succeeded.

        :param job_id: the platform's id
        :param status: how the job ended
        :param submission: the job's record, if there is one
        """

    @abstractmethod
    def result_without_waiting(self, job_id: str, submission: Submission) -> R:
        """What the task returns if it does not wait for the job.

        :param job_id: the platform's id
        :param submission: the job's record
        """

    def find_orphaned_job(self, submission: Submission) -> str | OrphanSearch:  # noqa: ARG002 - for overrides
        """Look for a job whose id was never recorded.

        :param submission: the record of the intent
        :return: the platform's id, or why there is none
        """
        return OrphanSearch.UNKNOWN

    def on_bad_end(
        self,
        job_id: str,  # noqa: ARG002 - for overrides
        status: EndedJob | JobStatus,  # noqa: ARG002 - for overrides
        submission: Submission | None,  # noqa: ARG002 - for overrides
    ) -> Decision:
        """Decide what to do with a job that did not succeed.

        :param job_id: the platform's id
        :param status: how the job ended
        :param submission: the job's record, if there is one
        """
        return Fail("A retry submits a new job.")

    def left_behind(self) -> str:
        """What the task has made for a job that did not succeed, and how to use it again, a sentence; empty for nothing."""
        return ""

    def advice_after_vanishing(self, job_id: str) -> str:  # noqa: ARG002 - for overrides
        """What the user can do if the platform does not know the job any more, a sentence.

        :param job_id: the platform's id
        """
        return "A retry submits a new job."

    def publish_link(self, job_id: str) -> None:
        """Link the task to the job's web page.

        :param job_id: the platform's id
        """
