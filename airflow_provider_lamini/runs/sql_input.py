"""The arguments that say which rows a run has: ``input``, or a query."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from airflow_provider_lamini.exceptions import InvalidArgumentError
from airflow_provider_lamini.rows.errors import RowError
from airflow_provider_lamini.rows.sources.sql import SqlInput
from airflow_provider_lamini.runs.arguments import plain_name, text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


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
