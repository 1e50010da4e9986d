"""The Memory RAG indexes of the platform: their folders and statuses, and searching them."""

from __future__ import annotations

import logging
import re
import shutil
import sqlite3
import threading
import uuid
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from airflow_provider_lamini.jobs.state import JobState
from airflow_provider_lamini.local.errors import ApiError, NoSuchJobError
from airflow_provider_lamini.local.rag.index import Index, Passage

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_provider_lamini.local.jobs.store import Job, JobStore
    from airflow_provider_lamini.local.multipart import ReceivedFile
    from airflow_provider_lamini.local.rag.index import Vectors

logger = logging.getLogger(__name__)

KIND: Final = "memory_rag"
"""Name of index builds in the job store and in the control endpoints."""

FILES: Final = "files"
INDEX: Final = "index.sqlite"
CACHED_INDEXES: Final = 8
"""Number of indexes whose vectors are cached in memory."""

_WORDS: Final = {
    JobState.QUEUED: "CREATED",
    JobState.SUCCEEDED: "COMPLETED",
    JobState.PARTLY_SUCCEEDED: "PARTIALLY COMPLETED",
    JobState.FAILED: "FAILED",
    JobState.CANCELLED: "CANCELLED",
    JobState.TIMED_OUT: "TIMED OUT",
}
COMPLETED: Final = "COMPLETED"
_ID: Final = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class IndexStatus:
    """Status of an index.

    :param word: the platform's status word
    :param detail: why its job ended, for a person to read
    """

    word: str
    detail: str | None


@dataclass(frozen=True, slots=True)
class SearchResult:
    """A passage found by a search.

    :param passage: the passage
    :param score: cosine similarity to the query
    """

    passage: Passage
    score: float


