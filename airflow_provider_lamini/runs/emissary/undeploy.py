"""Removing deployments, also those that are gone already."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_lamini.api.errors import BadRequestError, NotFoundError
from airflow_provider_lamini.platforms.emissary.api import deployments, engines
from airflow_provider_lamini.runs.emissary.projects import check_address, delete

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_lamini.hooks.emissary import EmissaryHook
    from airflow_provider_lamini.platforms.emissary.api.deployments import DeploymentSummary
    from airflow_provider_lamini.runs.outcome import Log


def undeploy(hook: EmissaryHook, project_id: str, name: str, log: Log) -> list[str]:
    """Delete all deployments of a project that have a name.

    :param hook: the hook
    :param project_id: the project
    :param name: the deployments' name
    :param log: the task's log
    :return: the ids of the deleted ones; empty if there was none
    """
    try:
        found = _named(hook.send(deployments.list_all(project_id)), name)
    except NotFoundError:
        check_address(hook)
        found = []
    if not found:
        log.info("There is no deployment %s in project %s: it is already gone.", name, project_id)
    return [
        deployment_id
        for deployment_id in found
        if delete(
            hook, deployments.delete(project_id, deployment_id), f"deployment {name} ({deployment_id})", log
        )
    ]


def undeploy_from_engine(hook: EmissaryHook, engine_id: str, name: str, log: Log) -> list[str]:
    """Remove a deployment from an engine.

    :param hook: the hook
    :param engine_id: the engine
    :param name: the deployment's name
    :param log: the task's log
    :return: the id of the removed one; empty if there was none
    """
    found = _on_engine(hook, engine_id, name)
    if not found:
        log.info("There is no deployment %s on engine %s: it is already gone.", name, engine_id)
        return []
    try:
        hook.send(engines.undeploy(engine_id, deployment_name=name))
    except BadRequestError:
        # The platform refuses it also if somebody else has just removed it.
        if _on_engine(hook, engine_id, name):
            raise
    log.info("Removed deployment %s from engine %s.", name, engine_id)
    return found


def _on_engine(hook: EmissaryHook, engine_id: str, name: str) -> list[str]:
    try:
        return _named(hook.send(engines.engine(engine_id)).deployments, name)
    except NotFoundError:
        check_address(hook)
        return []


def _named(found: Sequence[DeploymentSummary], name: str) -> list[str]:
    return [deployment.id for deployment in found if deployment.name == name]
