"""The parameters of a generation, which an operator sets for all rows and a column for one: what each may be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_lamini.rows.numbers import LARGEST, finite

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow_provider_lamini.api.call import Json

_LARGEST_SEED = 2**63 - 1
_MAX_NAME = 500


def parameter(name: str, value: object) -> Json:
    """Validate the value of a parameter.

    :param name: one of `PARAMETERS`
    :param value: a value, or its text
    :raises ValueError: if it is not valid; the message says what it must be, without the value
    """
    return PARAMETERS[name](value)


def _temperature(value: object) -> Json:
    number = finite(value)
    if not number >= 0:
        raise ValueError("must be a number of at least 0")
    return number


def _top_p(value: object) -> Json:
    number = finite(value)
    if not 0 < number <= 1:
        raise ValueError("must be a number above 0 and up to 1")
    return number


def _seed(value: object) -> Json:
    number = _whole(value)
    if number is None or not 0 <= number <= _LARGEST_SEED:
        raise ValueError("must be a whole number from 0")
    return number


def _natural(value: object) -> Json:
    number = _whole(value)
    if number is None or not 1 <= number <= LARGEST:
        raise ValueError(f"must be a whole number from 1 to {LARGEST}")
    return number


def _stop(value: object) -> Json:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list | tuple) or not texts or not all(map(_is_text, texts)):
        raise ValueError("must be a text, or a list of texts, none of them empty")
    return list(texts)


def _name(value: object) -> Json:
    if not _is_text(value) or not isinstance(value, str) or not value.strip():
        raise ValueError("must be a name")
    if not value.isprintable() or len(value) > _MAX_NAME or value == "None":
        raise ValueError(f"must be one line of at most {_MAX_NAME} characters")
    return value


PARAMETERS: Mapping[str, Callable[[object], Json]] = {
    "temperature": _temperature,
    "top_p": _top_p,
    "top_k": _natural,
    "seed": _seed,
    "stop": _stop,
    "max_new_tokens": _natural,
    "model_name": _name,
}
"""Each parameter with the function that validates a value of it."""


def _is_text(value: object) -> bool:
    if not isinstance(value, str) or not value:
        return False
    try:
        value.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
    return True


def _whole(value: object) -> int | None:
    if (
        isinstance(value, float) and value.is_integer()
    ):  # a column of integers with a missing value has floats
        return int(value)
    try:
        return int(value) if isinstance(value, int | str) and not isinstance(value, bool) else None
    except ValueError:
        return None
