"""Projects of classifiers: their classes, examples and models, and the models' files."""

from __future__ import annotations

import hashlib
import threading
import time
import uuid
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from airflow_provider_lamini.local.classifiers.model import ClassifierModel, dump, load
from airflow_provider_lamini.local.database import Database
from airflow_provider_lamini.local.errors import MODEL_NOT_FOUND, PlatformError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

DUPLICATE: Final = 497
PROJECT_NOT_FOUND: Final = 499

INITIAL_DATASET: Final = "initial"
"""The dataset of the examples that a project begins with."""

LOADED_MODELS: Final = 16
PAGE: Final = 500

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS projects (
    id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, model_name TEXT NOT NULL, created REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS classes (
    number INTEGER PRIMARY KEY, project TEXT NOT NULL REFERENCES projects (id), name TEXT NOT NULL,
    description TEXT NOT NULL, UNIQUE (project, name)
);
CREATE TABLE IF NOT EXISTS examples (
    number INTEGER PRIMARY KEY, project TEXT NOT NULL REFERENCES projects (id), dataset TEXT NOT NULL,
    class TEXT NOT NULL, text TEXT NOT NULL, UNIQUE (project, dataset, class, text)
);
CREATE TABLE IF NOT EXISTS models (
    id TEXT PRIMARY KEY, job_id TEXT NOT NULL, created REAL NOT NULL, accuracy REAL, classes INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS models_by_job ON models (job_id);
CREATE TABLE IF NOT EXISTS registered (
    project TEXT NOT NULL REFERENCES projects (id), model TEXT NOT NULL REFERENCES models (id), job_id TEXT NOT NULL,
    PRIMARY KEY (project, model)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS vectors (digest BLOB PRIMARY KEY, vector BLOB NOT NULL) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Project:
    """A project.

    :param id: its id
    :param name: its name
    :param model_name: the model that it was made with
    :param created: seconds since the epoch
    """

    id: str
    name: str
    model_name: str
    created: float


@dataclass(frozen=True, slots=True)
class KnownModel:
    """A model of a project.

    :param id: its id, a UUID
    :param job_id: the job that made it; empty for an uploaded one
    :param created: seconds since the epoch
    :param accuracy: share of held-out examples whose class it found
    :param classes: how many classes it knows
    """

    id: str
    job_id: str
    created: float
    accuracy: float | None
    classes: int


class Projects:
    """All projects of a platform.

    :param folder: where they and the models lie; made if missing
    """

    def __init__(self, folder: Path) -> None:
        self._models = folder / "models"
        self._models.mkdir(parents=True, exist_ok=True)
        self._db = Database(folder / "classifiers.sqlite", SCHEMA)
        self._lock = threading.Lock()
        self._loaded: OrderedDict[str, ClassifierModel] = OrderedDict()

    # -- projects and examples

    def create(
        self,
        name: str,
        model_name: str,
        classes: Mapping[str, str],
        examples: Mapping[str, Sequence[str]],
    ) -> Project:
        """Make a project.

        :param name: its name
        :param model_name: the model that it is made with
        :param classes: class to description
        :param examples: class to texts
        :raises PlatformError: the name is taken
        """
        project = Project(str(uuid.uuid4()), name, model_name, time.time())
        with self._db.write() as db:
            if db.execute("SELECT 1 FROM projects WHERE name = ?", (name,)).fetchone():
                raise PlatformError(DUPLICATE, f"A classifier project {name!r} exists already.")
            db.execute(
                "INSERT INTO projects VALUES (?, ?, ?, ?)", (project.id, name, model_name, project.created)
            )
            db.executemany(
                "INSERT INTO classes (project, name, description) VALUES (?, ?, ?)",
                [(project.id, *one) for one in classes.items()],
            )
            db.executemany(_ADD, _examples(project, INITIAL_DATASET, examples))
        return project

    def all(self) -> list[Project]:
        """Every project, the oldest first."""
        found = self._db.read("SELECT id, name, model_name, created FROM projects ORDER BY created, rowid")
        return [Project(*row) for row in found]

    def get(self, name: str) -> Project:
        """The project of that name or id.

        :raises PlatformError: there is none
        """
        found = self._db.read(
            "SELECT id, name, model_name, created FROM projects WHERE name = ? OR id = ?", name, name
        )
        if not found:
            raise PlatformError(PROJECT_NOT_FOUND, f"Classifier project {name!r} not found.")
        return Project(*found[0])

    def classes(self, project: Project) -> dict[str, str]:
        """A project's classes with their descriptions, in the order in which they were given."""
        sql = "SELECT name, description FROM classes WHERE project = ? ORDER BY number"
        return dict(self._db.read(sql, project.id))

    def add(self, project: Project, dataset: str, examples: Mapping[str, Sequence[str]]) -> int:
        """Add examples to a dataset, which is made if missing.

        :returns: how many are new; one that is there already stays once
        """
        with self._db.write() as db:
            return db.executemany(_ADD, _examples(project, dataset, examples)).rowcount

    def examples(self, project: Project) -> list[tuple[str, str]]:
        """Class and text of every example of a project, in all its datasets."""
        sql = "SELECT DISTINCT class, text FROM examples WHERE project = ? ORDER BY number"
        return [(name, text) for name, text in self._db.read(sql, project.id)]

    def datasets(self, project: Project) -> dict[str, dict[str, int]]:
        """A project's datasets: in each, how many examples of which class."""
        sql = "SELECT dataset, class, count(*) FROM examples WHERE project = ? GROUP BY 1, 2 ORDER BY min(number)"
        found: dict[str, dict[str, int]] = {}
        for dataset, name, count in self._db.read(sql, project.id):
            found.setdefault(dataset, {})[name] = count
        return found

    def rows(self, project: Project, dataset: str) -> Iterator[tuple[str, str]]:
        """Class and text of each example of a dataset, read a page at a time."""
        last = 0
        while True:
            page = self._db.read(
                "SELECT number, class, text FROM examples WHERE project = ? AND dataset = ? AND number > ? "
                "ORDER BY number LIMIT ?",
                *(project.id, dataset, last, PAGE),
            )
            yield from ((name, text) for _, name, text in page)
            if len(page) < PAGE:
                return
            last = page[-1][0]

    def delete(self, project: Project, dataset: str) -> int:
        """Delete a dataset; models that were trained on it stay.

        :returns: how many examples it had
        """
        with self._db.write() as db:
            sql = "DELETE FROM examples WHERE project = ? AND dataset = ?"
            return db.execute(sql, (project.id, dataset)).rowcount

    # -- vectors of examples, so that training again or going on after a restart computes none twice

    def vector(self, embedding_model: str, text: str) -> npt.NDArray[np.float64] | None:
        """The stored vector of a text."""
        found = self._db.read("SELECT vector FROM vectors WHERE digest = ?", _digest(embedding_model, text))
        return np.frombuffer(found[0][0], dtype=np.float64) if found else None

    def set_vectors(
        self, embedding_model: str, texts: Iterable[str], vectors: npt.NDArray[np.float64]
    ) -> None:
        """Store vectors of texts."""
        rows = [
            (_digest(embedding_model, text), vector.tobytes())
            for text, vector in zip(texts, vectors, strict=True)
        ]
        with self._db.write() as db:
            db.executemany("INSERT OR IGNORE INTO vectors VALUES (?, ?)", rows)

    # -- models

    def keep(self, model: ClassifierModel, job_id: str, project: Project | None) -> str:
        """Keep a model; the same job's model is kept once.

        :param model: the model
        :param job_id: the job that made it; empty for an uploaded one
        :param project: the project that it belongs to
        :returns: its id
        """
        if job_id and (known := self.model_of_job(job_id)):
            return known
        model_id = str(uuid.uuid4())
        path = self._models / f"{model_id}.json"
        unfinished = path.with_suffix(".part")
        unfinished.write_bytes(dump(model))
        unfinished.rename(path)
        with self._db.write() as db:
            db.execute(
                "INSERT INTO models VALUES (?, ?, ?, ?, ?)",
                (model_id, job_id, model.created, model.accuracy, len(model.classes)),
            )
            if project is not None:
                db.execute("INSERT INTO registered VALUES (?, ?, ?)", (project.id, model_id, job_id))
        return model_id

    def register(self, project: Project, model_id: str, job_id: str) -> None:
        """Make a model a project's too."""
        with self._db.write() as db:
            db.execute("INSERT OR IGNORE INTO registered VALUES (?, ?, ?)", (project.id, model_id, job_id))

    def model_of_job(self, job_id: str) -> str | None:
        """The id of the model that a job made."""
        found = self._db.read("SELECT id FROM models WHERE job_id = ? AND job_id != ''", job_id)
        return str(found[0][0]) if found else None

    def models(self, project: Project) -> list[KnownModel]:
        """A project's models, the oldest first."""
        found = self._db.read(
            "SELECT m.id, m.job_id, m.created, m.accuracy, m.classes FROM models m "
            "JOIN registered r ON r.model = m.id WHERE r.project = ? ORDER BY m.created, m.rowid",
            project.id,
        )
        return [KnownModel(*row) for row in found]

    def model(self, model_id: str) -> ClassifierModel:
        """A model.

        :raises PlatformError: there is none of that id
        """
        with self._lock:
            loaded = self._loaded.get(model_id)
        if loaded is None:
            if not self._db.read("SELECT 1 FROM models WHERE id = ?", model_id):
                raise PlatformError(MODEL_NOT_FOUND, f"Classifier model {model_id!r} not found.")
            loaded = load((self._models / f"{model_id}.json").read_bytes())
        with self._lock:
            self._loaded[model_id] = loaded
            self._loaded.move_to_end(model_id)
            while len(self._loaded) > LOADED_MODELS:
                self._loaded.popitem(last=False)
        return loaded

    def close(self) -> None:
        """Close the file."""
        self._db.close()


_ADD: Final = "INSERT OR IGNORE INTO examples (project, dataset, class, text) VALUES (?, ?, ?, ?)"


def _examples(
    project: Project, dataset: str, examples: Mapping[str, Sequence[str]]
) -> list[tuple[str, str, str, str]]:
    return [(project.id, dataset, name, text) for name, texts in examples.items() for text in texts]


def _digest(embedding_model: str, text: str) -> bytes:
    return hashlib.sha256(f"{embedding_model}\0{text}".encode()).digest()
