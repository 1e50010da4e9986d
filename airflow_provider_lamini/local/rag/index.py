"""The index of one Memory RAG job: documents, passages and vectors in one SQLite file."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

import numpy as np

from airflow_provider_lamini.local.database import Database

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    import numpy.typing as npt

    Vectors = npt.NDArray[np.float32]

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS documents (
    number INTEGER PRIMARY KEY, name TEXT NOT NULL, file TEXT NOT NULL, read INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS passages (
    number INTEGER PRIMARY KEY, document TEXT NOT NULL, text TEXT NOT NULL, digest BLOB NOT NULL UNIQUE, vector BLOB
);
CREATE INDEX IF NOT EXISTS without_vector ON passages (number) WHERE vector IS NULL;
CREATE TABLE IF NOT EXISTS log (number INTEGER PRIMARY KEY, time REAL NOT NULL, line TEXT NOT NULL);
"""


@dataclass(frozen=True, slots=True)
class IndexedDocument:
    """A document of an index.

    :param number: its number in the index
    :param name: its original file name
    :param file: name of the uploaded file while the index is being built
    """

    number: int
    name: str
    file: str


@dataclass(frozen=True, slots=True)
class Passage:
    """A passage of a document.

    :param number: its number in the index
    :param document: name of its document
    :param text: its text
    """

    number: int
    document: str
    text: str


class Index:
    """An index. Several instances may have the same file open.

    :param path: the database file, created if missing
    """

    def __init__(self, path: Path) -> None:
        self._db = Database(path, SCHEMA)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    # -- building

    def set_contents(self, documents: Iterable[tuple[str, str]], model_name: str) -> None:
        """Record what the index will be built from.

        :param documents: name and file of each document
        :param model_name: the text model that answers questions
        """
        with self._db.write() as db:
            db.executemany("INSERT INTO documents (name, file) VALUES (?, ?)", documents)
            db.execute("INSERT INTO facts VALUES ('model_name', ?)", (model_name,))

    def unread_documents(self) -> list[IndexedDocument]:
        """Return the documents that have not been read yet."""
        sql = "SELECT number, name, file FROM documents WHERE NOT read ORDER BY number"
        return [IndexedDocument(*found) for found in self._db.read(sql)]

    def add_document(self, document: IndexedDocument, passages: Sequence[str]) -> int:
        """Store a document's passages without vectors, and mark it as read.

        :return: number of new passages; the same text is stored only once, even if several documents contain it
        """
        with self._db.write() as db:
            new = db.executemany(
                "INSERT OR IGNORE INTO passages (document, text, digest) VALUES (?, ?, ?)",
                [(document.name, text, _digest(text)) for text in passages],
            ).rowcount
            db.execute("UPDATE documents SET read = 1 WHERE number = ?", (document.number,))
        return new

    def without_vector(self, limit: int) -> list[Passage]:
        """Return the first passages without a vector."""
        sql = "SELECT number, document, text FROM passages WHERE vector IS NULL ORDER BY number LIMIT ?"
        return [Passage(*found) for found in self._db.read(sql, limit)]

    def set_vectors(self, passages: Sequence[Passage], vectors: Sequence[Sequence[float]]) -> None:
        """Store the vectors of passages."""
        rows = [
            (_vector_bytes(vector), passage.number) for passage, vector in zip(passages, vectors, strict=True)
        ]
        with self._db.write() as db:
            db.executemany("UPDATE passages SET vector = ? WHERE number = ?", rows)

    def mark_complete(self) -> None:
        """Record that the index is complete."""
        with self._db.write() as db:
            db.execute("INSERT OR REPLACE INTO facts VALUES ('complete', ?)", (str(time.time()),))

    def add_passages(self, document: str, texts: Sequence[str], vectors: Sequence[Sequence[float]]) -> int:
        """Add passages with their vectors.

        :return: number of new passages
        """
        rows = [
            (document, text, _digest(text), _vector_bytes(vector))
            for text, vector in zip(texts, vectors, strict=True)
        ]
        with self._db.write() as db:
            return db.executemany(
                "INSERT OR IGNORE INTO passages (document, text, digest, vector) VALUES (?, ?, ?, ?)", rows
            ).rowcount

    def add_log_line(self, line: str) -> None:
        """Add a line to the training log."""
        with self._db.write() as db:
            db.execute("INSERT INTO log (time, line) VALUES (?, ?)", (time.time(), line))

    # -- reading

    @property
    def is_complete(self) -> bool:
        """Whether the index is complete."""
        return self._fact("complete") is not None

    @property
    def model_name(self) -> str:
        """Name of the text model that answers questions."""
        return self._fact("model_name") or ""

    @property
    def last_number(self) -> int:
        """Number of the last passage. Numbers only increase."""
        return int(self._db.read("SELECT coalesce(max(number), 0) FROM passages")[0][0])

    def counts(self) -> tuple[int, int, int]:
        """Return the number of unread documents, of passages, and of passages with a vector."""
        return (
            self._db.read("SELECT count(*) FROM documents WHERE NOT read")[0][0],
            *self._db.read("SELECT count(*), count(vector) FROM passages")[0],
        )

    def log(self) -> list[tuple[float, str]]:
        """Return the lines of the training log, each with its Unix timestamp."""
        return [
            (timestamp, line)
            for timestamp, line in self._db.read("SELECT time, line FROM log ORDER BY number")
        ]

    def vectors(self) -> tuple[list[int], Vectors]:
        """Return the numbers of all passages with a vector, and their vectors in the same order, normalized."""
        rows = self._db.read("SELECT number, vector FROM passages WHERE vector IS NOT NULL ORDER BY number")
        if not rows:
            return [], np.zeros((0, 0), dtype=np.float32)
        flat = np.frombuffer(b"".join(vector for _, vector in rows), dtype=np.float32)
        return [number for number, _ in rows], flat.reshape(len(rows), -1)

    def passages(self, numbers: Sequence[int]) -> list[Passage]:
        """Return passages by number, in the given order."""
        marks = ",".join("?" * len(numbers))
        sql = f"SELECT number, document, text FROM passages WHERE number IN ({marks})"  # noqa: S608 - only placeholders
        found = {row[0]: Passage(*row) for row in self._db.read(sql, *numbers)}
        return [found[number] for number in numbers if number in found]

    def sample(self, size: int) -> list[Passage]:
        """Return this many passages, evenly spaced over the whole index."""
        numbers = [
            row[0] for row in self._db.read("SELECT number FROM passages WHERE vector IS NOT NULL ORDER BY 1")
        ]
        size = min(size, len(numbers))
        return self.passages([numbers[step * len(numbers) // size] for step in range(size)])

    def _fact(self, name: str) -> str | None:
        found = self._db.read("SELECT value FROM facts WHERE name = ?", name)
        return str(found[0][0]) if found else None


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def _vector_bytes(vector: Sequence[float]) -> bytes:
    """Normalize a vector and encode it for the database."""
    array = np.asarray(vector, dtype=np.float32)
    length = float(np.linalg.norm(array))
    return (array / length if length else array).tobytes()
