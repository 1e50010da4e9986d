"""Validating the arguments of operators. Templates are rendered by then, so a number or a flag may be a string."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from datetime import timedelta
from importlib import import_module
from typing import TYPE_CHECKING, TypeVar

from airflow_provider_lamini.exceptions import InvalidArgumentError
from airflow_provider_lamini.rows.numbers import LARGEST, finite
from airflow_provider_lamini.wording import a_type

if TYPE_CHECKING:
    from airflow_provider_lamini.api.call import Json
    from airflow_provider_lamini.jobs.kinds import JobKind


T = TypeVar("T")

LONGEST = 1e9
"""The longest duration that an argument may be, in seconds: about 30 years. Clocks cannot handle much more."""

_MAX_SHOWN = 60
_MAX_NAME = 500
_MAX_DIGITS = 100


def shown(value: object) -> str:
    """A wrong value for a message: on one line, abbreviated.

    :param value: the value
    """
    text = repr(value[:_MAX_SHOWN]) if isinstance(value, str) else repr(value)
    length = len(value) if isinstance(value, str) else len(text)
    text = text if len(text) <= _MAX_SHOWN + 2 else text[:_MAX_SHOWN]
    return text if length <= _MAX_SHOWN else f"{text}..."


def positive_number(name: str, value: object) -> float:
    """A number of seconds above zero.

    :param name: the argument, for the message
    :param value: a number, or its text
    :raises InvalidArgumentError: if it is anything else, or more than about 30 years
    """
    number = finite(value)
    if not number > 0:  # also if it is NaN
        raise InvalidArgumentError(f"{name} must be a number of seconds above 0, not {shown(value)}.")
    if number > LONGEST:
        raise InvalidArgumentError(
            f"{name} must be at most {LONGEST:g} seconds (about 30 years), not {shown(value)}."
        )
    return number


def share(name: str, value: object) -> float:
    """A number from 0 to 1.

    :param name: the argument, for the message
    :param value: a number, or its text
    :raises InvalidArgumentError: if it is anything else
    """
    number = finite(value)
    if not 0 <= number <= 1:
        raise InvalidArgumentError(f"{name} must be a number from 0 to 1, not {shown(value)}.")
    return number


def number(name: str, value: object, *, minimum: float) -> float:
    """A number with a lower bound.

    :param name: the argument, for the message
    :param value: a number, or its text
    :param minimum: the smallest value allowed
    :raises InvalidArgumentError: if it is anything else
    """
    found = finite(value)
    if not found >= minimum:  # also if it is NaN
        raise InvalidArgumentError(f"{name} must be a number of at least {minimum:g}, not {shown(value)}.")
    return found


def seconds(name: str, value: object) -> float:
    """A duration.

    :param name: the argument, for the message
    :param value: a ``timedelta``, a number of seconds, or its text
    :return: seconds
    :raises InvalidArgumentError: if it is anything else
    """
    if isinstance(value, timedelta):
        value = value.total_seconds()
    return positive_number(name, value)


def whole_number(name: str, value: object, *, minimum: int) -> int:
    """A whole number with a lower bound.

    :param name: the argument, for the message
    :param value: an integer, or its text
    :param minimum: the smallest value allowed
    :raises InvalidArgumentError: if it is anything else, or larger than 2,147,483,647
    """
    try:
        number = int(value) if isinstance(value, int | str) and not isinstance(value, bool) else None
    except ValueError:
        number = None
    if number is None or number < minimum:
        raise InvalidArgumentError(
            f"{name} must be a whole number of at least {minimum}, not {shown(value)}."
        )
    if number > LARGEST:
        raise InvalidArgumentError(f"{name} must be at most {LARGEST}, not {shown(value)}.")
    return number


def one_of(name: str, value: object, allowed: tuple[str, ...]) -> str:
    """One of several words.

    :param name: the argument, for the message
    :param value: the word
    :param allowed: the words allowed
    :raises InvalidArgumentError: if it is not one of them
    """
    if not isinstance(value, str) or value not in allowed:
        raise InvalidArgumentError(f"{name} must be one of {', '.join(allowed)}, not {shown(value)}.")
    return value


def text(name: str, value: object) -> str:
    """A text that is not empty.

    :param name: the argument, for the message
    :param value: the text
    :raises InvalidArgumentError: if it is empty, or not a text
    """
    from airflow_provider_lamini.rows.texts import is_blank

    if not isinstance(value, str) or is_blank(value):
        actual = "an empty one" if isinstance(value, str) else a_type(value)
        raise InvalidArgumentError(f"{name} must be a text that is not empty, not {actual}.")
    return valid_unicode(name, value)


def not_a_file(name: str, value: T, *, read: bool = True) -> T:
    """What is sent as it is, unless it looks like the name of a file with a prompt, whose text is meant.

    :param name: the argument, for the message
    :param value: its value, any; existing files were replaced by their texts
    :param read: whether that is so for this argument
    :raises InvalidArgumentError: if it looks like the name of a file
    """
    from airflow_provider_lamini.rows.prompts.template import names_prompt_file

    if isinstance(value, str) and names_prompt_file(value):
        why = "is not in the Dag's folder: correct the name, or give" if read else "is not read: give"
        raise InvalidArgumentError(f"{name}: the file {shown(value)} {why} the text itself.")
    return value


def valid_unicode(name: str, value: str) -> str:
    """A text that can be encoded.

    :param name: the argument, for the message
    :param value: the text
    :raises InvalidArgumentError: if it is not valid Unicode
    """
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidArgumentError(
            f"{name} holds half of a surrogate pair, which is not valid Unicode."
        ) from None
    return value


def plain_name(name: str, value: object) -> str:
    """A name: one line of text.

    :param name: the argument, for the message
    :param value: the name
    :raises InvalidArgumentError: if it is anything else, or the text ``None``, to which a template renders a missing value
    """
    found = text(name, value)
    if found == "None":
        raise InvalidArgumentError(f"{name} is the text 'None': its template found no value.")
    if not found.isprintable() or len(found) > _MAX_NAME:
        raise InvalidArgumentError(
            f"{name} must be one line of at most {_MAX_NAME} characters without control characters, not {shown(found)}."
        )
    return found


def optional_name(name: str, value: object) -> str | None:
    """A name, or ``None``.

    :param name: the argument, for the message
    :param value: the name, or ``None``
    :raises InvalidArgumentError: if it is anything else
    """
    return None if value is None else plain_name(name, value)


def name_list(name: str, value: object) -> list[str]:
    """A list of names, each once.

    :param name: the argument, for the message
    :param value: the list
    :raises InvalidArgumentError: if it is anything else, or empty
    """
    if isinstance(value, str) or not isinstance(value, Sequence) or not value:
        raise InvalidArgumentError(f"{name} must be a list of names, not {shown(value)}.")
    names = [plain_name(f"{name} {number} (counted from 0)", item) for number, item in enumerate(value)]
    if len(set(names)) < len(names):
        raise InvalidArgumentError(f"{name} has a name more than once.")
    return names


def folder(name: str, value: object, conn_id: str | None = None, *, look_up: bool = True) -> str:
    """A folder that can be written to. This check writes and creates nothing.

    :param name: the argument, for the message
    :param value: a path or a URI
    :param conn_id: the connection to the object store
    :param look_up: whether to look up the object store of a URI; ``False`` if the caller opens the folder soon anyway
    :raises InvalidArgumentError: if it is anything else or, on a local disk, cannot be created or written to
    """
    from airflow_provider_lamini.rows.errors import RowError
    from airflow_provider_lamini.rows.storage.folder import OutputFolder
    from airflow_provider_lamini.rows.storage.uris import is_remote

    if value == "None":
        plain_name(name, value)
    try:
        if not look_up and isinstance(value, str) and is_remote(value):
            return value
        OutputFolder(value, conn_id).check_writable()  # type: ignore[arg-type]  # it rejects anything but a path
    except RowError as error:
        raise InvalidArgumentError(f"{name}: {error}") from error.__cause__
    return str(value)


def flag(name: str, value: object) -> bool:
    """A flag.

    :param name: the argument, for the message
    :param value: a Boolean, or its text
    :raises InvalidArgumentError: if it is neither
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
        raise InvalidArgumentError(f"{name} must be true or false, not {shown(value)}.")
    return found


