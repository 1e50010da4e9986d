"""Tuning, as a job: rows, a subprocess that trains, an adapter, and a model that is served beside its base."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from airflow_provider_lamini.jobs.state import JobState
from airflow_provider_lamini.local.background import wait_while_held
from airflow_provider_lamini.local.engines.base import Adapter, EngineError
from airflow_provider_lamini.local.errors import PlatformError
from airflow_provider_lamini.local.jobs.runner import JobFailed
from airflow_provider_lamini.local.tuning.arguments import plan_of
from airflow_provider_lamini.local.tuning.repository import KIND, KeptStep
from airflow_provider_lamini.local.tuning.sampling import MOST_ROWS, take_rows
from airflow_provider_lamini.local.tuning.trainer import CONTEXT, Recipe, TrainingFailed, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from airflow_provider_lamini.api.call import Json
    from airflow_provider_lamini.local.datasets.shelf import Datasets
    from airflow_provider_lamini.local.jobs.runner import RunningJob
    from airflow_provider_lamini.local.served import ServedTexts
    from airflow_provider_lamini.local.store import Job, Store
    from airflow_provider_lamini.local.tuning.arguments import Plan
    from airflow_provider_lamini.local.tuning.repository import Tuning, Tunings
    from airflow_provider_lamini.local.tuning.trainer import Step

logger = logging.getLogger(__name__)

TIME_LIMIT: Final = 4 * 3600.0
"""Seconds after which the platform stops a tuning job."""

ROWS: Final = "rows.jsonl"
"""The rows that a job learns from, in its folder."""

SEED: Final = 1
"""The same rows and arguments give the same model, as far as the machine allows."""

CREATED: Final = "CREATED"
LOADING: Final = "LOADING DATA"
TRAINING: Final = "TRAINING MODEL"
SAVING: Final = "SAVING MODEL"

_WORDS: Final = {
    JobState.QUEUED: "QUEUED",
    JobState.SUCCEEDED: "COMPLETED",
    JobState.PARTLY_SUCCEEDED: "PARTIALLY COMPLETED",
    JobState.FAILED: "FAILED",
    JobState.CANCELLED: "CANCELLED",
    JobState.TIMED_OUT: "TIMED OUT",
}


class Trainer(Protocol):
    """What trains; see :mod:`airflow_provider_lamini.local.tuning.trainer`."""

    def check_available(self) -> None:
        """Return if training can be done.

        :raises Unavailable: what it needs is not installed
        """

    def train(self, recipe: Recipe, *, check: Callable[[], None], on_step: Callable[[Step], None]) -> Path:
        """Train, and return the adapter's file.

        :raises Unavailable: what it needs is not installed
        :raises TrainingFailed: it went wrong
        """


class TuningJobs:
    """Tuning jobs, one at a time. One that was interrupted goes on from its last checkpoint.

    :param tunings: what is known of them
    :param datasets: the rows
    :param texts: serves the base models and the tuned ones
    :param trainer: trains
    :param names: the names of all models that are served, which a tuned one may not take
    """

    name = KIND
    concurrency = 1
    time_limit = TIME_LIMIT

    def __init__(
        self,
        tunings: Tunings,
        datasets: Datasets,
        texts: ServedTexts,
        trainer: Trainer,
        names: Callable[[], list[str]],
    ) -> None:
        self._tunings = tunings
        self._datasets = datasets
        self._texts = texts
        self._trainer = trainer
        self._names = names
        self._phases: dict[int, str] = {}

    def phase(self, number: int) -> str:
        """What a running job does now, in the platform's words."""
        return self._phases.get(number, LOADING)

    def run(self, job: RunningJob) -> None:
        """Train what is not trained yet, and serve the model."""
        number = number_of(job.job)
        tuning = self._tunings.get(number)
        try:
            if not self._tunings.adapter(number).exists():
                self._train(job, tuning).replace(self._tunings.adapter(number))
            self._phases[number] = SAVING
            job.check()
            model = self._tunings.keep(tuning, self._names())
            self._texts.adapt(model.name, model.base, model.path)
        except EngineError as error:
            raise JobFailed(f"The model is tuned, but cannot be served: {error}") from None
        finally:
            self._phases.pop(number, None)
        self._tunings.discard_files(number)

    def _train(self, job: RunningJob, tuning: Tuning) -> Path:
        self._phases[tuning.number] = LOADING
        plan = plan_of(tuning.arguments)
        recipe, rows = self._recipe(job, tuning, plan)

        def on_step(step: Step) -> None:
            self._phases[tuning.number] = TRAINING
            self._tunings.note_step(tuning.number, _kept(step, plan.batch_size / rows))
            wait_while_held(job, step.step)

        try:
            return self._trainer.train(recipe, check=job.check, on_step=on_step)
        except (TrainingFailed, Unavailable) as error:
            raise JobFailed(str(error)) from None

    def _recipe(self, job: RunningJob, tuning: Tuning, plan: Plan) -> tuple[Recipe, int]:
        folder = self._tunings.folder(tuning.number)
        rows = folder / ROWS
        try:
            base = self._texts.weights(tuning.base)
            if not rows.exists():
                most = min(plan.most_rows or MOST_ROWS, plan.max_steps * plan.batch_size, MOST_ROWS)
                take_rows(self._datasets.get(tuning.dataset), rows, most, SEED, job.check)
        except (EngineError, PlatformError) as error:
            raise JobFailed(str(error)) from None
        with rows.open("rb") as lines:
            count = sum(1 for _ in lines)
        recipe = Recipe(
            base=base,
            rows=rows,
            folder=folder,
            max_steps=plan.max_steps,
            learning_rate=plan.learning_rate,
            batch_size=plan.batch_size,
            rank=plan.rank,
            alpha=plan.alpha,
            seed=SEED,
            checkpoint_every=plan.save_every,
            context=min(plan.max_length, CONTEXT),
        )
        return recipe, count

    def shown(self, tuning: Tuning, run: Job | None) -> dict[str, Json]:
        """A job as the platform answers it.

        :param tuning: the job
        :param run: its last run; None where that was forgotten
        """
        model = self._tunings.model_of(tuning.number)
        history = [step.shown() for step in self._tunings.steps(tuning.number)]
        answer: dict[str, Json] = {
            "job_id": tuning.number,
            "status": self.word(tuning, run),
            "dataset_id": tuning.dataset,
            "base_model_name": tuning.base,
            "model_name": model.name if model else None,
            "custom_model_name": tuning.custom_name,
            "start_time": datetime.fromtimestamp(tuning.created, tz=UTC).isoformat(timespec="seconds"),
            "is_public": tuning.is_public,
            "history": msgspec.json.encode(history).decode(),
            "resume_count": 0 if run is None else resumes_of(run),
            "resume_limit": 0,
        }
        return answer if run is None or run.detail is None else {**answer, "detail": run.detail}

    def word(self, tuning: Tuning, run: Job | None) -> str:
        """How a job stands, in the platform's words."""
        if run is None:
            return _WORDS[JobState.SUCCEEDED]
        return self.phase(tuning.number) if run.state is JobState.RUNNING else _WORDS[run.state]


