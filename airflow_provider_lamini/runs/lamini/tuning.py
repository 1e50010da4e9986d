"""Tuning jobs: training a model, and resuming a job from its checkpoint."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from airflow_provider_lamini.jobs.state import JobState
from airflow_provider_lamini.links import push_job_url
from airflow_provider_lamini.platforms.lamini.api import datasets, training
from airflow_provider_lamini.platforms.lamini.kinds import TUNING
from airflow_provider_lamini.rows.bad_rows import failure_numbers, recorded_failures
from airflow_provider_lamini.runs.arguments import check_output
from airflow_provider_lamini.runs.job_spec import (
    Accept,
    Decision,
    Fail,
    JobSpec,
    OrphanSearch,
    Prepared,
    Resume,
    find_new_job,
)
from airflow_provider_lamini.runs.lamini.dataset_upload import (
    DatasetUpload,
    check_tuning,
    dataset_left_behind,
)
from airflow_provider_lamini.runs.loss_history import HISTORY, final_loss, write_loss_history
from airflow_provider_lamini.runs.output_reservation import check_output_free, reserve_output
from airflow_provider_lamini.runs.submitted_job import resume_job
from airflow_provider_lamini.wording import counted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from airflow_provider_lamini.jobs.event import EndedJob
    from airflow_provider_lamini.jobs.state import JobStatus
    from airflow_provider_lamini.runs.lamini.dataset_upload import DatasetRequest
    from airflow_provider_lamini.runs.submission_record import Submission
    from airflow_provider_lamini.runs.task import TaskIdentity, TaskRun


@dataclass(frozen=True, slots=True, kw_only=True)
class TuningRequest:
    """A model to train.

    :param arguments: those of `training.train`, except for the dataset; validated
    :param dataset_id: the dataset; ``None`` to upload ``rows``
    :param rows: the rows to upload; ``None`` if there is a ``dataset_id``
    :param state_path: folder for the record of the upload; ``None`` for the default
    :param output: folder for the losses; ``None`` writes none
    :param output_conn_id: the connection for that folder
    :param max_resumes: how often a job that failed or timed out is resumed
    :param accept_partial: accept a job that ended as ``PARTIALLY COMPLETED``
    :param list_delay: seconds until a job that was just submitted is in the platform's list
    """

    arguments: Mapping[str, Any]
    dataset_id: str | None = None
    rows: DatasetRequest | None = None
    state_path: str | None = None
    output: str | None = None
    output_conn_id: str | None = None
    max_resumes: int = 0
    accept_partial: bool = False
    list_delay: float = 20.0


class Training(JobSpec[dict[str, object]]):
    """A job that trains a model.

    :param task: this try of the task
    :param request: the model
    """

    kind = TUNING

    def __init__(self, task: TaskRun, request: TuningRequest) -> None:
        self._task = task
        self._request = request

    def fingerprint_inputs(self) -> Mapping[str, object]:
        dataset = self._request.dataset_id if self._upload is None else self._upload.fingerprint
        return {**self._request.arguments, "dataset": dataset}

    @contextmanager
    def prepare(self, mark: str) -> Iterator[Prepared]:
        del mark  # a tuning job has no place for it
        request, send = self._request, self._task.hook.send
        written = (request.output, request.output_conn_id, HISTORY, self._task.identity)
        check_output_free(*written)
        if unknown := training.unknown_arguments(request.arguments["finetune_args"]):
            self._task.log.warning(
                "Check the spelling in finetune_args: the platform does not document %s. All is passed on; "
                "what is misspelt keeps its default.",
                ", ".join(f"{name} ({meant}?)" if meant else name for name, meant in unknown.items()),
            )
        uploaded = None if self._upload is None else self._upload.upload(to_tune=True)
        dataset_id = str(request.dataset_id) if uploaded is None else uploaded.dataset_id
        failures = {} if uploaded is None else uploaded.failures
        sent = {} if uploaded is None else {"rows": uploaded.rows, "bytes": uploaded.size}
        target = send(datasets.upload_base_path())
        check_tuning(target)
        dataset = send(datasets.existing(dataset_id=dataset_id, upload_base_path=target.upload_base_path))
        call = training.train(
            dataset_id=dataset_id, upload_file_path=dataset.dataset_location, **request.arguments
        )
        before = self._similar_jobs(dataset_id)
        reserve_output(*written)
        yield Prepared(
            create=lambda: send(call).job_id,
            before=before,
            numbers={**sent, **failure_numbers(failures)},
        )

    def find_orphaned_job(self, submission: Submission) -> str | OrphanSearch:
        dataset_id = self._request.dataset_id or (self._upload.uploaded_id() if self._upload else None)
        if submission.before is None or dataset_id is None:
            return OrphanSearch.NOT_STARTED  # both are known before the job is started
        return find_new_job(
            partial(self._similar_jobs, dataset_id), submission.before, self._request.list_delay
        )

    def result(
        self, job_id: str, status: EndedJob | JobStatus, submission: Submission | None
    ) -> dict[str, object]:
        request, task = self._request, self._task
        found = tuning_result(
            task, job_id, status.raw, request.output, request.output_conn_id, reserved_for=task.identity
        )
        return {
            **found,
            "base_model": request.arguments["model_name"],
            "resumes": submission.resumed().resumes if submission else 0,
            **(_sent(submission) if request.rows and submission else {}),
        }

    def result_without_waiting(self, job_id: str, submission: Submission) -> dict[str, object]:
        del submission
        return {"job_id": job_id, "base_model": self._request.arguments["model_name"]}

    def on_bad_end(
        self, job_id: str, status: EndedJob | JobStatus, submission: Submission | None
    ) -> Decision:
        del job_id
        if status.state is JobState.PARTLY_SUCCEEDED:
            if self._request.accept_partial:
                return Accept()
            return Fail(
                "Clear the task with accept_partial=True to take its model, or with force_new=True to train again.",
                keep_record=True,
            )
        if status.state in (JobState.FAILED, JobState.TIMED_OUT) and submission is not None:
            if submission.resumes < self._request.max_resumes:
                return Resume(self._request.max_resumes)
            times = f"It was resumed {counted(submission.resumes, 'time')}. " if submission.resumes else ""
            return Fail(f"{times}A retry submits a new job.")
        return Fail("A retry submits a new job.")

    def left_behind(self) -> str:
        request = self._request
        return "" if request.rows is None else dataset_left_behind(self._task, request.state_path)

    def publish_link(self, job_id: str) -> None:
        publish_tuning_link(self._task, job_id)

    @cached_property
    def _upload(self) -> DatasetUpload | None:
        request = self._request
        return None if request.rows is None else DatasetUpload(self._task, request.rows, request.state_path)

    def _similar_jobs(self, dataset_id: str) -> dict[str, bool]:
        """Jobs that may be this task's, and whether they certainly are: no other task has the dataset, or the name."""
        name = self._request.arguments["custom_model_name"]
        found = {}
        for job in self._task.hook.send(training.list_jobs()):
            same_dataset = job.dataset_id == dataset_id
            same_name = name is None or job.custom_model_name == name
            # A field that the platform leaves out rules nothing out.
            possible = (same_dataset or job.dataset_id is None) and (
                same_name or job.custom_model_name is None
            )
            if possible:
                unique = name is not None or self._upload is not None
                found[job.job_id] = unique and same_dataset and same_name
        return found


