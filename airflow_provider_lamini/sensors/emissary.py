"""A sensor for a job on Emissary that another task, or a user, has started."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_lamini.runs.arguments import identifier, job_kind, plain_name
from airflow_provider_lamini.sensors.base import JobSensor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_lamini.hooks.emissary import EmissaryHook
    from airflow_provider_lamini.jobs.kinds import JobKind


class EmissaryJobSensor(JobSensor):
    """Waits until a job of any kind has ended, or a deployment or an engine is active or parked.

    It fails if the job did not succeed, and never cancels it. Use it with operators that have ``wait=False``::

        train = EmissaryTrainOperator(task_id="train", ..., wait=False)
        done = EmissaryJobSensor(task_id="trained", job_id=train.output["job_id"], deferrable=True)

    A deployment and an engine never end: the sensor waits until they are active, also if they are parked and somebody has
    yet to wake them; or until they are parked. Outages of the platform are tolerated until ``timeout``. With ``soft_fail``
    the task is skipped instead of failing.

    :param job_id: what the operator returned as ``job_id``: ``project/id``, or an engine's id
    :param kind: ``training``, ``dataset``, ``deployment``, ``engine``, ``parked_deployment`` or ``parked_engine``
    :param emissary_conn_id: the connection to the platform
    :param deferrable: wait in the triggerer, without holding a worker slot; default: ``[operators]
        default_deferrable``
    :param poke_interval: maximum seconds between polls
    :return: ``job_id``, ``kind`` as above, ``state`` (such as ``succeeded``) and ``status``, the platform's own status word
    """

    template_fields: Sequence[str] = ("emissary_conn_id", "job_id", "kind", "accept_partial")
    operator_extra_links = ()  # the platform's web pages have no address for a job

    def __init__(
        self,
        *,
        job_id: str,
        kind: str = "training",
        emissary_conn_id: str = "emissary_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.job_id = job_id
        self.kind = kind
        self.emissary_conn_id = emissary_conn_id

    def make_hook(self) -> EmissaryHook:
        """The platform's hook."""
        from airflow_provider_lamini.hooks.emissary import EmissaryHook

        return EmissaryHook(plain_name("emissary_conn_id", self.emissary_conn_id))

    def job(self) -> tuple[str, JobKind]:
        """The job's id and kind."""
        from airflow_provider_lamini.runs.emissary.arguments import job_reference

        kind = job_kind("kind", self.kind, "emissary")
        check = identifier if kind.short_name.endswith("engine") else job_reference
        return check("job_id", self.job_id), kind
