"""Tuning jobs and tuned models: what is known of each, and where its files lie."""

from __future__ import annotations

import json
import shutil
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from airflow_provider_lamini.local.database import Database
from airflow_provider_lamini.local.errors import JobNotFoundError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from pathlib import Path

    from airflow_provider_lamini.api.call import Json

KIND: Final = "tuning"
"""The word for a tuning job in the store and in the control endpoints."""

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
class Tuning:
    """What a tuning job was asked for.

    :param number: its id
    :param base: the model that learns
    :param dataset: id of the dataset that it learns from
    :param custom_name: the name that the tuned model is to have
    :param is_public: told again, no more: this platform has one user
    :param arguments: ``finetune_args`` as they were given
    :param created: seconds since the epoch
    """

    number: int
    base: str
    dataset: str
    custom_name: str | None
    is_public: bool
    arguments: dict[str, Json]
    created: float


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptStep:
    """One step of a job, as its history tells it.

    :param step: its number, from 1
    :param loss: mean loss of its rows
    :param learning_rate: with which it was done
    :param epoch: how often every row was seen by then
    :param remaining: seconds to the end, as it looked then
    """

    step: int
    loss: float
    learning_rate: float
    epoch: float
    remaining: float

    def shown(self) -> dict[str, float]:
        """As the platform writes it."""
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

    :param name: the name that it is served under
    :param base: the model that learnt
    :param job: the job that made it
    :param path: its adapter, a GGUF file
    """

    name: str
    base: str
    job: int
    path: Path


class Tunings:
    """All tuning jobs and tuned models of a platform.

    :param folder: where they lie; made if missing
    """

    def __init__(self, folder: Path) -> None:
        self._jobs = folder / "jobs"
        self._models = folder / "models"
        for each in (self._jobs, self._models):
            each.mkdir(parents=True, exist_ok=True)
        self._db = Database(folder / "tuning.sqlite", SCHEMA)
        self.changing = threading.Lock()
        """Held while a job is made or resumed: what is looked at then is still so when it is done."""

    # -- jobs

    def create(
        self,
        base: str,
        dataset: str,
        custom_name: str | None,
        arguments: dict[str, Json],
        *,
        is_public: bool,
    ) -> Tuning:
        """Note a new job.

        :param base: the model that is to learn
        :param dataset: id of the dataset
        :param custom_name: the name that the tuned model is to have
        :param arguments: ``finetune_args`` as they were given
        :param is_public: told again, no more
        """
        now = time.time()
        with self._db.write() as db:
            number = db.execute(
                "INSERT INTO jobs (base, dataset, custom_name, is_public, arguments, created) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                (base, dataset, custom_name, is_public, json.dumps(arguments), now),
            ).lastrowid
        return self.get(number or 0)

    def get(self, number: int) -> Tuning:
        """The job of that id.

        :raises JobNotFoundError: there is none
        """
        found = self._select("WHERE number = ?", number)
        if not found:
            raise JobNotFoundError(str(number))
        return found[0]

    def all(self) -> list[Tuning]:
        """Every job, the oldest first."""
        return self._select("ORDER BY number")

    def forget(self, kept: Collection[int] = ()) -> None:
        """Forget jobs, with their checkpoints; tuned models stay.

        :param kept: ids of those that are not forgotten
        """
        gone = [job.number for job in self.all() if job.number not in kept]
        with self._db.write() as db:
            for number in gone:
                db.execute("DELETE FROM steps WHERE job = ?", (number,))
                db.execute("DELETE FROM jobs WHERE number = ?", (number,))
        for folder in self._jobs.iterdir():
            if folder.name not in map(str, kept):
                shutil.rmtree(folder, ignore_errors=True)
        # A job that was stopped between its last step and its model's name leaves an adapter.
        used = {*kept, *(model.job for model in self.models())}
        for adapter in self._models.iterdir():
            if adapter.stem not in map(str, used):
                adapter.unlink()

    def folder(self, number: int) -> Path:
        """The folder of a job's rows and checkpoints; made if missing."""
        folder = self._jobs / str(number)
        folder.mkdir(exist_ok=True)
        return folder

    def discard_files(self, number: int) -> None:
        """Delete a job's rows and checkpoints."""
        shutil.rmtree(self._jobs / str(number), ignore_errors=True)

    # -- history

    def note_step(self, number: int, step: KeptStep) -> None:
        """Keep a step; one that is done again, as after a crash, counts in place of the first."""
        with self._db.write() as db:
            db.execute(
                "INSERT OR REPLACE INTO steps SELECT ?, ?, ?, ?, ?, ? FROM jobs WHERE number = ?",
                (
                    *(number, step.step, step.loss, step.learning_rate, step.epoch, step.remaining),
                    number,
                ),
            )

    def steps(self, number: int) -> list[KeptStep]:
        """A job's steps so far, in order."""
        found = self._db.read(
            "SELECT step, loss, learning_rate, epoch, remaining FROM steps WHERE job = ? ORDER BY step",
            number,
        )
        return [
            KeptStep(step=step, loss=loss, learning_rate=rate, epoch=epoch, remaining=remaining)
            for step, loss, rate, epoch, remaining in found
        ]

    # -- tuned models

    def adapter(self, number: int) -> Path:
        """Where the adapter of a job's model lies, once it is whole."""
        return self._models / f"{number}.gguf"

    def keep(self, job: Tuning, taken: Iterable[str]) -> TunedModel:
        """Note the model that a job has made; its adapter lies in place. The same job's model is noted once.

        :param job: the job
        :param taken: names that are served already
        """
        with self._db.write() as db:
            known = db.execute("SELECT name FROM models WHERE job = ?", (job.number,)).fetchone()
            if known is None:
                names = {*taken, *(name for (name,) in db.execute("SELECT name FROM models"))}
                name = _free_name(job, names)
                db.execute(
                    "INSERT INTO models VALUES (?, ?, ?, ?)", (name, job.base, job.number, time.time())
                )
            else:
                (name,) = known
        return TunedModel(name=name, base=job.base, job=job.number, path=self.adapter(job.number))

    def model_of(self, number: int) -> TunedModel | None:
        """The model that a job has made."""
        return next((model for model in self.models() if model.job == number), None)

    def models(self) -> list[TunedModel]:
        """Every tuned model, the oldest first."""
        found = self._db.read("SELECT name, base, job FROM models ORDER BY created, rowid")
        return [
            TunedModel(name=name, base=base, job=job, path=self.adapter(job)) for name, base, job in found
        ]

    def drop_models_without_file(self) -> list[str]:
        """Forget the models whose adapter somebody has deleted; returns their names."""
        gone = [model for model in self.models() if not model.path.exists()]
        with self._db.write() as db:
            db.executemany("DELETE FROM models WHERE name = ?", [(model.name,) for model in gone])
        return [model.name for model in gone]

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def _select(self, where: str, *values: int) -> list[Tuning]:
        sql = "SELECT number, base, dataset, custom_name, is_public, arguments, created FROM jobs "
        return [
            Tuning(
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


def _free_name(job: Tuning, taken: Collection[str]) -> str:
    """A name for a job's model that no other model has."""
    wanted = job.custom_name or f"{job.base.rpartition('/')[2]}-tuned-{job.number}"
    name, number = wanted, job.number
    while name in taken:
        name, number = f"{wanted}-{number}", number + 1
    return name
