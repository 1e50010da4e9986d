"""Arguments that several operators have: the input and how to read it, what becomes of bad rows, and paths."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from airflow_provider_lamini.exceptions import InvalidArgumentError
from airflow_provider_lamini.runs.arguments import (
    json_object,
    one_of,
    optional_name,
    plain_name,
    text,
    whole_number,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_provider_lamini.corpus.pairs import PairInput
    from airflow_provider_lamini.rows.bad_rows import BadRowPolicy
    from airflow_provider_lamini.rows.sources.options import InputOptions

INPUT_FIELDS = ("columns", "input_format", "csv_options", "failed_input_rows")
"""The attributes of operators that say how to read their input."""


def input_options(task: object) -> InputOptions:
    """Validate an operator's arguments that say how to read its input.

    :param task: the operator, its templates rendered; it has the attributes in `INPUT_FIELDS`
    :raises InvalidArgumentError: if one is wrong
    """
    from airflow_provider_lamini.rows.errors import InputError
    from airflow_provider_lamini.rows.sources.options import InputOptions

    columns, input_format, csv_options, failed_rows = (getattr(task, name) for name in INPUT_FIELDS)
    if isinstance(csv_options, str):
        csv_options = json_object("csv_options", csv_options)
    try:
        return InputOptions.parse(
            columns=columns, input_format=input_format, csv_options=csv_options, failed_rows=failed_rows
        )
    except InputError as error:
        raise InvalidArgumentError(str(error)) from error


BAD_ROW_FIELDS = ("on_bad_row", "max_failed_rows")
"""The attributes of operators that say what becomes of rows that cannot be used."""


def bad_row_policy(task: object) -> BadRowPolicy:
    """Validate an operator's arguments that say what becomes of rows that cannot be used.

    :param task: the operator, its templates rendered; it has the attributes in `BAD_ROW_FIELDS`
    :raises InvalidArgumentError: if one is wrong
    """
    from airflow_provider_lamini.rows.bad_rows import BadRowPolicy
    from airflow_provider_lamini.rows.limits import FailureLimit

    on_bad_row, max_failed_rows = (getattr(task, name) for name in BAD_ROW_FIELDS)
    keep = one_of("on_bad_row", on_bad_row, ("fail", "error")) == "error"
    try:
        return BadRowPolicy(keep, FailureLimit.parse(max_failed_rows))
    except ValueError as error:
        raise InvalidArgumentError(str(error)) from error.__cause__


LIMITS = ("limit_rows", "max_rows", "max_input_chars")
"""The attributes of operators that make a dataset: how much of their input is sent, and how much it may be."""


def limit(task: object, name: str) -> int | None:
    """Validate a limit of an operator.

    :param task: the operator, its templates rendered
    :param name: the argument
    :return: ``None`` for no limit
    :raises InvalidArgumentError: if it is not a number of at least 1
    """
    value = getattr(task, name)
    return None if value is None else whole_number(name, value, minimum=1)


def pair_input(task: DatasetArguments, rows: object) -> PairInput:
    """Validate the arguments of an operator that makes a dataset of rows.

    :param task: the operator, its templates rendered; it also has the attributes of `INPUT_FIELDS`, `BAD_ROW_FIELDS` and
        `LIMITS`
    :param rows: its input
    :raises InvalidArgumentError: if one is wrong
    :raises ColumnError: if ``prompt`` or ``answer`` is
    """
    from airflow_provider_lamini.corpus.pairs import Columns, PairInput
    from airflow_provider_lamini.rows.limits import Budget

    return PairInput(
        rows=rows,
        columns=Columns.parse(task.prompt, task.answer),
        conn_id=optional_name("input_conn_id", task.input_conn_id),
        options=input_options(task),
        policy=bad_row_policy(task),
        limit_rows=limit(task, "limit_rows"),
        budget=Budget(rows=limit(task, "max_rows"), characters=limit(task, "max_input_chars")),
    )


PATH_FIELDS = ("input", "output_folder", "examples", "files", "manifest", "state_path")
"""The attributes of operators that may hold a path."""


def paths_to_text(task: object) -> None:
    """Replace an operator's path objects, such as an ``ObjectStoragePath`` that another task returned, by text.

    :param task: the operator, its templates rendered; ``files`` may also be a list of paths
    """
    from airflow_provider_lamini.rows.values import is_path_object

    for name in PATH_FIELDS:
        value = getattr(task, name, None)
        if is_path_object(value):
            setattr(task, name, str(value))
        elif name == "files" and isinstance(value, list | tuple):
            setattr(task, name, [str(item) if is_path_object(item) else item for item in value])


class QueryArguments(Protocol):
    """An operator whose rows may come from a query."""

    input_sql: str | None
    sql_parameters: Mapping[str, object] | Sequence[object] | None
    input_conn_id: str | None


class DatasetArguments(QueryArguments, Protocol):
    """An operator that makes a dataset of rows."""

    prompt: str
    answer: str


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
    from airflow_provider_lamini.rows.errors import RowError
    from airflow_provider_lamini.rows.sources.sql import SqlInput

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
