"""A sensor for a job that another task, or a user, has started."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.providers.common.compat.sdk import (
    AirflowSensorTimeout,
    AirflowSkipException,
    BaseSensorOperator,
    PokeReturnValue,
    conf,
)

from airflow_provider_lamini.exceptions import JobLostError
from airflow_provider_lamini.runs.arguments import flag, identifier, job_kind, model_or_id, plain_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_lamini.jobs.event import EndedJob
    from airflow_provider_lamini.jobs.kinds import JobKind
    from airflow_provider_lamini.jobs.state import JobStatus


class LaminiJobSensor(BaseSensorOperator):
    """Waits until a job of any kind has ended. It fails if the job did not succeed, and never cancels it.

    Use it with operators that have ``wait=False``::

        train = LaminiTrainOperator(task_id="train", ..., wait=False)
        done = LaminiJobSensor(task_id="trained", job_id=train.output["job_id"], deferrable=True)

    Outages of the platform are tolerated until ``timeout``. With ``soft_fail`` the task is skipped instead of failing.

    :param job_id: the platform's id of the job; for a model download the model's name
    :param kind: the job's kind: ``tuning``, ``memory_rag``, ``classifier``, ``batch_completions``,
        ``batch_embeddings`` or ``model_download``
    :param accept_partial: whether a job that ended as ``PARTIALLY COMPLETED`` counts as a success
    :param lamini_conn_id: the connection to the platform
    :param deferrable: wait in the triggerer, without holding a worker slot; default: ``[operators]
        default_deferrable``
    :param poke_interval: maximum seconds between polls
    :return: ``job_id``, ``kind`` as above, ``state`` (such as ``succeeded``) and ``status``, the platform's own status word
    """

    template_fields: Sequence[str] = ("lamini_conn_id", "job_id", "kind", "accept_partial")
    ui_color = "#e8f0ea"

    def __init__(
        self,
        *,
        job_id: str | int,
        kind: str = "tuning",
        accept_partial: bool | str = False,
        lamini_conn_id: str = "lamini_default",
        deferrable: bool | None = None,
        poke_interval: float = 30.0,
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("multiple_outputs", True)  # so that a Dag may write done.output["status"]
        super().__init__(poke_interval=poke_interval, **kwargs)
        self.job_id = job_id
        self.kind = kind
        self.accept_partial = accept_partial
        self.lamini_conn_id = lamini_conn_id
        self.deferrable = (
            conf.getboolean("operators", "default_deferrable", fallback=False)
            if deferrable is None
            else deferrable
        )

    def execute(self, context: Context) -> Any:
        """Poll the job once, and wait in the triggerer if it has not ended."""
        if not self.deferrable:
            return super().execute(context)
        poked = self.poke(context)
        if isinstance(poked, PokeReturnValue):
            return poked.xcom_value
        return self._defer()

    def _defer(self) -> NoReturn:
        from airflow_provider_lamini.triggers.job import JobTrigger

        job_id, kind = self._job()
        now = time.time()
        self.defer(
            trigger=JobTrigger(
                conn_id=self.lamini_conn_id,
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
        from airflow_provider_lamini.hooks.lamini import LaminiHook
        from airflow_provider_lamini.jobs.kinds import warn_about_unknown_state
        from airflow_provider_lamini.jobs.polling import TRANSIENT_ERRORS
        from airflow_provider_lamini.jobs.progress import describe

        del context
        job_id, kind = self._job()
        with LaminiHook(plain_name("lamini_conn_id", self.lamini_conn_id)) as hook:
            try:
                status = hook.send(kind.status(job_id))
            except TRANSIENT_ERRORS as error:
                self.log.warning(
                    "Could not read the status of %s job %s; will retry: %s", kind.title, job_id, error
                )
                return False
            except (InvalidRequestError, JobNotFoundError, NotFoundError) as error:
                raise JobLostError(
                    f"The platform knows no {kind.title} job {job_id}. If it is a job of another kind, set kind. {error}"
                ) from error
        if status.state.ended:
            return PokeReturnValue(is_done=True, xcom_value=self._result(kind, job_id, status))
        warn_about_unknown_state(kind, status)
        self.log.info("%s job %s: %s", kind.title, job_id, describe(status))
        return False

    def execute_complete(self, context: Context, event: object) -> dict[str, object]:
        """Return or raise what the trigger's event says.

        :param context: Airflow's context
        :param event: what the trigger yielded
        """
        from airflow_provider_lamini.jobs.event import JobEvent

        del context
        job_id, kind = self._job()
        result = JobEvent.from_payload(event)
        if job_id in result.ended:
            return self._result(kind, job_id, result.ended[job_id])
        if job_id in result.lost:
            raise JobLostError(
                f"{kind.title} job {job_id} can no longer be polled: {result.lost[job_id].reason}"
            )
        message = (
            f"{kind.title} job {job_id} has not ended within {self.timeout:g} s. It may still run and bill."
        )
        if self.soft_fail:
            raise AirflowSkipException(message)
        raise AirflowSensorTimeout(message)

    def _job(self) -> tuple[str, JobKind]:
        from airflow_provider_lamini.platforms.lamini.kinds import MODEL_DOWNLOAD

        flag("accept_partial", self.accept_partial)
        kind = job_kind("kind", self.kind, "lamini")
        check = model_or_id if kind is MODEL_DOWNLOAD else identifier
        return check("job_id", self.job_id), kind

    def _result(self, kind: JobKind, job_id: str, status: EndedJob | JobStatus) -> dict[str, object]:
        from airflow_provider_lamini.jobs.state import JobState
        from airflow_provider_lamini.runs.job_errors import job_error

        accepted = status.state is JobState.PARTLY_SUCCEEDED and flag("accept_partial", self.accept_partial)
        if status.state is not JobState.SUCCEEDED and not accepted:
            error = job_error(kind, job_id, status, "A retry of this task would fail in the same way.")
            if self.soft_fail:
                raise AirflowSkipException(str(error))
            raise error
        self.log.info("%s job %s ended as %s.", kind.title, job_id, status.raw)
        return {"job_id": job_id, "kind": kind.short_name, "state": status.state.value, "status": status.raw}
