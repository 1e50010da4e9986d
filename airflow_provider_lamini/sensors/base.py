"""What the sensors of all platforms share: waiting for a job that another task, or a user, has started."""

from __future__ import annotations

import time
from abc import abstractmethod
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.providers.common.compat.sdk import (
    AirflowSensorTimeout,
    AirflowSkipException,
    BaseSensorOperator,
    PokeReturnValue,
    conf,
)

from airflow_provider_lamini.exceptions import JobLostError
from airflow_provider_lamini.links import JobLink, push_job_url
from airflow_provider_lamini.runs.arguments import flag
from airflow_provider_lamini.runs.outlets import publishes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.providers.common.compat.sdk import BaseOperatorLink, Context

    from airflow_provider_lamini.hooks.base import PlatformHook
    from airflow_provider_lamini.jobs.event import EndedJob
    from airflow_provider_lamini.jobs.kinds import JobKind
    from airflow_provider_lamini.jobs.state import JobStatus


class JobSensor(BaseSensorOperator):
    """Waits until a job has ended. It fails if the job did not succeed, and never cancels it.

    A concrete sensor returns its platform's hook from :meth:`make_hook`, and its job from :meth:`job`.

    :param accept_partial: whether a job that succeeded in part counts as a success
    :param deferrable: wait in the triggerer, without holding a worker slot; default: ``[operators]
        default_deferrable``
    :param poke_interval: maximum seconds between polls
    """

    ui_color = "#e8f0ea"
    operator_extra_links: Sequence[BaseOperatorLink] = (JobLink(),)

    def __init__(
        self,
        *,
        accept_partial: bool | str = False,
        deferrable: bool | None = None,
        poke_interval: float = 30.0,
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("multiple_outputs", True)  # so that a Dag may write done.output["status"]
        super().__init__(poke_interval=poke_interval, **kwargs)
        self.accept_partial = accept_partial
        self.deferrable = (
            conf.getboolean("operators", "default_deferrable", fallback=False)
            if deferrable is None
            else deferrable
        )
        self._failing = False

    @abstractmethod
    def make_hook(self) -> PlatformHook:
        """The platform's hook. The connection is looked up later, when the hook is used.

        :raises InvalidArgumentError: if the connection's id is wrong
        """

    @abstractmethod
    def job(self) -> tuple[str, JobKind]:
        """The job's id and kind.

        :raises InvalidArgumentError: if an argument is wrong
        """

    @publishes
    def execute(self, context: Context) -> Any:
        """Link to the job's page, poll the job once, and wait in the triggerer if it has not ended."""
        job_id, kind = self._job()
        push_job_url(context, self.make_hook().web_job_url(kind.short_name, job_id))
        if not self.deferrable:
            return self._wait_here(kind, context)
        poked = self.poke(context)
        if isinstance(poked, PokeReturnValue):
            return poked.xcom_value
        return self._defer()

    def _wait_here(self, kind: JobKind, context: Context) -> Any:
        from airflow_provider_lamini.hooks.telemetry import waiting

        # With mode="reschedule", this process polls once, and nothing waits.
        with nullcontext() if self.reschedule else waiting(kind.name, 1):
            return super().execute(context)

    def _defer(self) -> NoReturn:
        from airflow_provider_lamini.triggers.job import JobTrigger

        job_id, kind = self._job()
        now = time.time()
        self.defer(
            trigger=JobTrigger(
                conn_id=self.make_hook().conn_id,
                kind=kind.name,
                job_ids=[job_id],
                submitted_at=now,
                deadline=now + self.timeout,
                poll_interval=max(self.poke_interval, 0.5),
                cancel_on_kill=False,
            ),
            method_name="execute_complete",
        )

    def poke(self, context: Context) -> PokeReturnValue | bool:
        """Poll the job once.

        :param context: Airflow's context
        :return: the task's result once the job has succeeded; before that, false
        :raises JobError: if the job did not succeed
        """
        from airflow_provider_lamini.api.errors import InvalidRequestError, JobNotFoundError, NotFoundError
        from airflow_provider_lamini.jobs.kinds import warn_about_unknown_status
        from airflow_provider_lamini.jobs.polling import TRANSIENT_ERRORS
        from airflow_provider_lamini.jobs.progress import describe, reason

        del context
        job_id, kind = self._job()
        try:
            status = self.make_hook().poll(kind.status(job_id))
        except TRANSIENT_ERRORS as error:
            log = self.log.info if self._failing else self.log.warning
            log("The last poll failed, still waiting for %s %s: %s", kind.noun, job_id, reason(error))
            self._failing = True
            return False
        except (InvalidRequestError, JobNotFoundError, NotFoundError) as error:
            raise JobLostError(
                f"The platform knows no {kind.noun} {job_id}. If it is a job of another kind, set kind. {error}"
            ) from error
        if self._failing:
            self._failing = False
            self.log.info("The platform answers again.")
        if status.state.ended:
            return PokeReturnValue(is_done=True, xcom_value=self._result(kind, job_id, status))
        warn_about_unknown_status(kind, status)
        self.log.info("%s %s: %s", kind.subject, job_id, describe(status))
        return False

    @publishes
    def execute_complete(self, context: Context, event: object) -> dict[str, object]:
        """Return or raise what the trigger's event says.

        :param context: Airflow's context
        :param event: what the trigger yielded
        """
        from airflow_provider_lamini.jobs.event import JobEvent
        from airflow_provider_lamini.runs.task_errors import lost_error

        del context
        job_id, kind = self._job()
        result = JobEvent.from_payload(event)
        if result.summary is not None:
            self.log.info("%s", result.summary)
        if job_id in result.ended:
            return self._result(kind, job_id, result.ended[job_id])
        if job_id in result.lost:
            raise lost_error(
                result.lost[job_id],
                f"{kind.subject} {job_id} may still run and bill; a retry polls it again.",
            )
        message = (
            f"{kind.subject} {job_id} has not ended within {self.timeout:g} s. It may still run and bill. Clear the task to wait "
            "for it again, with a longer timeout if it needs one."
        )
        if self.soft_fail:
            raise AirflowSkipException(message)
        raise AirflowSensorTimeout(message)

    def _job(self) -> tuple[str, JobKind]:
        flag("accept_partial", self.accept_partial)
        return self.job()

    def _result(self, kind: JobKind, job_id: str, status: EndedJob | JobStatus) -> dict[str, object]:
        from airflow_provider_lamini.jobs.state import JobState
        from airflow_provider_lamini.runs.task_errors import job_error

        accepted = status.state is JobState.PARTLY_SUCCEEDED and flag("accept_partial", self.accept_partial)
        if status.state is not JobState.SUCCEEDED and not accepted:
            error = job_error(kind, job_id, status, "A retry of this task would fail in the same way.")
            if self.soft_fail:
                raise AirflowSkipException(str(error))
            raise error
        self.log.info("%s %s ended as %s.", kind.subject, job_id, status.raw)
        return {"job_id": job_id, "kind": kind.short_name, "state": status.state.value, "status": status.raw}
