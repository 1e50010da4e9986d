"""Projects: finding one or creating it, and deleting it or what it holds. To delete what is gone already is not an error."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_lamini.api.errors import BadRequestError, NotFoundError
from airflow_provider_lamini.exceptions import InvalidArgumentError
from airflow_provider_lamini.platforms.emissary.api import (
    datasets,
    deployments,
    engines,
    models,
    projects,
    training,
)
from airflow_provider_lamini.wording import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airflow_provider_lamini.api.call import Call
    from airflow_provider_lamini.hooks.emissary import EmissaryHook
    from airflow_provider_lamini.platforms.emissary.api.deployments import DeploymentSummary
    from airflow_provider_lamini.runs.outcome import Log


def find_or_create_project(hook: EmissaryHook, name: str, log: Log) -> dict[str, object]:
    """Find a project by its name, or create it. A retry after a lost answer finds the project.

    :param hook: the hook
    :param name: the project's name
    :param log: the task's log
    :raises InvalidArgumentError: if several projects have that name
    """
    found = [project for project in hook.send(projects.list_all()) if project.name == name]
    if len(found) > 1:
        raise InvalidArgumentError(
            f"{len(found)} projects have the name {name!r}: {', '.join(project.id for project in found)}. Rename or delete all "
            "but one, or use its id."
        )
    project = found[0] if found else hook.send(projects.create(name))
    log.info("%s project %s (%s).", "Found" if found else "Created", name, project.id)
    return {"project_id": project.id, "name": name, "new": not found}


def delete_project(hook: EmissaryHook, project_id: str, *, delete_contents: bool, log: Log) -> bool:
    """Delete a project.

    :param hook: the hook
    :param project_id: the project
    :param delete_contents: delete it also if it holds something
    :param log: the task's log
    :return: whether it was deleted; false if it was already gone
    :raises InvalidArgumentError: if it holds something, and that must not be deleted
    """
    try:
        project = hook.send(projects.project(project_id))
    except NotFoundError:
        check_address(hook)
        log.info("Project %s is already gone.", project_id)
        return False
    held = {
        "dataset": len(project.datasets),
        "training job": len(project.training_jobs),
        "deployment": len(project.deployments),
    }
    contents = ", ".join(counted(count, name) for name, count in held.items() if count)
    if contents and not delete_contents:
        raise InvalidArgumentError(
            f"Project {project_id} holds {contents}. Set delete_contents=True to delete them too. Nothing was deleted."
        )
    return delete(hook, projects.delete(project_id), f"project {project_id}", log)


def delete(hook: EmissaryHook, call: Call[None], name: str, log: Log) -> bool:
    """Delete something; it may be gone already.

    :param hook: the hook
    :param call: the request that deletes it
    :param name: what messages call it
    :param log: the task's log
    :return: whether it was deleted; false if it was already gone
    """
    try:
        hook.send(call)
    except NotFoundError:
        check_address(hook)
        log.info("The %s is already gone.", name)
        return False
    log.info("Deleted the %s.", name)
    return True


def delete_job(hook: EmissaryHook, kind: str, job_id: str, log: Log) -> bool:
    """Delete a deployment, a training job, a dataset or an engine; it may be gone already.

    :param hook: the hook
    :param kind: ``deployment``, ``training``, ``dataset`` or ``engine``
    :param job_id: ``project/id``, or an engine's id
    :param log: the task's log
    :return: whether it was deleted; false if it was already gone
    """
    deletes: dict[str, Callable[..., Call[None]]] = {
        "deployment": deployments.delete,
        "training": training.delete,
        "dataset": datasets.delete,
        "engine": engines.delete,
    }
    return delete(hook, deletes[kind](*job_id.split("/")), f"{kind} {job_id}", log)


def check_address(hook: EmissaryHook) -> None:
    """Check that a 404 means that something is gone, not that the connection's address is wrong.

    :param hook: the hook
    :raises NotFoundError: if there is no Emissary API at that address
    """
    hook.send(models.list_all())


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
