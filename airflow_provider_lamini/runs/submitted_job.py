"""The life of one job: attach to it or submit it once, wait, judge its end, return its result."""

from __future__ import annotations

import time
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Generic, TypeVar

from airflow_provider_lamini.api.errors import (
    BadRequestError,
    InvalidRequestError,
    JobNotFoundError,
    NotFoundError,
    PlatformError,
)
from airflow_provider_lamini.exceptions import (
    InvalidArgumentError,
    JobLostError,
    TaskKilledError,
    UnreadableRecordError,
)
from airflow_provider_lamini.jobs.state import JobState
from airflow_provider_lamini.rows.errors import FolderBusyError, RowError
from airflow_provider_lamini.rows.hashes import digest
from airflow_provider_lamini.runs.job_spec import Accept, Fail, OrphanSearch, Resume, SubmitAgain
from airflow_provider_lamini.runs.outcome import Done, WaitFor
from airflow_provider_lamini.runs.submission_record import (
    NoRecord,
    Submission,
    left_job_id,
    record_job_id,
    record_store,
)
from airflow_provider_lamini.runs.task_errors import cancelled_with_previous_try, job_error, lost_error
from airflow_provider_lamini.wording import duration

if TYPE_CHECKING:
    from airflow_provider_lamini.jobs.event import EndedJob, JobEvent
    from airflow_provider_lamini.jobs.kinds import JobKind
    from airflow_provider_lamini.jobs.state import JobStatus
    from airflow_provider_lamini.runs.job_spec import Decision, JobSpec, Prepared, SubmissionOptions
    from airflow_provider_lamini.runs.submission_record import RecordStore
    from airflow_provider_lamini.runs.task import TaskRun

R = TypeVar("R")

RESUME_TIMEOUT = 15.0
"""Seconds until a platform shows that it has resumed a job."""


