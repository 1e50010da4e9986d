"""Loading the results of a run into a table of a database, each row once."""

from __future__ import annotations

import re
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from itertools import islice
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_provider_lamini.compat import report_sql_lineage
from airflow_provider_lamini.exceptions import InvalidArgumentError, StorageError
from airflow_provider_lamini.results import read_outputs
from airflow_provider_lamini.rows.output.manifest import read_manifest
from airflow_provider_lamini.rows.sources.database_errors import driver_failure
from airflow_provider_lamini.rows.sources.sql import database_connection, is_postgres
from airflow_provider_lamini.rows.storage.folder import OutputFolder
from airflow_provider_lamini.wording import counted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from airflow_provider_lamini.runs.outcome import Log

_TABLE = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*){0,2}")
_COLUMN = re.compile(r"[^\W\d]\w*")
_MAX_SHOWN = 60
_KEPT = "Chunks that were loaded before stay; of this one, no row is in the table."


@dataclass(frozen=True, slots=True, kw_only=True)
class TableLoad:
    """What is loaded where.

    :param results: output folder of the run
    :param results_conn_id: the connection to its object storage
    :param conn_id: the connection to the database
    :param table: the table, which exists
    :param columns: the table's columns, each with the field of a result that it gets
    :param key: the columns that identify a row of the table; empty to append rows
    :param skip_failed: leave out rows that have failed
    :param chunk_size: rows per transaction
    :param record_table: the table that records how far each run has been loaded
    :param reload: load rows again that the record says are loaded
    """

    results: str
    results_conn_id: str | None
    conn_id: str
    table: str
    columns: Mapping[str, str]
    key: Sequence[str]
    skip_failed: bool
    chunk_size: int
    record_table: str
    reload: bool


def table_name(name: str, value: object) -> str:
    """The name of a table, which becomes a part of statements.

    :param name: the argument, for the message
    :param value: the name, with its schema or without
    :raises InvalidArgumentError: if it is anything else
    """
    if not isinstance(value, str) or not _TABLE.fullmatch(value):
        raise InvalidArgumentError(
            f"{name} must be the name of a table, such as results or public.results, not {str(value)[:_MAX_SHOWN]!r}."
        )
    return value


def column_names(name: str, value: object) -> list[str]:
    """Names of columns, which become a part of statements.

    :param name: the argument, for the message
    :param value: a list of names; ``None`` for none
    :raises InvalidArgumentError: if it is anything else
    """
    names = [] if value is None else value
    if not isinstance(names, list | tuple) or len(set(map(str, names))) < len(names):
        raise InvalidArgumentError(f"{name} must be a list of different columns.")
    for item in names:
        if not isinstance(item, str) or not _COLUMN.fullmatch(item):
            raise InvalidArgumentError(
                f"{name} has {str(item)[:_MAX_SHOWN]!r}, which is not the name of a column: letters, digits and '_'. "
                "Databases quote other names in different ways: rename the column, or load into a view that does."
            )
    return list(names)


