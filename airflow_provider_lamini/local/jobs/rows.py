"""Jobs made of rows: each row is computed once, in order, and stored as soon as it is done."""

from __future__ import annotations

import logging
import threading
import time
from itertools import islice
from typing import TYPE_CHECKING, Final, TypeVar

from airflow_provider_lamini.api.output_types import check_output_type
from airflow_provider_lamini.jobs.state import JobState
from airflow_provider_lamini.local.engines.base import EngineError, EngineUnavailable, PromptTooLong
from airflow_provider_lamini.local.errors import PlatformError, place_of
from airflow_provider_lamini.local.inference import Task
from airflow_provider_lamini.local.jobs.pool import Flow
from airflow_provider_lamini.local.jobs.runner import HOLD_POLL, JobFailed
from airflow_provider_lamini.local.store import RowResult, as_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_provider_lamini.api.call import Json
    from airflow_provider_lamini.local.engines.base import OnText
    from airflow_provider_lamini.local.inference import Inference
    from airflow_provider_lamini.local.jobs.pool import WorkPool
    from airflow_provider_lamini.local.jobs.runner import RunningJob

logger = logging.getLogger(__name__)

T = TypeVar("T")
Rows = list[tuple[int, str]]

PATIENCE: Final = 120.0
"""Seconds that a job waits for an engine that cannot answer before it fails."""

EMBEDDING_ROWS: Final = 16
"""Texts given to the embedding engine at a time."""

UNFINISHED_REASON: Final = {JobState.TIMED_OUT: "timeout", JobState.CANCELLED: "cancelled"}
"""What is said of a row that has no result in a job that ended so; of others, ``error``."""


class _JobsOfRows:
    """What jobs made of rows have in common.

    :param inference: generates answers, makes vectors
    :param pool: whose workers do it
    """

    concurrency = 64
    time_limit = None

    def __init__(self, inference: Inference, pool: WorkPool) -> None:
        self._inference = inference
        self._pool = pool


class BatchCompletions(_JobsOfRows):
    """Batches of prompts: each row's answer or its error."""

    name = "batch_completions"

    def run(self, job: RunningJob) -> None:
        """Answer the rows that have no answer yet."""
        what = task_of(job.job.params)
        run_rows(job, self._pool, lambda rows: [answer_row(self._inference, job, what, *row) for row in rows])


class StreamingCompletions(_JobsOfRows):
    """Prompts whose text can be read while it grows.

    :param inference: generates the answers
    :param pool: whose workers do it
    """

    name = "streaming_completions"
    concurrency = 256

    def __init__(self, inference: Inference, pool: WorkPool) -> None:
        super().__init__(inference, pool)
        self._lock = threading.Lock()
        self._texts: dict[str, dict[int, str]] = {}

    def run(self, job: RunningJob) -> None:
        """Answer the rows that have no answer yet, letting each text be seen as it grows."""
        what, job_id = task_of(job.job.params), job.job.id

        def answer(row: int, prompt: str) -> RowResult:
            def grow(piece: str) -> None:
                with self._lock:
                    texts[row] = texts.get(row, "") + piece

            texts.pop(row, None)
            return answer_row(self._inference, job, what, row, prompt, on_text=grow)

        texts = self._texts.setdefault(job_id, {})
        try:
            run_rows(job, self._pool, lambda rows: [answer(*row) for row in rows], interactive=True)
        finally:
            del self._texts[job_id]

    def texts(self, job_id: str) -> dict[int, str]:
        """What each row's text is so far, for rows that have begun."""
        with self._lock:
            return dict(self._texts.get(job_id, {}))


class BatchEmbeddings(_JobsOfRows):
    """Batches of texts to vectors. There is no error of one row: the batch fails as a whole."""

    name = "batch_embeddings"

    def run(self, job: RunningJob) -> None:
        """Make the vectors that are not there yet."""
        model_name = str(job.job.params["model_name"])

        def compute(rows: Rows) -> list[RowResult]:
            texts = [text for _, text in rows]
            try:
                vectors = patiently(job, lambda: self._inference.embed(texts, model_name))
            except (EngineError, PlatformError) as error:
                raise JobFailed(f"Rows {rows[0][0]} to {rows[-1][0]}: {error}") from None
            return [
                RowResult(row, as_json([*vector]), "stop")
                for (row, _), vector in zip(rows, vectors, strict=True)
            ]

        run_rows(job, self._pool, compute, at_once=EMBEDDING_ROWS)


def task_of(params: dict[str, Json]) -> Task:
    """What a stored job generates for each row."""
    output_type, *limits = (params[name] for name in ("output_type", "max_new_tokens", "max_tokens"))
    max_new_tokens, max_tokens = (limit if isinstance(limit, int) else None for limit in limits)
    return Task(
        model_name=str(params["model_name"]),
        output_type=None if output_type is None else check_output_type(output_type),
        max_new_tokens=max_new_tokens,
        max_tokens=max_tokens,
    )


def run_rows(
    job: RunningJob,
    pool: WorkPool,
    compute: Callable[[Rows], list[RowResult]],
    *,
    at_once: int = 1,
    interactive: bool = False,
) -> None:
    """Compute the rows of a job that have no result yet, and store each as it is done.

    :param job: the job
    :param pool: whose workers compute
    :param compute: computes some rows
    :param at_once: rows per call of it
    :param interactive: somebody waits for each row
    """
    begun = job.job.done

    def units() -> Iterator[Callable[[], None]]:
        nonlocal begun
        rows = job.store.unfinished(job.job.id)
        while not job.must_end and not job.held(begun) and (part := list(islice(rows, at_once))):
            begun += len(part)
            yield unit(part)

    def unit(part: Rows) -> Callable[[], None]:
        return lambda: None if job.must_end else job.keep(compute(part))

    while True:
        job.check()
        flow = Flow(units(), interactive=interactive)
        pool.add(flow)
        flow.finished.result()
        job.check()
        if next(job.store.unfinished(job.job.id), None) is None:
            return
        job.sleep(HOLD_POLL)


def answer_row(
    inference: Inference, job: RunningJob, what: Task, row: int, prompt: str, *, on_text: OnText | None = None
) -> RowResult:
    """Answer one row; what goes wrong with it is its result.

    :raises JobFailed: the engine cannot answer at all
    """
    try:
        answer = patiently(job, lambda: inference.complete(what, prompt, on_text))
    except PromptTooLong as error:
        return RowResult(row, "null", "length", str(error))
    except (EngineError, PlatformError) as error:
        return RowResult(row, "null", "error", str(error))
    except JobFailed:
        raise
    except Exception as error:  # noqa: BLE001 - one row's failure is not the batch's
        logger.warning("%s %s row %d broke: %s", job.job.kind, job.job.id, row, place_of(error))
        return RowResult(row, "null", "error", f"The platform broke on this row ({type(error).__name__}).")
    return RowResult(row, as_json(answer.output), answer.finish_reason)


def patiently(job: RunningJob, do: Callable[[], T]) -> T:
    """Do something that needs an engine, again and again while the engine cannot answer.

    :raises JobFailed: the engine could not answer for too long
    """
    deadline = time.monotonic() + PATIENCE
    pause = 0.5
    while True:
        try:
            return do()
        except EngineUnavailable as error:
            job.check()
            if time.monotonic() + pause > deadline:
                raise JobFailed(f"The engine could not answer for {PATIENCE:.0f} s: {error}") from None
            job.sleep(pause)
            pause = min(pause * 2, 8.0)
