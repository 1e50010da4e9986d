"""Classifiers: training one on examples, and writing what it answers."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from airflow_provider_lamini.api.errors import NotFoundError, ProjectNotFoundError
from airflow_provider_lamini.corpus.examples import read_examples
from airflow_provider_lamini.exceptions import JobFailedError
from airflow_provider_lamini.platforms.lamini.api import classifier_projects, classifiers
from airflow_provider_lamini.platforms.lamini.kinds import CLASSIFIER
from airflow_provider_lamini.rows.bad_rows import failure_numbers, recorded_failures
from airflow_provider_lamini.rows.counts import by_number
from airflow_provider_lamini.rows.hashes import digest
from airflow_provider_lamini.rows.output.groups import Chart
from airflow_provider_lamini.rows.output.parts import PartWriter
from airflow_provider_lamini.runs.job_spec import JobSpec, OrphanSearch, Prepared, find_new_job

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from airflow_provider_lamini.api.call import Call
    from airflow_provider_lamini.corpus.examples import Examples, ReadExamples
    from airflow_provider_lamini.corpus.pairs import Columns
    from airflow_provider_lamini.jobs.event import EndedJob
    from airflow_provider_lamini.jobs.state import JobStatus
    from airflow_provider_lamini.platforms.lamini.api.classifiers import ClassifierJob
    from airflow_provider_lamini.rows.bad_rows import BadRowPolicy
    from airflow_provider_lamini.rows.output.chunk_result import ChunkResult
    from airflow_provider_lamini.rows.sources.options import InputOptions
    from airflow_provider_lamini.runs.submission_record import Submission
    from airflow_provider_lamini.runs.task import TaskRun


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassifierRequest:
    """A classifier to train. The arguments are those of the operator, validated.

    :param list_delay: seconds until a job that was just submitted is in the project's list
    """

    project: str
    model_name: str | None
    classes: dict[str, str] | None
    examples: object
    columns: Columns
    dataset_name: str | None
    on_existing: str
    input_conn_id: str | None
    input_options: InputOptions
    policy: BadRowPolicy
    list_delay: float = 10.0


class ClassifierTraining(JobSpec[dict[str, object]]):
    """A job that trains a classifier: of a new project, or again on all that an existing one holds.

    :param task: this try of the task
    :param request: the classifier
    """

    kind = CLASSIFIER

    def __init__(self, task: TaskRun, request: ClassifierRequest) -> None:
        self._task = task
        self._request = request

    def fingerprint_inputs(self) -> Mapping[str, object]:
        request = self._request
        return {
            "project": request.project,
            "model_name": request.model_name,
            "classes": request.classes,
            "examples": self._examples,
            "dataset_name": request.dataset_name,
            "on_existing": request.on_existing,
        }

    @contextmanager
    def prepare(self, mark: str) -> Iterator[Prepared]:
        """Extend the project if it exists at this moment; else it is created together with the job."""
        del mark  # a job has no place for it
        exists = self._request.project in self._task.hook.send(classifier_projects.list_projects())
        call = self._extend() if exists else self._create()
        examples = sum(map(len, (self._examples or {}).values()))
        numbers = {
            "classes": len(self._request.classes or ()),
            "examples": examples,
            "created": int(not exists),
            **({} if self._read is None else failure_numbers(self._read.bad.failures)),
        }
        yield Prepared(
            create=lambda: self._task.hook.send(call).job_id,
            before=self._jobs() if exists else (),
            numbers=numbers,
        )

    def find_orphaned_job(self, submission: Submission) -> str | OrphanSearch:
        if submission.before is None:
            return OrphanSearch.NOT_STARTED  # it is recorded before the job is started
        return find_new_job(self._jobs, submission.before, self._request.list_delay)

    def result(
        self, job_id: str, status: EndedJob | JobStatus, submission: Submission | None
    ) -> dict[str, object]:
        model_id = self._model_id(job_id)
        self._task.log.info("Classifier %s is trained.", model_id)
        return {
            "project": self._request.project,
            "job_id": job_id,
            **_counts(submission),
            "model_id": model_id,
            "status": status.raw,
        }

    def result_without_waiting(self, job_id: str, submission: Submission) -> dict[str, object]:
        return {"project": self._request.project, "job_id": job_id, **_counts(submission)}

    @property
    def _examples(self) -> Examples | None:
        return None if self._read is None else self._read.by_class

    @cached_property
    def _read(self) -> ReadExamples | None:
        request = self._request
        if request.examples is None:
            return None
        classes = None if request.classes is None else tuple(request.classes)
        read = read_examples(
            request.examples,
            request.columns,
            classes=classes,
            conn_id=request.input_conn_id,
            options=request.input_options,
            policy=request.policy,
        )
        report = self._task.log.warning if read.bad.count else self._task.log.info
        report("Read examples: %s", read.found)
        return read

    def _create(self) -> Call[ClassifierJob]:
        request = self._request
        if request.classes is None or request.model_name is None:
            raise ValueError(
                f"The platform has no classifier project {request.project!r}. To create it, give classes and model_name."
            )
        self._task.log.info("Creating project %s with %d classes.", request.project, len(request.classes))
        return classifiers.initialize(
            name=request.project,
            model_name=request.model_name,
            classes=request.classes,
            examples=self._examples,
        )

    def _extend(self) -> Call[ClassifierJob]:
        request, task = self._request, self._task
        if request.on_existing != "extend":
            raise ValueError(
                f"The classifier project {request.project!r} exists already. Choose another name, or on_existing='extend'."
            )
        if self._examples is not None:
            name = request.dataset_name or f"examples-{digest(dict(self._examples))[:16]}"
            if name in task.hook.send(classifier_projects.list_datasets(request.project)):
                task.log.info(
                    "Project %s already has the dataset %s; not adding it again.", request.project, name
                )
            else:
                task.hook.send(
                    classifiers.add(project_name=request.project, dataset_name=name, data=self._examples)
                )
                task.log.info("Added the dataset %s to project %s.", name, request.project)
        return classifiers.train(name=request.project)

    def _jobs(self) -> dict[str, bool]:
        """The ids of the project's jobs, of which a single new one is the task's."""
        try:
            jobs = self._task.hook.send(classifier_projects.list_jobs(self._request.project))
        except (NotFoundError, ProjectNotFoundError):
            return {}
        return {job.job_id: True for job in jobs}

    def _model_id(self, job_id: str) -> str:
        send, project = self._task.hook.send, self._request.project
        model_id = send(classifiers.status(job_id)).model_id
        if model_id is not None:
            return model_id
        models = send(classifier_projects.list_models(project))
        found = list(dict.fromkeys(model.model_id for model in models if model.job_id == job_id))
        if len(found) != 1:
            raise JobFailedError(
                f"{CLASSIFIER.subject} {job_id} ended well, but the platform names no model of it. It no longer runs. "
                f"Look at the models of project {project!r}; a retry asks again."
            )
        return found[0]


def _counts(submission: Submission | None) -> dict[str, object]:
    """What a result says about the numbers of a submission."""
    if submission is None:
        return {}
    failures = recorded_failures(submission.numbers)
    counts = {
        name: count for name, count in submission.numbers.items() if name not in failure_numbers(failures)
    }
    return {**counts, "failures": failures}


NO_CLASS = "(no class)"
"""The group of rows of which no class reaches the threshold."""


class ClassLines(PartWriter):
    """Writes classes as JSON Lines.

    :param folder: the output folder
    :param passthrough: columns to copy into the output
    """

    def groups(self, result: ChunkResult) -> dict[str, int]:
        return dict(Counter(output["class"] or NO_CLASS for output in result.outputs if output is not None))

    @staticmethod
    def chart(groups: Mapping[str, int]) -> Chart:
        return Chart("Rows by class", by_number(groups))
