"""Classifier projects: stores classes, examples and models in SQLite, and each model's parameters in a file."""

from __future__ import annotations

import hashlib
import threading
import time
import uuid
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from airflow_provider_lamini.local.classifiers.model import TrainedClassifier, dump, load
from airflow_provider_lamini.local.database import Database
from airflow_provider_lamini.local.errors import MODEL_NOT_FOUND, ApiError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

DUPLICATE: Final = 497
"""HTTP status for a project that already exists."""

PROJECT_NOT_FOUND: Final = 499
"""HTTP status for an unknown project."""

INITIAL_DATASET: Final = "initial"
"""Name of the dataset with the examples that a project is created with."""

MAX_LOADED_MODELS: Final = 16
"""Models kept in memory. Beyond that, the one whose last use is the longest ago is loaded again when it is needed."""

PAGE_SIZE: Final = 500
"""Examples read per query, which bounds the memory."""

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
    """A classifier project.

    :param id: a UUID
    :param name: unique name
    :param model_name: the model name given at creation
    :param created: Unix timestamp
    """

    id: str
    name: str
    model_name: str
    created: float


@dataclass(frozen=True, slots=True)
class ModelRecord:
    """Database record of a trained or uploaded model.

    :param id: a UUID
    :param job_id: the job that trained it; empty for an uploaded model
    :param created: Unix timestamp
    :param accuracy: accuracy on held-out examples; ``None`` if no examples were held out
    :param classes: number of classes
    """

    id: str
    job_id: str
    created: float
    accuracy: float | None
    classes: int