class ResumedTuning(JobSpec[dict[str, object]]):
    """A tuning job that exists already, and is resumed if it has not succeeded.

    Its losses continue those of the task that has submitted it. So it writes them whichever task the file is reserved for,
    and reserves none.

    :param task: this try of the task
    :param job_id: the job
    :param output: folder for the losses; ``None`` writes none
    :param output_conn_id: the connection for that folder
    """

    kind = TUNING
    submitted = "Attached to"

    def __init__(
        self, task: TaskRun, job_id: str, *, output: str | None = None, output_conn_id: str | None = None
    ) -> None:
        self._task = task
        self._job_id = job_id
        self._output = output
        self._output_conn_id = output_conn_id

    def fingerprint_inputs(self) -> Mapping[str, object]:
        return {"resume": self._job_id}

    @contextmanager
    def prepare(self, mark: str) -> Iterator[Prepared]:
        del mark  # the job exists already
        status = self._task.hook.send(TUNING.status(self._job_id))
        resumes = status.state in (JobState.FAILED, JobState.CANCELLED, JobState.TIMED_OUT)
        if resumes:
            check_output(self._output, self._output_conn_id)
        else:
            self._task.log.info("Job %s is %s: there is nothing to resume.", self._job_id, status.raw)
        yield Prepared(create=self._resume if resumes else lambda: self._job_id)

    def _resume(self) -> str:
        resume_job(self._task, TUNING, self._job_id)
        self._task.log.info("Resumed %s %s.", TUNING.noun, self._job_id)
        return self._job_id

    def find_orphaned_job(self, submission: Submission) -> str | OrphanSearch:
        """Submit again: that reads the job's status first, and does no harm a second time."""
        del submission
        return OrphanSearch.NOT_STARTED

    def result(
        self, job_id: str, status: EndedJob | JobStatus, submission: Submission | None
    ) -> dict[str, object]:
        del submission
        return tuning_result(
            self._task, job_id, status.raw, self._output, self._output_conn_id, reserved_for=None
        )

    def result_without_waiting(self, job_id: str, submission: Submission) -> dict[str, object]:
        del submission
        return {"job_id": job_id}

    def on_bad_end(
        self, job_id: str, status: EndedJob | JobStatus, submission: Submission | None
    ) -> Decision:
        del job_id, submission
        if status.state is JobState.PARTLY_SUCCEEDED:
            return Accept()
        return Fail("A retry resumes it again.")

    def publish_link(self, job_id: str) -> None:
        publish_tuning_link(self._task, job_id)


