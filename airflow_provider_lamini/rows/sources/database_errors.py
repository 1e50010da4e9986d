"""Errors of database drivers: a query that is wrong is the user's mistake, and everything else may pass.

Drivers name their classes as Python's database API says, so none of them is imported.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from airflow_provider_lamini.rows.errors import InputError, InputUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator

_MISTAKES = frozenset({"07", "0A", "21", "22", "26", "34", "3D", "3F", "42"})
"""Classes of SQLSTATE: the query, its parameters or the data do not fit."""
_PASSING = frozenset({"08", "25", "28", "40", "53", "54", "55", "57", "58", "HYT", "XX"})
"""Classes of SQLSTATE: the connection is lost, or the server is busy, restarts or refuses the login."""
_MISTAKE_CLASSES = frozenset({"DataError", "IntegrityError", "NotSupportedError", "ProgrammingError"})
_SQLITE_ERROR, _SQLITE_RANGE, _SQLITE_PRIMARY = 1, 25, 0xFF
_MYSQL_MISTAKES = frozenset({1044, 1049, 1052, 1054, 1064, 1142, 1143, 1146, 1305, 1370})
"""Access denied, or a database, table, column or function that does not exist. Some drivers call these operational errors."""
_OF_PARAMETERS = (TypeError, KeyError, IndexError, ValueError, OverflowError)
"""What drivers raise if the parameters do not fit the placeholders."""
_MAX_TEXT = 200


@contextmanager
def query_errors(query: object, *, executes: bool = False) -> Iterator[None]:
    """Turn errors of a database's driver within the block into errors about the input.

    :param query: the query that the block runs or reads, for messages
    :param executes: whether the block passes the parameters of the query to the driver
    :raises InputError: if the query is wrong; a retry does not help
    :raises InputUnavailableError: if the database fails
    """
    try:
        yield
    except Exception as error:
        if _may_pass(error):
            raise InputUnavailableError(
                f"The database failed during {query}: {_text(error)}. Nothing was sent."
            ) from None
        if _is_of_driver(error):
            raise InputError(
                f"The database refuses {query}: {_reason(error)}. Correct input_sql or sql_parameters. Nothing was sent."
            ) from None
        if executes and isinstance(error, _OF_PARAMETERS):
            raise InputError(
                f"sql_parameters do not fit the placeholders of {query} ({type(error).__name__}). Pass a value for each, as the "
                "database's driver expects: a mapping for named ones, else a list. Nothing was sent."
            ) from None
        raise


@contextmanager
def connection_errors(conn_id: str) -> Iterator[None]:
    """Turn errors of a database's driver within the block, which connects, into one that a retry may help against.

    :param conn_id: the Airflow connection, for messages
    :raises InputUnavailableError: if the database cannot be reached
    """
    try:
        yield
    except Exception as error:
        if not (_is_of_driver(error) or isinstance(error, OSError)):
            raise
        raise InputUnavailableError(
            f"The database of the connection {conn_id} cannot be reached: {_text(error)}. Check the connection, and whether the "
            "database runs. Nothing was sent."
        ) from None


def driver_failure(error: Exception) -> tuple[str, bool] | None:
    """What is wrong, without any value of a row, and whether a retry may help; ``None`` if it is not an error of a driver.

    :param error: the error
    """
    if isinstance(error, OverflowError):  # an integer that SQLite cannot hold
        return f"a value does not fit ({type(error).__name__})", False
    if not _is_of_driver(error):
        return None
    return (_text(error), True) if _may_pass(error) else (_reason(error), False)


def _is_of_driver(error: Exception) -> bool:
    return "Error" in _class_names(error)


def _class_names(error: Exception) -> set[str]:
    return {base.__name__ for base in type(error).__mro__}


def _state(error: Exception) -> str:
    """The SQLSTATE of an error; empty if the driver does not tell."""
    found = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
    if found is None and error.args and isinstance(error.args[0], str) and error.args[0].isalnum():
        found = error.args[0]  # ODBC
    return found if isinstance(found, str) and len(found) == 5 else ""  # noqa: PLR2004 - as the standard says


def _may_pass(error: Exception) -> bool:
    """Whether a retry may help: neither the query nor its parameters nor the data are the reason."""
    if not _is_of_driver(error):
        return isinstance(error, OSError)
    state = _state(error)
    if state[:2] in _MISTAKES:
        return False
    if state[:2] in _PASSING or state[:3] in _PASSING:
        return True
    if type(error).__module__ == "sqlite3":
        code = getattr(
            error, "sqlite_errorcode", _SQLITE_ERROR
        )  # without: raised by Python's module, about a value
        passes = code & _SQLITE_PRIMARY not in (_SQLITE_ERROR, _SQLITE_RANGE)
        return passes and _MISTAKE_CLASSES.isdisjoint(_class_names(error))
    return not _is_mysql_mistake(error) and _MISTAKE_CLASSES.isdisjoint(_class_names(error))


def _is_mysql_mistake(error: Exception) -> bool:
    return bool(error.args) and error.args[0] in _MYSQL_MISTAKES


def _reason(error: Exception) -> str:
    """What is wrong with a query. The text of the error is left out if it may contain a value of a row."""
    state = _state(error)
    if state:
        is_about_query = state[:2] == "42"
    elif type(error).__module__ == "sqlite3":
        is_about_query = hasattr(error, "sqlite_errorcode") or "ProgrammingError" in _class_names(error)
    else:
        is_about_query = _is_mysql_mistake(error) or "ProgrammingError" in _class_names(error)
    return (
        _text(error)
        if is_about_query
        else f"a value does not fit ({f'{type(error).__name__} {state}'.strip()})"
    )


def _text(error: Exception) -> str:
    """The first line of an error's text."""
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    printable = "".join(character if character.isprintable() else " " for character in text)
    return printable[:_MAX_TEXT].rstrip(" .")