class ClassifierRepository:
    """All classifier projects of a platform.

    :param folder: folder of the database and the model files; created if missing
    """

    def __init__(self, folder: Path) -> None:
        self._models = folder / "models"
        self._models.mkdir(parents=True, exist_ok=True)
        self._db = Database(folder / "classifiers.sqlite", SCHEMA)
        self._lock = threading.Lock()
        self._loaded: OrderedDict[str, TrainedClassifier] = OrderedDict()

    # -- projects and examples

    def create(
        self,
        name: str,
        model_name: str,
        classes: Mapping[str, str],
        examples: Mapping[str, Sequence[str]],
    ) -> Project:
        """Create a project.

        :param name: unique name
        :param model_name: a model name to store with the project
        :param classes: class to description
        :param examples: class to texts
        :raises ApiError: the name is taken
        """
        project = Project(str(uuid.uuid4()), name, model_name, time.time())
        with self._db.write() as db:
            if db.execute("SELECT 1 FROM projects WHERE name = ?", (name,)).fetchone():
                raise ApiError(DUPLICATE, f"Classifier project {name!r} already exists.")
            db.execute(
                "INSERT INTO projects VALUES (?, ?, ?, ?)", (project.id, name, model_name, project.created)
            )
            db.executemany(
                "INSERT INTO classes (project, name, description) VALUES (?, ?, ?)",
                [(project.id, *item) for item in classes.items()],
            )
            db.executemany(_INSERT_EXAMPLE, _example_rows(project, INITIAL_DATASET, examples))
        return project

    def all(self) -> list[Project]:
        """Return all projects, oldest first."""
        rows = self._db.read("SELECT id, name, model_name, created FROM projects ORDER BY created, rowid")
        return [Project(*row) for row in rows]

    def get(self, name: str) -> Project:
        """Return the project with this name or id.

        :raises ApiError: it does not exist
        """
        rows = self._db.read(
            "SELECT id, name, model_name, created FROM projects WHERE name = ? OR id = ?", name, name
        )
        if not rows:
            raise ApiError(PROJECT_NOT_FOUND, f"Classifier project {name!r} not found.")
        return Project(*rows[0])

    def classes(self, project: Project) -> dict[str, str]:
        """Return a project's classes and their descriptions, in their original order."""
        sql = "SELECT name, description FROM classes WHERE project = ? ORDER BY number"
        return dict(self._db.read(sql, project.id))

    def add(self, project: Project, dataset: str, examples: Mapping[str, Sequence[str]]) -> int:
        """Add examples to a dataset, which is created if missing. Duplicates are skipped.

        :return: number of examples added
        """
        with self._db.write() as db:
            return db.executemany(_INSERT_EXAMPLE, _example_rows(project, dataset, examples)).rowcount

    def examples(self, project: Project) -> list[tuple[str, str]]:
        """Return class and text of every example in all datasets of a project."""
        sql = "SELECT DISTINCT class, text FROM examples WHERE project = ? ORDER BY number"
        return [(name, text) for name, text in self._db.read(sql, project.id)]

    def datasets(self, project: Project) -> dict[str, dict[str, int]]:
        """Return the datasets of a project, each with its number of examples per class."""
        sql = "SELECT dataset, class, count(*) FROM examples WHERE project = ? GROUP BY 1, 2 ORDER BY min(number)"
        counts: dict[str, dict[str, int]] = {}
        for dataset, name, count in self._db.read(sql, project.id):
            counts.setdefault(dataset, {})[name] = count
        return counts

    def rows(self, project: Project, dataset: str) -> Iterator[tuple[str, str]]:
        """Yield class and text of each example of a dataset; reads one page at a time."""
        last = 0
        while True:
            page = self._db.read(
                "SELECT number, class, text FROM examples WHERE project = ? AND dataset = ? AND number > ? "
                "ORDER BY number LIMIT ?",
                *(project.id, dataset, last, PAGE_SIZE),
            )
            yield from ((name, text) for _, name, text in page)
            if len(page) < PAGE_SIZE:
                return
            last = page[-1][0]

    def delete(self, project: Project, dataset: str) -> int:
        """Delete a dataset. Models that were trained on it are kept.

        :return: number of examples deleted
        """
        with self._db.write() as db:
            sql = "DELETE FROM examples WHERE project = ? AND dataset = ?"
            return db.execute(sql, (project.id, dataset)).rowcount

    # -- cached vectors of examples, so that neither retraining nor a restart computes a vector twice

    def cached_vector(self, embedding_model: str, text: str) -> npt.NDArray[np.float64] | None:
        """Return the cached vector of a text; ``None`` if there is none."""
        rows = self._db.read("SELECT vector FROM vectors WHERE digest = ?", _digest(embedding_model, text))
        return np.frombuffer(rows[0][0], dtype=np.float64) if rows else None

    def cache_vectors(
        self, embedding_model: str, texts: Iterable[str], vectors: npt.NDArray[np.float64]
    ) -> None:
        """Cache the vectors of texts, one row per text."""
        rows = [
            (_digest(embedding_model, text), vector.tobytes())
            for text, vector in zip(texts, vectors, strict=True)
        ]
        with self._db.write() as db:
            db.executemany("INSERT OR IGNORE INTO vectors VALUES (?, ?)", rows)

    # -- models

    def add_model(self, model: TrainedClassifier, job_id: str, project: Project | None) -> str:
        """Store a model, unless its job has already stored one.

        :param model: the model
        :param job_id: the job that trained it; empty for an uploaded model
        :param project: the project to register it with
        :return: id of the stored model
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
        """Register a stored model with another project."""
        with self._db.write() as db:
            db.execute("INSERT OR IGNORE INTO registered VALUES (?, ?, ?)", (project.id, model_id, job_id))

    def model_of_job(self, job_id: str) -> str | None:
        """Return the id of the model that a job trained; ``None`` if there is none."""
        rows = self._db.read("SELECT id FROM models WHERE job_id = ? AND job_id != ''", job_id)
        return str(rows[0][0]) if rows else None

    def models(self, project: Project) -> list[ModelRecord]:
        """Return the models registered with a project, oldest first."""
        rows = self._db.read(
            "SELECT m.id, m.job_id, m.created, m.accuracy, m.classes FROM models m "
            "JOIN registered r ON r.model = m.id WHERE r.project = ? ORDER BY m.created, m.rowid",
            project.id,
        )
        return [ModelRecord(*row) for row in rows]

    def model(self, model_id: str) -> TrainedClassifier:
        """Return a model, from an LRU cache or its file.

        :raises ApiError: it does not exist
        """
        with self._lock:
            loaded = self._loaded.get(model_id)
        if loaded is None:
            if not self._db.read("SELECT 1 FROM models WHERE id = ?", model_id):
                raise ApiError(MODEL_NOT_FOUND, f"Classifier model {model_id!r} not found.")
            loaded = load((self._models / f"{model_id}.json").read_bytes())
        with self._lock:
            self._loaded[model_id] = loaded
            self._loaded.move_to_end(model_id)
            while len(self._loaded) > MAX_LOADED_MODELS:
                self._loaded.popitem(last=False)
        return loaded

    def close(self) -> None:
        """Close the database."""
        self._db.close()


_INSERT_EXAMPLE: Final = "INSERT OR IGNORE INTO examples (project, dataset, class, text) VALUES (?, ?, ?, ?)"


def _example_rows(
    project: Project, dataset: str, examples: Mapping[str, Sequence[str]]
) -> list[tuple[str, str, str, str]]:
    return [(project.id, dataset, name, text) for name, texts in examples.items() for text in texts]


def _digest(embedding_model: str, text: str) -> bytes:
    return hashlib.sha256(f"{embedding_model}\0{text}".encode()).digest()
