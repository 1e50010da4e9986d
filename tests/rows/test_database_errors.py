"""Errors of database drivers: what the user must correct, what may pass, and what a message may not repeat."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from airflow_provider_lamini.rows.errors import InputError, InputUnavailableError
from airflow_provider_lamini.rows.sources.database_errors import (
    connection_errors,
    driver_failure,
    query_errors,
)


class Error(Exception):
    """The base class that each driver has."""


class OperationalError(Error): ...


class ProgrammingError(Error): ...


class DataError(Error): ...


class InterfaceError(Error): ...


def of(kind, *arguments, **attributes):
    error = kind(*arguments)
    vars(error).update(attributes)
    return error


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (
            of(ProgrammingError, 'relation "mail" does not exist\nLINE 1: ...', sqlstate="42P01"),
            'relation "mail"',
        ),
        (of(ProgrammingError, 'column "bodies" does not exist', pgcode="42703"), 'column "bodies"'),
        (of(OperationalError, 1054, "Unknown column 'bodies' in 'field list'"), "Unknown column"),
        (of(ProgrammingError, "42S02", "[42S02] no such table"), "no such table"),
        (of(ProgrammingError, 1146, "Table 'mail' doesn't exist"), "doesn't exist"),
        (
            of(DataError, "invalid input syntax: 'opensesame'", sqlstate="22P02"),
            "a value does not fit (DataError 22P02)",
        ),
        (of(DataError, 1264, "out of range: opensesame"), "a value does not fit (DataError)"),
    ],
)
def test_a_wrong_query_is_the_users_mistake(error, shown):
    with pytest.raises(InputError) as caught, query_errors("the query"):
        raise error
    assert not isinstance(caught.value, InputUnavailableError)
    assert shown in str(caught.value)
    assert "opensesame" not in str(caught.value)
    assert "LINE 1" not in str(caught.value)


@pytest.mark.parametrize(
    "error",
    [
        of(OperationalError, "server closed the connection unexpectedly", sqlstate="57P01"),
        of(OperationalError, "deadlock detected", pgcode="40P01"),
        of(OperationalError, 2013, "Lost connection to MySQL server during query"),
        of(ProgrammingError, "the token has expired", sqlstate="08001"),
        of(InterfaceError, "the connection is closed"),
        of(OperationalError, "08S01", "communication link failure"),
        ConnectionResetError("reset by peer"),
        TimeoutError("timed out"),
    ],
)
def test_what_may_pass_is_no_mistake(error):
    with (
        pytest.raises(InputUnavailableError, match="The database failed during the query: "),
        query_errors("the query"),
    ):
        raise error
    with (
        pytest.raises(InputUnavailableError, match="connection mine cannot be reached"),
        connection_errors("mine"),
    ):
        raise error


@pytest.mark.parametrize("error", [TypeError("not enough arguments"), KeyError("day"), ValueError("%d")])
def test_parameters_that_do_not_fit_are_named(error):
    with (
        pytest.raises(InputError, match="sql_parameters do not fit"),
        query_errors("the query", executes=True),
    ):
        raise error
    with pytest.raises(type(error)), query_errors("the query"):
        raise error


def test_an_integer_that_sqlite_cannot_hold_does_not_fit():
    with closing(sqlite3.connect(":memory:")) as connection:
        with pytest.raises(OverflowError) as caught:
            connection.execute("SELECT ?", [2**70])
        with (
            pytest.raises(
                InputError, match=r"sql_parameters do not fit the placeholders of the query \(Overflow"
            ),
            query_errors("the query", executes=True),
        ):
            connection.execute("SELECT ?", [2**70])
    assert driver_failure(caught.value) == ("a value does not fit (OverflowError)", False)
