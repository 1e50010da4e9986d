"""Uploading a dataset to a project, and waiting until it can be used."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING

from airflow_provider_lamini.corpus.pairs import dataset_file
from airflow_provider_lamini.platforms.emissary.api import datasets
from airflow_provider_lamini.platforms.emissary.kinds import DATASET, join_id, split_id
from airflow_provider_lamini.rows.bad_rows import failure_numbers, recorded_failures
from airflow_provider_lamini.rows.errors import InputError
from airflow_provider_lamini.runs.emissary.named_job import NamedJob

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from airflow_provider_lamini.corpus.pairs import DatasetFile, PairInput
    from airflow_provider_lamini.jobs.event import EndedJob
    from airflow_provider_lamini.jobs.state import JobStatus
    from airflow_provider_lamini.rows.sources.source import Source
    from airflow_provider_lamini.runs.job_spec import Prepared
    from airflow_provider_lamini.runs.submission_record import Submission
    from airflow_provider_lamini.runs.task import TaskRun


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetRequest:
    """The dataset to upload.

    :param project_id: the project
    :param name: a name for it; ``None`` for one that no other dataset has
    :param pairs: its rows
    :param fields: what the question and the answer are called in the dataset
    :param list_delay: seconds until a dataset that was just uploaded is in the platform's list
    """

    project_id: str
    name: str | None
    pairs: PairInput
    fields: tuple[str, str]
    list_delay: float


def check_size(size: int, source: Source) -> None:
    """Check that the API takes a dataset.

    :param size: bytes of its file
    :param source: its rows, for the message
    :raises InputError: if it is too large
    """
    if size > datasets.MAX_UPLOAD_BYTES:
        raise InputError(
            f"{source.describe()} is too large: {size:,} bytes as JSON Lines, and the API takes at most "
            f"{datasets.MAX_UPLOAD_BYTES:,}. Nothing was sent. Shorten it or split it, or upload it on the platform's "
            "web pages and give its id to the training task."
        )


class DatasetUpload(NamedJob):
    """A dataset; a job that ends when the platform can use it.

    :param task: this try of the task
    :param request: the dataset
    """

    kind = DATASET

    def __init__(self, task: TaskRun, request: DatasetRequest) -> None:
        super().__init__(task, request.name, request.list_delay)
        self._request = request

    @cached_property
    def _source(self) -> Source:
        return self._request.pairs.open()

    def fingerprint_inputs(self) -> Mapping[str, object]:
        request = self._request
        return {
            "project": request.project_id,
            "name": request.name,
            "fields": request.fields,
            **request.pairs.fingerprint_inputs(self._source),
        }

    @contextmanager
    def prepare(self, mark: str) -> Iterator[Prepared]:
        request = self._request
        with dataset_file(request.pairs.reader(self._source), request.fields) as dataset:
            failures = dict(dataset.bad.failures)
            report = self._task.log.warning if failures else self._task.log.info
            report("Read %s", dataset.found)
            check_size(dataset.size, self._source)
            numbers = {"rows": dataset.rows, "bytes": dataset.size, **failure_numbers(failures)}
            yield self.named(mark, partial(self._upload, dataset), numbers)

    def listed(self) -> Iterable[tuple[str, str | None]]:
        project = self._request.project_id
        found = self._task.hook.send(datasets.list_all(project))
        return [(join_id(project, dataset.id), dataset.name) for dataset in found]

    def result(
        self, job_id: str, status: EndedJob | JobStatus, submission: Submission | None
    ) -> dict[str, object]:
        del status
        return self._describe(job_id, submission)

    def result_without_waiting(self, job_id: str, submission: Submission) -> dict[str, object]:
        return self._describe(job_id, submission)

    def _describe(self, job_id: str, submission: Submission | None) -> dict[str, object]:
        project_id, dataset_id = split_id(job_id)
        numbers = submission.numbers if submission else {}
        return {
            "job_id": job_id,
            "project_id": project_id,
            "dataset_id": dataset_id,
            "rows": numbers.get("rows"),
            "bytes": numbers.get("bytes"),
            "failures": recorded_failures(numbers) if submission else None,
        }

    def _upload(self, dataset: DatasetFile, name: str) -> str:
        project = self._request.project_id
        return join_id(
            project, self._task.hook.send(datasets.upload(project, file=dataset.file, name=name)).id
        )
