"""Operators whose work is one remote job, from its submission to its end: wait, judge, fetch what it made."""

from __future__ import annotations

import time
from abc import abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from airflow_provider_lamini.exceptions import JobLostError
from airflow_provider_lamini.operators.submit_once import SubmitOnceOperator
from airflow_provider_lamini.runs.arguments import flag, one_of
from airflow_provider_lamini.runs.job_errors import cancelled_with_previous_try, job_error
from airflow_provider_lamini.runs.outcome import Done, WaitFor, retry_follows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_lamini.jobs.event import EndedJob, JobEvent
    from airflow_provider_lamini.jobs.state import JobStatus
    from airflow_provider_lamini.runs.submission_record import Submission

R = TypeVar("R")


class SingleJobOperator(SubmitOnceOperator[R]):
    """Submits one job, once, whatever happens to the task in between; waits for it and returns what it made.

    :param wait: wait for the end and return the result; ``False`` returns the job's id right after the submission
    :param on_timeout: what to do about a job that still runs when ``timeout`` has passed: ``cancel`` it where the platform
        can and no retry follows that would attach to it, or ``leave`` it
    """

    template_fields: Sequence[str] = (*SubmitOnceOperator.template_fields, "on_timeout")

    def __init__(self, *, wait: bool = True, on_timeout: str = "cancel", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.wait = wait
        self.on_timeout = on_timeout

    @abstractmethod
    def fetch(self, job_id: str, status: EndedJob | JobStatus) -> R:
        """What the task returns for a job that ended well.

        :param job_id: the platform's id
        :param status: how it ended
        """

    @abstractmethod
    def result_without_waiting(self, job_id: str) -> R:
        """What the task returns without waiting.

        :param job_id: the platform's id
        """

    def check(self) -> None:
        """Validate the rendered arguments; see :class:`JobOperator`."""
        super().check()
        self._cancel_late = one_of("on_timeout", self.on_timeout, ("cancel", "leave")) == "cancel"
        self.wait = flag("wait", self.wait)

    def advance(self, context: Context, event: JobEvent | None) -> WaitFor | Done[R]:
        """Attach or submit at the start of a try, judge the end afterwards; see :class:`JobOperator`."""
        # Only the beginning of a try tells that there is no place for a record.
        self.use_records(context, self.log if event is None else None)
        event = self.accept_event(event)
        if event is None:
            return self._begin()
        for lost in event.lost.values():
            if lost.vanished:
                self._records.forget()
            raise JobLostError(
                f"The {self.kind.title} job cannot be looked at any more: {lost.reason} "
                + (
                    "A retry submits it anew."
                    if lost.vanished
                    else "It may still run and bill; a retry looks again."
                )
            )
        ((job_id, ended),) = event.ended.items()
        return self._conclude(job_id, ended)

    def _begin(self) -> WaitFor | Done[R]:
        from airflow_provider_lamini.api.errors import PlatformError

        known = self.obtain()
        job_id = str(known.job_id)
        self.publish_link(job_id)
        if not self.wait:
            if known.attached_at is not None and self._has_ended_badly(job_id):
                self._records.forget()
                return self._begin()
            return Done(self.result_without_waiting(job_id))
        self._waiting = self._waiting_for(job_id, known)  # a kill from here on cancels the job
        try:
            status = self.hook.send(self.kind.status(job_id))
        except PlatformError as error:
            # A job that has vanished, or that this replica does not know yet: the watch tells them apart.
            self.log.info("Job %s is not settled here, the watch goes on: %s", job_id, error)
            return self._waiting
        if status.state.ended:
            return self._conclude(job_id, status)
        return self._waiting

    def _has_ended_badly(self, job_id: str) -> bool:
        """Whether a job that is to be handed over again has come to nothing meanwhile."""
        from airflow_provider_lamini.api.errors import PlatformError
        from airflow_provider_lamini.jobs.state import JobState

        try:
            status = self.hook.send(self.kind.status(job_id))
        except PlatformError as error:
            self.log.info("How job %s stands is not known here: %s", job_id, error)
            return False
        if status.state not in (JobState.FAILED, JobState.CANCELLED, JobState.TIMED_OUT):
            return False
        self.log.info("Job %s has ended as %s; it is submitted anew.", job_id, status.raw)
        return True

    def accept_event(self, event: JobEvent | None) -> JobEvent | None:
        """Say whether an event is the end of the submitted job. A task that waits for other jobs too overrides this.

        :param event: what woke the task; ``None`` at the start of a try
        :return: the same; or ``None`` to begin again
        """
        return event

    def publish_link(self, job_id: str) -> None:
        """Tell people of the job as soon as there is one, for example by a link.

        :param job_id: the platform's id
        """

    def started(self, job_id: str, intent: Submission) -> None:
        """From here on a kill cancels the job; see :class:`SubmitOnceOperator`."""
        if self.wait:
            self._waiting = self._waiting_for(job_id, intent)

    def _waiting_for(self, job_id: str, submission: Submission) -> WaitFor:
        return WaitFor(
            kind=self.kind.name, job_ids=[job_id], submitted_at=submission.submitted_at or self.started_at
        )

    def _conclude(self, job_id: str, status: EndedJob | JobStatus) -> WaitFor | Done[R]:
        from airflow_provider_lamini.jobs.state import JobState

        if status.state is JobState.SUCCEEDED:
            return self.fetched(job_id, status)
        known = self._records.read() if status.state is JobState.CANCELLED else None
        if known is not None and known.stopped_at is not None:
            return self.resume_after_timeout(job_id, status, known)
        if known is not None and cancelled_with_previous_try(known, status):
            self.log.info(
                "Job %s was cancelled when the try before was killed; it is submitted anew.", job_id
            )
            self._records.forget()
            return self._begin()
        return self.ended_badly(job_id, status)

    def fetched(self, job_id: str, status: EndedJob | JobStatus) -> Done[R]:
        """Return what the job has made; where the platform fails now, say that the job is not at fault.

        :param job_id: the platform's id
        :param status: how it ended
        :raises PlatformError: where the platform could not be asked; the record is kept
        """
        from airflow_provider_lamini.api.errors import PlatformError

        try:
            return Done(self.fetch(job_id, status))
        except PlatformError:
            self.log.warning(
                "Job %s (%s) has ended well, what follows has failed. A retry goes on from here with the same job.",
                *(job_id, self.kind.title),
            )
            raise

    def resume_after_timeout(
        self, job_id: str, status: EndedJob | JobStatus, known: Submission
    ) -> WaitFor | Done[R]:
        """What a try does about a job that an earlier one has cancelled because its time was up: submit anew.

        :param job_id: the platform's id
        :param status: how it ended
        :param known: its record
        """
        del status, known
        self.log.info(
            "%s job %s was cancelled when its time was up; it is submitted anew.", self.kind.title, job_id
        )
        self._records.forget()
        return self._begin()

    def on_deadline(self, context: Context, event: JobEvent) -> str:
        """Cancel the job where no retry will attach to it; see :class:`JobOperator`."""
        self.use_records(context, None)
        known = self._records.read()
        name = f"{self.kind.title} job {', '.join(event.pending) or (known.job_id if known else 'of an unknown id')}"
        if known is not None and retry_follows(context):
            return f"The {name} may still run and bill; the retry attaches to it."
        attach = "Clear the task to attach to it." if known is not None else "There is no record of it."
        if not self._cancel_late or self.kind.cancel is None:
            why = "on_timeout is leave" if not self._cancel_late else "the platform has no call to cancel it"
            return f"The {name} may still run and bill, for {why}. {attach}"
        return self._cancelled_late(name, known, event)

    def _cancelled_late(self, name: str, known: Submission | None, event: JobEvent) -> str:
        from airflow_provider_lamini.api.errors import PlatformError

        assert self.kind.cancel is not None  # noqa: S101 - for the type checker
        if known is not None and known.job_id is not None:
            # Before it is cancelled: a try that finds it cancelled must know why.
            self._records.write(replace(known, stopped_at=time.time()))
        for job_id in event.pending:
            try:
                self.hook.send(self.kind.cancel(job_id))
            except PlatformError as error:
                return f"Cancelling the {name} failed, it may still run and bill: {error}"
        return f"The {name} is cancelled, since no retry follows (on_timeout)."

    def ended_badly(self, job_id: str, status: EndedJob | JobStatus) -> WaitFor | Done[R]:
        """What to do about a job that did not end well: fail, so that a retry submits anew.

        :param job_id: the platform's id
        :param status: how it ended
        :raises JobError: always, here
        """
        self._records.forget()
        self.fail(job_id, status, "A retry submits it anew.")

    def fail(self, job_id: str, status: EndedJob | JobStatus, next_step: str) -> NoReturn:
        """Fail with the exception that fits how a job ended.

        :param job_id: the platform's id
        :param status: how it ended
        :param next_step: what the user may do
        """
        raise job_error(self.kind, job_id, status, next_step)
