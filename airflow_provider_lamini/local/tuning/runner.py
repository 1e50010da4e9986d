"""Runs tuning jobs: samples the rows, trains an adapter in a subprocess, and serves the tuned model."""

from __future__ import annotations

import logging
import threading
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from airflow_provider_lamini.jobs.state import JobState
from airflow_provider_lamini.local.engines.base import Adapter, EngineError
from airflow_provider_lamini.local.errors import ApiError
from airflow_provider_lamini.local.jobs.runner import HOLD_POLL, JobFailed, wait_while_held
from airflow_provider_lamini.local.tuning.arguments import training_parameters
from airflow_provider_lamini.local.tuning.repository import KIND, StepRecord
from airflow_provider_lamini.local.tuning.sampling import MAX_ROWS, sample_rows
from airflow_provider_lamini.local.tuning.trainer import CONTEXT, Recipe, TrainingFailed, TrainingUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from airflow_provider_lamini.api.call import Json
    from airflow_provider_lamini.local.datasets.repository import DatasetRepository
    from airflow_provider_lamini.local.jobs.runner import RunningJob
    from airflow_provider_lamini.local.jobs.store import Job, JobStore
    from airflow_provider_lamini.local.served_models import ServedModels
    from airflow_provider_lamini.local.tuning.arguments import TrainingParameters
    from airflow_provider_lamini.local.tuning.repository import TuningJob, TuningRepository
    from airflow_provider_lamini.local.tuning.trainer import Step

logger = logging.getLogger(__name__)

TIME_LIMIT: Final = 4 * 3600.0
"""Seconds after which the platform stops a tuning job."""

ROWS: Final = "rows.jsonl"
"""File name of a job's training rows, in the job's folder."""

SEED: Final = 1
"""Fixed, so that the same rows and arguments produce the same model on the same machine."""

CREATED: Final = "CREATED"
LOADING: Final = "LOADING DATA"
TRAINING: Final = "TRAINING MODEL"
SAVING: Final = "SAVING MODEL"

_STATUS_WORDS: Final = {
    JobState.QUEUED: "QUEUED",
    JobState.SUCCEEDED: "COMPLETED",
    JobState.PARTLY_SUCCEEDED: "PARTIALLY COMPLETED",
    JobState.FAILED: "FAILED",
    JobState.CANCELLED: "CANCELLED",
    JobState.TIMED_OUT: "TIMED OUT",
}


class Trainer(Protocol):
    """Interface of :mod:`airflow_provider_lamini.local.tuning.trainer`, which tests replace."""

    def check_available(self) -> None:
        """Check that this installation can train.

        :raises TrainingUnavailable: a package is missing
        """

    def train(self, recipe: Recipe, *, check: Callable[[], None], on_step: Callable[[Step], None]) -> Path:
        """Train, and return the adapter's GGUF file.

        :param recipe: what to train, and how
        :param check: called frequently; an exception it raises stops the training and propagates
        :param on_step: called after each step
        :raises TrainingUnavailable: a package is missing
        :raises TrainingFailed: the training failed
        """


