"""Repository of tuning jobs and tuned models: their records in SQLite, and the paths of their files."""

from __future__ import annotations

import json
import shutil
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from airflow_provider_lamini.local.database import Database
from airflow_provider_lamini.local.errors import NoSuchJobError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from pathlib import Path

    from airflow_provider_lamini.api.call import Json

KIND: Final = "tuning"
"""Job kind of tuning, in the store and in the control endpoints."""

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT, base TEXT NOT NULL, dataset TEXT NOT NULL, custom_name TEXT,
    is_public INTEGER NOT NULL, arguments TEXT NOT NULL, created REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS steps (
    job INTEGER NOT NULL, step INTEGER NOT NULL, loss REAL NOT NULL, learning_rate REAL NOT NULL, epoch REAL NOT NULL,
    remaining REAL NOT NULL, PRIMARY KEY (job, step)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS models (
    name TEXT PRIMARY KEY, base TEXT NOT NULL, job INTEGER NOT NULL UNIQUE, created REAL NOT NULL
);
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class TuningJob:
    """A tuning job as it was requested.

    :param number: id of the job
    :param base: served name of the base model
    :param dataset: id of the dataset to train on
    :param custom_name: requested name of the tuned model
    :param is_public: returned by the API, with no effect: this platform has a single user
    :param arguments: ``finetune_args`` as requested
    :param created: Unix timestamp
    """

    number: int
    base: str
    dataset: str
    custom_name: str | None
    is_public: bool
    arguments: dict[str, Json]
    created: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRecord:
    """A completed step in the history of a job.

    :param step: number of the step, from 1
    :param loss: mean loss per answer token
    :param learning_rate: learning rate of the step
    :param epoch: number of passes over the rows so far
    :param remaining: estimated seconds until the end of the training
    """

    step: int
    loss: float
    learning_rate: float
    epoch: float
    remaining: float

    def to_json(self) -> dict[str, float]:
        """Return the step as the platform's API does."""
        return {
            "step": self.step,
            "loss": self.loss,
            "learning_rate": self.learning_rate,
            "epoch": self.epoch,
            "remaining_time": self.remaining,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class TunedModel:
    """A tuned model: a base model with an adapter.

    :param name: served name
    :param base: served name of the base model
    :param job: number of the job that trained it
    :param path: GGUF file of the adapter
    """

    name: str
    base: str
    job: int
    path: Path


class TuningRepository:
    """All tuning jobs and tuned models of a platform.

    :param folder: folder of the database and the files; created if missing
    """

    def __init__(self, folder: Path) -> None:
        self._jobs = folder / "jobs"
        self._models = folder / "models"
        for subfolder in (self._jobs, self._models):
            subfolder.mkdir(parents=True, exist_ok=True)
        self._db = Database(folder / "tuning.sqlite", SCHEMA)
        self.lock = threading.Lock()
        """Held while a job is created or resumed, so that what was checked before is still true afterwards."""

    # -- jobs

    def create(
        self,
        base: str,
        dataset: str,
        custom_name: str | None,
        arguments: dict[str, Json],
        *,
        is_public: bool,
    ) -> TuningJob:
        """Create a job.

        :param base: served name of the base model
        :param dataset: id of the dataset
        :param custom_name: requested name of the tuned model
        :param arguments: ``finetune_args`` as requested
        :param is_public: returned by the API, with no effect
        """
        now = time.time()
        with self._db.write() as db:
            number = db.execute(
                "INSERT INTO jobs (base, dataset, custom_name, is_public, arguments, created) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                (base, dataset, custom_name, is_public, json.dumps(arguments), now),
            ).lastrowid
        return self.get(number or 0)

    def get(self, number: int) -> TuningJob:
        """Return a job.

        :raises NoSuchJobError: it does not exist
        """
        jobs = self._select("WHERE number = ?", number)
        if not jobs:
            raise NoSuchJobError(str(number))
        return jobs[0]

    def has(self, number: int) -> bool:
        """Whether a job exists."""
        return bool(self._select("WHERE number = ?", number))

    def all(self) -> list[TuningJob]:
        """Return all jobs, oldest first."""
        return self._select("ORDER BY number")

    def delete_jobs(self, keep: Collection[int] = ()) -> None:
        """Delete jobs and their checkpoints; tuned models are kept.

        :param keep: numbers of the jobs to keep
        """
        numbers = [job.number for job in self.all() if job.number not in keep]
        with self._db.write() as db:
            for number in numbers:
                db.execute("DELETE FROM steps WHERE job = ?", (number,))
                db.execute("DELETE FROM jobs WHERE number = ?", (number,))
        for folder in self._jobs.iterdir():
            if folder.name not in map(str, keep):
                shutil.rmtree(folder, ignore_errors=True)
        # A job that was stopped after its last step, before its model was added, leaves an adapter behind.
        used = {*keep, *(model.job for model in self.models())}
        for adapter in self._models.iterdir():
            if adapter.stem not in map(str, used):
                adapter.unlink()

    def folder(self, number: int) -> Path:
        """Return the folder of a job's rows and checkpoints; create it if missing."""
        folder = self._jobs / str(number)
        folder.mkdir(exist_ok=True)
        return folder

    def delete_files(self, number: int) -> None:
        """Delete a job's rows and checkpoints."""
        shutil.rmtree(self._jobs / str(number), ignore_errors=True)

    # -- history

    def record_step(self, number: int, step: StepRecord) -> None:
        """Record a step; a step that is repeated, such as after a crash, replaces the earlier record."""
        with self._db.write() as db:
            db.execute(
                "INSERT OR REPLACE INTO steps SELECT ?, ?, ?, ?, ?, ? FROM jobs WHERE number = ?",
                (
                    *(number, step.step, step.loss, step.learning_rate, step.epoch, step.remaining),
                    number,
                ),
            )

    def steps(self, number: int) -> list[StepRecord]:
        """Return the steps of a job so far, in order."""
        rows = self._db.read(
            "SELECT step, loss, learning_rate, epoch, remaining FROM steps WHERE job = ? ORDER BY step",
            number,
        )
        return [
            StepRecord(step=step, loss=loss, learning_rate=rate, epoch=epoch, remaining=remaining)
            for step, loss, rate, epoch, remaining in rows
        ]

    # -- tuned models

    def adapter_path(self, number: int) -> Path:
        """Return the path of a job's adapter; the file exists once the training is complete."""
        return self._models / f"{number}.gguf"

    def add_model(self, job: TuningJob, used_names: Iterable[str]) -> TunedModel:
        """Add the model that a job has trained, unless it was added before. Its adapter must be in place.

        :param job: the job
        :param used_names: names of all served models
        """
        with self._db.write() as db:
            row = db.execute("SELECT name FROM models WHERE job = ?", (job.number,)).fetchone()
            if row is None:
                names = {*used_names, *(name for (name,) in db.execute("SELECT name FROM models"))}
                name = _unused_name(job, names)
                db.execute(
                    "INSERT INTO models VALUES (?, ?, ?, ?)", (name, job.base, job.number, time.time())
                )
            else:
                (name,) = row
        return TunedModel(name=name, base=job.base, job=job.number, path=self.adapter_path(job.number))

    def model_of(self, number: int) -> TunedModel | None:
        """Return the model that a job has trained; ``None`` if there is none."""
        return next((model for model in self.models() if model.job == number), None)

    def models(self) -> list[TunedModel]:
        """Return all tuned models, oldest first."""
        rows = self._db.read("SELECT name, base, job FROM models ORDER BY created, rowid")
        return [
            TunedModel(name=name, base=base, job=job, path=self.adapter_path(job)) for name, base, job in rows
        ]

    def delete_models_without_adapter(self) -> list[str]:
        """Delete the records of models whose adapter file is missing; return the models' names."""
        missing = [model.name for model in self.models() if not model.path.exists()]
        with self._db.write() as db:
            db.executemany("DELETE FROM models WHERE name = ?", [(name,) for name in missing])
        return missing

    def close(self) -> None:
        """Close the database."""
        self._db.close()

    def _select(self, where: str, *values: int) -> list[TuningJob]:
        sql = "SELECT number, base, dataset, custom_name, is_public, arguments, created FROM jobs "
        return [
            TuningJob(
                number=number,
                base=base,
                dataset=dataset,
                custom_name=custom_name,
                is_public=bool(is_public),
                arguments=json.loads(arguments),
                created=created,
            )
            for number, base, dataset, custom_name, is_public, arguments, created in self._db.read(
                sql + where, *values
            )
        ]


def _unused_name(job: TuningJob, used_names: Collection[str]) -> str:
    """Return a name for a job's model that no other model has."""
    preferred = job.custom_name or f"{job.base.rpartition('/')[2]}-tuned-{job.number}"
    name, number = preferred, job.number
    while name in used_names:
        name, number = f"{preferred}-{number}", number + 1
    return name