def load_table(load: TableLoad, log: Log) -> dict[str, object]:
    """Load the results of a finished run. What an earlier try has loaded is not loaded again.

    Each transaction deletes the rows with the same keys, inserts a chunk, and records how far the run is loaded. So after any
    crash, each row is in the table once.

    :param load: what is loaded where
    :param log: the task's log
    :return: ``table``, ``rows`` (of the run), and in this try ``loaded``, ``skipped`` (failed rows) and ``repeated`` (rows whose
        key a later row of the same chunk has)
    :raises InvalidArgumentError: if a field or the connection cannot be used
    :raises IncompleteOutputError: if the run has not ended, or a part is missing or damaged
    :raises StorageError: if another task, or another try of this one, is loading the same results
    """
    folder = OutputFolder(load.results, load.results_conn_id)
    total = read_manifest(folder).counts.rows
    hook, connection = database_connection(load.conn_id)
    with closing(connection):
        if hook.supports_autocommit:
            hook.set_autocommit(connection, False)  # noqa: FBT003 - Airflow's interface
        table = _Table(load, connection, hook.placeholder)
        record = _Record(load, connection, hook.placeholder, _fingerprint(load, folder))
        with _load_errors(load):
            done = record.begin()
        if done:
            log.info("Continuing: %d of %d rows were loaded before.", done, total)
        loaded = skipped = repeated = 0
        rows = islice(read_outputs(load.results, load.results_conn_id), done, None)
        while chunk := list(islice(rows, load.chunk_size)):
            wanted = [row for row in chunk if not (load.skip_failed and row.get("error") is not None)]
            with _load_errors(load), _transaction(connection):
                # First, because it makes another live try wait, and then fail.
                record.advance(done, done + len(chunk))
                inserted = table.replace(wanted)
            done += len(chunk)
            loaded, skipped = loaded + inserted, skipped + len(chunk) - len(wanted)
            repeated += len(wanted) - inserted
    report_sql_lineage(hook, f"INSERT INTO {load.table} VALUES (NULL)")  # noqa: S608 - names the table, and is not run
    log.info(
        "Loaded %s into %s; left out %s.",
        *(counted(loaded, "row"), load.table, counted(skipped, "failed row")),
    )
    if repeated:
        log.warning(
            "Left out %s whose key (%s) a later row has: of rows with the same key, the last one is in %s. Is the key unique?",
            *(counted(repeated, "row"), ", ".join(load.key), load.table),
        )
    return {"table": load.table, "rows": total, "loaded": loaded, "skipped": skipped, "repeated": repeated}


def _fingerprint(load: TableLoad, folder: OutputFolder) -> str:
    """Hash of the results and of where they go. Results that replaced others in the same folder have another one."""
    target = [load.table, folder.location, dict(load.columns), list(load.key), load.skip_failed]
    results_hash = blake2b(msgspec.json.encode(target), digest_size=16)
    for part in read_manifest(folder).parts:
        for line in folder.lines(part.name):
            results_hash.update(line)
    return results_hash.hexdigest()


@contextmanager
def _load_errors(load: TableLoad) -> Iterator[None]:
    """Turn errors of the database's driver into errors of the task.

    :raises InvalidArgumentError: if the table, its columns or the rows do not fit
    :raises StorageError: if the database fails
    """
    try:
        yield
    except Exception as error:
        found = driver_failure(error)
        if found is None:
            raise
        reason, may_pass = found
        if may_pass:
            raise StorageError(
                f"The database failed while results were loaded into {load.table}: {reason}. A retry continues. {_KEPT}"
            ) from None
        raise InvalidArgumentError(
            f"The database refuses to load results into {load.table}: {reason}. Correct table, columns or key. {_KEPT}"
        ) from None


@contextmanager
def _transaction(connection: Any) -> Iterator[None]:
    try:
        yield
    except BaseException:
        connection.rollback()
        raise
    connection.commit()


class _Table:
    """The table that results are loaded into."""

    def __init__(self, load: TableLoad, connection: Any, placeholder: str) -> None:
        self._load = load
        self._connection = connection
        self._reads_texts = is_postgres(connection)
        names = list(load.columns)
        marks = ", ".join([placeholder] * len(names))
        self._insert = f"INSERT INTO {load.table} ({', '.join(names)}) VALUES ({marks})"  # noqa: S608 - validated names
        wheres = " AND ".join(f"{column} = {placeholder}" for column in load.key)
        self._delete = f"DELETE FROM {load.table} WHERE {wheres}"  # noqa: S608 - validated names

    def replace(self, rows: Sequence[Mapping[str, Any]]) -> int:
        """Insert rows in the place of those with the same keys.

        :return: how many: of rows with the same key, only the last one
        """
        inserts = [
            {column: self._value(row, field) for column, field in self._load.columns.items()} for row in rows
        ]
        if not inserts:
            return 0
        with closing(self._connection.cursor()) as cursor:
            if self._load.key:
                keys = [self._key(values, row) for values, row in zip(inserts, rows, strict=True)]
                if len(set(keys)) < len(keys):  # the last row counts, as it does across chunks
                    inserts = list(dict(zip(keys, inserts, strict=True)).values())
                cursor.executemany(self._delete, [tuple(map(self._comparable, key)) for key in keys])
            cursor.executemany(self._insert, [tuple(values.values()) for values in inserts])
        return len(inserts)

    def _key(self, values: Mapping[str, Any], row: Mapping[str, Any]) -> tuple[Any, ...]:
        found = tuple(values[column] for column in self._load.key)
        if None in found:
            column = self._load.key[found.index(None)]
            raise InvalidArgumentError(
                f"key: row {row['index']} has no value for the column {column}, so it cannot be found again. "
                + _KEPT
            )
        return found

    def _comparable(self, value: Any) -> Any:
        """A value as a statement can compare it with a column: PostgreSQL compares no number with a text, but reads both."""
        return str(value) if self._reads_texts and not isinstance(value, str) else value

    def _value(self, row: Mapping[str, Any], field: str) -> Any:
        """The value of a field; lists and objects as JSON text."""
        value: Any = row.get(field)
        if field not in row:
            name, _, inner = field.partition(".")
            if name not in row:
                raise InvalidArgumentError(
                    f"columns: the results have no field {field[:_MAX_SHOWN]!r}. They have {', '.join(list(row)[:50])}."
                )
            value = row[name]
            for part in inner.split("."):
                if value is None:
                    break
                if not isinstance(value, dict) or part not in value:
                    raise InvalidArgumentError(
                        f"columns: row {row['index']} has no field {field[:_MAX_SHOWN]!r}. {_KEPT}"
                    )
                value = value[part]
        return msgspec.json.encode(value).decode() if isinstance(value, dict | list) else value


