"""Arguments as they arrive in a task: rendered from templates, hence often strings."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import PurePath
from typing import TYPE_CHECKING

from airflow_provider_lamini.exceptions import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_lamini.api.call import Json
    from airflow_provider_lamini.jobs.kinds import JobKind


LARGEST = 2**31 - 1
"""The largest whole number that an argument takes: more than any task needs, and every platform can read it."""

LONGEST = 1e9
"""The longest time that an argument takes, in seconds: some 30 years. Far beyond it, clocks cannot count."""

_SHOWN = 60
_NAME = 500
_DIGITS = 100


@contextmanager
def as_argument_errors() -> Iterator[None]:
    """Rows and places that cannot be used are wrong arguments, of which Airflow makes no retry.

    :raises InvalidArgumentError: in place of a `RowError`, except where only another process is in the way
    """
    from airflow_provider_lamini.rows.errors import ConcurrentAccessError, RowError

    try:
        yield
    except ConcurrentAccessError:
        raise
    except RowError as error:
        raise InvalidArgumentError(str(error)) from error


def shown(value: object) -> str:
    """A wrong value as a message repeats it: on one line, and no more of it than is needed to find it.

    :param value: the value
    """
    text = repr(value[:_SHOWN]) if isinstance(value, str) else repr(value)
    whole = len(value) if isinstance(value, str) else len(text)
    text = text if len(text) <= _SHOWN + 2 else text[:_SHOWN]
    return text if whole <= _SHOWN else f"{text}..."


def positive_number(name: str, value: object) -> float:
    """A number above zero, of seconds.

    :param name: the argument, for the message
    :param value: a number, or its text
    :raises InvalidArgumentError: where it is none, or more than some 30 years
    """
    number = finite(value)
    if not number > 0:  # neither is NaN
        raise InvalidArgumentError(f"{name} must be a number of seconds above 0, not {shown(value)}.")
    if number > LONGEST:
        raise InvalidArgumentError(
            f"{name} must be at most {LONGEST:g} seconds, which is some 30 years, not {shown(value)}."
        )
    return number


def share(name: str, value: object) -> float:
    """A number from 0 to 1.

    :param name: the argument, for the message
    :param value: a number, or its text
    :raises InvalidArgumentError: where it is none
    """
    number = finite(value)
    if not 0 <= number <= 1:
        raise InvalidArgumentError(f"{name} must be a number from 0 to 1, not {shown(value)}.")
    return number


def finite(value: object) -> float:
    """A finite number, or NaN for what is none.

    :param value: a number, or its text
    """
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
    found = finite(value)
    if not (math.isfinite(found) and found >= least):
        raise InvalidArgumentError(f"{name} must be a number of at least {least:g}, not {shown(value)}.")
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
    :raises InvalidArgumentError: where it is none, or larger than 2,147,483,647
    """
    try:
        number = int(value) if isinstance(value, int | str) and not isinstance(value, bool) else None
    except ValueError:
        number = None
    if number is None or number < least:
        raise InvalidArgumentError(f"{name} must be a whole number of at least {least}, not {shown(value)}.")
    if number > LARGEST:
        raise InvalidArgumentError(f"{name} must be at most {LARGEST}, not {shown(value)}.")
    return number


def one_of(name: str, value: object, allowed: tuple[str, ...]) -> str:
    """One of a few words.

    :param name: the argument, for the message
    :param value: the word
    :param allowed: the words allowed
    :raises InvalidArgumentError: where it is another
    """
    if not isinstance(value, str) or value not in allowed:
        raise InvalidArgumentError(f"{name} must be one of {', '.join(allowed)}, not {shown(value)}.")
    return value


def text(name: str, value: object) -> str:
    """A text that is not empty.

    :param name: the argument, for the message
    :param value: the text
    :raises InvalidArgumentError: where it is none
    """
    if not isinstance(value, str) or not value.strip():
        given = "an empty one" if isinstance(value, str) else type(value).__name__
        raise InvalidArgumentError(f"{name} must be a text that is not empty, not {given}.")
    return valid_unicode(name, value)


def valid_unicode(name: str, value: str) -> str:
    """A text that can be sent.

    :param name: the argument, for the message
    :param value: the text
    :raises InvalidArgumentError: where it is no valid Unicode
    """
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidArgumentError(
            f"{name} holds half of a surrogate pair, which is not valid Unicode."
        ) from None
    return value


def plain_name(name: str, value: object) -> str:
    """The name of something: one line of text.

    :param name: the argument, for the message
    :param value: the name
    :raises InvalidArgumentError: where it is none; ``None`` as text is what a template makes of a missing value
    """
    found = text(name, value)
    if found == "None":
        raise InvalidArgumentError(
            f"{name} is the text 'None': the template that it comes from found no value."
        )
    if not found.isprintable() or len(found) > _NAME:
        raise InvalidArgumentError(
            f"{name} must be one line of at most {_NAME} characters without control characters, not {shown(found)}."
        )
    return found


def optional_name(name: str, value: object) -> str | None:
    """The name of something, or nothing; see :func:`plain_name`.

    :param name: the argument, for the message
    :param value: the name, or ``None``
    :raises InvalidArgumentError: where it is neither
    """
    return None if value is None else plain_name(name, value)


