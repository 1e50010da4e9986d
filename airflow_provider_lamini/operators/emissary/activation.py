"""Waking parked deployments and engines, and putting engines to sleep."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_lamini.exceptions import InvalidArgumentError
from airflow_provider_lamini.operators.base import WaitingOperator
from airflow_provider_lamini.operators.emissary.hook import emissary_hook
from airflow_provider_lamini.runs.arguments import flag, identifier

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from airflow_provider_lamini.hooks.emissary import EmissaryHook
    from airflow_provider_lamini.runs.emissary.engine import Deactivation
    from airflow_provider_lamini.runs.emissary.waking import WakeUp
    from airflow_provider_lamini.runs.task import TaskRun

WAKE_TIMEOUT = 1800.0
"""Seconds. The platform says that waking takes 8 to 20 minutes."""


class EmissaryReactivateOperator(WaitingOperator):
    """Wakes a parked deployment or engine, and waits until it is active.

    If it is active already, the task ends at once. Waking cannot be cancelled; a retry simply continues to wait.

    Endpoints: ``POST /v1/projects/{project_id}/deployments/{deployment_id}/reactivate``,
    ``POST /v1/engines/{engine_id}/reactivate``.

    :param job_id: the deployment, as ``project/id``: the ``job_id`` of :class:`EmissaryDeployOperator`
    :param engine_id: instead of ``job_id``: the engine
    :param emissary_conn_id: the connection to the platform
    :param timeout: seconds, or a ``timedelta``, that one try may take in wall-clock time, deferred or not. The platform says
        that waking takes about 8 to 20 minutes.
    :param cancel_on_kill: has no effect, because the platform cannot cancel waking
    :return: ``job_id`` or ``engine_id``, and ``status``, the platform's word
    """

    template_fields: Sequence[str] = (
        *WaitingOperator.template_fields,
        "emissary_conn_id",
        "job_id",
        "engine_id",
    )

    def __init__(
        self,
        *,
        job_id: str | None = None,
        engine_id: str | None = None,
        emissary_conn_id: str = "emissary_default",
        timeout: float | str | timedelta = WAKE_TIMEOUT,
        **kwargs: Any,
    ) -> None:
        super().__init__(timeout=timeout, **kwargs)
        self.job_id = job_id
        self.engine_id = engine_id
        self.emissary_conn_id = emissary_conn_id

    def make_hook(self) -> EmissaryHook:
        """The platform's hook."""
        return emissary_hook(self.emissary_conn_id)

    def work(self, task: TaskRun) -> WakeUp:
        """Validate the arguments, then return what to wake."""
        from airflow_provider_lamini.runs.emissary.arguments import job_reference
        from airflow_provider_lamini.runs.emissary.waking import Sleeper, WakeUp, Waking

        if (self.job_id is None) == (self.engine_id is None):
            raise InvalidArgumentError("Give exactly one of job_id and engine_id.")
        if self.engine_id is not None:
            engine_id = identifier("engine_id", self.engine_id)
            sleeper, result = Sleeper.engine(engine_id), {"engine_id": engine_id}
        else:
            job_id = job_reference("job_id", self.job_id)
            sleeper, result = Sleeper.deployment(job_id), {"job_id": job_id}
        return WakeUp(Waking(task, sleeper, task.options.timeout), dict(result))


class EmissaryDeactivateEngineOperator(WaitingOperator):
    """Puts an inference engine to sleep, so that it costs nothing, and waits until it sleeps.

    If it sleeps already, the task ends at once. A deployment that is not on an engine has no such operation: it sleeps after
    its ``inactive_timeout``, or is removed with :class:`EmissaryUndeployOperator`.

    Endpoints: ``GET /v1/engines/{engine_id}``, ``POST /v1/engines/{engine_id}/deactivate``.

    :param engine_id: the engine
    :param wait: wait until it sleeps; ``False`` returns right after the request
    :param emissary_conn_id: the connection to the platform
    :param timeout: seconds, or a ``timedelta``, that one try may take in wall-clock time, deferred or not
    :param cancel_on_kill: has no effect
    :return: ``engine_id`` and ``status``, the platform's word
    """

    template_fields: Sequence[str] = (*WaitingOperator.template_fields, "emissary_conn_id", "engine_id")

    def __init__(
        self,
        *,
        engine_id: str,
        wait: bool = True,
        emissary_conn_id: str = "emissary_default",
        timeout: float | str | timedelta = WAKE_TIMEOUT,
        **kwargs: Any,
    ) -> None:
        super().__init__(timeout=timeout, **kwargs)
        self.engine_id = engine_id
        self.wait = wait
        self.emissary_conn_id = emissary_conn_id

    def make_hook(self) -> EmissaryHook:
        """The platform's hook."""
        return emissary_hook(self.emissary_conn_id)

    def work(self, task: TaskRun) -> Deactivation:
        """Validate the arguments, then return the engine."""
        from airflow_provider_lamini.runs.emissary.engine import Deactivation

        return Deactivation(task, identifier("engine_id", self.engine_id), wait=flag("wait", self.wait))