class _Record:
    """How far a run has been loaded: one row of the record table."""

    def __init__(self, load: TableLoad, connection: Any, placeholder: str, run: str) -> None:
        self._load = load
        self._connection = connection
        self._mark = placeholder
        self._run = run

    def begin(self) -> int:
        """Create the record, if there is none.

        :return: number of rows of the run that are loaded
        """
        table = self._load.record_table
        self._run_alone(
            f"CREATE TABLE IF NOT EXISTS {table} (run VARCHAR(32) PRIMARY KEY, target VARCHAR(255) NOT NULL, "
            "results VARCHAR(2000) NOT NULL, rows_loaded BIGINT NOT NULL, updated_at VARCHAR(40) NOT NULL)"
        )
        mark = self._mark
        if self._load.reload:
            self._run_alone(f"DELETE FROM {table} WHERE run = {mark}", self._run)  # noqa: S608 - validated names
        found = self._loaded()
        if found is not None:
            return found
        self._run_alone(
            f"INSERT INTO {table} (run, target, results, rows_loaded, updated_at) "  # noqa: S608 - validated names
            f"VALUES ({mark}, {mark}, {mark}, {mark}, {mark})",
            *(self._run, self._load.table, self._load.results[:2000], 0, _now()),
        )
        return self._loaded() or 0

    def advance(self, start: int, end: int) -> None:
        """Record a chunk, in the transaction that loads it.

        :param start: rows that were loaded before
        :param end: rows that are loaded with it
        :raises StorageError: if another try has loaded it meanwhile
        """
        with closing(self._connection.cursor()) as cursor:
            cursor.execute(
                f"UPDATE {self._load.record_table} SET rows_loaded = {self._mark}, updated_at = {self._mark} "  # noqa: S608
                f"WHERE run = {self._mark} AND rows_loaded = {self._mark}",
                (end, _now(), self._run, start),
            )
            if cursor.rowcount != 1:
                raise StorageError(
                    f"Another task, or another try of this one, is loading the same results into {self._load.table}. This "
                    "one has stopped; nothing is loaded twice."
                )

    def _loaded(self) -> int | None:
        with closing(self._connection.cursor()) as cursor:
            cursor.execute(
                f"SELECT rows_loaded FROM {self._load.record_table} WHERE run = {self._mark}",  # noqa: S608
                (self._run,),
            )
            found = cursor.fetchone()
        self._connection.rollback()
        if found is None:
            return None
        return int(next(iter(found.values())) if isinstance(found, dict) else found[0])

    def _run_alone(self, statement: str, *values: object) -> None:
        """Run a statement in a transaction of its own. Another task may do the same at this moment, and then it may fail."""
        try:
            with _transaction(self._connection), closing(self._connection.cursor()) as cursor:
                cursor.execute(statement, values) if values else cursor.execute(statement)
        except Exception as error:
            if not any(kind.__name__ == "IntegrityError" for kind in type(error).__mro__):
                raise


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
