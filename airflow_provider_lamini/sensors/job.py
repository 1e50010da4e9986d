"""A sensor for a job that another task, or a user, has started."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_lamini.runs.arguments import identifier, job_kind, model_or_id, plain_name
from airflow_provider_lamini.sensors.base import JobSensor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_lamini.hooks.lamini import LaminiHook
    from airflow_provider_lamini.jobs.kinds import JobKind


class LaminiJobSensor(JobSensor):
    """Waits until a job of any kind has ended. It fails if the job did not succeed, and never cancels it.

    Use it with operators that have ``wait=False``::

        train = LaminiTrainOperator(task_id="train", ..., wait=False)
        done = LaminiJobSensor(task_id="trained", job_id=train.output["job_id"], deferrable=True)

    Outages of the platform are tolerated until ``timeout``. With ``soft_fail`` the task is skipped instead of failing.

    :param job_id: the platform's id of the job; for a model download the model's name
    :param kind: the job's kind: ``tuning``, ``memory_rag``, ``classifier``, ``batch_completions``,
        ``batch_embeddings`` or ``model_download``
    :param accept_partial: whether a job that ended as ``PARTIALLY COMPLETED`` counts as a success
    :param lamini_conn_id: the connection to the platform
    :param deferrable: wait in the triggerer, without holding a worker slot; default: ``[operators]
        default_deferrable``
    :param poke_interval: maximum seconds between polls
    :return: ``job_id``, ``kind`` as above, ``state`` (such as ``succeeded``) and ``status``, the platform's own status word
    """

    template_fields: Sequence[str] = ("lamini_conn_id", "job_id", "kind", "accept_partial")

    def __init__(
        self,
        *,
        job_id: str | int,
        kind: str = "tuning",
        lamini_conn_id: str = "lamini_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.job_id = job_id
        self.kind = kind
        self.lamini_conn_id = lamini_conn_id

    def make_hook(self) -> LaminiHook:
        """The platform's hook."""
        from airflow_provider_lamini.hooks.lamini import LaminiHook

        return LaminiHook(plain_name("lamini_conn_id", self.lamini_conn_id))

    def job(self) -> tuple[str, JobKind]:
        """The job's id and kind."""
        from airflow_provider_lamini.platforms.lamini.kinds import MODEL_DOWNLOAD

        kind = job_kind("kind", self.kind, "lamini")
        check = model_or_id if kind is MODEL_DOWNLOAD else identifier
        return check("job_id", self.job_id), kind
