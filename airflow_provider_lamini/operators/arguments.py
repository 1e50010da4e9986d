"""Arguments as they arrive in a task: rendered from templates, hence often strings."""

from __future__ import annotations

import math
from datetime import timedelta

from airflow_provider_lamini.exceptions import InvalidArgumentError


def positive_number(name: str, value: object) -> float:
    """A number above zero.

    :param name: the argument, for the message
    :param value: a number, or its text
    :raises InvalidArgumentError: where it is none
    """
    try:
        number = (
            float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else math.nan
        )
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and number > 0):
        raise InvalidArgumentError(f"{name} must be a number above 0, not {value!r}.")
    return number


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
