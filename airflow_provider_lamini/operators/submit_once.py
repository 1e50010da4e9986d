"""At most one submission, whatever happens to the task: attach to the job of the record, find it, or submit it."""

from __future__ import annotations

import time
import uuid
from abc import abstractmethod
from dataclasses import replace
from enum import Enum
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_provider_lamini.exceptions import InvalidArgumentError, JobLostError, TaskKilledError
from airflow_provider_lamini.operators.legacy import JobOperator
from airflow_provider_lamini.runs.arguments import flag, folder, one_of
from airflow_provider_lamini.runs.outcome import request_key, task_identity
from airflow_provider_lamini.runs.submission_record import Submission, digest, record_store

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_lamini.jobs.kinds import JobKind
    from airflow_provider_lamini.runs.outcome import Log
    from airflow_provider_lamini.runs.submission_record import RecordStore

R = TypeVar("R")


class OrphanSearch(Enum):
    """What looking for a job may come to, beside its id."""

    NOT_STARTED = "not started"
    """The platform would know it by now, and does not."""
    UNKNOWN = "unknown"
    """The platform cannot tell."""


class SubmitOnceOperator(JobOperator[R]):
    """Knows which job is the task's: the one that an earlier try has submitted, or one that it submits itself.

    What it asked the platform for is written down before and after, in the submission record. A concrete operator says in
    :meth:`fingerprint_inputs` what makes a job another one, in :meth:`submit` how to start it, and in :meth:`find` how to
    look for one
    whose id was never told.

    :param state_path: folder, a path or URI, for the record of the submission; by default Airflow's task state store
        (3.3 and newer), else the connection's ``state_path``, else ``[lamini] state_path``
    :param on_changed_input: what to do when this run has submitted a job with other arguments before: ``cancel`` it and submit
        anew, or ``fail``
    :param on_unknown_submission: what to do when it is not known whether a job was started, and the platform does not tell:
        ``fail``, or ``submit`` (again)
    :param force_new: submit a new job in any case, also where this run has a finished one. It is submitted once for each
        run and each clearing of the task; retries after that attach to it
    """

    template_fields: Sequence[str] = (
        *JobOperator.template_fields,
        "state_path",
        "on_changed_input",
        "on_unknown_submission",
        "force_new",
    )

    def __init__(
        self,
        *,
        state_path: str | None = None,
        on_changed_input: str = "cancel",
        on_unknown_submission: str = "fail",
        force_new: bool | str = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.state_path = state_path
        self.on_changed_input = on_changed_input
        self.on_unknown_submission = on_unknown_submission
        self.force_new = force_new
        self._records: RecordStore

    @property
    @abstractmethod
    def kind(self) -> JobKind:
        """The kind of the job."""

    @abstractmethod
    def fingerprint_inputs(self) -> Mapping[str, object]:
        """Everything that decides what is submitted, as plain values. The connection is added here."""

    @abstractmethod
    def submit(self, mark: str) -> str:
        """Start the job.

        :param mark: a text to put on the job, where the platform takes one, so that :meth:`find` finds it
        :return: the platform's id
        """

    def find(self, submission: Submission) -> str | OrphanSearch:
        """Look for a job of which only the intent is recorded.

        :param submission: the record
        :return: the platform's id; or that it was not started, or that the platform cannot tell
        """
        del submission
        return OrphanSearch.UNKNOWN

    def check(self) -> None:
        """Validate the rendered arguments; see :class:`JobOperator`."""
        self._cancel_changed = (
            one_of("on_changed_input", self.on_changed_input, ("cancel", "fail")) == "cancel"
        )
        unknown = one_of("on_unknown_submission", self.on_unknown_submission, ("fail", "submit"))
        self._submit_unknown = unknown == "submit"
        self._force_new = flag("force_new", self.force_new)
        if self.state_path is not None:
            folder("state_path", self.state_path)

    def use_records(self, context: Context, log: Log | None) -> None:
        """Open the record; call it before anything else that has to do with the job.

        :param context: Airflow's context
        :param log: is told where there is no place for a record; ``None`` tells nobody
        """
        self._records = self.open_records(context, log)
        self._request = request_key(context)

    def open_records(self, context: Context, log: Log | None) -> RecordStore:
        """Find the place for the record of the submission.

        :param context: Airflow's context
        :param log: is told where there is no place; ``None`` tells nobody
        """
        return record_store(context, task_identity(context), self.state_path or self.hook.state_path(), log)

    def started(self, job_id: str, intent: Submission) -> None:
        """Is told of a job that was just submitted, before its id is recorded.

        :param job_id: the platform's id
        :param intent: the record so far
        """

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
                f"Another process of this task is submitting a {self.kind.title} job at the same moment. Nothing was "
                "submitted here; a retry attaches to what it submits."
            )
        self._records.write(replace(intent, **known))

    def obtain(self) -> Submission:
        """The task's job: the one that there is, or a new one. Of two processes, one does this at a time.

        :raises JobLostError: where it is not known whether there is one
        :raises TaskKilledError: where the task was killed meanwhile
        """
        from airflow_provider_lamini.rows.errors import FolderBusyError

        fingerprint = digest({**self.fingerprint_inputs(), "platform": self.settings.base_url})
        try:
            with self._records.lock():
                known = self._known(fingerprint)
                if known is None:
                    return self._submit(fingerprint)
                known = replace(known, attached_at=time.time())
                self._records.write(known)
        except FolderBusyError as error:
            raise JobLostError(
                f"Another process of this task is submitting a {self.kind.title} job, for longer than is waited for it. "
                "Nothing was submitted here; a retry attaches to what it submits."
            ) from error
        self.log.info("Attached to %s job %s.", self.kind.title, known.job_id)
        return known

    def _known(self, fingerprint: str) -> Submission | None:
        """The job that this run has submitted before, if it is the one that is wanted now."""
        known = self._recorded()
        if known is None:
            return None
        if self._force_new and known.forced_by != self._request:
            if known.job_id is not None:
                self.log.info(
                    "force_new: %s job %s of this run is left as it is.", self.kind.title, known.job_id
                )
            return None
        if known.fingerprint != fingerprint:
            self._drop_changed(known)
            return None
        return known if known.job_id is not None else self._found(known)

    def _found(self, known: Submission) -> Submission | None:
        """The job of which only the intent is recorded; ``None`` where it is to be submitted."""
        found = self.find(known)
        if found is OrphanSearch.NOT_STARTED:
            self.log.info("An earlier try stopped before the %s job was started.", self.kind.title)
            return None
        if found is not OrphanSearch.UNKNOWN:
            self.log.info("Found %s job %s, whose id was not recorded.", self.kind.title, found)
            known = known.submitted(found, time.time())
            self._records.write(known)
            return known
        if not self._submit_unknown:
            raise JobLostError(
                f"Whether a {self.kind.title} job was started is not known: the task stopped while it was submitted. If so, it "
                "runs and bills. Look at the platform, then clear the task with on_unknown_submission='submit'."
            )
        self.log.warning("A %s job may have been started before; it is submitted again.", self.kind.title)
        return None

    def _recorded(self) -> Submission | None:
        from airflow_provider_lamini.runs.submission_record import UnreadableRecordError

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

        name = f"{self.kind.title} job {known.job_id or '(id not known)'}"
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
            raise TaskKilledError(f"The task was killed before it started a {self.kind.title} job.")
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
        self.log.info("Submitted %s job %s.", self.kind.title, job_id)
        self.started(job_id, intent)
        submitted = (self._records.read() or intent).submitted(job_id, time.time())
        self._records.write(submitted)
        if self._waiting is not None and self._killed_meanwhile():
            # The kill came while the answer was on its way, and has not known of the job.
            self.on_kill()
            raise TaskKilledError(f"The task was killed while it started {self.kind.title} job {job_id}.")
        return submitted

    def _killed_meanwhile(self) -> bool:
        # A signal handler sets it: to a type checker, what was false before the submission would still be.
        return self.killed
