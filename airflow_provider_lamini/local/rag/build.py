"""Building an index, as a job: read the documents, cut them into passages, make the vectors."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Final

from airflow_provider_lamini.local.background import embed_in_background, wait_while_held
from airflow_provider_lamini.local.engines.base import EngineError
from airflow_provider_lamini.local.errors import PlatformError
from airflow_provider_lamini.local.jobs.rows import EMBEDDING_ROWS
from airflow_provider_lamini.local.jobs.runner import JobFailed
from airflow_provider_lamini.local.rag.chunks import passages
from airflow_provider_lamini.local.rag.extract import UnreadableDocumentError, read_document
from airflow_provider_lamini.local.rag.index import Index
from airflow_provider_lamini.local.rag.indexes import FILES, INDEX, KIND
from airflow_provider_lamini.platforms.lamini.api.embeddings import DEFAULT_MODEL

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_provider_lamini.local.inference import Inference
    from airflow_provider_lamini.local.jobs.pool import WorkPool
    from airflow_provider_lamini.local.jobs.runner import RunningJob
    from airflow_provider_lamini.local.rag.indexes import Indexes

TIME_LIMIT: Final = 4 * 3600.0
"""Seconds after which the platform stops a build, as it does with training."""

TOLD_DOCUMENTS: Final = 5
"""So many unreadable documents are told with their reason."""


class MemoryRagBuilds:
    """Builds of indexes. One that was interrupted goes on with the documents and vectors that are missing.

    :param indexes: where they are
    :param inference: makes the vectors
    :param pool: whose workers do it
    """

    name = KIND
    concurrency = 2
    time_limit = TIME_LIMIT

    def __init__(self, indexes: Indexes, inference: Inference, pool: WorkPool) -> None:
        self._indexes = indexes
        self._inference = inference
        self._pool = pool

    def run(self, job: RunningJob) -> None:
        """Build what is not there yet."""
        folder = self._indexes.take_over(job.job)
        with Index(folder / INDEX) as index:
            _read(job, index, folder / FILES)
            self._embed(job, index)
            job.check()
            index.complete()
        shutil.rmtree(folder / FILES, ignore_errors=True)

    def _embed(self, job: RunningJob, index: Index) -> None:
        _, total, done = index.counts()
        if not total:
            raise JobFailed("None of the files holds any text.")
        index.note(f"Making the vectors of {total - done} passages.")
        while part := index.without_vector(EMBEDDING_ROWS):
            wait_while_held(job, done)
            try:
                vectors = embed_in_background(
                    job, self._inference, self._pool, [passage.text for passage in part], DEFAULT_MODEL
                )
            except (EngineError, PlatformError) as error:
                raise JobFailed(f"Passages of {part[0].document!r} got no vectors: {error}") from None
            index.set_vectors(part, vectors)
            done += len(part)
        index.note(f"The index is ready: {total} passages.")


def _read(job: RunningJob, index: Index, files: Path) -> None:
    """Read every document that is not read yet.

    :raises JobFailed: some cannot be read; it names them
    """
    unreadable: list[str] = []
    for document in index.unread():
        job.check()
        try:
            blocks = read_document(files / document.file, document.name, job.check)
        except UnreadableDocumentError as error:
            unreadable.append(f"File {document.name!r} cannot be read: {error}.")
            index.note(unreadable[-1])
            continue
        found = passages(blocks)
        new = index.has_read(document, found)
        known = f", {len(found) - new} of them known already" if new < len(found) else ""
        said = f"{len(found)} passages{known}" if found else "it holds no text"
        index.note(f"Read {document.name!r}: {said}.")
    if unreadable:
        more = len(unreadable) - TOLD_DOCUMENTS
        rest = [f"So are {more} more files." if more > 0 else ""]
        raise JobFailed(" ".join(unreadable[:TOLD_DOCUMENTS] + rest).strip())
