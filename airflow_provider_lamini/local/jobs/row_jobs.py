"""Jobs over rows: each row is computed once, in order, and its result is stored immediately."""

from __future__ import annotations

import logging
import threading
import time
from itertools import islice
from typing import TYPE_CHECKING, Final, TypeVar

from airflow_provider_lamini.jobs.state import JobState
from airflow_provider_lamini.local.engines.base import EngineError, EngineUnavailable, PromptTooLong
from airflow_provider_lamini.local.errors import ApiError
from airflow_provider_lamini.local.inference import EMBEDDING_BATCH_SIZE, CompletionSettings
from airflow_provider_lamini.local.jobs.runner import HOLD_POLL, JobFailed
from airflow_provider_lamini.local.jobs.store import StoredResult, compact_json
from airflow_provider_lamini.local.unexpected import describe_safely

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_provider_lamini.local.engines.base import OnText
    from airflow_provider_lamini.local.inference import InferenceService
    from airflow_provider_lamini.local.jobs.runner import RunningJob
    from airflow_provider_lamini.local.jobs.worker_pool import WorkerPool

logger = logging.getLogger(__name__)

T = TypeVar("T")
Rows = list[tuple[int, str]]

ENGINE_TIMEOUT: Final = 120.0
"""Seconds for which a job retries an unavailable engine before it fails."""

UNFINISHED_REASON: Final = {JobState.TIMED_OUT: "timeout", JobState.CANCELLED: "cancelled"}
"""Finish reason of rows without a result, by how their job ended; ``error`` in all other cases."""


class _RowJobs:
    """What the kinds of row jobs have in common.

    :param inference: generates text and vectors
    :param pool: its workers compute the rows
    """

    concurrency = 64
    time_limit = None

    def __init__(self, inference: InferenceService, pool: WorkerPool) -> None:
        self._inference = inference
        self._pool = pool


class CompletionJobs(_RowJobs):
    """Batches of prompts. Each row gets a completion or an error."""

    name = "batch_completions"

    def run(self, job: RunningJob) -> None:
        """Complete the rows that have no result yet."""
        settings = CompletionSettings.from_params(job.job.params)
        run_rows(
            job,
            self._pool,
            lambda rows: [complete_row(self._inference, job, settings, *row) for row in rows],
        )


class StreamingCompletions(_RowJobs):
    """Prompts whose text can be read while it is generated.

    :param inference: generates the text
    :param pool: its workers compute the rows
    """

    name = "streaming_completions"
    concurrency = 256

    def __init__(self, inference: InferenceService, pool: WorkerPool) -> None:
        super().__init__(inference, pool)
        self._lock = threading.Lock()
        self._partial_texts: dict[str, dict[int, str]] = {}

    def run(self, job: RunningJob) -> None:
        """Complete the rows that have no result yet, and publish each text while it grows."""
        settings, job_id = CompletionSettings.from_params(job.job.params), job.job.id

        def complete(row: int, prompt: str) -> StoredResult:
            def append(piece: str) -> None:
                with self._lock:
                    texts[row] = texts.get(row, "") + piece

            texts.pop(row, None)
            return complete_row(self._inference, job, settings, row, prompt, on_text=append)

        texts = self._partial_texts.setdefault(job_id, {})
        try:
            run_rows(job, self._pool, lambda rows: [complete(*row) for row in rows], interactive=True)
        finally:
            del self._partial_texts[job_id]

    def partial_texts(self, job_id: str) -> dict[int, str]:
        """Text generated so far, by row, for rows that have started."""
        with self._lock:
            return dict(self._partial_texts.get(job_id, {}))


class EmbeddingJobs(_RowJobs):
    """Batches of texts to embed. One row that fails makes the whole batch fail."""

    name = "batch_embeddings"

    def run(self, job: RunningJob) -> None:
        """Embed the texts that have no vector yet."""
        model_name = str(job.job.params["model_name"])

        def compute(rows: Rows) -> list[StoredResult]:
            texts = [text for _, text in rows]
            try:
                vectors = retry_while_unavailable(job, lambda: self._inference.embed(texts, model_name))
            except (EngineError, ApiError) as error:
                raise JobFailed(f"Rows {rows[0][0]} to {rows[-1][0]}: {error}") from None
            return [
                StoredResult(row, compact_json([*vector]), "stop")
                for (row, _), vector in zip(rows, vectors, strict=True)
            ]

        run_rows(job, self._pool, compute, batch_size=EMBEDDING_BATCH_SIZE)


