"""Deploying checkpoints, and the engines that deployments may share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_lamini.exceptions import InvalidArgumentError
from airflow_provider_lamini.operators.base import JobOperator
from airflow_provider_lamini.operators.emissary.hook import emissary_hook
from airflow_provider_lamini.operators.lineage import reports_lineage
from airflow_provider_lamini.runs.arguments import (
    flag,
    identifier,
    json_object,
    model_or_id,
    optional_name,
    plain_name,
    seconds,
    whole_number,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import timedelta

    from airflow_provider_lamini.api.call import Json
    from airflow_provider_lamini.hooks.emissary import EmissaryHook
    from airflow_provider_lamini.runs.emissary.provision import Provision
    from airflow_provider_lamini.runs.task import TaskRun

WAKE_TIMEOUT = 1800.0
"""Seconds. The platform says that waking takes 8 to 20 minutes."""


@reports_lineage(
    "emissary",
    uses={"training_job_id": "models", "engine_id": "engines"},
    makes={"model_name": "deployments"},
)
class EmissaryDeployOperator(JobOperator):
    """Deploys a checkpoint or a base model, waits until it is deployed, and returns its name for inference.

    A live deployment of the same checkpoint is used instead of a new one (``reuse``); if it is parked, it is woken. A retry
    finds the deployment of a try that died: by its recorded id, else in the project's list by name. A new deployment is
    deleted if the task is killed while it waits for it (``cancel_on_kill``), or if ``timeout`` has passed and no retry
    follows (``on_timeout``).

    Endpoints: ``POST /v1/projects/{project_id}/deployments``, or ``POST /v1/engines/{engine_id}/deploy``; the status from
    ``GET /v1/projects/{project_id}/deployments`` and ``GET /v1/projects/{project_id}/deployments/{deployment_id}``.

    :param project_id: the project
    :param training_job_id: the training job, or a base model's name
    :param checkpoint: the number of the checkpoint; 0 for a base model
    :param name: a name for the deployment, which is the model's name for inference. Give each run its own, so that a
        teardown with :class:`EmissaryUndeployOperator` finds it also if this task fails. Default: one that no other
        deployment has.
    :param description: a text about the deployment. Not with an ``engine_id``.
    :param engine_id: deploy on this engine, as :class:`EmissaryEngineOperator` returned it, instead of directly
    :param inactive_timeout: seconds without a request until it is parked; the platform's default is 3600. Not with an
        ``engine_id``: then the engine decides.
    :param schedule: when it is active, instead of ``inactive_timeout``: a mapping with ``timezone`` (such as
        ``Europe/Berlin``), ``start_time`` and ``end_time`` (``HH:MM``) and ``days`` (such as ``["monday"]``)
    :param reuse: use a live deployment of the same checkpoint, if there is one; with a ``name`` only one of that name
    :param wake_timeout: seconds, or a ``timedelta``, that waking a parked deployment may take; the task's ``timeout``
        applies too
    :param emissary_conn_id: the connection to the platform
    :return: ``job_id`` (for ``EmissaryJobSensor``), ``project_id``, ``deployment_id``, ``model_name`` (the deployment's
        name), ``status``, ``training_job_id``, ``checkpoint``, ``engine_id``, and ``new`` (whether this run created it)
    """

    template_fields: Sequence[str] = (
        *JobOperator.template_fields,
        "emissary_conn_id",
        "project_id",
        "training_job_id",
        "checkpoint",
        "name",
        "description",
        "engine_id",
        "inactive_timeout",
        "schedule",
        "reuse",
        "wake_timeout",
    )
    template_fields_renderers = {"schedule": "json"}  # noqa: RUF012 - as Airflow declares it

    list_delay: ClassVar[float] = 20.0
    """Seconds until a deployment that was just created is in the platform's list."""

    def __init__(
        self,
        *,
        project_id: str,
        training_job_id: str,
        checkpoint: int | str = 0,
        name: str | None = None,
        description: str | None = None,
        engine_id: str | None = None,
        inactive_timeout: int | str | None = None,
        schedule: Mapping[str, Json] | str | None = None,
        reuse: bool | str = True,
        wake_timeout: float | str | timedelta = WAKE_TIMEOUT,
        emissary_conn_id: str = "emissary_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.project_id = project_id
        self.training_job_id = training_job_id
        self.checkpoint = checkpoint
        self.name = name
        self.description = description
        self.engine_id = engine_id
        self.inactive_timeout = inactive_timeout
        self.schedule = schedule
        self.reuse = reuse
        self.wake_timeout = wake_timeout
        self.emissary_conn_id = emissary_conn_id

    def make_hook(self) -> EmissaryHook:
        """The platform's hook."""
        return emissary_hook(self.emissary_conn_id)

    def work(self, task: TaskRun) -> Provision:
        """Validate the arguments, then return the deployment."""
        from airflow_provider_lamini.runs.emissary.deployment import DeploymentRequest, DeploymentSpec
        from airflow_provider_lamini.runs.emissary.provision import Provision

        options = self.submission_options()
        engine_id = None if self.engine_id is None else identifier("engine_id", self.engine_id)
        of_direct = (self.description, self.inactive_timeout, self.schedule)
        if engine_id is not None and any(value is not None for value in of_direct):
            raise InvalidArgumentError(
                "description, inactive_timeout and schedule are for direct deployments; an engine does not take them. Omit "
                "them, or engine_id."
            )
        inactive = self.inactive_timeout
        request = DeploymentRequest(
            project_id=identifier("project_id", self.project_id),
            training_job_id=model_or_id("training_job_id", self.training_job_id),
            checkpoint=whole_number("checkpoint", self.checkpoint, minimum=0),
            name=optional_name("name", self.name),
            description=optional_name("description", self.description),
            engine_id=engine_id,
            inactive_timeout=None
            if inactive is None
            else whole_number("inactive_timeout", inactive, minimum=1),
            schedule=json_object("schedule", self.schedule),
            reuse=flag("reuse", self.reuse),
            list_delay=self.list_delay,
        )
        wake_timeout = seconds("wake_timeout", self.wake_timeout)
        try:
            request.call(request.name)
        except ValueError as error:
            raise InvalidArgumentError(str(error)) from None
        return Provision(task, DeploymentSpec(task, request), options, wake_timeout)


@reports_lineage("emissary", uses={"base_model": "models"}, makes={"engine_id": "engines"})
class EmissaryEngineOperator(JobOperator):
    """Finds an inference engine by its name or creates one, and waits until it is active.

    An engine that is parked is woken. A retry finds the engine of a try that died: by its recorded id, else in the list by
    name. A new engine is deleted if the task is killed while it waits for it (``cancel_on_kill``), or if ``timeout`` has
    passed and no retry follows (``on_timeout``). The platform knows no engines that have failed, so choose a ``timeout``.

    Endpoints: ``GET /v1/engines``, ``POST /v1/engines``, ``GET /v1/engines/{engine_id}``,
    ``POST /v1/engines/{engine_id}/reactivate``.

    :param base_model: the base model of all deployments on it
    :param name: its name; default: one that no other engine has
    :param model_task: what its deployments do, such as ``text-generation``
    :param inactive_timeout: seconds without a request until it is parked
    :param schedule: when it is active, instead of ``inactive_timeout``, as with :class:`EmissaryDeployOperator`
    :param reuse: use a live engine with this name and base model, if there is one
    :param wake_timeout: seconds, or a ``timedelta``, that waking a parked engine may take; the task's ``timeout`` applies
        too
    :param timeout: seconds, or a ``timedelta``, that one try may take in wall-clock time, deferred or not
    :param emissary_conn_id: the connection to the platform
    :return: ``job_id`` (for ``EmissaryJobSensor``), ``engine_id``, ``name``, ``base_model``, ``status``, and ``new``
        (whether this run created it)
    """

    template_fields: Sequence[str] = (
        *JobOperator.template_fields,
        "emissary_conn_id",
        "base_model",
        "name",
        "model_task",
        "inactive_timeout",
        "schedule",
        "reuse",
        "wake_timeout",
    )
    template_fields_renderers = {"schedule": "json"}  # noqa: RUF012 - as Airflow declares it

    list_delay: ClassVar[float] = 20.0
    """Seconds until an engine that was just created is in the platform's list."""

    def __init__(
        self,
        *,
        base_model: str,
        name: str | None = None,
        model_task: str | None = None,
        inactive_timeout: int | str | None = None,
        schedule: Mapping[str, Json] | str | None = None,
        reuse: bool | str = True,
        wake_timeout: float | str | timedelta = WAKE_TIMEOUT,
        emissary_conn_id: str = "emissary_default",
        timeout: float | str | timedelta = 3600.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(timeout=timeout, **kwargs)
        self.base_model = base_model
        self.name = name
        self.model_task = model_task
        self.inactive_timeout = inactive_timeout
        self.schedule = schedule
        self.reuse = reuse
        self.wake_timeout = wake_timeout
        self.emissary_conn_id = emissary_conn_id

    def make_hook(self) -> EmissaryHook:
        """The platform's hook."""
        return emissary_hook(self.emissary_conn_id)

    def work(self, task: TaskRun) -> Provision:
        """Validate the arguments, then return the engine."""
        from airflow_provider_lamini.runs.emissary.engine import EngineRequest, EngineSpec
        from airflow_provider_lamini.runs.emissary.provision import Provision

        options = self.submission_options()
        inactive = self.inactive_timeout
        request = EngineRequest(
            base_model=plain_name("base_model", self.base_model),
            name=optional_name("name", self.name),
            task_type=optional_name("model_task", self.model_task),
            inactive_timeout=None
            if inactive is None
            else whole_number("inactive_timeout", inactive, minimum=1),
            schedule=json_object("schedule", self.schedule),
            reuse=flag("reuse", self.reuse),
            list_delay=self.list_delay,
        )
        wake_timeout = seconds("wake_timeout", self.wake_timeout)
        try:
            request.call(request.name)
        except ValueError as error:
            raise InvalidArgumentError(str(error)) from None
        return Provision(task, EngineSpec(task, request), options, wake_timeout)
