"""Rows of a database query, read in blocks with a cursor on the server where the driver has one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from airflow_provider_lamini.compat import report_sql_lineage
from airflow_provider_lamini.rows.errors import InputError, MissingExtraError
from airflow_provider_lamini.rows.hashes import digest
from airflow_provider_lamini.rows.sources.database_errors import connection_errors, query_errors
from airflow_provider_lamini.rows.sources.jsonl import unusable_value
from airflow_provider_lamini.rows.sources.read_once import ReadOnceInput, encode_rows
from airflow_provider_lamini.rows.values import split_usable
from airflow_provider_lamini.wording import no_connection

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

BLOCK_ROWS = 1000
_CURSOR_NAME = "airflow_provider_lamini_input"
_NO_CODE = re.compile(r"'(?:[^']|'')*'|\"[^\"]*\"|`[^`]*`|--[^\n]*|/\*.*?\*/", re.DOTALL)
"""Literals, quoted names and comments."""
_PARENTHESIS = re.compile(r"([()])")
_READS = re.compile(r"[\s(]*(?:select|with|values|table)\b", re.IGNORECASE)
_ORDERED = re.compile(r"\border\s+by\b", re.IGNORECASE)
_WRITES = re.compile(r"\b(?:insert|update|delete|merge|truncate|drop|alter|create)\b", re.IGNORECASE)


class DatabaseCursor(Protocol):
    """A cursor of Python's database API."""

    description: Sequence[Sequence[Any]] | None

    def execute(self, sql: str, parameters: Any = ..., /) -> object: ...

    def fetchmany(self, size: int = ..., /) -> Sequence[Any]: ...

    def close(self) -> object: ...


@dataclass(frozen=True, slots=True)
class SqlInput(ReadOnceInput):
    """A query as input.

    :param sql: one statement that reads, with an ``ORDER BY``
    :param parameters: values of its placeholders, such as the bounds of a day; ``None`` for none
    :param conn_id: the Airflow connection to the database
    """

    sql: str
    parameters: Mapping[str, object] | Sequence[object] | None
    conn_id: str

    @classmethod
    def of(cls, sql: str, parameters: object, conn_id: str) -> SqlInput:
        """Validate a query.

        :param sql: the statement
        :param parameters: a mapping or a list of values for its placeholders, or ``None``
        :param conn_id: the Airflow connection to the database
        :raises InputError: if the statement does not read, or does not order its rows
        """
        statement = sql.strip().rstrip(";").rstrip()
        plain = _NO_CODE.sub(" ", statement)
        if ";" in plain or not _READS.match(plain) or _WRITES.search(plain):
            raise InputError(
                "input_sql must be one statement that only reads, such as SELECT ... ORDER BY id."
            )
        if not _ORDERED.search(_outermost(plain)):
            raise InputError(
                "input_sql needs ORDER BY with a unique key, outside of parentheses: a database may return rows in another "
                "order each time."
            )
        if parameters is not None and (
            isinstance(parameters, str) or not isinstance(parameters, Mapping | list | tuple)
        ):
            raise InputError(
                "sql_parameters must be a mapping or a list of the values of the query's placeholders."
            )
        return cls(statement, parameters or None, conn_id)

    @property
    def fingerprint(self) -> str:
        """Hash of the connection's id, the query and its bounds."""
        return digest({"conn_id": self.conn_id, "sql": self.sql, "parameters": self.parameters})

    def read_lines(self, *, keep_bad: bool) -> Generator[bytes, None, None]:
        """Run the query, and read its rows. Errors as for `database_connection` and `read_records`."""
        hook, opened = database_connection(self.conn_id)
        with closing(opened) as connection:
            report_sql_lineage(hook, self.sql)
            # If a row is refused, its cursor must be closed before the connection.
            with closing(read_records(connection, self)) as blocks:
                yield from encode_rows(blocks, _row, keep_bad=keep_bad)

    def first_rows(self, maximum: int, *, keep_bad: bool) -> list[object]:
        del keep_bad  # only who needs a bad value notices it
        rows: list[object] = []
        hook, opened = database_connection(self.conn_id)
        with closing(opened) as connection:
            report_sql_lineage(hook, self.sql)
            with closing(read_records(connection, self)) as blocks:
                for block in blocks:
                    rows += block
                    if len(rows) >= maximum:
                        break
        return rows

    def __str__(self) -> str:
        return f"the query on the connection {self.conn_id}"


def _outermost(plain: str) -> str:
    """A statement without what is in parentheses, such as subqueries and windows; those around all of it do not count.

    :param plain: the statement, without literals and comments
    """
    levels: dict[int, str] = {}
    depth = 0
    for piece in _PARENTHESIS.split(plain):
        if piece in ("(", ")"):
            depth += 1 if piece == "(" else -1
        elif piece.strip():
            levels[depth] = f"{levels.get(depth, '')} {piece}"
    return levels[min(levels)]


