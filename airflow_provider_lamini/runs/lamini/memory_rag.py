"""Memory RAG indexes: building one, and querying one once it is ready."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from airflow_provider_lamini.api.errors import JobNotFoundError, PlatformError
from airflow_provider_lamini.corpus.documents import find_documents
from airflow_provider_lamini.jobs.state import JobState
from airflow_provider_lamini.platforms.lamini.api import memory_rag
from airflow_provider_lamini.platforms.lamini.kinds import MEMORY_RAG
from airflow_provider_lamini.runs.job_spec import JobSpec, Prepared
from airflow_provider_lamini.runs.outcome import Done, WaitFor
from airflow_provider_lamini.runs.task_errors import job_error, lost_error
from airflow_provider_lamini.wording import counted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from airflow_provider_lamini.corpus.documents import Document
    from airflow_provider_lamini.jobs.event import EndedJob, JobEvent
    from airflow_provider_lamini.jobs.state import JobStatus
    from airflow_provider_lamini.runs.job_spec import Decision
    from airflow_provider_lamini.runs.row_run import InlineRun, RowRun
    from airflow_provider_lamini.runs.submission_record import Submission
    from airflow_provider_lamini.runs.task import TaskRun


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexRequest:
    """An index over documents.

    :param files: a path, URI or glob, or a list of such
    :param files_conn_id: the connection for the files' object storage
    :param model_name: the model that will answer
    """

    files: str | Sequence[str]
    files_conn_id: str | None
    model_name: str


class IndexBuild(JobSpec[dict[str, object]]):
    """A job that builds an index.

    :param task: this try of the task
    :param request: the index
    """

    kind = MEMORY_RAG

    def __init__(self, task: TaskRun, request: IndexRequest) -> None:
        self._task = task
        self._request = request

    @cached_property
    def _documents(self) -> Sequence[Document]:
        return find_documents(self._request.files, conn_id=self._request.files_conn_id)

    def fingerprint_inputs(self) -> Mapping[str, object]:
        checksums = {document.name: document.content_version().sha256 for document in self._documents}
        return {"model_name": self._request.model_name, "files": checksums}

    @contextmanager
    def prepare(self, mark: str) -> Iterator[Prepared]:
        del mark  # a build has no place for it
        yield build_of(self._task, self._request.model_name, self._documents)

    def result(
        self, job_id: str, status: EndedJob | JobStatus, submission: Submission | None
    ) -> dict[str, object]:
        self._task.log.info("Index %s is ready.", job_id)
        return self._result(job_id, status.raw, submission)

    def result_without_waiting(self, job_id: str, submission: Submission) -> dict[str, object]:
        return self._result(job_id, None, submission)

    def on_bad_end(
        self, job_id: str, status: EndedJob | JobStatus, submission: Submission | None
    ) -> Decision:
        log_end_of_build(self._task, job_id)
        return super().on_bad_end(job_id, status, submission)

    def _result(self, job_id: str, status: str | None, submission: Submission | None) -> dict[str, object]:
        numbers = submission.numbers if submission else {}
        return {"index_id": job_id, "model_name": self._request.model_name, "status": status, **numbers}


def build_of(task: TaskRun, model_name: str, documents: Sequence[Document]) -> Prepared:
    """The build of an index over documents.

    :param task: this try of the task
    :param model_name: the model that will answer
    :param documents: the documents, streamed in one request
    :return: the job, whose id is also that of the index
    """
    count, size = len(documents), sum(document.info.size for document in documents)

    def create() -> str:
        task.log.info("Sending %s, %d bytes.", counted(count, "file"), size)
        parts = [document.part() for document in documents]
        return task.hook.send(memory_rag.train(model_name=model_name, files=parts)).job_id

    # If a file cannot be read, the form is incomplete and the platform starts nothing.
    return Prepared(create=create, numbers={"files": count, "bytes": size}, not_started=(OSError,))


def log_end_of_build(task: TaskRun, job_id: str) -> None:
    """Log the last lines of the platform's log of a build.

    :param task: this try of the task
    :param job_id: the build
    """
    try:
        lines = task.hook.send(memory_rag.training_log(job_id))
    except PlatformError as error:
        task.log.info("The platform returned no log of the build: %s", error)
    else:
        task.log.warning("The platform's log of the build ends with: %s", "; ".join(lines[-3:])[:1000])


class QueryReadyIndex:
    """Waits until an index is ready, then queries it.

    :param task: this try of the task
    :param index_id: the index
    :param queries: the queries; their endpoint has no jobs
    """

    def __init__(self, task: TaskRun, index_id: str, queries: RowRun | InlineRun) -> None:
        self._task = task
        self._index_id = index_id
        self._queries = queries

    def advance(self, event: JobEvent | None) -> WaitFor | Done[dict[str, object]]:
        """Wait for the index if necessary, once the input is validated, then send the queries.

        :param event: what happened to the build of the index; ``None`` at the start of a try
        :raises JobNotFoundError: if there is no such index
        :raises JobLostError: if the status of the index can no longer be read
        :raises JobError: if the build has failed
        """
        if event is not None:
            for lost in event.lost.values():
                raise lost_error(
                    lost,
                    f"The status of index {self._index_id} can no longer be read. A retry polls it again.",
                )
            for ended in event.ended.values():
                self._require(ended)
        else:
            status = self._status()
            if status.state.ended:
                self._require(status)
            elif self._queries.prepare():
                self._task.log.info(
                    "Index %s is not ready yet (%s); waiting for it.", self._index_id, status.raw
                )
                return WaitFor(
                    kind=MEMORY_RAG.name, job_ids=[self._index_id], submitted_at=self._task.started_at
                )
        return self._queries.advance(None)

    def on_deadline(self, event: JobEvent) -> str:
        """Leave the build running: the task did not start it."""
        del event
        return f"Index {self._index_id} was not ready; a retry waits for it again."

    def close(self) -> None:
        """Close the queries."""
        self._queries.close()

    def _status(self) -> JobStatus:
        try:
            return self._task.client.send(MEMORY_RAG.status(self._index_id))
        except JobNotFoundError as error:
            text = (
                f"The platform knows no index {self._index_id}. Set index_id to what a build or a refresh with the same key "
                f"has returned. {error}"
            )
            error.args = (text,)
            raise

    def _require(self, status: EndedJob | JobStatus) -> None:
        if status.state is not JobState.SUCCEEDED:
            raise job_error(MEMORY_RAG, self._index_id, status, "Build the index again.")
