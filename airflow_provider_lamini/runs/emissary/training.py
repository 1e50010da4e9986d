"""Training jobs: SFT and GRPO."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_lamini.exceptions import InvalidArgumentError
from airflow_provider_lamini.platforms.emissary.api import testing_functions, training
from airflow_provider_lamini.platforms.emissary.kinds import TRAINING, join_id, split_id
from airflow_provider_lamini.runs.emissary.named_job import NamedJob
from airflow_provider_lamini.runs.loss_history import HISTORY, final_loss, write_loss_history
from airflow_provider_lamini.runs.output_reservation import check_output_free, reserve_output

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from airflow_provider_lamini.api.call import Call
    from airflow_provider_lamini.jobs.event import EndedJob
    from airflow_provider_lamini.jobs.state import JobStatus
    from airflow_provider_lamini.platforms.emissary.api.training import TrainingJobSummary
    from airflow_provider_lamini.runs.job_spec import Prepared
    from airflow_provider_lamini.runs.submission_record import Submission
    from airflow_provider_lamini.runs.task import TaskRun


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRequest:
    """A model to train.

    :param project_id: the project
    :param technique: ``SFT`` or ``GRPO``
    :param name: a name for the job; ``None`` for one that no other job has
    :param arguments: the other arguments of `training.train` or `training.train_grpo`; validated
    :param output: folder for the losses; ``None`` writes none
    :param output_conn_id: the connection for that folder
    :param list_delay: seconds until a job that was just submitted is in the platform's list
    """

    project_id: str
    technique: str
    name: str | None
    arguments: Mapping[str, Any]
    output: str | None
    output_conn_id: str | None
    list_delay: float

    def call(self, name: str | None) -> Call[TrainingJobSummary]:
        """The request that starts the job.

        :param name: the job's name
        :raises ValueError: if an argument is invalid
        """
        start = training.train_grpo if self.technique == "GRPO" else training.train
        return start(self.project_id, name=name, **self.arguments)


class Training(NamedJob):
    """A job that trains a model.

    :param task: this try of the task
    :param request: the model
    """

    kind = TRAINING

    def __init__(self, task: TaskRun, request: TrainingRequest) -> None:
        super().__init__(task, request.name, request.list_delay)
        self._request = request

    def fingerprint_inputs(self) -> Mapping[str, object]:
        request = self._request
        return {
            **request.arguments,
            "project": request.project_id,
            "technique": request.technique,
            "name": request.name,
        }

    @contextmanager
    def prepare(self, mark: str) -> Iterator[Prepared]:
        request = self._request
        written = (request.output, request.output_conn_id, HISTORY, self._task.identity)
        check_output_free(*written)
        self._check_test_functions(request.arguments.get("test_functions") or ())
        reserve_output(*written)
        yield self.named(mark, self._create)

    def listed(self) -> Iterable[tuple[str, str | None]]:
        project = self._request.project_id
        return [
            (join_id(project, job.id), job.name) for job in self._task.hook.send(training.list_jobs(project))
        ]

    def result(
        self, job_id: str, status: EndedJob | JobStatus, submission: Submission | None
    ) -> dict[str, object]:
        del submission
        request = self._request
        job = self._task.hook.send(training.job(*split_id(job_id)))
        curve = job.training_loss
        history = write_loss_history(
            request.output,
            request.output_conn_id,
            (point.model_dump_json(exclude_unset=True) for point in curve),
            self._task.identity,
        )
        result = {
            **self._describe(job_id),
            "status": status.raw,
            "name": job.name,
            "final_loss": final_loss([point.loss for point in curve]),
            "history": history,
        }
        self._task.log.info(
            "Training job %s ended as %s: final loss %s.", job_id, status.raw, result["final_loss"]
        )
        return result

    def result_without_waiting(self, job_id: str, submission: Submission) -> dict[str, object]:
        del submission
        return self._describe(job_id)

    def _describe(self, job_id: str) -> dict[str, object]:
        project_id, training_job_id = split_id(job_id)
        return {
            "job_id": job_id,
            "project_id": project_id,
            "training_job_id": training_job_id,
            "base_model": self._request.arguments["base_model"],
        }

    def _create(self, name: str) -> str:
        return join_id(self._request.project_id, self._task.hook.send(self._request.call(name)).id)

    def _check_test_functions(self, names: Iterable[str]) -> None:
        if not names:
            return
        known = [function.name for function in self._task.hook.send(testing_functions.list_all())]
        if missing := [name for name in names if name not in known]:
            raise InvalidArgumentError(
                f"test_functions: the platform has no {', '.join(missing)}, only {', '.join(known) or 'none'}. Nothing was "
                "submitted."
            )
