"""Providing a deployment or an engine: taking a live one, or creating it, and waking it if it is parked."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from airflow_provider_lamini.jobs.state import JobState
from airflow_provider_lamini.runs.emissary.named_job import NamedJob
from airflow_provider_lamini.runs.emissary.waking import Waking
from airflow_provider_lamini.runs.outcome import Done, WaitFor
from airflow_provider_lamini.runs.submission_record import record_store
from airflow_provider_lamini.runs.submitted_job import SubmittedJob

if TYPE_CHECKING:
    from airflow_provider_lamini.jobs.event import EndedJob, JobEvent
    from airflow_provider_lamini.jobs.state import JobStatus
    from airflow_provider_lamini.runs.emissary.waking import Sleeper
    from airflow_provider_lamini.runs.job_spec import SubmissionOptions
    from airflow_provider_lamini.runs.submission_record import Submission
    from airflow_provider_lamini.runs.task import TaskRun


class ProvisionSpec(NamedJob):
    """A deployment or an engine. As a job, it ends when it is active or parked."""

    @abstractmethod
    def find_live(self) -> str | None:
        """The id of one that may be taken instead of a new one; ``None`` if there is none, or none may be."""

    @abstractmethod
    def sleeper(self, job_id: str) -> Sleeper:
        """What to wake.

        :param job_id: its id as a job
        """

    @abstractmethod
    def describe(self, job_id: str, status: str | None, *, new: bool) -> dict[str, object]:
        """What the task returns.

        :param job_id: its id as a job
        :param status: the platform's word for how it stands; ``None`` to ask for it
        :param new: whether this run has created it
        """

    def result(
        self, job_id: str, status: EndedJob | JobStatus, submission: Submission | None
    ) -> dict[str, object]:
        del submission
        return self.describe(job_id, status.raw, new=True)

    def result_without_waiting(self, job_id: str, submission: Submission) -> dict[str, object]:
        del submission
        return self.describe(job_id, None, new=True)


class Provision:
    """Provides a deployment or an engine, once; a `Work`.

    :param task: this try of the task
    :param spec: what to provide
    :param options: how to submit it
    :param wake_timeout: seconds that waking a parked one may take
    """

    def __init__(
        self, task: TaskRun, spec: ProvisionSpec, options: SubmissionOptions, wake_timeout: float
    ) -> None:
        self._task = task
        self._spec = spec
        self._wait = options.wait
        self._wake_timeout = wake_timeout
        self._force_new = options.force_new
        self._records = record_store(task, options.state_path)
        self._submitted = SubmittedJob(task, spec, options, self._records)

    def advance(self, event: JobEvent | None) -> WaitFor | Done[dict[str, object]]:
        """Take a live one or create one; wait; wake it if it is parked by then.

        :param event: how it stands; ``None`` at the start of a try
        :raises JobError: if it cannot be active
        """
        if event is None:
            live = None if self._force_new or self._own_id() is not None else self._spec.find_live()
            return self._create(None) if live is None else self._take(live)
        (job_id,) = {*event.ended, *event.lost, *event.pending}
        if job_id != self._own_id():
            return Done(self._spec.describe(job_id, self._waking(job_id).end(event).raw, new=False))
        if event.timed_out:
            self._waking(job_id).end(event)
        return self._create(event)

    def on_deadline(self, event: JobEvent) -> str:
        """Delete what this task has created, if no retry will attach to it.

        :param event: how it stands
        """
        names = ", ".join(event.pending)
        if names == self._own_id():
            return self._submitted.on_deadline(event)
        return f"{names} stays as it is, because this task has not created it."

    def close(self) -> None:
        """Nothing is open."""

    def _own_id(self) -> str | None:
        record = self._records.read()
        return None if record is None else record.job_id or ""

    def _create(self, event: JobEvent | None) -> WaitFor | Done[dict[str, object]]:
        outcome = self._submitted.advance(event)
        if isinstance(outcome, WaitFor) or not self._wait:
            return outcome
        job_id = str(outcome.result["job_id"])
        sleeper = self._spec.sleeper(job_id)
        if sleeper.state_of(str(outcome.result["status"])) is not JobState.INACTIVE:
            return outcome
        woken = self._waking(job_id).begin()
        return woken if isinstance(woken, WaitFor) else outcome

    def _take(self, job_id: str) -> WaitFor | Done[dict[str, object]]:
        self._task.log.info("%s is live; using it.", self._spec.sleeper(job_id).name)
        if not self._wait:
            return Done(self._spec.describe(job_id, None, new=False))
        woken = self._waking(job_id).begin()
        return (
            woken if isinstance(woken, WaitFor) else Done(self._spec.describe(job_id, woken.raw, new=False))
        )

    def _waking(self, job_id: str) -> Waking:
        return Waking(self._task, self._spec.sleeper(job_id), self._wake_timeout)
