"""Removing deployments, and deleting what a project or the account holds. What is already gone is a success."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_lamini.exceptions import InvalidArgumentError
from airflow_provider_lamini.operators.base import COLOR
from airflow_provider_lamini.operators.emissary.hook import emissary_hook
from airflow_provider_lamini.runs.arguments import identifier, one_of, plain_name
from airflow_provider_lamini.runs.outlets import publishes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.providers.common.compat.sdk import Context

KINDS = ("deployment", "training", "dataset", "engine")


class EmissaryUndeployOperator(BaseOperator):
    """Removes a deployment by its name. It is a success if there is none, so it can be a teardown.

    ::

        undeploy = EmissaryUndeployOperator(task_id="undeploy", project_id=..., model_name="support-{{ ts_nodash }}")
        deploy >> infer >> undeploy.as_teardown()

    The name is known before the deployment exists: the teardown also removes what a task has left that failed or died. Give
    it no ``setups``: Airflow runs a teardown only if its setups have succeeded.

    Endpoints: ``GET /v1/projects/{project_id}/deployments`` and
    ``DELETE /v1/projects/{project_id}/deployments/{deployment_id}``; with ``engine_id``: ``GET /v1/engines/{engine_id}``
    and ``POST /v1/engines/{engine_id}/undeploy``.

    :param model_name: the deployment's name. If several deployments of the project have it, all are removed.
    :param project_id: the project; not needed with ``engine_id``
    :param engine_id: the engine that the deployment is on
    :param emissary_conn_id: the connection to the platform
    :return: ``model_name``, ``deleted`` (false if there was no such deployment) and ``deployment_ids``
    """

    template_fields: Sequence[str] = ("emissary_conn_id", "model_name", "project_id", "engine_id")
    ui_color = COLOR

    def __init__(
        self,
        *,
        model_name: str,
        project_id: str | None = None,
        engine_id: str | None = None,
        emissary_conn_id: str = "emissary_default",
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("multiple_outputs", True)  # so that a Dag may write undeploy.output["deleted"]
        super().__init__(**kwargs)
        self.model_name = model_name
        self.project_id = project_id
        self.engine_id = engine_id
        self.emissary_conn_id = emissary_conn_id

    @publishes
    def execute(self, context: Context) -> dict[str, object]:
        """Remove the deployment, if it is there."""
        from airflow_provider_lamini.runs.emissary.projects import undeploy, undeploy_from_engine

        del context
        name = plain_name("model_name", self.model_name)
        project_id = None if self.project_id is None else identifier("project_id", self.project_id)
        engine_id = None if self.engine_id is None else identifier("engine_id", self.engine_id)
        with emissary_hook(self.emissary_conn_id) as hook:
            if engine_id is not None:
                removed = undeploy_from_engine(hook, engine_id, name, self.log)
            elif project_id is not None:
                removed = undeploy(hook, project_id, name, self.log)
            else:
                raise InvalidArgumentError("Give project_id or engine_id: where the deployment is.")
        return {"model_name": name, "deleted": bool(removed), "deployment_ids": removed}


class EmissaryDeleteOperator(BaseOperator):
    """Deletes a deployment, a training job, a dataset or an engine by its id. It is a success if it is already gone.

    Endpoints: ``DELETE /v1/projects/{project_id}/deployments/{deployment_id}``,
    ``DELETE /v1/projects/{project_id}/training-jobs/{training_job_id}``,
    ``DELETE /v1/projects/{project_id}/datasets/{dataset_id}``, ``DELETE /v1/engines/{engine_id}``.

    :param job_id: what to delete, the ``job_id`` of the operator that created it: ``project/id``, or an engine's id
    :param kind: what it is: ``deployment``, ``training``, ``dataset`` or ``engine``
    :param emissary_conn_id: the connection to the platform
    :return: ``job_id``, ``kind`` and ``deleted`` (false if it was already gone)
    """

    template_fields: Sequence[str] = ("emissary_conn_id", "job_id", "kind")
    ui_color = COLOR

    def __init__(
        self, *, job_id: str, kind: str, emissary_conn_id: str = "emissary_default", **kwargs: Any
    ) -> None:
        kwargs.setdefault("multiple_outputs", True)  # so that a Dag may write delete.output["deleted"]
        super().__init__(**kwargs)
        self.job_id = job_id
        self.kind = kind
        self.emissary_conn_id = emissary_conn_id

    @publishes
    def execute(self, context: Context) -> dict[str, object]:
        """Delete it, if it is there."""
        from airflow_provider_lamini.runs.emissary.arguments import job_reference
        from airflow_provider_lamini.runs.emissary.projects import delete_job

        del context
        kind = one_of("kind", self.kind, KINDS)
        job_id = (
            identifier("job_id", self.job_id) if kind == "engine" else job_reference("job_id", self.job_id)
        )
        with emissary_hook(self.emissary_conn_id) as hook:
            deleted = delete_job(hook, kind, job_id, self.log)
        return {"job_id": job_id, "kind": kind, "deleted": deleted}
