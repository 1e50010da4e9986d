"""Operators whose work is one remote job: attach to it or submit it, wait, fetch what it made."""

from __future__ import annotations

import time
import uuid
from abc import abstractmethod
from dataclasses import replace
from enum import Enum
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from airflow_provider_lamini.exceptions import (
    InvalidArgumentError,
    JobCancelledError,
    JobError,
    JobFailedError,
    JobLostError,
    JobTimedOutError,
    TaskKilledError,
)
from airflow_provider_lamini.operators.base import JobOperator
from airflow_provider_lamini.runs.arguments import flag, folder, one_of
from airflow_provider_lamini.runs.record import Submission, digest, record_store
from airflow_provider_lamini.runs.step import Finished, Waiting, owner_of, request_of, retry_follows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_lamini.jobs.event import EndedJob, JobEvent
    from airflow_provider_lamini.jobs.kinds import JobKind
    from airflow_provider_lamini.jobs.state import JobStatus
    from airflow_provider_lamini.runs.record import RecordStore
    from airflow_provider_lamini.runs.step import Log

R = TypeVar("R")

KILL_SETTLES = 120.0
"""A job that is cancelled, and was not seen alive later than so many seconds after a try attached to it, was cancelled by the
killing of the try before: Airflow does not order that before the new try."""


class Lookup(Enum):
    """What looking for a job may come to, beside its id."""

    NOT_STARTED = "not started"
    """The platform would know it by now, and does not."""
    UNKNOWN = "unknown"
    """The platform cannot tell."""


