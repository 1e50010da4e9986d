"""Index builds: jobs that read documents, split them into passages and embed the passages."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Final

from airflow_provider_lamini.local.engines.base import EngineError
from airflow_provider_lamini.local.errors import ApiError
from airflow_provider_lamini.local.inference import EMBEDDING_BATCH_SIZE
from airflow_provider_lamini.local.jobs.row_jobs import embed_in_background
from airflow_provider_lamini.local.jobs.runner import JobFailed, wait_while_held
from airflow_provider_lamini.local.rag.documents import UnreadableDocumentError
from airflow_provider_lamini.local.rag.index import Index
from airflow_provider_lamini.local.rag.reader import DocumentReader
from airflow_provider_lamini.local.rag.repository import FILES, INDEX, KIND
from airflow_provider_lamini.platforms.lamini.api.embeddings import DEFAULT_MODEL

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_provider_lamini.local.inference import InferenceService
    from airflow_provider_lamini.local.jobs.runner import RunningJob
    from airflow_provider_lamini.local.jobs.worker_pool import WorkerPool
    from airflow_provider_lamini.local.rag.repository import IndexRepository

TIME_LIMIT: Final = 4 * 3600.0
"""Seconds after which a build times out, as on the real platform."""

MAX_REPORTED_DOCUMENTS: Final = 5
"""Maximum number of unreadable documents that the error message names."""


class MemoryRagBuilds:
    """Builds indexes. An interrupted build continues with the documents and vectors that are missing.

    :param indexes: stores the indexes
    :param inference: embeds the passages
    :param pool: its workers embed the passages
    """

    name = KIND
    concurrency = 2
    time_limit = TIME_LIMIT

    def __init__(self, indexes: IndexRepository, inference: InferenceService, pool: WorkerPool) -> None:
        self._indexes = indexes
        self._inference = inference
        self._pool = pool

    def run(self, job: RunningJob) -> None:
        """Build the index, or what is missing of it."""
        folder = self._indexes.job_folder(job.job)
        with Index(folder / INDEX) as index:
            with DocumentReader() as reader:
                _read_documents(job, index, folder / FILES, reader)
            self._embed_passages(job, index)
            job.check()
            index.mark_complete()
        shutil.rmtree(folder / FILES, ignore_errors=True)

    def _embed_passages(self, job: RunningJob, index: Index) -> None:
        _, total, done = index.counts()
        if not total:
            raise JobFailed("The files contain no text.")
        index.add_log_line(f"Embedding {total - done} passages.")
        while batch := index.without_vector(EMBEDDING_BATCH_SIZE):
            wait_while_held(job, done)
            try:
                vectors = embed_in_background(
                    job, self._inference, self._pool, [passage.text for passage in batch], DEFAULT_MODEL
                )
            except (EngineError, ApiError) as error:
                raise JobFailed(f"Could not embed passages of {batch[0].document!r}: {error}") from None
            index.set_vectors(batch, vectors)
            job.note_progress()
            done += len(batch)
        index.add_log_line(f"The index is ready: {total} passages.")


def _read_documents(job: RunningJob, index: Index, files: Path, reader: DocumentReader) -> None:
    """Read every document that has not been read yet.

    :raises JobFailed: some documents cannot be read; the message names them
    """
    unreadable: list[str] = []
    for document in index.unread_documents():
        job.check()
        try:
            found = reader.read(files / document.file, document.name, job.check)
        except UnreadableDocumentError as error:
            unreadable.append(f"Cannot read file {document.name!r}: {error}.")
            index.add_log_line(unreadable[-1])
            continue
        new = index.add_document(document, found)
        job.note_progress()
        known = f", {len(found) - new} already known" if new < len(found) else ""
        result = f"{len(found)} passages{known}" if found else "it contains no text"
        index.add_log_line(f"Read {document.name!r}: {result}.")
    if unreadable:
        more = len(unreadable) - MAX_REPORTED_DOCUMENTS
        rest = [f"{more} more files cannot be read." if more > 0 else ""]
        raise JobFailed(" ".join(unreadable[:MAX_REPORTED_DOCUMENTS] + rest).strip())
