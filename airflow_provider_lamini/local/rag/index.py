"""One index: documents, their passages and vectors, in one SQLite file."""

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
class Document:
    """A document of an index.

    :param number: its place among the documents
    :param name: what its owner calls it
    :param file: name of the file that it lies in, while the index is built
    """

    number: int
    name: str
    file: str


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of a document.

    :param number: its place among the passages
    :param document: name of its document
    :param text: the text
    """

    number: int
    document: str
    text: str


class Index:
    """An index; several may have the same file open.

    :param path: its file; made if missing
    """

    def __init__(self, path: Path) -> None:
        self._db = Database(path, SCHEMA)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    # -- building

    def expect(self, documents: Iterable[tuple[str, str]], model_name: str) -> None:
        """Note what the index is made of.

        :param documents: name and file of each
        :param model_name: the text model that answers
        """
        with self._db.write() as db:
            db.executemany("INSERT INTO documents (name, file) VALUES (?, ?)", documents)
            db.execute("INSERT INTO facts VALUES ('model_name', ?)", (model_name,))

    def unread(self) -> list[Document]:
        """The documents that are not read yet."""
        sql = "SELECT number, name, file FROM documents WHERE NOT read ORDER BY number"
        return [Document(*found) for found in self._db.read(sql)]

    def has_read(self, document: Document, passages: Sequence[str]) -> int:
        """Store a document's passages, without vectors.

        :returns: how many are new; a passage that is there already, in whichever document, is kept once
        """
        with self._db.write() as db:
            new = db.executemany(
                "INSERT OR IGNORE INTO passages (document, text, digest) VALUES (?, ?, ?)",
                [(document.name, text, _digest(text)) for text in passages],
            ).rowcount
            db.execute("UPDATE documents SET read = 1 WHERE number = ?", (document.number,))
        return new

    def without_vector(self, limit: int) -> list[Passage]:
        """The first passages that have no vector yet."""
        sql = "SELECT number, document, text FROM passages WHERE vector IS NULL ORDER BY number LIMIT ?"
        return [Passage(*found) for found in self._db.read(sql, limit)]

    def set_vectors(self, passages: Sequence[Passage], vectors: Sequence[Sequence[float]]) -> None:
        """Store passages' vectors."""
        rows = [(_packed(vector), passage.number) for passage, vector in zip(passages, vectors, strict=True)]
        with self._db.write() as db:
            db.executemany("UPDATE passages SET vector = ? WHERE number = ?", rows)

    def complete(self) -> None:
        """Note that everything is there."""
        with self._db.write() as db:
            db.execute("INSERT OR REPLACE INTO facts VALUES ('complete', ?)", (str(time.time()),))

    def add(self, document: str, texts: Sequence[str], vectors: Sequence[Sequence[float]]) -> int:
        """Add passages with their vectors.

        :returns: how many are new
        """
        rows = [
            (document, text, _digest(text), _packed(vector))
            for text, vector in zip(texts, vectors, strict=True)
        ]
        with self._db.write() as db:
            return db.executemany(
                "INSERT OR IGNORE INTO passages (document, text, digest, vector) VALUES (?, ?, ?, ?)", rows
            ).rowcount

    def note(self, line: str) -> None:
        """Add a line to the log."""
        with self._db.write() as db:
            db.execute("INSERT INTO log (time, line) VALUES (?, ?)", (time.time(), line))

    # -- using

    @property
    def is_complete(self) -> bool:
        """Whether everything is there."""
        return self._fact("complete") is not None

    @property
    def model_name(self) -> str:
        """The text model that answers."""
        return self._fact("model_name") or ""

    @property
    def last_number(self) -> int:
        """The number of the last passage; numbers only grow."""
        return int(self._db.read("SELECT coalesce(max(number), 0) FROM passages")[0][0])

    def counts(self) -> tuple[int, int, int]:
        """How many documents are unread, how many passages there are, and how many of them have a vector."""
        return (
            self._db.read("SELECT count(*) FROM documents WHERE NOT read")[0][0],
            *self._db.read("SELECT count(*), count(vector) FROM passages")[0],
        )

    def log(self) -> list[tuple[float, str]]:
        """The lines of the log, each with its time in seconds since the epoch."""
        return [
            (moment, line) for moment, line in self._db.read("SELECT time, line FROM log ORDER BY number")
        ]

    def vectors(self) -> tuple[list[int], Vectors]:
        """The numbers of all passages that have a vector, and the vectors in that order, each of length 1."""
        rows = self._db.read("SELECT number, vector FROM passages WHERE vector IS NOT NULL ORDER BY number")
        if not rows:
            return [], np.zeros((0, 0), dtype=np.float32)
        flat = np.frombuffer(b"".join(vector for _, vector in rows), dtype=np.float32)
        return [number for number, _ in rows], flat.reshape(len(rows), -1)

    def passages(self, numbers: Sequence[int]) -> list[Passage]:
        """Some passages, in the order that was asked for."""
        marks = ",".join("?" * len(numbers))
        sql = f"SELECT number, document, text FROM passages WHERE number IN ({marks})"  # noqa: S608 - only marks
        found = {row[0]: Passage(*row) for row in self._db.read(sql, *numbers)}
        return [found[number] for number in numbers if number in found]

    def spread(self, size: int) -> list[Passage]:
        """So many passages from all over the index, at even distances."""
        numbers = [
            row[0] for row in self._db.read("SELECT number FROM passages WHERE vector IS NOT NULL ORDER BY 1")
        ]
        size = min(size, len(numbers))
        return self.passages([numbers[place * len(numbers) // size] for place in range(size)])

    def _fact(self, name: str) -> str | None:
        found = self._db.read("SELECT value FROM facts WHERE name = ?", name)
        return str(found[0][0]) if found else None


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def _packed(vector: Sequence[float]) -> bytes:
    array = np.asarray(vector, dtype=np.float32)
    length = float(np.linalg.norm(array))
    return (array / length if length else array).tobytes()