def run_rows(
    job: RunningJob,
    pool: WorkerPool,
    compute: Callable[[Rows], list[StoredResult]],
    *,
    batch_size: int = 1,
    interactive: bool = False,
) -> None:
    """Compute the rows of a job that have no result yet, and store each result immediately.

    :param job: the job
    :param pool: its workers compute the rows
    :param compute: computes a batch of rows
    :param batch_size: rows per call of ``compute``
    :param interactive: whether a client is waiting for the rows
    """
    started = job.job.done

    def units() -> Iterator[Callable[[], None]]:
        nonlocal started
        rows = job.store.unfinished_rows(job.job.id)
        while not job.must_end and not job.is_held(started) and (batch := list(islice(rows, batch_size))):
            started += len(batch)
            yield unit(batch)

    def unit(batch: Rows) -> Callable[[], None]:
        return lambda: None if job.must_end else job.save_results(compute(batch))

    while True:
        job.check()
        pool.run(units(), interactive=interactive).finished.result()
        job.check()
        if next(job.store.unfinished_rows(job.job.id), None) is None:
            return
        job.sleep(HOLD_POLL)


def complete_row(
    inference: InferenceService,
    job: RunningJob,
    settings: CompletionSettings,
    row: int,
    prompt: str,
    *,
    on_text: OnText | None = None,
) -> StoredResult:
    """Complete one row. An error of this row becomes its result.

    :raises JobFailed: the engine stayed unavailable
    """
    try:
        completion = retry_while_unavailable(job, lambda: inference.complete(settings, prompt, on_text))
    except PromptTooLong as error:
        return StoredResult(row, "null", "length", str(error))
    except (EngineError, ApiError) as error:
        return StoredResult(row, "null", "error", str(error))
    except JobFailed:
        raise
    except Exception as error:  # noqa: BLE001 - one failing row must not fail the batch
        logger.warning(
            "%s job %s: row %d failed unexpectedly: %s",
            job.job.kind,
            job.job.id,
            row,
            describe_safely(error),
        )
        return StoredResult(row, "null", "error", f"The row failed unexpectedly ({type(error).__name__}).")
    return StoredResult(row, compact_json(completion.output), completion.finish_reason)


def embed_in_background(
    job: RunningJob, inference: InferenceService, pool: WorkerPool, texts: list[str], model_name: str
) -> list[list[float]]:
    """Embed texts for a background job, in turn with other work of the pool.

    :param job: the job that needs the vectors
    :param inference: embeds the texts
    :param pool: one of its workers embeds them
    :param texts: at most as many texts as fit in one request to the engine
    :param model_name: the embedding model
    :return: one vector per text
    :raises EngineError: the texts could not be embedded
    """
    vectors: list[list[float]] = []

    def unit() -> None:
        vectors.extend(inference.embed(texts, model_name))

    def embed() -> list[list[float]]:
        vectors.clear()
        pool.run(iter([unit]), interactive=False).finished.result()
        return vectors

    return retry_while_unavailable(job, embed)


def retry_while_unavailable(job: RunningJob, call: Callable[[], T]) -> T:
    """Call an engine, and retry with growing pauses while the engine is unavailable.

    :raises JobFailed: the engine stayed unavailable for :data:`ENGINE_TIMEOUT` seconds
    """
    deadline = time.monotonic() + ENGINE_TIMEOUT
    pause = 0.5
    while True:
        try:
            return call()
        except EngineUnavailable as error:
            job.check()
            if time.monotonic() + pause > deadline:
                raise JobFailed(f"The engine was unavailable for {ENGINE_TIMEOUT:.0f} s: {error}") from None
            job.sleep(pause)
            pause = min(pause * 2, 8.0)
