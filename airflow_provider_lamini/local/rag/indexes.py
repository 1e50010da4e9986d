"""All indexes of a platform: where they lie, how they stand, and what is found in them."""

from __future__ import annotations

import re
import shutil
import threading
import uuid
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from airflow_provider_lamini.jobs.state import JobState
from airflow_provider_lamini.local.errors import JobNotFoundError, PlatformError
from airflow_provider_lamini.local.rag.index import Index, Passage

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_provider_lamini.local.multipart import ReceivedFile
    from airflow_provider_lamini.local.rag.index import Vectors
    from airflow_provider_lamini.local.store import Job, Store

KIND: Final = "memory_rag"
"""The word for an index's job in the store and in the control endpoints."""

FILES: Final = "files"
INDEX: Final = "index.sqlite"
LOADED_INDEXES: Final = 8
"""How many indexes' vectors are kept in memory."""

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
    """How an index stands.

    :param word: the state in the platform's word
    :param detail: why it ended as it did, for a person
    """

    word: str
    detail: str | None


@dataclass(frozen=True, slots=True)
class Found:
    """A passage that was found.

    :param passage: the passage
    :param score: how near it is to the query, the cosine between them
    """

    passage: Passage
    score: float


class Indexes:
    """The indexes below one folder, each named as the job that builds it.

    The search is exact: it compares a query with every vector. That is fine up to about 200 000 passages, which come
    from 100 MB of text: there a search takes below 0.1 s on one CPU, the vectors hold 300 MB of memory once the index
    was asked, and the file has 1 GB. Making so many vectors takes hours on a CPU, so that an approximate index would
    save nothing that counts.

    :param folder: where they lie; made if missing
    :param store: the jobs
    """

    def __init__(self, folder: Path, store: Store) -> None:
        self._folder = folder
        self._store = store
        self._lock = threading.Lock()
        self._loaded: OrderedDict[str, tuple[list[int], Vectors]] = OrderedDict()
        folder.mkdir(exist_ok=True)
        self._tidy()

    def _tidy(self) -> None:
        """Delete what broken uploads and jobs without a good end left behind."""
        jobs = self._store.jobs(KIND)
        alive = {name for job in jobs if not job.ended for name in (job.id, str(job.params["folder"]))}
        failed = {job.id for job in jobs if job.ended and job.state is not JobState.SUCCEEDED}
        for folder in self._folder.iterdir():
            if folder.name in alive:
                continue
            if folder.name in failed or not self._is_complete(folder.name):
                shutil.rmtree(folder)

    # -- building

    def incoming(self) -> Path:
        """A new folder for the files of an index that is to be."""
        folder = self._folder / f"incoming-{uuid.uuid4().hex}"
        (folder / FILES).mkdir(parents=True)
        return folder

    @staticmethod
    def expect(folder: Path, files: list[ReceivedFile], model_name: str) -> None:
        """Note what an index is to be made of."""
        with Index(folder / INDEX) as index:
            index.expect(((file.name, file.path.name) for file in files), model_name)
            index.note(f"Received {len(files)} files, {sum(file.size for file in files)} bytes.")

    def take_over(self, job: Job) -> Path:
        """The folder of a job that begins or goes on."""
        folder = self._folder / job.id
        if not folder.exists():
            (self._folder / str(job.params["folder"])).rename(folder)
        return folder

    # -- using

    def status(self, job_id: str) -> IndexStatus:
        """How an index stands.

        :raises JobNotFoundError: there is none of that id
        """
        job = self._store.job(job_id, KIND)
        if job is None:
            # An index outlives the record of the job that built it.
            if not self._is_complete(job_id):
                raise JobNotFoundError(job_id)
            return IndexStatus(COMPLETED, None)
        if job.state is not JobState.RUNNING:
            return IndexStatus(_WORDS[job.state], job.detail)
        path = self._path(job_id)
        if not path.exists():
            return IndexStatus("LOADING DATA", None)
        with Index(path) as index:
            return IndexStatus("LOADING DATA" if index.counts()[0] else "TRAINING MODEL", None)

    def log(self, job_id: str) -> list[tuple[float, str]]:
        """What was noted while an index was built, with the time in seconds since the epoch.

        :raises JobNotFoundError: there is none of that id
        """
        status, job = self.status(job_id), self._store.job(job_id, KIND)
        found: list[tuple[float, str]] = []
        folder = None if job is None else self._folder / str(job.params["folder"]) / INDEX
        for path in (self._path(job_id), folder):
            if path is not None and path.exists():
                with Index(path) as index:
                    found = index.log()
                break
        if job is not None and job.ended and status.word != COMPLETED:
            found.append((job.ended, f"{status.word}: {status.detail or 'no reason is known'}"))
        return found

    def open(self, job_id: str) -> Index:
        """Open an index that is ready; close it.

        :raises JobNotFoundError: there is none of that id
        :raises PlatformError: it is not ready
        """
        status = self.status(job_id)
        if status.word != COMPLETED:
            detail = f" {status.detail}" if status.detail else ""
            raise PlatformError(
                400,
                f"Memory RAG job {job_id} status is not COMPLETED, current status: {status.word}.{detail}",
            )
        if not self._is_complete(job_id):
            raise PlatformError(400, f"Memory RAG job {job_id} was ended before its index was there.")
        return Index(self._path(job_id))

    def search(self, job_id: str, index: Index, query: Vectors, size: int) -> list[Found]:
        """The passages that are nearest to a query, the nearest first.

        :param job_id: the index's id
        :param index: the index, open
        :param query: the query's vector, of length 1
        :param size: passages to find
        """
        numbers, vectors = self._vectors(job_id, index)
        if not numbers:
            return []
        scores = vectors @ query
        size = min(size, len(numbers))
        best = np.argpartition(-scores, size - 1)[:size]
        places = best[np.lexsort((best, -scores[best]))]
        score_of = {numbers[place]: float(scores[place]) for place in places}
        return [Found(passage, score_of[passage.number]) for passage in index.passages(list(score_of))]

    def _vectors(self, job_id: str, index: Index) -> tuple[list[int], Vectors]:
        """The vectors of an index, from memory unless passages were added since."""
        with self._lock:
            loaded = self._loaded.get(job_id)
        if loaded is None or index.last_number != (loaded[0][-1] if loaded[0] else 0):
            loaded = index.vectors()
        with self._lock:
            self._loaded[job_id] = loaded
            self._loaded.move_to_end(job_id)
            while len(self._loaded) > LOADED_INDEXES:
                self._loaded.popitem(last=False)
        return loaded

    def _path(self, job_id: str) -> Path:
        return self._folder / job_id / INDEX

    def _is_complete(self, job_id: str) -> bool:
        if not _ID.fullmatch(job_id) or not self._path(job_id).exists():
            return False
        with Index(self._path(job_id)) as index:
            return index.is_complete