def serve_tuned(tunings: Tunings, texts: ServedTexts) -> None:
    """Serve the models that earlier processes tuned; one that cannot be served is told, and left."""
    for name in tunings.drop_models_without_file():
        logger.warning("tuned model %s is gone: somebody has deleted its adapter", name)
    found = [Adapter(name=model.name, base=model.base, path=model.path) for model in tunings.models()]
    for name, error in texts.adapt_all(found).items():
        logger.warning("tuned model %s cannot be served: %s", name, error)


# -- runs: each time that a job is started or resumed is a job of its own in the store


def run_id(number: int, resumes: int) -> str:
    """The id of a run in the store.

    :param number: the tuning job
    :param resumes: how often it was resumed before
    """
    return f"{number}.{resumes}" if resumes else str(number)


def number_of(run: Job) -> int:
    """The tuning job that a run belongs to."""
    return int(run.id.partition(".")[0])


def resumes_of(run: Job) -> int:
    """How often the job had been resumed when this run began."""
    return int(run.id.partition(".")[2] or 0)


def last_runs(store: Store) -> dict[int, Job]:
    """The last run of each tuning job that the store still knows."""
    return {number_of(run): run for run in store.jobs(KIND)}


def _kept(step: Step, epochs_per_step: float) -> KeptStep:
    return KeptStep(
        step=step.step,
        loss=step.loss,
        learning_rate=step.learning_rate,
        epoch=round(step.step * epochs_per_step, 3),
        remaining=round(step.seconds * (step.total - step.step), 1),
    )
