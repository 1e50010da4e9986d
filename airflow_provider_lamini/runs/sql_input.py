"""The rows of a query as the input of a run: read once, and kept beside the run until it has ended.

A database may change while a run is retried or deferred. So its first try writes the rows to the output folder, and the
later ones read them there.
"""

from __future__ import annotations

import secrets
from contextlib import closing
from typing import TYPE_CHECKING, Any, Protocol

from airflow_provider_lamini.exceptions import InvalidArgumentError
from airflow_provider_lamini.rows.errors import RowError
from airflow_provider_lamini.rows.run_files import query_file, query_files
from airflow_provider_lamini.rows.sources.source import open_source
from airflow_provider_lamini.rows.sources.sql import (
    SqlInput,
    database_connection,
    read_blocks,
    read_lines,
    read_records,
)
from airflow_provider_lamini.runs.arguments import plain_name, text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_provider_lamini.rows.sources.source import Source
    from airflow_provider_lamini.rows.storage.folder import OutputFolder
    from airflow_provider_lamini.runs.outcome import Log


class QueryArguments(Protocol):
    """An operator whose rows may come from a query."""

    input_sql: str | None
    sql_parameters: Mapping[str, object] | Sequence[object] | None
    input_conn_id: str | None


def required_input(value: object, operator: QueryArguments) -> object:
    """Validate that an operator has one input: rows, or a query.

    :param value: the operator's ``input``
    :param operator: the operator
    :return: the input; a query as `SqlInput`
    :raises InvalidArgumentError: if it has none or both, or the query is invalid
    """
    found = optional_input("input", value, operator)
    if found is None:
        raise InvalidArgumentError("input or input_sql is required: the rows to send.")
    return found


def optional_input(name: str, value: object, operator: QueryArguments) -> object:
    """Validate that an operator has at most one input: rows, or a query.

    :param name: the argument with rows
    :param value: its value
    :param operator: the operator
    :return: the input; a query as `SqlInput`; ``None`` if there is none
    :raises InvalidArgumentError: if it has both, or the query is invalid
    """
    sql, parameters, conn_id = operator.input_sql, operator.sql_parameters, operator.input_conn_id
    if sql is None:
        if parameters is not None:
            raise InvalidArgumentError("sql_parameters needs input_sql, the query with its placeholders.")
        return value
    if value is not None:
        raise InvalidArgumentError(f"{name} and input_sql exclude each other: pass one of them.")
    if conn_id is None:
        raise InvalidArgumentError("input_sql needs input_conn_id, the connection to the database.")
    try:
        return SqlInput.of(text("input_sql", sql), parameters, plain_name("input_conn_id", conn_id))
    except RowError as error:
        raise InvalidArgumentError(str(error)) from error.__cause__


def open_query(
    query: SqlInput,
    folder: OutputFolder,
    *,
    conn_id: str | None,
    known_version: str | None,
    keep_bad: bool,
    log: Log,
) -> Source:
    """Open the rows of a query. They are read from the database only if the run has none yet.

    :param query: the query
    :param folder: the run's output folder, locked by this process
    :param conn_id: the connection to the output folder's object storage
    :param known_version: the version of the input that the run has begun with; ``None`` if it has not begun
    :param keep_bad: keep rows that cannot be used (`Batch.bad`) instead of raising an error
    :param log: the task's log
    :raises RowError: if the connection or a row cannot be used
    """
    for name in query_files(folder, query.fingerprint):
        source = _open(folder, name, query, conn_id, keep_bad=keep_bad)
        if source.version() == known_version:
            return source
    # Each name is new: another try, which is still alive, may be reading the rows that it has written.
    name = query_file(query.fingerprint, secrets.token_hex(4))
    log.info("Reading the rows of %s into %s.", query, folder)
    folder.write(name, read_lines(query, keep_bad=keep_bad), durable=False)
    return _open(folder, name, query, conn_id, keep_bad=keep_bad)


def open_shared_query(
    query: SqlInput, folder: OutputFolder, *, conn_id: str | None, keep_bad: bool, log: Log
) -> Source:
    """Open the rows of a query that several runs share. They are read from the database only if the folder has none.

    :param query: the query
    :param folder: the folder above those of the runs
    :param conn_id: the connection to its object storage
    :param keep_bad: keep rows that cannot be used (`Batch.bad`) instead of raising an error
    :param log: the task's log
    :raises RowError: if the connection or a row cannot be used
    """
    with folder.lock():
        for name in query_files(folder, query.fingerprint)[:1]:
            return _open(folder, name, query, conn_id, keep_bad=keep_bad)
        return open_query(query, folder, conn_id=conn_id, known_version=None, keep_bad=keep_bad, log=log)


def first_rows(query: SqlInput, maximum: int, *, keep_bad: bool) -> list[dict[str, Any]]:
    """The rows of a query that has few.

    :param query: the query
    :param maximum: how many rows are read at most, in whole blocks
    :param keep_bad: return also rows with values that JSON cannot represent instead of raising an error
    """
    rows: list[dict[str, Any]] = []
    read = read_records if keep_bad else read_blocks
    with closing(database_connection(query.conn_id)[1]) as connection:
        for block in read(connection, query):
            rows += block
            if len(rows) >= maximum:
                break
    return rows


def _open(folder: OutputFolder, name: str, query: SqlInput, conn_id: str | None, *, keep_bad: bool) -> Source:
    source = open_source(folder.uri(name), conn_id=conn_id, keep_bad=keep_bad)
    source.title = str(query)
    return source