class TrainingSlot:
    """Lets one training run at a time: each needs gigabytes of memory and all CPUs."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    @contextmanager
    def hold(self, job: RunningJob) -> Iterator[None]:
        """Wait until no other training runs, and keep others waiting during the block."""
        while not self._lock.acquire(timeout=HOLD_POLL):
            job.check()
        try:
            yield
        finally:
            self._lock.release()


def train_adapter(job: RunningJob, trainer: Trainer, recipe: Recipe, on_step: Callable[[Step], None]) -> Path:
    """Train an adapter as a job: it pauses while the job is held, and stops when the job must end.

    :param job: the job
    :param trainer: trains the adapter
    :param recipe: what to train, and how
    :param on_step: called after each step
    :return: the adapter's GGUF file
    :raises JobFailed: the training failed
    """

    def record(step: Step) -> None:
        on_step(step)
        job.note_progress()
        wait_while_held(job, step.step)

    try:
        return trainer.train(recipe, check=job.check, on_step=record)
    except (TrainingFailed, TrainingUnavailable) as error:
        raise JobFailed(str(error)) from None


class TuningRunner:
    """Runs tuning jobs one at a time. An interrupted job resumes from its last checkpoint.

    :param repository: tuning jobs and tuned models
    :param datasets: the uploaded datasets
    :param texts: serves base models and tuned models
    :param trainer: trains the adapters
    :param served_names: returns the names of all served models, which a tuned model may not take
    :param slot: held while an adapter is trained
    """

    name = KIND
    concurrency = 1
    time_limit = TIME_LIMIT

    def __init__(
        self,
        repository: TuningRepository,
        datasets: DatasetRepository,
        texts: ServedModels,
        *,
        trainer: Trainer,
        served_names: Callable[[], list[str]],
        slot: TrainingSlot,
    ) -> None:
        self._repository = repository
        self._datasets = datasets
        self._texts = texts
        self._trainer = trainer
        self._served_names = served_names
        self._slot = slot
        self._phases: dict[int, str] = {}

    def phase(self, number: int) -> str:
        """Return the status word for what a running job is doing."""
        return self._phases.get(number, LOADING)

    def run(self, job: RunningJob) -> None:
        """Train the adapter unless that is done, then add and serve the model."""
        number = job_number(job.job)
        tuning = self._repository.get(number)
        try:
            if not self._repository.adapter_path(number).exists():
                with self._slot.hold(job):
                    self._train(job, tuning).replace(self._repository.adapter_path(number))
            self._phases[number] = SAVING
            job.check()
            model = self._repository.add_model(tuning, self._served_names())
            self._texts.add_adapter(model.name, model.base, model.path)
        except EngineError as error:
            raise JobFailed(f"The model was tuned but cannot be served: {error}") from None
        finally:
            self._phases.pop(number, None)
            # A reset may have deleted the job before its folder was there.
            if not self._repository.has(number):
                self._repository.delete_files(number)
        self._repository.delete_files(number)

    def _train(self, job: RunningJob, tuning: TuningJob) -> Path:
        self._phases[tuning.number] = LOADING
        parameters = training_parameters(tuning.arguments)
        recipe, rows = self._recipe(job, tuning, parameters)

        def on_step(step: Step) -> None:
            self._phases[tuning.number] = TRAINING
            self._repository.record_step(tuning.number, _to_record(step, parameters.batch_size / rows))

        return train_adapter(job, self._trainer, recipe, on_step)

    def _recipe(
        self, job: RunningJob, tuning: TuningJob, parameters: TrainingParameters
    ) -> tuple[Recipe, int]:
        folder = self._repository.folder(tuning.number)
        rows = folder / ROWS
        try:
            base = self._texts.model_file(tuning.base)
            if not rows.exists():
                limit = min(
                    parameters.max_rows or MAX_ROWS, parameters.max_steps * parameters.batch_size, MAX_ROWS
                )
                sample_rows(self._datasets.get(tuning.dataset), rows, limit, SEED, job.check)
        except (EngineError, ApiError) as error:
            raise JobFailed(str(error)) from None
        with rows.open("rb") as lines:
            count = sum(1 for _ in lines)
        recipe = Recipe(
            base=base,
            rows=rows,
            folder=folder,
            max_steps=parameters.max_steps,
            learning_rate=parameters.learning_rate,
            batch_size=parameters.batch_size,
            rank=parameters.rank,
            alpha=parameters.alpha,
            seed=SEED,
            checkpoint_every=parameters.save_every,
            context=min(parameters.max_length, CONTEXT),
        )
        return recipe, count

    def describe(self, tuning: TuningJob, attempt: Job | None) -> dict[str, Json]:
        """Describe a job as the platform's API does.

        :param tuning: the job
        :param attempt: its latest attempt; ``None`` if the store no longer has it
        """
        model = self._repository.model_of(tuning.number)
        history = [step.to_json() for step in self._repository.steps(tuning.number)]
        answer: dict[str, Json] = {
            "job_id": tuning.number,
            "status": self.status(tuning, attempt),
            "dataset_id": tuning.dataset,
            "base_model_name": tuning.base,
            "model_name": model.name if model else None,
            "custom_model_name": tuning.custom_name,
            "start_time": datetime.fromtimestamp(tuning.created, tz=UTC).isoformat(timespec="seconds"),
            "is_public": tuning.is_public,
            "history": msgspec.json.encode(history).decode(),
            "resume_count": 0 if attempt is None else resume_count(attempt),
            "resume_limit": 0,
        }
        return answer if attempt is None or attempt.detail is None else {**answer, "detail": attempt.detail}

    def status(self, tuning: TuningJob, attempt: Job | None) -> str:
        """Return the status of a job as the platform's API does."""
        if attempt is None:
            return _STATUS_WORDS[JobState.SUCCEEDED]
        return (
            self.phase(tuning.number) if attempt.state is JobState.RUNNING else _STATUS_WORDS[attempt.state]
        )


def stored_adapters(repository: TuningRepository) -> list[Adapter]:
    """Return the adapters that earlier processes trained; forget models whose adapter has been deleted."""
    for name in repository.delete_models_without_adapter():
        logger.warning("Removed tuned model %s: its adapter file has been deleted.", name)
    return [Adapter(name=model.name, base=model.base, path=model.path) for model in repository.models()]


def serve_adapters(texts: ServedModels, adapters: list[Adapter]) -> None:
    """Serve adapters; log a warning for each one that cannot be served."""
    for name, error in texts.add_adapters(adapters).items():
        logger.warning("Tuned model %s cannot be served: %s", name, error)


# -- attempts: each start and each resume of a tuning job is a job of its own in the store


def attempt_id(number: int, resumes: int) -> str:
    """Return the id of an attempt in the store.

    :param number: number of the tuning job
    :param resumes: number of times the job was resumed before
    """
    return f"{number}.{resumes}" if resumes else str(number)


def job_number(attempt: Job) -> int:
    """Return the number of the tuning job that an attempt belongs to."""
    return int(attempt.id.partition(".")[0])


def resume_count(attempt: Job) -> int:
    """Return the number of times the job had been resumed when this attempt started."""
    return int(attempt.id.partition(".")[2] or 0)


def latest_attempts(store: JobStore) -> dict[int, Job]:
    """Return the latest attempt of each tuning job that the store still has."""
    return {job_number(attempt): attempt for attempt in store.jobs(KIND)}


def _to_record(step: Step, epochs_per_step: float) -> StepRecord:
    return StepRecord(
        step=step.step,
        loss=step.loss,
        learning_rate=step.learning_rate,
        epoch=round(step.step * epochs_per_step, 3),
        remaining=round(step.seconds * (step.total - step.step), 1),
    )