class SubmittedJob(Generic[R]):
    """One job, submitted once, whatever happens to the task in between; a `Work`.

    :param task: this try of the task
    :param spec: the job
    :param options: how to submit it
    :param records: where its record is kept; ``None`` for the task's own place
    """

    def __init__(
        self,
        task: TaskRun,
        spec: JobSpec[R],
        options: SubmissionOptions,
        records: RecordStore | None = None,
    ) -> None:
        self._task = task
        self._spec = spec
        self._kind = spec.kind
        self._options = options
        self._records = record_store(task, options.state_path) if records is None else records
        self._log = task.log
        self._submission: Submission | None = None
        """What this process has submitted or attached to: without a record, it alone knows what was sent."""

    def advance(self, event: JobEvent | None) -> WaitFor | Done[R]:
        """Attach or submit at the start of a try, judge the job's end afterwards.

        :param event: how the job ended; ``None`` at the start of a try
        :raises JobError: if the job did not succeed, or its status cannot be read any more
        """
        outcome = self.step(event)
        while isinstance(outcome, SubmitAgain):
            outcome = self.step(None)
        return outcome

    def step(self, event: JobEvent | None) -> WaitFor | Done[R] | SubmitAgain:
        """The same as `advance`, except that the caller submits again, after preparations of its own.

        :param event: how the job ended; ``None`` to attach or submit
        """
        if event is None:
            return self._begin()
        for job_id, lost in event.lost.items():
            if lost.vanished:
                submission = self._records.read()
                self._records.forget()
                if (
                    self._kind.cancel_deletes
                    and submission is not None
                    and submission.attached_at is not None
                ):
                    self._log.info(
                        "%s %s was deleted by the kill of the previous try; submitting a new one.",
                        *(self._kind.subject, job_id),
                    )
                    return SubmitAgain()
                advice = f"{self._spec.advice_after_vanishing(job_id)} {self._spec.left_behind()}".rstrip()
                raise JobLostError(
                    f"The platform no longer knows the {self._kind.noun} {job_id}. {advice} {lost.reason}"
                )
            raise lost_error(
                lost, f"The {self._kind.noun} {job_id} may still run and bill; a retry polls it again."
            )
        ((job_id, ended),) = event.ended.items()
        return self._conclude(job_id, ended)

    def close(self) -> None:
        """Nothing is open between two steps."""

    # ---- attach or submit ----------------------------------------------------------------------------------

    def _begin(self) -> WaitFor | Done[R] | SubmitAgain:
        if isinstance(self._records, NoRecord):
            self._records.warn(self._log)
        submission = self._submission = self._attach_or_submit()
        job_id = str(submission.job_id)
        self._task.remember_jobs(self._kind.name, [job_id])
        self._spec.publish_link(job_id)
        if not self._options.wait:
            if submission.attached_at is not None and self._has_failed(job_id):
                self._records.forget()
                return SubmitAgain()
            return Done(self._spec.result_without_waiting(job_id, submission))
        waiting = self._wait_for(job_id, submission)
        self._task.cancel_on_kill(waiting)
        try:
            status = self._task.hook.send(self._kind.status(job_id))
        except PlatformError as error:
            # The job may have vanished, or this replica does not know it yet: polling tells them apart.
            self._log.info("Could not read the status of job %s; continuing to poll: %s", job_id, error)
        else:
            if status.state.ended:
                return self._conclude(job_id, status)
        if submission.resuming is not None:
            # The job runs, so the try that requested the resume died after it had begun.
            self._records.write(submission.resumed())
        return waiting

    def _attach_or_submit(self) -> Submission:
        """The task's job: the recorded one, or a new one. Of two processes, one does this at a time."""
        inputs = self._spec.fingerprint_inputs()
        fingerprint = digest({**inputs, "platform": self._task.settings.base_url})
        try:
            with self._records.lock():
                known = self._known(fingerprint)
                if known is None:
                    return self._submit(fingerprint)
                known = replace(known, attached_at=time.time())
                self._records.write(known)
        except FolderBusyError as error:
            raise JobLostError(
                f"Another process of this task has been submitting {self._kind.a_noun} for too long. This one submitted "
                "nothing; a retry attaches to the other's job."
            ) from error
        self._log.info("Attached to %s %s.", self._kind.noun, known.job_id)
        return known

    def _known(self, fingerprint: str) -> Submission | None:
        """The job that this run has submitted before, if it is the one that the arguments ask for."""
        known = self._recorded()
        if known is None:
            return None
        if self._options.force_new and known.forced_by != self._task.identity.request_key:
            if known.job_id is not None:
                self._log.info("force_new: leaving this run's %s %s as it is.", self._kind.noun, known.job_id)
            return None
        if known.fingerprint != fingerprint:
            self._drop_changed(known)
            return None
        return known if known.job_id is not None else self._find_orphaned(known)

    def _recorded(self) -> Submission | None:
        try:
            return self._records.read()
        except UnreadableRecordError as error:
            if not self._options.force_new:
                raise
            self._log.warning("force_new: ignoring the submission record. %s", error)
            return None

    def _find_orphaned(self, known: Submission) -> Submission | None:
        """The job of which only the intent is recorded; ``None`` if it must be submitted."""
        found = left_job_id(self._task, known.mark) or self._spec.find_orphaned_job(known)
        if found is OrphanSearch.NOT_STARTED:
            self._log.info("An earlier try stopped before it started %s.", self._kind.a_noun)
            return None
        if found is not OrphanSearch.UNKNOWN:
            self._log.info("Found %s %s, whose id was not recorded.", self._kind.noun, found)
            known = known.submitted(found, time.time())
            self._records.write(known)
            return known
        if not self._options.submit_unknown:
            raise JobLostError(
                f"Check the platform for {self._kind.a_noun}, then clear the task with on_unknown_submission='submit'. The "
                "task stopped while it was submitting, so a job may have been started; if so, it runs and bills."
            )
        self._log.warning(
            "An earlier try may have started %s; submitting a new one. If it did, both run and bill: check the platform "
            "(on_unknown_submission='fail' asks you first).",
            self._kind.a_noun,
        )
        return None

    def _drop_changed(self, known: Submission) -> None:
        """Cancel the job that this run has submitted with other arguments, or fail."""
        name = f"{self._kind.noun} {known.job_id or '(id unknown)'}"
        if not self._options.cancel_changed:
            raise InvalidArgumentError(
                f"This run has submitted {name} with other arguments. Restore them, or set on_changed_input='cancel' to "
                f"{self._kind.cancel_verb} it and submit a new one."
            )
        if known.job_id is None or self._kind.cancel is None:
            self._log.warning(
                "The arguments have changed; %s cannot be cancelled and may still bill. A new one follows.",
                name,
            )
            return
        try:
            self._task.hook.send(self._kind.cancel(known.job_id))
        except (BadRequestError, JobNotFoundError, NotFoundError) as error:
            # Most likely the job has ended; the kill of the previous try may have cancelled it.
            self._log.warning(
                "The arguments have changed; could not %s %s: %s", self._kind.cancel_verb, name, error
            )
            return
        self._log.info("The arguments have changed; %s %s.", self._kind.cancelled, name)

    def _submit(self, fingerprint: str) -> Submission:
        if self._task.killed:
            raise TaskKilledError(
                f"The task was killed before it started {self._kind.a_noun}. A retry starts it."
            )
        now = time.time()
        intent = Submission(
            fingerprint=fingerprint,
            mark=f"airflow-{fingerprint[:12]}-{now:.0f}-{uuid.uuid4().hex[:8]}",
            intended_at=now,
            forced_by=self._task.identity.request_key if self._options.force_new else None,
        )
        self._records.write(intent)
        try:
            with self._spec.prepare(intent.mark) as prepared:
                self._record_prepared(intent.mark, prepared)
                intent = replace(intent, numbers=dict(prepared.numbers))
                self._task.begun = True
                job_id = self._create(prepared)
        except PlatformError as error:
            if not error.may_have_started:
                self._records.forget()
            raise
        except RowError:  # a retry may help: storage may work again
            self._records.forget()
            raise
        except ValueError as error:
            self._records.forget()
            raise InvalidArgumentError(str(error)) from error.__cause__
        return self._record(job_id, intent)

    def _record_prepared(self, mark: str, prepared: Prepared) -> None:
        """Record what a retry needs if this process dies while it starts the job."""
        recorded = self._records.read()
        if recorded is None:  # there is no place for a record
            return
        if recorded.mark != mark:
            raise JobLostError(
                f"Another process of this task is submitting {self._kind.a_noun} at this moment. This one submitted nothing; "
                "a retry attaches to the other's job."
            )
        before = None if prepared.before is None else list(prepared.before)
        self._records.write(replace(recorded, before=before, numbers=dict(prepared.numbers)))

    def _create(self, prepared: Prepared) -> str:
        try:
            return prepared.create()
        except prepared.not_started:
            self._records.forget()
            raise

    def _record(self, job_id: str, intent: Submission) -> Submission:
        """Record the id of a job that was just submitted."""
        waiting = f"; waiting up to {duration(self._task.options.timeout)}" if self._options.wait else ""
        self._log.info("%s %s %s%s.", self._spec.submitted, self._kind.noun, job_id, waiting)
        if self._options.wait:
            self._task.cancel_on_kill(self._wait_for(job_id, intent))
        now = time.time()
        submitted = record_job_id(
            self._task,
            job_id,
            self._kind.noun,
            intent.mark,
            lambda: self._write_submitted(job_id, intent, now),
        )
        if self._options.wait and self._task.killed:
            # The kill came before the platform's answer, and did not know the job's id.
            self._task.kill()
            raise TaskKilledError(
                f"The task was killed while it started {self._kind.noun} {job_id}, which may still run and bill unless the "
                f"log says that it is {self._kind.cancelled}. A retry attaches to it, or submits a new one if it has ended."
            )
        return submitted

    def _write_submitted(self, job_id: str, intent: Submission, now: float) -> Submission:
        submitted = (self._records.read() or intent).submitted(job_id, now)
        self._records.write(submitted)
        return submitted

    def _has_failed(self, job_id: str) -> bool:
        """Whether a job that the task is about to return again has failed meanwhile."""
        try:
            status = self._task.hook.send(self._kind.status(job_id))
        except PlatformError as error:
            self._log.info("Could not read the status of job %s: %s", job_id, error)
            return False
        if status.state not in (JobState.FAILED, JobState.CANCELLED, JobState.TIMED_OUT):
            return False
        self._log.info("Job %s ended as %s; submitting a new one.", job_id, status.raw)
        return True

    def _wait_for(self, job_id: str, submission: Submission) -> WaitFor:
        submitted_at = submission.submitted_at or self._task.started_at
        return WaitFor(kind=self._kind.name, job_ids=[job_id], submitted_at=submitted_at)

    # ---- the job's end -------------------------------------------------------------------------------------

    def _conclude(self, job_id: str, status: EndedJob | JobStatus) -> WaitFor | Done[R] | SubmitAgain:
        if status.state is JobState.SUCCEEDED:
            return self._done(job_id, status)
        submission = self._records.read()
        decision = self._decide(job_id, status, submission)
        if isinstance(decision, Accept):
            return self._done(job_id, status)
        if isinstance(decision, Resume) and submission is not None:
            return self._resume(job_id, status, submission, decision)
        if isinstance(decision, SubmitAgain):
            self._records.forget()
            return decision
        failure = decision if isinstance(decision, Fail) else Fail("A retry submits a new job.")
        if not failure.keep_record:
            self._records.forget()
        advice = f"{failure.advice} {self._spec.left_behind()}".rstrip()
        raise job_error(self._kind, job_id, status, advice)

    def _decide(self, job_id: str, status: EndedJob | JobStatus, submission: Submission | None) -> Decision:
        if status.state is JobState.CANCELLED and submission is not None:
            if submission.stopped_at is not None and self._kind.resume is not None:
                return Resume()
            if submission.stopped_at is not None:
                self._log.info(
                    "Job %s was cancelled when its timeout had passed; submitting a new one.", job_id
                )
                return SubmitAgain()
            if cancelled_with_previous_try(submission, status):
                self._log.info(
                    "Job %s was cancelled by the kill of the previous try; submitting a new one.", job_id
                )
                return SubmitAgain()
        return self._spec.on_bad_end(job_id, status, submission)

    def _done(self, job_id: str, status: EndedJob | JobStatus) -> Done[R]:
        try:
            return Done(self._spec.result(job_id, status, self._records.read() or self._submission))
        except PlatformError:
            self._log.warning(
                "%s %s ended well, but its result could not be read. A retry reads it again, from the same job.",
                *(self._kind.subject, job_id),
            )
            raise

    def _resume(
        self, job_id: str, status: EndedJob | JobStatus, submission: Submission, decision: Resume
    ) -> WaitFor:
        count = submission.resumes + 1
        self._log.warning(
            "%s %s ended as %s%s; resuming it from its checkpoint (resume %d%s).",
            self._kind.subject,
            job_id,
            status.raw,
            f" ({status.detail})" if status.detail else "",
            count,
            "" if decision.limit is None else f" of {decision.limit}",
        )
        submission = replace(submission, stopped_at=None)
        self._records.write(replace(submission, resuming=count))
        self._task.cancel_on_kill(self._wait_for(job_id, submission))
        try:
            resume_job(self._task, self._kind, job_id)
        except (BadRequestError, InvalidRequestError) as error:
            self._records.forget()
            advice = f"It cannot be resumed: {error} A retry submits a new job. {self._spec.left_behind()}".rstrip()
            raise job_error(self._kind, job_id, status, advice) from error
        self._records.write(submission.resumed(count))
        return WaitFor(kind=self._kind.name, job_ids=[job_id], submitted_at=time.time())

    # ---- the deadline --------------------------------------------------------------------------------------

    def on_deadline(self, event: JobEvent) -> str:
        """Cancel the job if no retry will attach to it.

        :param event: how the job stands
        :return: a sentence for the error: whether the job still runs and bills
        """
        submission = self._records.read()
        job_id = ", ".join(event.pending) or (submission.job_id if submission else None) or "(id unknown)"
        name = f"{self._kind.noun} {job_id}"
        if submission is not None and self._task.identity.retry_follows:
            return f"The {name} may still run and bill; the retry attaches to it."
        advice = "There is no record of it." if submission is None else "Clear the task to attach to it."
        if not self._options.cancel_at_deadline:
            return f"The {name} may still run and bill, because on_timeout is leave. {advice}"
        if self._kind.cancel is None:
            return f"The {name} may still run and bill, because the platform cannot cancel it. {advice}"
        if submission is not None and submission.job_id is not None:
            # Before it is cancelled: a try that finds it cancelled must know why.
            self._records.write(replace(submission, stopped_at=time.time()))
        for pending in event.pending:
            try:
                self._task.hook.send(self._kind.cancel(pending))
            except PlatformError as error:
                return f"Could not {self._kind.cancel_verb} the {name}; it may still run and bill. {advice} {error}"
        return f"The {name} is {self._kind.cancelled}, because no retry follows (on_timeout)."


def resume_job(task: TaskRun, kind: JobKind, job_id: str) -> None:
    """Resume an ended job from its checkpoint, and wait until the platform shows it as running.

    :param task: this try of the task
    :param kind: the job's kind
    :param job_id: a job that failed, was cancelled or timed out
    :raises PlatformError: if the platform refuses or fails. If the job may have been resumed, it is polled first, and this is
        raised only if it does not run.
    """
    if kind.resume is None:
        raise ValueError(f"{kind.subject} cannot be resumed.")
    unanswered: PlatformError | None = None
    try:
        task.hook.send(kind.resume(job_id))
    except PlatformError as error:
        if not error.may_have_started:
            raise
        unanswered = error
        task.log.warning("The %s %s may have been resumed; polling it: %s", kind.noun, job_id, error)
    end, pause = time.monotonic() + RESUME_TIMEOUT, 0.25
    while task.hook.send(kind.status(job_id)).state.ended:
        if time.monotonic() >= end:
            if unanswered is not None:
                raise unanswered
            return
        time.sleep(pause)
        pause = min(2 * pause, 2.0)