_PROVIDERS = {
    "mssql": "microsoft-mssql",
    "redshift": "amazon",
    **{
        name: name
        for name in ("jdbc", "mysql", "odbc", "oracle", "postgres", "presto", "snowflake", "sqlite", "trino")
    },
}
"""The end of the name of the package that brings the hook of a database, by type of connection."""


def read_records(connection: Any, query: SqlInput) -> Generator[list[dict[str, Any]], None, None]:
    """Run a query and read its rows in blocks, with the values as the database's driver gives them.

    :param connection: an open connection of Python's database API
    :param query: the query
    :raises InputError: if the database refuses the query
    :raises InputUnavailableError: if the database fails
    """
    with closing(_streaming_cursor(connection)) as cursor:
        arguments = (query.sql,) if query.parameters is None else (query.sql, query.parameters)
        with query_errors(query, executes=True):
            cursor.execute(*arguments)
        columns: list[str] = []
        while block := _next_block(cursor, query):
            columns = columns or _columns(cursor)  # a cursor on the server may know them only now
            yield [_record(columns, record) for record in block]


def _next_block(cursor: DatabaseCursor, query: SqlInput) -> Sequence[Any]:
    with query_errors(query):
        return cursor.fetchmany(BLOCK_ROWS)


def database_connection(conn_id: str) -> tuple[Any, Any]:
    """Connect to a database.

    :param conn_id: the Airflow connection
    :return: the hook, and an open connection of Python's database API
    :raises InputError: if the connection is not that of a database
    :raises InputUnavailableError: if the database cannot be reached
    :raises MissingExtraError: if Airflow's common.sql provider is not installed
    """
    from airflow.providers.common.compat.sdk import AirflowException, AirflowNotFoundException, BaseHook

    try:
        from airflow.providers.common.sql.hooks.sql import DbApiHook
    except ImportError:
        raise MissingExtraError(
            "A database needs Airflow's common.sql provider: pip install 'airflow-provider-lamini[sql]'"
        ) from None
    try:
        found = BaseHook.get_connection(conn_id)
    except AirflowNotFoundException as error:
        raise InputError(no_connection(conn_id)) from error
    kind = found.conn_type or "(none)"
    try:
        hook = found.get_hook()
    except ImportError as error:
        raise MissingExtraError(
            f"A package of the provider for {kind} connections is missing: {error}. Install it; the connection is {conn_id!r}."
        ) from error
    except AirflowException as error:
        name = _PROVIDERS.get(kind)
        if name is None:
            raise InputError(
                f"Airflow has no hook for {kind} connections. Install the provider of that type, or name the connection of a "
                f"database; {conn_id!r} is not that of a database that Airflow knows."
            ) from error
        raise MissingExtraError(
            f"Run pip install 'apache-airflow-providers-{name}': Airflow has no hook for {kind} connections such as {conn_id!r}."
        ) from error
    if not isinstance(hook, DbApiHook):
        raise InputError(
            f"Name the connection of a database: {conn_id!r} is not that of a database, but of type {kind}."
        )
    with connection_errors(conn_id):
        return hook, hook.get_conn()


def is_postgres(connection: Any) -> bool:
    """Whether a connection is one of a PostgreSQL driver.

    :param connection: an open connection
    """
    return _driver(connection) in ("psycopg", "psycopg2")


def _driver(connection: Any) -> str:
    return type(connection).__module__.partition(".")[0]


def _streaming_cursor(connection: Any) -> DatabaseCursor:
    """A cursor that does not fetch the whole result at once, as the default one of some drivers does."""
    driver = _driver(connection)
    cursor: DatabaseCursor
    if is_postgres(connection):
        cursor = connection.cursor(name=_CURSOR_NAME)
    elif driver in ("MySQLdb", "pymysql"):
        from importlib import import_module

        cursor = connection.cursor(import_module(f"{driver}.cursors").SSCursor)
    else:
        if driver == "sqlite3":  # text that is not UTF-8 concerns its row, not the query
            connection.text_factory = partial(str, encoding="utf-8", errors="surrogateescape")
        cursor = connection.cursor()
    return cursor


def _columns(cursor: DatabaseCursor) -> list[str]:
    return [str(column[0]) for column in cursor.description or ()]


def _record(columns: Sequence[str], record: Any) -> dict[str, Any]:
    values = record.values() if isinstance(record, Mapping) else record
    row: dict[str, Any] = {}
    for column, value in zip(columns, values, strict=True):
        row[column] = RepeatedColumn() if column in row else value
    row.pop("", None)  # without a name, nobody can use it
    return row


class RepeatedColumn:
    """Stands for the values of columns with the same name: only who needs them gets an error."""


def _row(record: Mapping[str, object], number: int) -> dict[str, Any]:
    """A row in which a value that JSON cannot represent only matters to those who need its column."""

    def mark(column: str, problem: str) -> object:
        if isinstance(record.get(column), RepeatedColumn):
            problem = "is in the query more than once. Use AS"
        return unusable_value(f"row {number} of the query: column {column!r} {problem}.")

    return split_usable(record, mark)[0]
