"""Deploying checkpoints, directly or on an engine."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_lamini.api.errors import NotFoundError
from airflow_provider_lamini.platforms.emissary.api import deployments, engines
from airflow_provider_lamini.platforms.emissary.kinds import (
    CREATED_DEPLOYMENT,
    DEPLOYMENT,
    is_live,
    join_id,
    split_id,
)
from airflow_provider_lamini.runs.emissary.provision import ProvisionSpec
from airflow_provider_lamini.runs.emissary.waking import Sleeper

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from airflow_provider_lamini.api.call import Call, Json
    from airflow_provider_lamini.platforms.emissary.api.deployments import DeploymentDetail, DeploymentSummary
    from airflow_provider_lamini.runs.job_spec import Prepared
    from airflow_provider_lamini.runs.task import TaskRun

Schedule = Mapping[str, "Json"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentRequest:
    """A checkpoint to deploy.

    :param project_id: the project
    :param training_job_id: the training job, or a base model's name
    :param checkpoint: number of the checkpoint
    :param name: a name for the deployment; ``None`` for one that no other deployment has
    :param description: text about it
    :param engine_id: the engine to deploy on; ``None`` deploys directly
    :param inactive_timeout: seconds without a request until it is parked
    :param schedule: when it is active
    :param reuse: take a live deployment of the same checkpoint, if there is one
    :param list_delay: seconds until a deployment that was just created is in the platform's list
    """

    project_id: str
    training_job_id: str
    checkpoint: int
    name: str | None
    description: str | None
    engine_id: str | None
    inactive_timeout: int | None
    schedule: Schedule | None
    reuse: bool
    list_delay: float

    def call(self, name: str | None) -> Call[DeploymentSummary]:
        """The request that creates the deployment.

        :param name: its name
        :raises ValueError: if an argument is invalid
        """
        if self.engine_id is not None:
            return engines.deploy(
                self.engine_id,
                project_id=self.project_id,
                training_job_id=self.training_job_id,
                checkpoint=self.checkpoint,
                name=name,
            )
        return deployments.create(
            self.project_id,
            training_job_id=self.training_job_id,
            checkpoint=self.checkpoint,
            name=name,
            description=self.description,
            inactive_timeout=self.inactive_timeout,
            schedule=self.schedule,
        )


class DeploymentSpec(ProvisionSpec):
    """A deployment that the task creates, or a live one of the same checkpoint.

    :param task: this try of the task
    :param request: what to deploy
    """

    kind = CREATED_DEPLOYMENT

    def __init__(self, task: TaskRun, request: DeploymentRequest) -> None:
        super().__init__(task, request.name, request.list_delay)
        self._request = request

    def fingerprint_inputs(self) -> Mapping[str, object]:
        request = self._request
        return {
            "project": request.project_id,
            "training_job": request.training_job_id,
            "checkpoint": request.checkpoint,
            "name": request.name,
            "description": request.description,
            "engine": request.engine_id,
            "inactive_timeout": request.inactive_timeout,
            "schedule": None if request.schedule is None else dict(request.schedule),
        }

    @contextmanager
    def prepare(self, mark: str) -> Iterator[Prepared]:
        yield self.named(mark, self._create)

    def listed(self) -> Iterable[tuple[str, str | None]]:
        project = self._request.project_id
        found = self._task.hook.send(deployments.list_all(project))
        return [(join_id(project, deployment.id), deployment.name) for deployment in found]

    def _create(self, name: str) -> str:
        return join_id(self._request.project_id, self._task.hook.send(self._request.call(name)).id)

    def find_live(self) -> str | None:
        """A live deployment of the same checkpoint, and with the same name if the user has given one."""
        request, send = self._request, self._task.hook.send
        if not request.reuse:
            return None
        if request.engine_id is None:
            candidates = send(deployments.list_all(request.project_id))
        else:
            candidates = send(engines.engine(request.engine_id)).deployments
        for candidate in candidates:
            if request.name not in (None, candidate.name) or not is_live(DEPLOYMENT, candidate.status):
                continue
            try:
                found = send(deployments.deployment(request.project_id, candidate.id))
            except NotFoundError:  # deleted meanwhile, or of another project
                continue
            if self._is_same(found):
                return join_id(request.project_id, found.id)
        return None

    def _is_same(self, found: DeploymentDetail) -> bool:
        request = self._request
        source = found.training_id or found.base_model
        return (source, found.checkpoint or 0) == (request.training_job_id, request.checkpoint)

    def sleeper(self, job_id: str) -> Sleeper:
        return Sleeper.deployment(job_id, self._request.name)

    def describe(self, job_id: str, status: str | None, *, new: bool) -> dict[str, object]:
        request = self._request
        project_id, deployment_id = split_id(job_id)
        found = self._task.hook.send(deployments.deployment(project_id, deployment_id))
        return {
            "job_id": job_id,
            "project_id": project_id,
            "deployment_id": deployment_id,
            "model_name": found.name,
            "status": status or found.status,
            "training_job_id": request.training_job_id,
            "checkpoint": request.checkpoint,
            "engine_id": request.engine_id,
            "new": new,
        }