class IndexRepository:
    """The indexes in one folder. Each has the id of the job that builds it.

    The search is exact: it compares a query with every vector. This works well up to about 200 000 passages, or
    100 MB of text: a search then takes less than 0.1 s on one CPU, the cached vectors take 300 MB of memory, and the
    file takes 1 GB. As embedding that much text takes hours on a CPU, an approximate index would not pay off.

    :param folder: the folder, created if missing
    :param store: holds the jobs
    """

    def __init__(self, folder: Path, store: JobStore) -> None:
        self._folder = folder
        self._store = store
        self._lock = threading.Lock()
        self._cache: OrderedDict[str, tuple[list[int], Vectors]] = OrderedDict()
        folder.mkdir(exist_ok=True)
        self._delete_leftovers()

    def _delete_leftovers(self) -> None:
        """Delete what aborted uploads and unsuccessful jobs left behind."""
        jobs = self._store.jobs(KIND)
        unfinished = {name for job in jobs if not job.ended for name in (job.id, str(job.params["folder"]))}
        failed = {job.id for job in jobs if job.ended and job.state is not JobState.SUCCEEDED}
        for folder in self._folder.iterdir():
            if folder.name in unfinished:
                continue
            try:
                if folder.name in failed or not self._is_complete(folder.name):
                    shutil.rmtree(folder)
            except sqlite3.DatabaseError as error:
                logger.warning("Index %s cannot be read and is left as it is: %s", folder.name, error)

    # -- building

    def create_upload_folder(self) -> Path:
        """Create a folder for the uploaded files of a new index."""
        folder = self._folder / f"incoming-{uuid.uuid4().hex}"
        (folder / FILES).mkdir(parents=True)
        return folder

    @staticmethod
    def set_contents(folder: Path, files: list[ReceivedFile], model_name: str) -> None:
        """Record what a new index will be built from.

        :param folder: its upload folder
        :param files: the uploaded files
        :param model_name: the text model that answers questions
        """
        with Index(folder / INDEX) as index:
            index.set_contents(((file.name, file.path.name) for file in files), model_name)
            index.add_log_line(f"Received {len(files)} files, {sum(file.size for file in files)} bytes.")

    def job_folder(self, job: Job) -> Path:
        """Return a job's folder. The job's first run turns the upload folder into it."""
        folder = self._folder / job.id
        if not folder.exists():
            (self._folder / str(job.params["folder"])).rename(folder)
        return folder

    # -- reading

    def status(self, job_id: str) -> IndexStatus:
        """Return the status of an index.

        :raises NoSuchJobError: no index has this id
        """
        job = self._store.job(job_id, KIND)
        if job is None:
            # An index outlives the record of the job that built it.
            if not self._is_complete(job_id):
                raise NoSuchJobError(job_id)
            return IndexStatus(COMPLETED, None)
        if job.state is not JobState.RUNNING:
            return IndexStatus(_WORDS[job.state], job.detail)
        path = self._path(job_id)
        if not path.exists():
            return IndexStatus("LOADING DATA", None)
        with Index(path) as index:
            return IndexStatus("LOADING DATA" if index.counts()[0] else "TRAINING MODEL", None)

    def log(self, job_id: str) -> list[tuple[float, str]]:
        """Return the training log of an index: Unix timestamp and text of each line.

        :raises NoSuchJobError: no index has this id
        """
        status, job = self.status(job_id), self._store.job(job_id, KIND)
        lines: list[tuple[float, str]] = []
        uploaded = None if job is None else self._folder / str(job.params["folder"]) / INDEX
        for path in (self._path(job_id), uploaded):
            if path is not None and path.exists():
                with Index(path) as index:
                    lines = index.log()
                break
        if job is not None and job.ended and status.word != COMPLETED:
            lines.append((job.ended, f"{status.word}: {status.detail or 'unknown reason'}"))
        return lines

    def open(self, job_id: str) -> Index:
        """Open an index that is ready. The caller must close it.

        :raises NoSuchJobError: no index has this id
        :raises ApiError: the index is not ready
        """
        status = self.status(job_id)
        if status.word != COMPLETED:
            detail = f" {status.detail}" if status.detail else ""
            raise ApiError(
                400,
                f"Memory RAG job {job_id} status is not COMPLETED, current status: {status.word}.{detail}",
            )
        if not self._is_complete(job_id):
            raise ApiError(400, f"Memory RAG job {job_id} ended before its index was complete.")
        return Index(self._path(job_id))

    def search(self, job_id: str, index: Index, query: Vectors, size: int) -> list[SearchResult]:
        """Find the passages most similar to a query, best first.

        :param job_id: id of the index
        :param index: the open index
        :param query: normalized vector of the query
        :param size: number of passages to find
        """
        numbers, vectors = self._vectors(job_id, index)
        if not numbers:
            return []
        scores = vectors @ query
        size = min(size, len(numbers))
        best = np.argpartition(-scores, size - 1)[:size]
        ranked = best[np.lexsort((best, -scores[best]))]
        score_of = {numbers[position]: float(scores[position]) for position in ranked}
        return [SearchResult(passage, score_of[passage.number]) for passage in index.passages(list(score_of))]

    def _vectors(self, job_id: str, index: Index) -> tuple[list[int], Vectors]:
        """Return the vectors of an index, from the cache unless passages have been added."""
        with self._lock:
            cached = self._cache.get(job_id)
        if cached is None or index.last_number != (cached[0][-1] if cached[0] else 0):
            cached = index.vectors()
        with self._lock:
            self._cache[job_id] = cached
            self._cache.move_to_end(job_id)
            while len(self._cache) > CACHED_INDEXES:
                self._cache.popitem(last=False)
        return cached

    def _path(self, job_id: str) -> Path:
        return self._folder / job_id / INDEX

    def _is_complete(self, job_id: str) -> bool:
        if not _ID.fullmatch(job_id) or not self._path(job_id).exists():
            return False
        with Index(self._path(job_id)) as index:
            return index.is_complete
