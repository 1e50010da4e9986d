"""Arguments as they arrive in a task: rendered from templates, hence often strings."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING

from airflow_provider_lamini.exceptions import InvalidArgumentError

if TYPE_CHECKING:
    from airflow_provider_lamini.api.call import Json
    from airflow_provider_lamini.jobs.kinds import JobKind


def positive_number(name: str, value: object) -> float:
    """A number above zero.

    :param name: the argument, for the message
    :param value: a number, or its text
    :raises InvalidArgumentError: where it is none
    """
    number = _number(value)
    if not number > 0:  # neither is NaN
        raise InvalidArgumentError(f"{name} must be a number above 0, not {value!r}.")
    return number


def share(name: str, value: object) -> float:
    """A number from 0 to 1.

    :param name: the argument, for the message
    :param value: a number, or its text
    :raises InvalidArgumentError: where it is none
    """
    number = _number(value)
    if not 0 <= number <= 1:
        raise InvalidArgumentError(f"{name} must be a number from 0 to 1, not {value!r}.")
    return number


def _number(value: object) -> float:
    """A finite number, or NaN for what is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return math.nan
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return math.nan
    return number if math.isfinite(number) else math.nan


def number(name: str, value: object, *, least: float) -> float:
    """A number.

    :param name: the argument, for the message
    :param value: a number, or its text
    :param least: the smallest value allowed
    :raises InvalidArgumentError: where it is none
    """
    found = _number(value)
    if not (math.isfinite(found) and found >= least):
        raise InvalidArgumentError(f"{name} must be a number of at least {least:g}, not {value!r}.")
    return found


def seconds(name: str, value: object) -> float:
    """A duration.

    :param name: the argument, for the message
    :param value: a ``timedelta``, a number of seconds, or its text
    :return: seconds
    :raises InvalidArgumentError: where it is none
    """
    if isinstance(value, timedelta):
        value = value.total_seconds()
    return positive_number(name, value)


def whole_number(name: str, value: object, *, least: int) -> int:
    """A whole number.

    :param name: the argument, for the message
    :param value: an integer, or its text
    :param least: the smallest value allowed
    :raises InvalidArgumentError: where it is none
    """
    try:
        number = int(value) if isinstance(value, int | str) and not isinstance(value, bool) else None
    except ValueError:
        number = None
    if number is None or number < least:
        raise InvalidArgumentError(f"{name} must be a whole number of at least {least}, not {value!r}.")
    return number


def one_of(name: str, value: object, allowed: tuple[str, ...]) -> str:
    """One of a few words.

    :param name: the argument, for the message
    :param value: the word
    :param allowed: the words allowed
    :raises InvalidArgumentError: where it is another
    """
    if not isinstance(value, str) or value not in allowed:
        raise InvalidArgumentError(f"{name} must be one of {', '.join(allowed)}, not {value!r}.")
    return value


def text(name: str, value: object) -> str:
    """A text that is not empty.

    :param name: the argument, for the message
    :param value: the text
    :raises InvalidArgumentError: where it is none
    """
    if not isinstance(value, str) or not value.strip():
        raise InvalidArgumentError(f"{name} must be a text that is not empty, not {type(value).__name__}.")
    return value


def flag(name: str, value: object) -> bool:
    """Yes or no.

    :param name: the argument, for the message
    :param value: a truth value, or its text
    :raises InvalidArgumentError: where it is neither
    """
    words = {
        "true": True,
        "1": True,
        "yes": True,
        "false": False,
        "0": False,
        "no": False,
        "": False,
        "none": False,
    }
    found = value if isinstance(value, bool) else words.get(str(value).strip().lower())
    if found is None:
        raise InvalidArgumentError(f"{name} must be true or false, not {value!r}.")
    return found


def json_object(name: str, value: object) -> dict[str, Json] | None:
    """A mapping, as it is or as JSON text, which is what a template makes of it.

    :param name: the argument, for the message
    :param value: a mapping, the text of a JSON object, or ``None``
    :raises InvalidArgumentError: where it is none
    """
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            raise InvalidArgumentError(
                f"{name} is a text that is no JSON. Give a mapping, or write it with the filter tojson."
            ) from None
    if value is None:
        return None
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise InvalidArgumentError(
            f"{name} must be a mapping of names to values, not {type(value).__name__}."
        )
    return dict(value)


def identifier(name: str, value: object) -> str:
    """An id of the platform's: a text, or a number as XCom may hold it.

    :param name: the argument, for the message
    :param value: the id
    :raises InvalidArgumentError: where it is none
    """
    return text(name, str(value) if isinstance(value, int) and not isinstance(value, bool) else value).strip()


def job_kind(name: str, value: object) -> JobKind:
    """A kind of job, by its name in any case, with spaces or underscores.

    :param name: the argument, for the message
    :param value: such as ``tuning`` or ``memory_rag``
    :raises InvalidArgumentError: where there is none of that name
    """
    from airflow_provider_lamini.jobs.kinds import kind_named, kind_names

    names = {known.casefold(): known for known in kind_names()}
    found = names.get(value.replace("_", " ").strip().casefold()) if isinstance(value, str) else None
    if found is None:
        raise InvalidArgumentError(f"{name} must be one of {', '.join(names.values())}, not {value!r}.")
    return kind_named(found)
