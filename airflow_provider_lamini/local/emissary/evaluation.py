"""Answers test rows with checkpoints: tuned models that are served for the time of the test, or classifiers."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Protocol

from airflow_provider_lamini.local.classifiers.features import features
from airflow_provider_lamini.local.classifiers.model import load
from airflow_provider_lamini.local.engines.base import Adapter, EngineError, PromptTooLong
from airflow_provider_lamini.local.errors import ApiError
from airflow_provider_lamini.local.inference import CompletionSettings
from airflow_provider_lamini.local.jobs.row_jobs import retry_while_unavailable
from airflow_provider_lamini.local.jobs.runner import JobFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from airflow_provider_lamini.local.emissary.training_spec import TrainingSpec
    from airflow_provider_lamini.local.inference import InferenceService
    from airflow_provider_lamini.local.jobs.runner import RunningJob
    from airflow_provider_lamini.local.jobs.worker_pool import WorkerPool
    from airflow_provider_lamini.local.served_models import ServedModels

Row = tuple[str, str]
"""Input and right answer."""

TEST_TOKENS: Final = 64
"""Maximum number of tokens of an output in a test."""


class Outputs(Protocol):
    """Answers rows with one of the served checkpoints."""

    def __call__(self, job: RunningJob, checkpoint_id: str, rows: list[Row]) -> list[str]:
        """Return one output per row.

        :raises JobFailed: a row could not be answered
        """


class CheckpointTester:
    """Answers rows with checkpoints, in the background.

    :param served: serves the checkpoints
    :param inference: answers the rows
    :param texts: worker pool for text
    :param vectors: worker pool for vectors
    """

    def __init__(
        self, served: ServedModels, inference: InferenceService, texts: WorkerPool, vectors: WorkerPool
    ) -> None:
        self._served = served
        self._inference = inference
        self._texts = texts
        self._vectors = vectors

    @contextmanager
    def served(self, spec: TrainingSpec, checkpoints: list[tuple[str, Path]]) -> Iterator[Outputs]:
        """Serve checkpoints during the block, and yield a function that answers rows with them.

        :param spec: the job that trained them
        :param checkpoints: id and file of each
        :raises JobFailed: one cannot be served
        """
        if spec.task_type == "classification":
            files = dict(checkpoints)
            yield lambda job, checkpoint_id, rows: self._labels(job, files[checkpoint_id], rows)
            return
        adapters = [Adapter(name=name, base=spec.base, path=path) for name, path in checkpoints]
        for error in self._served.add_adapters(adapters).values():
            raise JobFailed(f"A checkpoint was trained but cannot be served: {error}")
        try:
            yield self._texts_of
        finally:
            for adapter in adapters:
                self._served.remove_adapter(adapter.name)

    def _texts_of(self, job: RunningJob, checkpoint_id: str, rows: list[Row]) -> list[str]:
        settings = CompletionSettings(model_name=checkpoint_id, max_new_tokens=TEST_TOKENS)

        def answer(row: Row) -> str:
            try:
                return str(self._inference.complete(settings, row[0]).output).strip()
            except PromptTooLong:
                return ""  # the model cannot read the row, so its answer is wrong

        return _in_background(job, self._texts, rows, answer)

    def _labels(self, job: RunningJob, file: Path, rows: list[Row]) -> list[str]:
        model = load(file.read_bytes())
        names = [known.name for known in model.classes]

        def answer(row: Row) -> str:
            vectors = features([row[0]], lambda parts: self._inference.embed(parts, model.embedding_model))
            (logits,) = model.logits(vectors)
            return names[max(range(len(names)), key=logits.__getitem__)]

        return _in_background(job, self._vectors, rows, answer)


def _in_background(
    job: RunningJob, pool: WorkerPool, rows: list[Row], answer: Callable[[Row], str]
) -> list[str]:
    outputs: dict[int, str] = {}

    def unit(index: int, row: Row) -> Callable[[], None]:
        def run() -> None:
            try:
                outputs[index] = retry_while_unavailable(job, lambda: answer(row))
            except (EngineError, ApiError) as error:
                raise JobFailed(f"Test row {index} (counted from 0) could not be answered: {error}") from None

        return run

    def units() -> Iterator[Callable[[], None]]:
        for index, row in enumerate(rows):
            if job.must_end:
                return
            yield unit(index, row)

    pool.run(units(), interactive=False).finished.result()
    job.check()
    return [outputs[index] for index in range(len(rows))]
