"""Runs over rows with a deployment: it is woken first if it is parked, without holding the worker."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_lamini.exceptions import JobFailedError
from airflow_provider_lamini.platforms.emissary.api import deployments, engines
from airflow_provider_lamini.platforms.emissary.kinds import DEPLOY_AGAIN, DEPLOYMENT, is_live, join_id
from airflow_provider_lamini.runs.emissary.waking import Sleeper, Waking
from airflow_provider_lamini.runs.outcome import Done, WaitFor

if TYPE_CHECKING:
    from airflow_provider_lamini.jobs.event import JobEvent
    from airflow_provider_lamini.platforms.emissary.api.deployments import DeploymentSummary
    from airflow_provider_lamini.runs.row_run import RowRun
    from airflow_provider_lamini.runs.task import TaskRun


class WokenRun:
    """A run over rows that begins when a deployment, or its engine, is active; a `Work`.

    :param task: this try of the task
    :param rows: the run
    :param model_name: the deployment's name
    :param project_id: its project; not needed with an ``engine_id``
    :param engine_id: its engine; ``None`` if it has none of its own
    :param wake_timeout: seconds that waking may take
    """

    def __init__(
        self,
        task: TaskRun,
        rows: RowRun,
        *,
        model_name: str,
        project_id: str | None,
        engine_id: str | None,
        wake_timeout: float,
    ) -> None:
        self._task = task
        self._rows = rows
        self._model_name = model_name
        self._project_id = project_id
        self._engine_id = engine_id
        self._wake_timeout = wake_timeout

    def advance(self, event: JobEvent | None) -> WaitFor | Done[dict[str, object]]:
        """Validate the input, wake the deployment, then send the rows.

        :param event: how the deployment stands; ``None`` at the start of a try
        :raises JobError: if the deployment can never be active again
        """
        if event is not None:
            (job_id,) = {*event.ended, *event.lost, *event.pending}
            by_engine = self._engine_id is not None
            sleeper = Sleeper.engine(job_id) if by_engine else Sleeper.deployment(job_id, self._model_name)
            self._waking(sleeper).end(event)
        elif self._rows.prepare():
            waiting = self._waking(self._sleeper()).begin()
            if isinstance(waiting, WaitFor):
                return waiting
        return self._rows.advance(None)

    def on_deadline(self, event: JobEvent) -> str:
        """It continues to wake: waking cannot be cancelled.

        :param event: how the deployment stands
        """
        return f"{', '.join(event.pending)} may still wake, and bills once it is active; a retry waits again."

    def close(self) -> None:
        """Close the input."""
        self._rows.close()

    def _waking(self, sleeper: Sleeper) -> Waking:
        return Waking(self._task, sleeper, self._wake_timeout)

    def _sleeper(self) -> Sleeper:
        """What has to be active: the engine, or the live deployment with this name."""
        send, name = self._task.hook.send, self._model_name
        if self._engine_id is not None:
            self._live(send(engines.engine(self._engine_id)).deployments, f"on engine {self._engine_id}")
            return Sleeper.engine(self._engine_id)
        project_id = str(self._project_id)
        found = self._live(send(deployments.list_all(project_id)), f"in project {project_id}")
        return Sleeper.deployment(join_id(project_id, found.id), name)

    def _live(self, found: list[DeploymentSummary], place: str) -> DeploymentSummary:
        named = [deployment for deployment in found if deployment.name == self._model_name]
        for deployment in named:
            if is_live(DEPLOYMENT, deployment.status):
                return deployment
        if named:
            raise JobFailedError(
                f"Deployment {self._model_name} {place} is {named[-1].status}. {DEPLOY_AGAIN} No row was sent."
            )
        raise JobFailedError(
            f"There is no deployment {self._model_name} {place}: deploy the checkpoint. No row was sent."
        )
