"""Projects: each holds datasets, training jobs and deployments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_lamini.operators.base import COLOR
from airflow_provider_lamini.operators.emissary.hook import emissary_hook
from airflow_provider_lamini.runs.arguments import flag, identifier, plain_name
from airflow_provider_lamini.runs.outlets import publishes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.providers.common.compat.sdk import Context


class EmissaryProjectOperator(BaseOperator):
    """Finds a project by its name, or creates it.

    A retry finds the project that an earlier try has created.

    Endpoints: ``GET /v1/projects``, ``POST /v1/projects``.

    :param name: the project's name
    :param emissary_conn_id: the connection to the platform
    :return: ``project_id``, ``name`` and ``new`` (whether this try created it)
    """

    template_fields: Sequence[str] = ("emissary_conn_id", "name")
    ui_color = COLOR

    def __init__(self, *, name: str, emissary_conn_id: str = "emissary_default", **kwargs: Any) -> None:
        kwargs.setdefault("multiple_outputs", True)  # so that a Dag may write project.output["project_id"]
        super().__init__(**kwargs)
        self.name = name
        self.emissary_conn_id = emissary_conn_id

    @publishes
    def execute(self, context: Context) -> dict[str, object]:
        """Find or create the project."""
        from airflow_provider_lamini.runs.emissary.projects import find_or_create_project

        del context
        name = plain_name("name", self.name)
        with emissary_hook(self.emissary_conn_id) as hook:
            return find_or_create_project(hook, name, self.log)


class EmissaryDeleteProjectOperator(BaseOperator):
    """Deletes a project. It is a success if the project is already gone, so it can be a teardown.

    Endpoints: ``GET /v1/projects/{project_id}``, ``DELETE /v1/projects/{project_id}``.

    :param project_id: the project
    :param delete_contents: delete its datasets, training jobs and deployments too. Otherwise the task fails if it holds
        any.
    :param emissary_conn_id: the connection to the platform
    :return: ``project_id`` and ``deleted`` (false if it was already gone)
    """

    template_fields: Sequence[str] = ("emissary_conn_id", "project_id", "delete_contents")
    ui_color = COLOR

    def __init__(
        self,
        *,
        project_id: str,
        delete_contents: bool | str = False,
        emissary_conn_id: str = "emissary_default",
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("multiple_outputs", True)  # so that a Dag may write task.output["deleted"]
        super().__init__(**kwargs)
        self.project_id = project_id
        self.delete_contents = delete_contents
        self.emissary_conn_id = emissary_conn_id

    @publishes
    def execute(self, context: Context) -> dict[str, object]:
        """Delete the project, if it is there."""
        from airflow_provider_lamini.runs.emissary.projects import delete_project

        del context
        project_id = identifier("project_id", self.project_id)
        delete_contents = flag("delete_contents", self.delete_contents)
        with emissary_hook(self.emissary_conn_id) as hook:
            deleted = delete_project(hook, project_id, delete_contents=delete_contents, log=self.log)
        return {"project_id": project_id, "deleted": deleted}