def json_object(name: str, value: object) -> dict[str, Json] | None:
    """A mapping, or the JSON text to which a template renders it.

    :param name: the argument, for the message
    :param value: a mapping, the text of a JSON object, or ``None``
    :raises InvalidArgumentError: if it is anything else
    """
    from airflow_provider_lamini.rows.values import json_value

    if isinstance(value, str):
        try:
            value = json.loads(value, object_pairs_hook=_reject_duplicates)
        except _DuplicateKeyError as error:
            raise InvalidArgumentError(f"{name} has {shown(error.key)} more than once.") from None
        except (ValueError, RecursionError):
            raise InvalidArgumentError(
                f"{name} is a text that is not JSON. Give a mapping, or render it with the filter tojson."
            ) from None
    if value is None:
        return None
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise InvalidArgumentError(f"{name} must be a mapping of names to values, not {a_type(value)}.")
    found: dict[str, Json] = {}
    for key, item in value.items():
        text(f"a name in {name}", key)
        if _has_nan(item):
            raise InvalidArgumentError(f"{name}: {shown(key)} is NaN, which JSON cannot represent.")
        try:
            found[key] = json_value(item)
        except ValueError as error:
            raise InvalidArgumentError(f"{name}: {shown(key)} {error}.") from None
    return found


