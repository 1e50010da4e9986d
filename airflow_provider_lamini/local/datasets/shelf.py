"""All datasets of a platform: their rows on disk, and what is known of each."""

from __future__ import annotations

import re
import shutil
import time
import uuid
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Final, Literal

import msgspec

from airflow_provider_lamini.local.database import Database
from airflow_provider_lamini.local.errors import PlatformError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from airflow_provider_lamini.api.call import Json

Base = Literal["local", "azure"]
"""How rows come in: sent to the platform itself, or put into a blob by a signed URL."""

UNFINISHED_SECONDS: Final = 7 * 24 * 3600
"""Blocks of a blob that was never put together are kept so long."""

_LOCATION: Final = re.compile(r"(?:local|azure)/([0-9a-f]{32})\.jsonl")

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS datasets (
    id TEXT PRIMARY KEY, base TEXT NOT NULL, rows INTEGER, is_public INTEGER NOT NULL, created REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Dataset:
    """A dataset.

    :param id: its id
    :param base: how its rows come in
    :param rows: how many it has; None while nobody has said so
    :param is_public: whether others may use it
    :param created: seconds since the epoch
    :param path: the file of its rows, JSON Lines; it is missing while nothing was uploaded
    """

    id: str
    base: Base
    rows: int | None
    is_public: bool
    created: float
    path: Path

    @property
    def location(self) -> str:
        """Where it lies, in the platform's words; a tuning job is given this."""
        return f"{self.base}/{self.id}.jsonl"

    @property
    def size(self) -> int | None:
        """Bytes of its rows, None while nothing was uploaded."""
        return self.path.stat().st_size if self.path.exists() else None

    def read(self) -> Iterator[dict[str, Json]]:
        """Its rows, one at a time.

        :raises PlatformError: nothing was uploaded, or a line is no JSON object; it says which
        """
        if not self.path.exists():
            raise PlatformError(400, f"Dataset {self.id} has no rows yet: nothing was uploaded.")
        number = 0
        with self.path.open("rb") as lines:
            for line in lines:
                if not line.strip():
                    continue
                try:
                    row = msgspec.json.decode(line, type=dict[str, object])
                except (msgspec.DecodeError, UnicodeDecodeError):
                    raise PlatformError(
                        400, f"Row {number} of dataset {self.id} (from 0) is no JSON object."
                    ) from None
                yield row  # type: ignore[misc]  # what JSON decodes to
                number += 1


class Writer:
    """Writes rows.

    :param file: where to
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.rows = 0

    def add(self, row: dict[str, Json]) -> None:
        """Write one row."""
        self._file.write(msgspec.json.encode(row) + b"\n")
        self.rows += 1


class Datasets:
    """The datasets in one folder.

    :param folder: where they lie; made if missing
    :param base: how rows are to come in
    """

    def __init__(self, folder: Path, base: Base = "local") -> None:
        folder.mkdir(exist_ok=True)
        self.base: Base = base
        self._default = base
        self._folder = folder
        self._db = Database(folder / "datasets.sqlite", SCHEMA)
        for rest in folder.glob("*.part"):
            rest.unlink()
        for blocks in folder.glob("*.blocks"):
            if blocks.stat().st_mtime < time.time() - UNFINISHED_SECONDS:
                shutil.rmtree(blocks)

    def reset(self) -> None:
        """Let rows come in as at the beginning."""
        self.base = self._default

    def create(self, *, is_public: bool) -> Dataset:
        """Make a dataset whose rows are to be put into a blob."""
        return self._insert(uuid.uuid4().hex, "azure", None, is_public=is_public)

    @contextmanager
    def writing(self) -> Iterator[tuple[str, Writer]]:
        """Write the rows of a new dataset: its id and the writer. Nothing stays where the block raises."""
        dataset_id = uuid.uuid4().hex
        with self.whole_file(self._path(dataset_id)) as file:
            yield dataset_id, Writer(file)

    @contextmanager
    def whole_file(self, path: Path) -> Iterator[IO[bytes]]:
        """Write a file that is there once all of it is written."""
        unfinished = self._folder / f"{uuid.uuid4().hex}.part"
        try:
            with unfinished.open("xb") as file:
                yield file
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)

    def written(self, dataset_id: str, rows: int, *, is_public: bool) -> Dataset:
        """Note a dataset whose rows were written."""
        return self._insert(dataset_id, "local", rows, is_public=is_public)

    def get(self, dataset_id: str) -> Dataset:
        """The dataset of that id.

        :raises PlatformError: there is none
        """
        found = self._db.read("SELECT * FROM datasets WHERE id = ?", dataset_id)
        if not found:
            raise PlatformError(404, f"Dataset {dataset_id!r} not found.")
        known_id, base, rows, is_public, created = found[0]
        return Dataset(known_id, base, rows, bool(is_public), created, self._path(known_id))

    def at(self, location: str) -> Dataset:
        """The dataset at a location that was told before.

        :raises PlatformError: there is none
        """
        known = _LOCATION.fullmatch(location)
        if known is None:
            raise PlatformError(404, "No dataset lies there: the location is none of this platform.")
        return self.get(known[1])

    def count(self, dataset_id: str, rows: int) -> Dataset:
        """Check that so many rows were uploaded, each a JSON object, and note it.

        :raises PlatformError: there is no such dataset, or it has other rows
        """
        dataset = self.get(dataset_id)
        found = sum(1 for _ in dataset.read())
        if found != rows:
            raise PlatformError(400, f"Dataset {dataset_id} has {found} rows, not {rows}.")
        with self._db.write() as db:
            db.execute("UPDATE datasets SET rows = ? WHERE id = ?", (rows, dataset_id))
        return self.get(dataset_id)

    def blocks(self, dataset: Dataset) -> Path:
        """The folder of the blocks that a dataset's blob is to be put together from."""
        return dataset.path.with_suffix(".blocks")

    def secret(self, new: str) -> str:
        """The secret that this platform signs URLs with.

        :param new: what it becomes where there is none yet
        """
        with self._db.write() as db:
            db.execute("INSERT OR IGNORE INTO facts VALUES ('secret', ?)", (new,))
        return str(self._db.read("SELECT value FROM facts WHERE name = 'secret'")[0][0])

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def _insert(self, dataset_id: str, base: Base, rows: int | None, *, is_public: bool) -> Dataset:
        with self._db.write() as db:
            db.execute(
                "INSERT INTO datasets VALUES (?, ?, ?, ?, ?)",
                (dataset_id, base, rows, is_public, time.time()),
            )
        return self.get(dataset_id)

    def _path(self, dataset_id: str) -> Path:
        return self._folder / f"{dataset_id}.jsonl"
