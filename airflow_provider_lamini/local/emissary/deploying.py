"""Turns requests to deploy something, directly or on an engine, into deployments."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from airflow_provider_lamini.local.classifiers.model import load
from airflow_provider_lamini.local.emissary.policy import ActiveHours, ResourcePolicy
from airflow_provider_lamini.local.emissary.resources import Deployment, new_id
from airflow_provider_lamini.local.emissary.service import main_name
from airflow_provider_lamini.local.emissary.serving import ACTIVE
from airflow_provider_lamini.local.emissary.training_spec import TrainingSpec
from airflow_provider_lamini.local.errors import InvalidInputError, ObjectNotFoundError

if TYPE_CHECKING:
    from airflow_provider_lamini.local.emissary.resources import Engine, Project
    from airflow_provider_lamini.local.emissary.service import Emissary
    from airflow_provider_lamini.platforms.emissary.api.fields import Schedule as RequestedSchedule


def policy_of(inactive_seconds: int | None, schedule: RequestedSchedule | None) -> ResourcePolicy:
    """Return when something is put to sleep, from the fields of a request."""
    known = None if schedule is None else ActiveHours(**schedule.model_dump(exclude_none=True))
    if inactive_seconds is None:
        return ResourcePolicy(schedule=known)
    return ResourcePolicy(inactive_seconds=inactive_seconds, schedule=known)


def deploy(
    emissary: Emissary,
    project: Project,
    training: str,
    number: int,
    *,
    name: str | None = None,
    description: str | None = None,
    policy: ResourcePolicy | None = None,
    engine: Engine | None = None,
) -> Deployment:
    """Deploy a checkpoint or a base model.

    :param emissary: the platform
    :param project: the project of the deployment
    :param training: id of a training job, or name of a base model
    :param number: number of the checkpoint; 0 for a base model
    :param name: name for the deployment; its id by default
    :param description: a text for people
    :param policy: when it is put to sleep
    :param engine: the engine to run on
    :raises InvalidInputError: there is no such checkpoint or base model, or the engine does not fit
    """
    deployment_id = new_id(Deployment.prefix)
    base, task_type, checkpoint = _deployed(emissary, project, training, number)
    if engine is not None:
        _check_engine(emissary, engine, base)
    path = None if checkpoint is None else emissary.training.path(checkpoint)
    labels: list[str] = []
    if path is not None and task_type == "classification":
        labels = [known.name for known in load(path.read_bytes()).classes]
    deployment = Deployment(
        id=deployment_id,
        parent=project.id,
        name=name or deployment_id,
        description=description or "",
        engine=None if engine is None else engine.id,
        training=training,
        checkpoint=number,
        base=base,
        task_type=task_type,
        labels=labels,
        policy=policy or ResourcePolicy(),
        activation="",
        accessed=time.time(),
    )
    return emissary.serving.deploy(deployment, path)


def _deployed(
    emissary: Emissary, project: Project, training: str, number: int
) -> tuple[str, str, str | None]:
    """Return base model, task type, and file of the checkpoint, if it is not a base model."""
    model = emissary.base_model(training)
    if model is not None:
        if number:
            raise InvalidInputError(f"checkpoint: base model {training!r} has no checkpoints: use 0.")
        return main_name(training), model.task_type, None
    try:
        job = emissary.training_job(project.id, training)
    except ObjectNotFoundError as error:
        raise InvalidInputError(error.detail) from None
    spec = TrainingSpec.from_params(job.params)
    return spec.base, spec.task_type, emissary.checkpoint(job.id, number).file


def _check_engine(emissary: Emissary, engine: Engine, base: str) -> None:
    status = emissary.serving.engine_status(engine)
    if status != ACTIVE:
        raise InvalidInputError(f"Inference engine {engine.name!r} is {status}: deploy when it is {ACTIVE}.")
    if engine.base != base:
        raise InvalidInputError(f"Inference engine {engine.name!r} serves {engine.base!r}, not {base!r}.")
