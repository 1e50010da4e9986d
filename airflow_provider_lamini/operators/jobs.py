"""Jobs that exist already: take one up again, or cancel it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_lamini.exceptions import InvalidArgumentError
from airflow_provider_lamini.links import LaminiJobLink, push_job_url
from airflow_provider_lamini.operators.single import SingleJobOperator
from airflow_provider_lamini.operators.submit_once import OrphanSearch
from airflow_provider_lamini.runs.arguments import folder, identifier, job_kind, optional_name, plain_name
from airflow_provider_lamini.runs.outcome import Done, WaitFor

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_lamini.jobs.event import EndedJob, JobEvent
    from airflow_provider_lamini.jobs.kinds import JobKind
    from airflow_provider_lamini.jobs.state import JobStatus
    from airflow_provider_lamini.runs.submission_record import Submission


class LaminiResumeJobOperator(SingleJobOperator[dict[str, object]]):
    """Has an ended tuning job go on from its checkpoint, and waits for it.

    A job that runs is waited for; one that has ended well is not touched, its result is returned. Only tuning jobs
    can be resumed: ``POST /v1/train/jobs/{job_id}/resume``.

    :param job_id: a job that failed, was cancelled or timed out before its ``max_steps``
    :param output: a folder for ``loss_history.jsonl``, one line per step of the job; as with ``LaminiTrainOperator``
    :param output_conn_id: the connection for the output's object storage
    :return: ``job_id``, ``status``, ``model_name`` (of the tuned model), ``custom_model_name``, ``dataset_id``,
        ``steps``, ``final_loss``, ``history`` (the file); with ``wait=False`` only ``job_id``
    """

    template_fields: Sequence[str] = (
        *SingleJobOperator.template_fields,
        "job_id",
        "output_folder",
        "output_conn_id",
    )
    operator_extra_links = (LaminiJobLink(),)

    def __init__(
        self,
        *,
        job_id: str | int,
        output: str | None = None,
        output_conn_id: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.job_id = job_id
        self.output_folder = output  # an operator's own ``output`` is its XCom
        self.output_conn_id = output_conn_id
        self._context: Context

    @property
    def kind(self) -> JobKind:
        """See :class:`SingleJobOperator`."""
        from airflow_provider_lamini.platforms.lamini.kinds import TUNING

        return TUNING

    def check(self) -> None:
        """Validate the rendered arguments; see :class:`JobOperator`."""
        super().check()
        self._job_id = identifier("job_id", self.job_id)
        optional_name("output_conn_id", self.output_conn_id)
        if self.output_folder is not None:
            folder("output", self.output_folder, self.output_conn_id)

    def advance(self, context: Context, event: JobEvent | None) -> WaitFor | Done[dict[str, object]]:
        """Resume, wait, or return; see :class:`SingleJobOperator`."""
        self._context = context
        return super().advance(context, event)

    def fingerprint_inputs(self) -> Mapping[str, object]:
        """See :class:`SingleJobOperator`."""
        return {"resume": self._job_id}

    def submit(self, mark: str) -> str:
        """Resume the job, unless it runs or has ended well; see :class:`SingleJobOperator`."""
        from airflow_provider_lamini.jobs.state import JobState
        from airflow_provider_lamini.runs.arguments import check_output
        from airflow_provider_lamini.runs.lamini.tuning import resume

        del mark
        status = self.hook.send(self.kind.status(self._job_id))
        if status.state in (JobState.FAILED, JobState.CANCELLED, JobState.TIMED_OUT):
            if self.wait:
                check_output(self.output_folder, self.output_conn_id)
            resume(self.hook, self._job_id, self.log)
        else:
            self.log.info("Job %s is %s: there is nothing to resume.", self._job_id, status.raw)
        return self._job_id

    def find(self, submission: Submission) -> str | OrphanSearch:
        """See :class:`SingleJobOperator`: :meth:`submit` looks at the job first and does no harm a second time."""
        del submission
        return OrphanSearch.NOT_STARTED

    def publish_link(self, job_id: str) -> None:
        """See :class:`SingleJobOperator`: link the job's page to the task."""
        push_job_url(self._context, self.hook.web_job_url("tuning", job_id))

    def result_without_waiting(self, job_id: str) -> dict[str, object]:
        """See :class:`SingleJobOperator`."""
        return {"job_id": job_id}

    def fetch(self, job_id: str, status: EndedJob | JobStatus) -> dict[str, object]:
        """See :class:`SingleJobOperator`."""
        from airflow_provider_lamini.runs.lamini.tuning import result_of

        return result_of(
            self.hook,
            job_id,
            status=status.raw,
            output=self.output_folder,
            output_conn_id=self.output_conn_id,
            log=self.log,
        )

    def ended_badly(self, job_id: str, status: EndedJob | JobStatus) -> WaitFor | Done[dict[str, object]]:
        """See :class:`SingleJobOperator`: a job that ended in part is what there is; else a retry resumes again."""
        from airflow_provider_lamini.jobs.state import JobState

        if status.state is not JobState.PARTLY_SUCCEEDED:
            self._records.forget()
            self.fail(job_id, status, "A retry resumes it again.")
        return Done(self.fetch(job_id, status))


class LaminiCancelJobOperator(BaseOperator):
    """Cancels a job, whatever task has started it. A job that has ended already is left as it is.

    Endpoints: ``POST /v1/train/jobs/{job_id}/cancel``, ``POST /v2/classifier/update_job``. The platform can cancel
    no other kinds.

    :param job_id: the platform's id of the job
    :param kind: its kind: ``tuning`` or ``classifier``
    :param lamini_conn_id: the connection to the platform
    :return: ``job_id``, ``kind``, ``cancelled`` (whether it was this task) and ``status``, the platform's word after
        that, which may lag behind
    """

    template_fields: Sequence[str] = ("lamini_conn_id", "job_id", "kind")
    ui_color = "#e8f0ea"

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

    def execute(self, context: Context) -> dict[str, object]:
        """Cancel the job, unless it has ended."""
        from airflow_provider_lamini.hooks.lamini import LaminiHook

        del context
        job_id, kind = identifier("job_id", self.job_id), job_kind("kind", self.kind)
        if kind.cancel is None:
            raise InvalidArgumentError(
                f"kind is {kind.title}, and the platform has no call to cancel such a job: job {job_id} runs to its end, "
                "and bills."
            )
        with LaminiHook(plain_name("lamini_conn_id", self.lamini_conn_id)) as hook:
            status = hook.send(kind.status(job_id))
            cancels = not status.state.ended
            if cancels:
                hook.send(kind.cancel(job_id))
                status = hook.send(kind.status(job_id))
        self.log.info(
            "%s job %s %s; the platform's word is %s.",
            *(kind.title, job_id, "is cancelled" if cancels else "had ended already", status.raw),
        )
        return {"job_id": job_id, "kind": kind.title, "cancelled": cancels, "status": status.raw}