def folder(name: str, value: object, conn_id: str | None = None, *, look_up: bool = True) -> str:
    """A folder that can be written to. Nothing is written, and nothing is made.

    :param name: the argument, for the message
    :param value: a path or a URI
    :param conn_id: the connection to the object store
    :param look_up: whether Airflow is asked for the object store of a URI; without, somebody else does so in time
    :raises InvalidArgumentError: where it is none, or, on a local disk, cannot be made or written to
    """
    from airflow_provider_lamini.rows.errors import RowError
    from airflow_provider_lamini.rows.storage.folder import OutputFolder
    from airflow_provider_lamini.rows.storage.uris import is_remote

    if value == "None":
        plain_name(name, value)
    try:
        if not look_up and isinstance(value, str) and is_remote(value):
            return value
        OutputFolder(value, conn_id).check_writable()  # type: ignore[arg-type]  # it says what is no path
    except RowError as error:
        raise InvalidArgumentError(f"{name}: {error}") from error
    return str(value)


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
        raise InvalidArgumentError(f"{name} must be true or false, not {shown(value)}.")
    return found


def json_object(name: str, value: object) -> dict[str, Json] | None:
    """A mapping, as it is or as JSON text, which is what a template makes of it.

    :param name: the argument, for the message
    :param value: a mapping, the text of a JSON object, or ``None``
    :raises InvalidArgumentError: where it is none
    """
    from airflow_provider_lamini.rows.values import json_value

    if isinstance(value, str):
        try:
            value = json.loads(value, object_pairs_hook=_without_twins)
        except _TwinError as twin:
            raise InvalidArgumentError(f"{name} has {shown(twin.key)} more than once.") from None
        except (ValueError, RecursionError):
            raise InvalidArgumentError(
                f"{name} is a text that is no JSON. Give a mapping, or write it with the filter tojson."
            ) from None
    if value is None:
        return None
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise InvalidArgumentError(
            f"{name} must be a mapping of names to values, not {type(value).__name__}."
        )
    found: dict[str, Json] = {}
    for key, item in value.items():
        text(f"a name in {name}", key)
        try:
            found[key] = json_value(item)
        except ValueError as error:
            raise InvalidArgumentError(f"{name}: {shown(key)} {error}.") from None
    return found


class _TwinError(Exception):
    """An object of a JSON text names a key twice."""

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


def _without_twins(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in pairs:
        if key in found:
            raise _TwinError(key)
        found[key] = value
    return found


def identifier(name: str, value: object) -> str:
    """An id of the platform's: a text, or a number as XCom may hold it.

    :param name: the argument, for the message
    :param value: the id
    :raises InvalidArgumentError: where it is none
    """
    found = model_or_id(name, value)
    if any(character.isspace() or character in "/\\" for character in found) or found in (".", ".."):
        raise InvalidArgumentError(
            f"{name} must be an id of the platform's, without slashes and blanks, not {shown(found)}."
        )
    return found


def model_or_id(name: str, value: object) -> str:
    """An id of the platform's, or the name of a model, which may have slashes: what stands for a job of any kind.

    :param name: the argument, for the message
    :param value: a text, or a number as XCom may hold it
    :raises InvalidArgumentError: where it is none
    """
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= 10**_DIGITS:
        value = str(value)
    return plain_name(name, value).strip()


def job_kind(name: str, value: object) -> JobKind:
    """A kind of job, by its name in any case, with spaces or underscores.

    :param name: the argument, for the message
    :param value: such as ``tuning`` or ``memory_rag``
    :raises InvalidArgumentError: where there is none of that name
    """
    from airflow_provider_lamini.platforms import platform

    kinds = platform("lamini").job_kinds
    found = kinds.get(value.strip().replace(" ", "_").casefold()) if isinstance(value, str) else None
    if found is None:
        raise InvalidArgumentError(f"{name} must be one of {', '.join(kinds)}, not {shown(value)}.")
    return found


PLACES = ("input", "output_folder", "examples", "files", "manifest", "state_path")
"""The attributes of operators that may hold one."""


def paths_to_text(task: object) -> None:
    """Turn a task's path objects, such as another task's ``ObjectStoragePath``, into text, which all else here reads.

    :param task: the task, its templates rendered; of its lists of files, each is looked at
    """
    for name in PLACES:
        value = getattr(task, name, None)
        if _is_path(value):
            setattr(task, name, str(value))
        elif name == "files" and isinstance(value, list | tuple):
            setattr(task, name, [str(each) if _is_path(each) else each for each in value])


def check_output(output: str | None, output_conn_id: str | None) -> None:
    """Make sure, before work is paid for, that what it comes to can be written.

    :param output: the task's output folder; ``None`` where nothing will be written
    :param output_conn_id: the connection for that folder
    :raises OutputError: where it cannot
    """
    from airflow_provider_lamini.rows.storage.folder import OutputFolder

    if output is not None:
        OutputFolder(output, output_conn_id).try_writing()


def _is_path(value: object) -> bool:
    # Airflow's path is one of pathlib's only before Airflow 3. As text it names its connection, too.
    return isinstance(value, PurePath) or type(value).__name__ == "ObjectStoragePath"
