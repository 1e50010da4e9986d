"""Results of an earlier run for rows that have not changed.

A run writes the keys of a chunk's rows beside its part: 16 bytes per row, a hash of its prompt. A later run with the same
settings looks its own rows up by key. The keys of a whole run are in a temporary SQLite file, so memory does not depend
on the number of rows. Looking up is fastest if both runs have their rows in about the same order.
"""

from __future__ import annotations

import sqlite3
from collections import OrderedDict
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from airflow_provider_lamini.rows.errors import IncompleteOutputError, TemporaryDiskError
from airflow_provider_lamini.rows.hashes import KEY_SIZE
from airflow_provider_lamini.rows.output.manifest import read_manifest
from airflow_provider_lamini.rows.output.shards import run_folders
from airflow_provider_lamini.rows.storage.run_files import keys_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from airflow_provider_lamini.api.call import Json
    from airflow_provider_lamini.rows.output.manifest import Manifest, Part
    from airflow_provider_lamini.rows.storage.folder import OutputFolder

_AT_ONCE = 500
"""Keys per query; SQLite allows 999 values."""
_MAX_CACHED = 64 * 1024 * 1024
"""Bytes of parts that are kept in memory."""


class EarlierResult(NamedTuple):
    """The result of a row in an earlier run.

    :param output: the output, or the vector
    :param finish_reason: why generation ended, as the platform says it
    :param reasoning: what the model has thought, if it was kept
    """

    output: Json
    finish_reason: str | None
    reasoning: str | None = None


def open_earlier(
    location: str, conn_id: str | None, settings: str, warn: Callable[[str], object]
) -> EarlierRun | None:
    """Open the run whose results are reused, or the runs whose shards were merged, if they had the same settings.

    :param location: path or URI of the output folder, or of the one with the list of shards
    :param conn_id: the Airflow connection to the object store
    :param settings: hash of the platform, the model and the parameters
    :param warn: takes a sentence about what cannot be used
    :return: ``None`` if there is nothing to reuse
    """
    try:
        folders = run_folders(location, conn_id)
    except IncompleteOutputError as error:
        warn(f"Nothing can be reused: {error}")
        return None
    runs = []
    for folder in folders:
        try:
            manifest = read_manifest(folder)
        except IncompleteOutputError as error:
            warn(f"Nothing can be reused: {error}")
            continue
        if manifest.settings == settings:
            runs.append(_Run(folder, manifest))
        else:
            warn(f"Nothing can be reused from {folder}: it has another model or other parameters.")
    return EarlierRun(runs, warn) if runs else None


class _Run(NamedTuple):
    """A finished run.

    :param folder: its output folder
    :param manifest: its manifest
    """

    folder: OutputFolder
    manifest: Manifest

    def is_current(self) -> bool:
        """Whether the run is still there. Whoever replaces it removes its manifest before anything else."""
        with suppress(IncompleteOutputError):
            return read_manifest(self.folder) == self.manifest
        return False


class _Place(NamedTuple):
    """Where a row with a key is in the earlier runs.

    :param number: numbers all places in the order of the runs and their rows
    :param part: number of the part
    :param row: the row in the part
    :param key: the key
    """

    number: int
    part: int
    row: int
    key: bytes


class EarlierRun:
    """The results of finished runs, by key. What is missing or damaged, or replaced meanwhile, is not found.

    :param runs: the runs; the parts of all of them are numbered together
    :param warn: takes a sentence about a part that cannot be used
    """

    def __init__(self, runs: Sequence[_Run], warn: Callable[[str], object]) -> None:
        self._runs = runs
        self._warn = warn
        self._parts = [(run, part) for run in runs for part in run.manifest.parts]
        self._index: sqlite3.Connection | None = None
        self._cache: OrderedDict[int, _PartContent | None] = OrderedDict()

    def close(self) -> None:
        """Remove the temporary database."""
        if self._index is not None:
            self._index.close()

    def find(self, row_keys: bytes, wanted: Sequence[int]) -> dict[int, EarlierResult]:
        """Look rows up.

        :param row_keys: keys of rows, one after the other
        :param wanted: positions of the rows to look up
        :return: the results of those that have one, by their position
        """
        keys = {number: row_keys[number * KEY_SIZE : (number + 1) * KEY_SIZE] for number in wanted}
        results = self._results(set(keys.values()))
        return {number: results[key] for number, key in keys.items() if key in results}

    def _results(self, keys: set[bytes]) -> dict[bytes, EarlierResult]:
        """The results of keys, each from the first place that has one."""
        index, found = self._index or self._read_keys(), {}
        while keys:
            empty: list[_Place] = []
            for place in sorted(_first_places(index, keys)):  # part by part, so that each is read once
                content = self._part(place.part)
                result = None if content is None else content.result(place.row)
                if result is None:
                    empty.append(place)
                else:
                    found[place.key] = result
            # A place without a result is never looked at again, and another place of its key is now the first.
            index.executemany("DELETE FROM keys WHERE rowid = ?", ((place.number,) for place in empty))
            keys = {place.key for place in empty}
        return found

    def _read_keys(self) -> sqlite3.Connection:
        """Read the keys of all runs.

        :raises TemporaryDiskError: if the temporary database cannot be written
        """
        try:
            return self._write_index()
        except sqlite3.OperationalError as error:
            raise TemporaryDiskError(
                f"The keys for reuse_from do not fit on the worker's disk for temporary files ({error}). Free space, or set "
                "TMPDIR on the worker to a folder on another disk."
            ) from error

    def _write_index(self) -> sqlite3.Connection:
        # No name: a temporary database on disk, which SQLite removes from its folder as soon as it is open.
        index = self._index = sqlite3.connect("", check_same_thread=False)
        index.executescript(
            "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; CREATE TABLE keys (key BLOB, part INTEGER, row INTEGER);"
        )
        first = 0
        for run in self._runs:
            for number, part in enumerate(run.manifest.parts):
                keys = ((key, first + number, row) for row, key in enumerate(_part_keys(run, number, part)))
                index.executemany("INSERT INTO keys VALUES (?, ?, ?)", keys)
            if not run.is_current():
                self._warn(f"{run.folder} was replaced while it was read; nothing of it is reused.")
                index.execute("DELETE FROM keys WHERE part >= ?", (first,))
            first += len(run.manifest.parts)
        index.execute("CREATE INDEX by_key ON keys (key)")
        return index

    def _part(self, number: int) -> _PartContent | None:
        if number in self._cache:
            self._cache.move_to_end(number)
            return self._cache[number]
        run, part = self._parts[number]
        content = _read_part(run, part)
        if content is None:
            self._warn(
                f"{run.folder.uri(part.name)} is missing, damaged or replaced; nothing of it is reused."
            )
        self._cache[number] = content
        while len(self._cache) > 1 and sum(each.size for each in self._cache.values() if each) > _MAX_CACHED:
            self._cache.popitem(last=False)
        return content