def _has_nan(value: object) -> bool:
    """Whether a value, or one in it, is NaN. In rows it is a missing value, in an argument a mistake."""
    if isinstance(value, Mapping):
        return any(map(_has_nan, value.values()))
    if isinstance(value, list | tuple):
        return any(map(_has_nan, value))
    return isinstance(value, float) and math.isnan(value)


class _DuplicateKeyError(Exception):
    """A JSON object has a key twice."""

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


class ModelClass:
    """A class as an argument that is a template. Airflow calls whatever it can call when it renders templates.

    :param model: the class
    """

    def __init__(self, model: type) -> None:
        self.model = model

    def __repr__(self) -> str:
        return f"{self.model.__module__}.{self.model.__qualname__}"


def not_called(value: object) -> object:
    """An argument that Airflow does not call.

    :param value: the argument's value
    :return: a class as `ModelClass`, anything else as it is
    """
    return ModelClass(value) if isinstance(value, type) else value


def imported(name: str, path: str) -> object:
    """What a dotted path names, such as a callable of a user's package.

    :param name: the argument, for the message
    :param path: a dotted path; a colon may stand before the last name
    :raises InvalidArgumentError: if it cannot be imported
    """
    module, _, attribute = path.strip().replace(":", ".").rpartition(".")
    try:
        found: object = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise InvalidArgumentError(
            f"{name}: {shown(path)} cannot be imported ({type(error).__name__}). Is it a path such as 'package.module.name', "
            "and installed where the task runs?"
        ) from error
    return found


def _reject_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in pairs:
        if key in found:
            raise _DuplicateKeyError(key)
        found[key] = value
    return found


def identifier(name: str, value: object) -> str:
    """An id that the platform has given: a text, or a number, which an XCom may have made of it.

    :param name: the argument, for the message
    :param value: the id
    :raises InvalidArgumentError: if it is anything else
    """
    found = model_or_id(name, value)
    if any(character.isspace() or character in "/\\" for character in found) or found in (".", ".."):
        raise InvalidArgumentError(
            f"{name} must be an id that the platform has given, without slashes and blanks, not {shown(found)}."
        )
    return found


def model_or_id(name: str, value: object) -> str:
    """The id of a job of any kind: the id of a model download is the model's name, which may have slashes.

    :param name: the argument, for the message
    :param value: a text, or a number, which an XCom may have made of it
    :raises InvalidArgumentError: if it is anything else
    """
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= 10**_MAX_DIGITS:
        value = str(value)
    return plain_name(name, value).strip()


def job_kind(name: str, value: object, platform_name: str) -> JobKind:
    """A platform's kind of job, by its name in upper or lower case, with spaces or underscores.

    :param name: the argument, for the message
    :param value: such as ``tuning`` or ``memory_rag``
    :param platform_name: the platform
    :raises InvalidArgumentError: if no kind has that name
    """
    from airflow_provider_lamini.platforms import platform

    kinds = platform(platform_name).job_kinds
    found = kinds.get(value.strip().replace(" ", "_").casefold()) if isinstance(value, str) else None
    if found is None:
        raise InvalidArgumentError(f"{name} must be one of {', '.join(kinds)}, not {shown(value)}.")
    return found


def check_output(output: str | None, output_conn_id: str | None) -> None:
    """Check that the output folder can be written to, before anything is paid for. This writes a small file.

    :param output: the task's output folder; ``None`` if nothing will be written
    :param output_conn_id: the connection for that folder
    :raises OutputError: if it cannot be written to
    """
    from airflow_provider_lamini.rows.storage.folder import OutputFolder

    if output is not None:
        OutputFolder(output, output_conn_id).try_writing()
