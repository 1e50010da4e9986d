"""Controlling jobs that exist already: resume a tuning job, cancel a job."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_lamini.links import JobLink, ResultsLink
from airflow_provider_lamini.operators.base import COLOR, JobOperator
from airflow_provider_lamini.operators.lineage import reports_lineage
from airflow_provider_lamini.runs.arguments import folder, identifier, job_kind, optional_name, plain_name
from airflow_provider_lamini.runs.outlets import publishes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_lamini.hooks.lamini import LaminiHook
    from airflow_provider_lamini.runs.submitted_job import SubmittedJob
    from airflow_provider_lamini.runs.task import TaskRun


@reports_lineage("lamini", makes={"model_name": "models"})
class LaminiResumeJobOperator(JobOperator):
    """Resumes an ended tuning job from its checkpoint, and waits for it.

    If the job still runs, the task waits for it; if it has succeeded, its result is returned. Only tuning jobs can be
    resumed: ``POST /v1/train/jobs/{job_id}/resume``.

    :param job_id: a job that failed, was cancelled or timed out before its ``max_steps``
    :param output: a folder for ``loss_history.jsonl``, one line per step of the job; as with ``LaminiTrainOperator``, but the
        task continues the losses of the training: it replaces the file of any task, and does not keep others from it
    :param lamini_conn_id: the connection to the platform
    :param output_conn_id: the connection for the output's object storage
    :return: ``job_id``, ``status``, ``model_name`` (of the tuned model), ``custom_model_name``, ``dataset_id``,
        ``steps``, ``final_loss``, ``history`` (the file); with ``wait=False`` only ``job_id``
    """

    template_fields: Sequence[str] = (
        *JobOperator.template_fields,
        "lamini_conn_id",
        "job_id",
        "output_folder",
        "output_conn_id",
    )
    operator_extra_links = (JobLink(), ResultsLink())

    def __init__(
        self,
        *,
        job_id: str | int,
        output: str | None = None,
        lamini_conn_id: str = "lamini_default",
        output_conn_id: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.job_id = job_id
        self.output_folder = output  # an operator's own ``output`` is its XCom
        self.lamini_conn_id = lamini_conn_id
        self.output_conn_id = output_conn_id

    def make_hook(self) -> LaminiHook:
        """The platform's hook."""
        from airflow_provider_lamini.hooks.lamini import LaminiHook

        return LaminiHook(plain_name("lamini_conn_id", self.lamini_conn_id))

    def work(self, task: TaskRun) -> SubmittedJob[dict[str, object]]:
        """Validate the arguments, then return the job."""
        from airflow_provider_lamini.runs.lamini.tuning import ResumedTuning
        from airflow_provider_lamini.runs.submitted_job import SubmittedJob

        options = self.submission_options()
        job_id = identifier("job_id", self.job_id)
        optional_name("output_conn_id", self.output_conn_id)
        if self.output_folder is not None:
            folder("output", self.output_folder, self.output_conn_id)
        output = self.output_folder if options.wait else None
        spec = ResumedTuning(task, job_id, output=output, output_conn_id=self.output_conn_id)
        return SubmittedJob(task, spec, options)


class LaminiCancelJobOperator(BaseOperator):
    """Cancels a job, whichever task has started it. A job that has already ended is left as it is.

    Endpoints: ``POST /v1/train/jobs/{job_id}/cancel``, ``POST /v2/classifier/update_job``. The platform cannot cancel
    jobs of other kinds.

    :param job_id: the platform's id of the job
    :param kind: its kind: ``tuning`` or ``classifier``
    :param lamini_conn_id: the connection to the platform
    :return: ``job_id``, ``kind``, ``cancelled`` (whether this task cancelled it) and ``status``, the platform's word after
        that, which may lag behind
    """

    template_fields: Sequence[str] = ("lamini_conn_id", "job_id", "kind")
    operator_extra_links = (JobLink(),)
    ui_color = COLOR

    def __init__(
        self,
        *,
        job_id: str | int,
        kind: str = "tuning",
        lamini_conn_id: str = "lamini_default",
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("multiple_outputs", True)  # so that a Dag may write cancel.output["cancelled"]
        super().__init__(**kwargs)
        self.job_id = job_id
        self.kind = kind
        self.lamini_conn_id = lamini_conn_id

    @publishes
    def execute(self, context: Context) -> dict[str, object]:
        """Cancel the job, unless it has ended."""
        from airflow_provider_lamini.hooks.lamini import LaminiHook
        from airflow_provider_lamini.runs.cancellation import cancel_job

        job_id, kind = identifier("job_id", self.job_id), job_kind("kind", self.kind, "lamini")
        hook = LaminiHook(plain_name("lamini_conn_id", self.lamini_conn_id))
        return cancel_job(context, hook, kind, job_id, self.log)