def _first_places(index: sqlite3.Connection, keys: set[bytes]) -> Iterator[_Place]:
    """The first place of each key that has one."""
    ordered = sorted(keys)
    for first in range(0, len(ordered), _AT_ONCE):
        some = ordered[first : first + _AT_ONCE]
        marks = ",".join(["(?)"] * len(some))
        query = (
            f"WITH wanted (key) AS (VALUES {marks}) SELECT keys.rowid, part, row, keys.key FROM wanted JOIN keys "  # noqa: S608 - only question marks
            "ON keys.rowid = (SELECT min(rowid) FROM keys WHERE key = wanted.key)"
        )
        yield from map(_Place._make, index.execute(query, some))


def _part_keys(run: _Run, number: int, part: Part) -> Iterator[bytes]:
    """The keys of the rows of a part; none if they are missing."""
    try:
        content = run.folder.read(keys_name(number))
    except FileNotFoundError:
        return
    if len(content) == part.rows * KEY_SIZE:
        for row in range(part.rows):
            yield content[row * KEY_SIZE : (row + 1) * KEY_SIZE]


def _read_part(run: _Run, part: Part) -> _PartContent | None:
    """The content of a part; ``None`` if it is missing, damaged or replaced."""
    kind = _ParquetPart if part.name.endswith(".parquet") else _LinesPart
    # Where a run has only some rows of its input, their indices have gaps.
    first_row = part.first_row if run.manifest.only_failed_of is msgspec.UNSET else None
    try:
        found: _PartContent = kind(run.folder.read(part.name), first_row)
    except (FileNotFoundError, ValueError):
        return None
    return found if found.rows == part.rows and run.is_current() else None


class _LinesPart:
    """A part in JSON Lines, decoded line by line.

    :param content: the file
    :param first_row: index of its first row, if those of the others follow
    """

    def __init__(self, content: bytes, first_row: int | None) -> None:
        self.size = len(content)
        self._lines = content.split(b"\n")
        self.rows = len(self._lines) - 1
        self._first_row = first_row

    def result(self, row: int) -> EarlierResult | None:
        """The result of a row; ``None`` if it failed, or the line is damaged or that of another row."""
        try:
            line: dict[str, Any] = msgspec.json.decode(self._lines[row], type=dict)
        except msgspec.MsgspecError:
            return None
        if line.get("error") is not None or not _is_row(line.get("index"), self._first_row, row):
            return None
        output = line["embedding"] if "embedding" in line else line.get("output")
        return EarlierResult(output, line.get("finish_reason"), line.get("reasoning"))


class _ParquetPart:
    """A part with vectors in Parquet. Parameters as for `_LinesPart`.

    :raises ValueError: if the file is damaged
    """

    def __init__(self, content: bytes, first_row: int | None) -> None:
        import pyarrow as pa
        from pyarrow import parquet

        columns = ["index", "embedding", "error"]
        self._table = parquet.read_table(pa.BufferReader(content), columns=columns)
        self.size = int(self._table.nbytes)
        self.rows = int(self._table.num_rows)
        self._first_row = first_row

    def result(self, row: int) -> EarlierResult | None:
        """The result of a row; ``None`` if it failed, or is another row."""
        table = self._table
        if table["error"][row].as_py() is not None:
            return None
        if not _is_row(table["index"][row].as_py(), self._first_row, row):
            return None
        return EarlierResult(table["embedding"][row].as_py(), None)


def _is_row(index: object, first_row: int | None, row: int) -> bool:
    return first_row is None or index == first_row + row


_PartContent = _LinesPart | _ParquetPart