def _sent(submission: Submission) -> dict[str, object]:
    """What a result says about the dataset that was uploaded for a job."""
    sent = {name: count for name, count in submission.numbers.items() if name in ("rows", "bytes")}
    return {**sent, "failures": recorded_failures(submission.numbers)}


def publish_tuning_link(task: TaskRun, job_id: str) -> None:
    """Link a task to the web page of its tuning job.

    :param task: this try of the task
    :param job_id: the job
    """
    push_job_url(task.context, task.hook.web_job_url("tuning", job_id))


def tuning_result(
    task: TaskRun,
    job_id: str,
    status: str,
    output: str | None,
    output_conn_id: str | None,
    *,
    reserved_for: TaskIdentity | None,
) -> dict[str, object]:
    """What a task returns of a tuning job; its losses are written to the output folder.

    :param task: this try of the task
    :param job_id: the job
    :param status: the platform's word for how it ended
    :param output: folder for ``loss_history.jsonl``; ``None`` writes none
    :param output_conn_id: the connection for that folder
    :param reserved_for: as in `write_loss_history`
    """
    job = task.hook.send(training.job(job_id))
    steps = job.steps()
    last = steps[-1] if steps else None
    if not job.model_name:
        task.log.warning(
            "Tuning job %s has ended and no longer bills, but the platform does not name its model: model_name is null. "
            "Look for the model on the platform.",
            job_id,
        )
    history = write_loss_history(
        output, output_conn_id, (step.model_dump_json(exclude_unset=True) for step in steps), reserved_for
    )
    result: dict[str, object] = {
        "job_id": job_id,
        "status": status,
        "model_name": job.model_name,
        "custom_model_name": job.custom_model_name,
        "dataset_id": job.dataset_id,
        "steps": last.step if last else None,
        "final_loss": final_loss([step.loss for step in steps]),
        "history": history,
    }
    task.log.info(
        "Tuning job %s ended as %s%s: model %s, final loss %s.",
        *(job_id, status, f" after {counted(last.step, 'step')}" if last and last.step is not None else ""),
        *(
            job.model_name or "(not named)",
            "unknown" if result["final_loss"] is None else result["final_loss"],
        ),
    )
    return result
