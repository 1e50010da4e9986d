"""The dataset repository: stores the rows of datasets as files and their metadata in SQLite."""

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
from airflow_provider_lamini.local.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from airflow_provider_lamini.api.call import Json

UploadBase = Literal["local", "azure"]
"""How clients upload rows: in a request to the platform, or to a blob with a signed URL."""

KEEP_BLOCKS_SECONDS: Final = 7 * 24 * 3600
"""Seconds for which the blocks of an uncommitted blob are kept."""

_LOCATION: Final = re.compile(r"(?:local|azure)/([0-9a-f]{32})\.jsonl")

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS datasets (
    id TEXT PRIMARY KEY, base TEXT NOT NULL, rows INTEGER, is_public INTEGER NOT NULL, created REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class StoredDataset:
    """A dataset.

    :param id: its id
    :param base: how its rows are uploaded
    :param rows: number of rows; None until the client confirms it
    :param is_public: whether others may use it
    :param created: Unix timestamp
    :param path: JSON Lines file of its rows; missing until they are uploaded
    """

    id: str
    base: UploadBase
    rows: int | None
    is_public: bool
    created: float
    path: Path

    @property
    def location(self) -> str:
        """Location as the API shows it. Tuning jobs accept it."""
        return f"{self.base}/{self.id}.jsonl"

    @property
    def size(self) -> int | None:
        """Size of its rows in bytes; None until they are uploaded."""
        return self.path.stat().st_size if self.path.exists() else None

    def read(self) -> Iterator[dict[str, Json]]:
        """Yield its rows.

        :raises ApiError: nothing was uploaded, or a line is not a JSON object; the message says which
        """
        if not self.path.exists():
            raise ApiError(400, f"Dataset {self.id} has no rows yet: nothing was uploaded.")
        number = 0
        with self.path.open("rb") as lines:
            for line in lines:
                if not line.strip():
                    continue
                try:
                    row = msgspec.json.decode(line, type=dict[str, object])
                except (msgspec.DecodeError, UnicodeDecodeError):
                    raise ApiError(
                        400, f"Row {number} (counting from 0) of dataset {self.id} is not a JSON object."
                    ) from None
                yield row  # type: ignore[misc]  # what JSON decodes to
                number += 1


class RowWriter:
    """Writes rows as JSON Lines.

    :param file: the file to write to
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.rows = 0

    def add(self, row: dict[str, Json]) -> None:
        """Write one row."""
        self._file.write(msgspec.json.encode(row) + b"\n")
        self.rows += 1


class DatasetRepository:
    """The datasets in one folder.

    :param folder: the folder, created if missing
    :param base: how clients upload rows
    """

    def __init__(self, folder: Path, base: UploadBase = "local") -> None:
        folder.mkdir(exist_ok=True)
        self.base: UploadBase = base
        self._default_base = base
        self._folder = folder
        self._db = Database(folder / "datasets.sqlite", SCHEMA)
        for partial in folder.glob("*.part"):
            partial.unlink()
        for blocks in folder.glob("*.blocks"):
            if blocks.stat().st_mtime < time.time() - KEEP_BLOCKS_SECONDS:
                shutil.rmtree(blocks)

    def reset(self) -> None:
        """Restore the initial way of uploading rows."""
        self.base = self._default_base

    def create(self, *, is_public: bool) -> StoredDataset:
        """Create a dataset whose rows will be uploaded to a blob."""
        return self._insert(uuid.uuid4().hex, "azure", None, is_public=is_public)

    @contextmanager
    def write_rows(self) -> Iterator[tuple[str, RowWriter]]:
        """Yield the id of a new dataset and a writer for its rows. If the block raises, nothing is stored."""
        dataset_id = uuid.uuid4().hex
        with self.write_atomically(self._path(dataset_id)) as file:
            yield dataset_id, RowWriter(file)

    @contextmanager
    def write_atomically(self, path: Path) -> Iterator[IO[bytes]]:
        """Write a file that appears at its path only when it is complete."""
        partial = self._folder / f"{uuid.uuid4().hex}.part"
        try:
            with partial.open("xb") as file:
                yield file
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)

    def register(self, dataset_id: str, rows: int, *, is_public: bool) -> StoredDataset:
        """Register a dataset whose rows have been written."""
        return self._insert(dataset_id, "local", rows, is_public=is_public)

    def get(self, dataset_id: str) -> StoredDataset:
        """Return a dataset.

        :raises ApiError: no dataset has this id
        """
        found = self._db.read("SELECT * FROM datasets WHERE id = ?", dataset_id)
        if not found:
            raise ApiError(404, f"Dataset {dataset_id!r} not found.")
        known_id, base, rows, is_public, created = found[0]
        return StoredDataset(known_id, base, rows, bool(is_public), created, self._path(known_id))

    def get_by_location(self, location: str) -> StoredDataset:
        """Return the dataset at a location.

        :raises ApiError: no dataset has this location
        """
        match = _LOCATION.fullmatch(location)
        if match is None:
            raise ApiError(404, "No dataset has this location: it is not a location of this platform.")
        return self.get(match[1])

    def confirm_row_count(self, dataset_id: str, rows: int) -> StoredDataset:
        """Check that exactly this many valid rows were uploaded, and store the number.

        :raises ApiError: the dataset does not exist, has another number of rows, or an invalid row
        """
        dataset = self.get(dataset_id)
        found = sum(1 for _ in dataset.read())
        if found != rows:
            raise ApiError(400, f"Dataset {dataset_id} has {found} rows, not {rows}.")
        with self._db.write() as db:
            db.execute("UPDATE datasets SET rows = ? WHERE id = ?", (rows, dataset_id))
        return self.get(dataset_id)

    def delete(self, dataset_id: str) -> None:
        """Delete a dataset and its rows."""
        with self._db.write() as db:
            db.execute("DELETE FROM datasets WHERE id = ?", (dataset_id,))
        self._path(dataset_id).unlink(missing_ok=True)

    def block_folder(self, dataset: StoredDataset) -> Path:
        """Return the folder for the uncommitted blocks of a dataset's blob."""
        return dataset.path.with_suffix(".blocks")

    def signing_secret(self, default: str) -> str:
        """Return the secret that signs URLs.

        :param default: secret to store if there is none yet
        """
        with self._db.write() as db:
            db.execute("INSERT OR IGNORE INTO facts VALUES ('secret', ?)", (default,))
        return str(self._db.read("SELECT value FROM facts WHERE name = 'secret'")[0][0])

    def close(self) -> None:
        """Close the database."""
        self._db.close()

    def _insert(
        self, dataset_id: str, base: UploadBase, rows: int | None, *, is_public: bool
    ) -> StoredDataset:
        with self._db.write() as db:
            db.execute(
                "INSERT INTO datasets VALUES (?, ?, ?, ?, ?)",
                (dataset_id, base, rows, is_public, time.time()),
            )
        return self.get(dataset_id)

    def _path(self, dataset_id: str) -> Path:
        return self._folder / f"{dataset_id}.jsonl"
