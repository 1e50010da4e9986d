"""Queries of a Memory RAG index. If the index is not ready, they wait for it first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_lamini.api.errors import JobNotFoundError
from airflow_provider_lamini.exceptions import JobLostError
from airflow_provider_lamini.jobs.state import JobState
from airflow_provider_lamini.platforms.lamini.kinds import MEMORY_RAG
from airflow_provider_lamini.runs.outcome import Done, WaitFor
from airflow_provider_lamini.runs.task_errors import job_error

if TYPE_CHECKING:
    from airflow_provider_lamini.jobs.event import EndedJob, JobEvent
    from airflow_provider_lamini.jobs.state import JobStatus
    from airflow_provider_lamini.runs.row_run import InlineRun, RowRun
    from airflow_provider_lamini.runs.task import TaskRun


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
        """Validate the input, wait for the index if necessary, then send the queries.

        :param event: what happened to the build of the index; ``None`` at the start of a try
        :raises JobNotFoundError: if there is no such index
        :raises JobLostError: if the status of the index can no longer be read
        :raises JobError: if the build has failed
        """
        if event is not None:
            for lost in event.lost.values():
                raise JobLostError(
                    f"The status of index {self._index_id} can no longer be read. A retry polls it again. {lost.reason}"
                )
            for ended in event.ended.values():
                self._require(ended)
        elif self._queries.prepare():
            status = self._status()
            if not status.state.ended:
                self._task.log.info(
                    "Index %s is not ready yet (%s); waiting for it.", self._index_id, status.raw
                )
                return WaitFor(
                    kind=MEMORY_RAG.name, job_ids=[self._index_id], submitted_at=self._task.started_at
                )
            self._require(status)
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