class SingleJobOperator(JobOperator[R]):
    """Submits one job, once, whatever happens to the task in between.

    :param wait: wait for the end and return the result; ``False`` returns the job's id right after the submission
    :param state_path: folder, a path or URI, for the record of the submission; by default Airflow's task state store
        (3.3 and newer), else the connection's ``state_path``, else ``[lamini] state_path``
    :param on_changed_input: what to do when this run has submitted a job with other arguments before: ``cancel`` it and submit
        anew, or ``fail``
    :param on_unknown_submission: what to do when it is not known whether a job was started, and the platform does not tell:
        ``fail``, or ``submit`` (again)
    :param force_new: submit a new job in any case, also where this run has a finished one. It is submitted once for each
        run and each clearing of the task; retries after that attach to it
    :param on_timeout: what to do about a job that still runs when ``timeout`` has passed: ``cancel`` it where the platform
        can and no retry follows that would attach to it, or ``leave`` it
    """

    template_fields: Sequence[str] = (
        *JobOperator.template_fields,
        "state_path",
        "on_changed_input",
        "on_unknown_submission",
        "force_new",
        "on_timeout",
    )

    def __init__(
        self,
        *,
        wait: bool = True,
        state_path: str | None = None,
        on_changed_input: str = "cancel",
        on_unknown_submission: str = "fail",
        force_new: bool | str = False,
        on_timeout: str = "cancel",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.wait = wait
        self.state_path = state_path
        self.on_changed_input = on_changed_input
        self.on_unknown_submission = on_unknown_submission
        self.force_new = force_new
        self.on_timeout = on_timeout
        self._records: RecordStore

    @property
    @abstractmethod
    def kind(self) -> JobKind:
        """The kind of the job."""

    @abstractmethod
    def decides(self) -> Mapping[str, object]:
        """Everything that decides what is submitted, as plain values. The connection is added here."""

    @abstractmethod
    def submit(self, mark: str) -> str:
        """Start the job.

        :param mark: a text to put on the job, where the platform takes one, so that :meth:`find` finds it
        :return: the platform's id
        """

    @abstractmethod
    def fetch(self, job_id: str, status: EndedJob | JobStatus) -> R:
        """What the task returns for a job that ended well.

        :param job_id: the platform's id
        :param status: how it ended
        """

    @abstractmethod
    def handed_over(self, job_id: str) -> R:
        """What the task returns without waiting.

        :param job_id: the platform's id
        """

    def find(self, submission: Submission) -> str | Lookup:
        """Look for a job of which only the intent is recorded.

        :param submission: the record
        :return: the platform's id; or that it was not started, or that the platform cannot tell
        """
        del submission
        return Lookup.UNKNOWN

    def check(self) -> None:
        """Validate the rendered arguments; see :class:`JobOperator`."""
        self._cancel_changed = (
            one_of("on_changed_input", self.on_changed_input, ("cancel", "fail")) == "cancel"
        )
        unknown = one_of("on_unknown_submission", self.on_unknown_submission, ("fail", "submit"))
        self._submit_unknown = unknown == "submit"
        self._force_new = flag("force_new", self.force_new)
        self._cancel_late = one_of("on_timeout", self.on_timeout, ("cancel", "leave")) == "cancel"
        self.wait = flag("wait", self.wait)
        if self.state_path is not None:
            folder("state_path", self.state_path)

    def advance(self, context: Context, event: JobEvent | None) -> Waiting | Finished[R]:
        """Attach or submit at the start of a try, judge the end afterwards; see :class:`JobOperator`."""
        # Only the beginning of a try tells that there is no place for a record.
        self._records = self.open_records(context, self.log if event is None else None)
        self._request = request_of(context)
        event = self.take_up(event)
        if event is None:
            return self._begin()
        for lost in event.lost.values():
            if lost.vanished:
                self._records.forget()
            raise JobLostError(
                f"The {self.kind.name} job cannot be looked at any more: {lost.reason} "
                + (
                    "A retry submits it anew."
                    if lost.vanished
                    else "It may still run and bill; a retry looks again."
                )
            )
        ((job_id, ended),) = event.ended.items()
        return self._conclude(job_id, ended)

    def _begin(self) -> Waiting | Finished[R]:
        from airflow_provider_lamini.api.errors import PlatformError

        known = self._submission()
        job_id = str(known.job_id)
        self.announce(job_id)
        if not self.wait:
            if known.attached_at is not None and self._has_ended_badly(job_id):
                self._records.forget()
                return self._begin()
            return Finished(self.handed_over(job_id))
        self._waiting = self._waiting_for(job_id, known)  # a kill from here on cancels the job
        try:
            status = self.hook.send(self.kind.look(job_id))
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
            status = self.hook.send(self.kind.look(job_id))
        except PlatformError as error:
            self.log.info("How job %s stands is not known here: %s", job_id, error)
            return False
        if status.state not in (JobState.FAILED, JobState.CANCELLED, JobState.TIMED_OUT):
            return False
        self.log.info("Job %s has ended as %s; it is submitted anew.", job_id, status.raw)
        return True

    def _submission(self) -> Submission:
        """The job to wait for: the one that there is, or a new one. Of two processes, one does this at a time."""
        from airflow_provider_lamini.rows.errors import FolderBusyError

        fingerprint = digest({**self.decides(), "platform": self.settings.base_url})
        try:
            with self._records.alone():
                known = self._known(fingerprint)
                if known is None:
                    return self._submit(fingerprint)
                known = replace(known, attached_at=time.time())
                self._records.write(known)
        except FolderBusyError as error:
            raise JobLostError(
                f"Another process of this task is submitting a {self.kind.name} job, for longer than is waited for it. "
                "Nothing was submitted here; a retry attaches to what it submits."
            ) from error
        self.log.info("Attached to %s job %s.", self.kind.name, known.job_id)
        return known

    def open_records(self, context: Context, log: Log | None) -> RecordStore:
        """Find the place for the record of the submission.

        :param context: Airflow's context
        :param log: is told where there is no place; ``None`` tells nobody
        """
        return record_store(context, owner_of(context), self.state_path or self.hook.state_path(), log)

    def take_up(self, event: JobEvent | None) -> JobEvent | None:
        """Say whether an event is the end of the submitted job. A task that waits for other jobs too overrides this.

        :param event: what woke the task; ``None`` at the start of a try
        :return: the same; or ``None`` to begin again
        """
        return event

    def note(self, **known: Any) -> None:
        """Add to the record of the intent, within :meth:`submit` and right before the job is started.

        :param known: fields of the record: what a retry, or :meth:`find`, has to know
        :raises JobLostError: where another process of this task has begun to submit meanwhile
        """
        intent = self._records.read()
        if intent is None:  # there is no place for it
            return
        if intent.mark != self._mark:
            raise JobLostError(
                f"Another process of this task is submitting a {self.kind.name} job at the same moment. Nothing was "
                "submitted here; a retry attaches to what it submits."
            )
        self._records.write(replace(intent, **known))

    def announce(self, job_id: str) -> None:
        """Tell people of the job as soon as there is one, for example by a link.

        :param job_id: the platform's id
        """

    def _known(self, fingerprint: str) -> Submission | None:
        """The job that this run has submitted before, if it is the one that is wanted now."""
        known = self._recorded()
        if known is None:
            return None
        if self._force_new and known.forced_by != self._request:
            if known.job_id is not None:
                self.log.info(
                    "force_new: %s job %s of this run is left as it is.", self.kind.name, known.job_id
                )
            return None
        if known.fingerprint != fingerprint:
            self._drop_changed(known)
            return None
        return known if known.job_id is not None else self._found(known)

    def _found(self, known: Submission) -> Submission | None:
        """The job of which only the intent is recorded; ``None`` where it is to be submitted."""
        found = self.find(known)
        if found is Lookup.NOT_STARTED:
            self.log.info("An earlier try stopped before the %s job was started.", self.kind.name)
            return None
        if found is not Lookup.UNKNOWN:
            self.log.info("Found %s job %s, whose id was not recorded.", self.kind.name, found)
            known = known.submitted(found, time.time())
            self._records.write(known)
            return known
        if not self._submit_unknown:
            raise JobLostError(
                f"Whether a {self.kind.name} job was started is not known: the task stopped while it was submitted. If so, it "
                "runs and bills. Look at the platform, then clear the task with on_unknown_submission='submit'."
            )
        self.log.warning("A %s job may have been started before; it is submitted again.", self.kind.name)
        return None

    def _recorded(self) -> Submission | None:
        from airflow_provider_lamini.runs.record import UnreadableRecordError

        try:
            return self._records.read()
        except UnreadableRecordError as error:
            if not self._force_new:
                raise
            self.log.warning("force_new: the record is left aside. %s", error)
            return None

    def _drop_changed(self, known: Submission) -> None:
        """This run has submitted something else before."""
        from airflow_provider_lamini.api.errors import BadRequestError, JobNotFoundError, NotFoundError

        name = f"{self.kind.name} job {known.job_id or '(id not known)'}"
        if not self._cancel_changed:
            raise InvalidArgumentError(
                f"This run has submitted {name} with other arguments. Bring them back, or set on_changed_input='cancel' to "
                "cancel it and submit anew."
            )
        if known.job_id is None or self.kind.cancel is None:
            self.log.warning("The arguments have changed; %s cannot be cancelled and may still bill.", name)
            return
        try:
            self.hook.send(self.kind.cancel(known.job_id))
        except (BadRequestError, JobNotFoundError, NotFoundError) as error:
            # Most likely it has ended: it may even be cancelled already, with the try before.
            self.log.warning("The arguments have changed; %s was not cancelled: %s", name, error)
            return
        self.log.info("The arguments have changed: %s is cancelled.", name)

    def _submit(self, fingerprint: str) -> Submission:
        from airflow_provider_lamini.api.errors import PlatformError

        if self.killed:
            raise TaskKilledError(f"The task was killed before it started a {self.kind.name} job.")
        now = time.time()
        self._mark = f"airflow-{fingerprint[:12]}-{now:.0f}-{uuid.uuid4().hex[:8]}"
        intent = Submission(
            fingerprint=fingerprint,
            mark=self._mark,
            intended_at=now,
            forced_by=self._request if self._force_new else None,
        )
        self._records.write(intent)
        try:
            job_id = self.submit(intent.mark)
        except PlatformError as error:
            if not error.may_have_started:
                self._records.forget()
            raise
        except ValueError as error:
            self._records.forget()
            raise InvalidArgumentError(str(error)) from error
        self.log.info("Submitted %s job %s.", self.kind.name, job_id)
        if self.wait:
            self._waiting = self._waiting_for(job_id, intent)  # a kill from here on cancels the job
        submitted = (self._records.read() or intent).submitted(job_id, time.time())
        self._records.write(submitted)
        if self.wait and self._killed_meanwhile():
            # The kill came while the answer was on its way, and has not known of the job.
            self.on_kill()
            raise TaskKilledError(f"The task was killed while it started {self.kind.name} job {job_id}.")
        return submitted

    def _killed_meanwhile(self) -> bool:
        return self.killed

    def _waiting_for(self, job_id: str, submission: Submission) -> Waiting:
        return Waiting(
            kind=self.kind.name, job_ids=[job_id], submitted_at=submission.submitted_at or self.started_at
        )

    def _conclude(self, job_id: str, status: EndedJob | JobStatus) -> Waiting | Finished[R]:
        from airflow_provider_lamini.jobs.state import JobState

        if status.state is JobState.SUCCEEDED:
            return self.fetched(job_id, status)
        known = self._records.read() if status.state is JobState.CANCELLED else None
        if known is not None and known.stopped_at is not None:
            return self.go_on_after_timeout(job_id, status, known)
        if known is not None and _killed_with_the_try_before(known, status):
            self.log.info(
                "Job %s was cancelled when the try before was killed; it is submitted anew.", job_id
            )
            self._records.forget()
            return self._begin()
        return self.ended_badly(job_id, status)

    def fetched(self, job_id: str, status: EndedJob | JobStatus) -> Finished[R]:
        """Return what the job has made; where the platform fails now, say that the job is not at fault.

        :param job_id: the platform's id
        :param status: how it ended
        :raises PlatformError: where the platform could not be asked; the record is kept
        """
        from airflow_provider_lamini.api.errors import PlatformError

        try:
            return Finished(self.fetch(job_id, status))
        except PlatformError:
            self.log.warning(
                "Job %s (%s) has ended well, what follows has failed. A retry goes on from here with the same job.",
                *(job_id, self.kind.name),
            )
            raise

    def go_on_after_timeout(
        self, job_id: str, status: EndedJob | JobStatus, known: Submission
    ) -> Waiting | Finished[R]:
        """What a try does about a job that an earlier one has cancelled because its time was up: submit anew.

        :param job_id: the platform's id
        :param status: how it ended
        :param known: its record
        """
        del status, known
        self.log.info(
            "%s job %s was cancelled when its time was up; it is submitted anew.", self.kind.name, job_id
        )
        self._records.forget()
        return self._begin()

    def time_is_up(self, context: Context, event: JobEvent) -> str:
        """Cancel the job where no retry will attach to it; see :class:`JobOperator`."""
        self._records = self.open_records(context, None)
        known = self._records.read()
        name = f"{self.kind.name} job {', '.join(event.pending) or (known.job_id if known else 'of an unknown id')}"
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

    def ended_badly(self, job_id: str, status: EndedJob | JobStatus) -> Waiting | Finished[R]:
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


def _killed_with_the_try_before(known: Submission, status: EndedJob | JobStatus) -> bool:
    """Whether a cancelled job was cancelled by the kill of the try before this one.

    :param known: its record
    :param status: how it ended
    """
    if known.attached_at is None:
        return False
    # How late the end is noticed does not matter: a poll, or a free worker, may take its time.
    alive_at = getattr(status, "alive_at", None) or known.attached_at
    return bool(alive_at - known.attached_at < KILL_SETTLES)


def job_error(kind: JobKind, job_id: str, status: EndedJob | JobStatus, next_step: str) -> JobError:
    """The exception that fits how a job ended.

    :param kind: the job's kind
    :param job_id: the platform's id
    :param status: how it ended
    :param next_step: what the user may do, a sentence
    """
    from airflow_provider_lamini.jobs.state import JobState

    kinds: dict[JobState, type[JobError]] = {
        JobState.CANCELLED: JobCancelledError,
        JobState.TIMED_OUT: JobTimedOutError,
    }
    reason = f": {status.detail}" if status.detail else ""
    return kinds.get(status.state, JobFailedError)(
        f"{kind.name} job {job_id} ended as {status.raw}{reason}. It no longer runs. {next_step}"
    )
