"""Projects: finding one by its name or creating it, and deleting it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_lamini.api.errors import NotFoundError
from airflow_provider_lamini.exceptions import InvalidArgumentError
from airflow_provider_lamini.platforms.emissary.api import models, projects
from airflow_provider_lamini.wording import counted

if TYPE_CHECKING:
    from airflow_provider_lamini.api.call import Call
    from airflow_provider_lamini.hooks.emissary import EmissaryHook
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


def check_address(hook: EmissaryHook) -> None:
    """Check that a 404 means that something is gone, not that the connection's address is wrong.

    :param hook: the hook
    :raises NotFoundError: if there is no Emissary API at that address
    """
    hook.send(models.list_all())
