"""What all resources share: request bodies from arguments, typed answers from bytes."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, TypeVar, cast
from urllib.parse import quote

import msgspec
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from airflow_provider_lamini.api.call import Json, PromptList
from airflow_provider_lamini.api.output_types import OutputType, check_output_type


class Request(BaseModel):
    """A request body. Unknown fields pass through: servers differ."""

    model_config = ConfigDict(extra="allow", hide_input_in_errors=True)


class Answer(BaseModel):
    """An answer. Unknown fields are kept, so that what a server adds breaks nobody."""

    model_config = ConfigDict(extra="allow", hide_input_in_errors=True, coerce_numbers_to_str=True)


def _number_to_text(value: object) -> object:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Id = Annotated[str, BeforeValidator(_number_to_text), Field(min_length=1)]
"""An id that some servers write as a number."""

Prompts = str | Annotated[list[str], Field(min_length=1)]
"""One prompt, or several."""

BoundType = Annotated[OutputType, BeforeValidator(check_output_type)]
"""An output type, checked."""

TokenBound = Annotated[int, Field(ge=1)]
"""How many tokens at most."""

T = TypeVar("T")
AnswerT = TypeVar("AnswerT", bound=Answer)


def body(kind: type[Request], given: Mapping[str, object]) -> dict[str, Json]:
    """Check arguments with a request's model and return the body to send.

    :param kind: the request's model
    :param given: the arguments; those that are ``None`` are left out
    :returns: what was given and nothing else: the platform's defaults stay the platform's
    :raises ValueError: where an argument does not fit; the message names it and does not show its value
    """
    try:
        request = kind.model_validate({name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        raise ValueError(explain(error)) from None
    fields: dict[str, Json] = request.model_dump(mode="json", by_alias=True, exclude_unset=True)
    return fields


def prompts_body(
    kind: type[Request], prompt: str | Sequence[str], given: Mapping[str, object]
) -> dict[str, Json]:
    """Like :func:`body`, with prompts that are checked to be texts and are not copied one by one.

    :param kind: the request's model
    :param prompt: one prompt or a list of them
    :param given: the other arguments
    :raises ValueError: where an argument does not fit, the list is empty, or an item is no text
    """
    if isinstance(prompt, str):
        return body(kind, {**given, "prompt": prompt})
    prompts = texts("prompt", prompt)
    return {**body(kind, {**given, "prompt": [""]}), "prompt": prompts}


def texts(name: str, value: object) -> list[Json]:
    """Check a list of texts.

    :param name: the argument's name, for the message
    :param value: a sequence of strings; one bare string is refused
    :raises ValueError: where it is none, is empty, or an item is no text; the message tells the item's place
    """
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise ValueError(f"{name} must be a list of texts, not a {type(value).__name__}")  # noqa: TRY004 - one kind of error for all arguments
    if not value:
        raise ValueError(f"{name} is an empty list: there is nothing to send")
    if {*map(type, value)} != {str}:
        for place, item in enumerate(value):
            if not isinstance(item, str):
                raise ValueError(f"{name} {place} must be a text, not a {type(item).__name__}")  # noqa: TRY004 - one kind of error for all arguments
    return cast("list[Json]", value) if isinstance(value, PromptList) else list(value)


def rows(name: str, value: object) -> list[Json]:
    """Check a list of rows without copying each.

    :param name: the argument's name, for the message
    :param value: a sequence of objects
    :raises ValueError: where it is none, is empty, or an item is no object; the message tells which
    """
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise ValueError(f"{name} must be a list of rows, not a {type(value).__name__}")  # noqa: TRY004 - one kind of error for all arguments
    if not value:
        raise ValueError(f"{name} is an empty list: there is nothing to send")
    for place, item in enumerate(value):
        if not isinstance(item, dict):
            raise ValueError(f"{name} {place} must be an object, not a {type(item).__name__}")  # noqa: TRY004 - one kind of error for all arguments
    return list(value)


def segment(value: object, name: str = "id") -> str:
    """Quote an id or a name as one segment of a path.

    :param value: text or a whole number
    :param name: the argument's name, for the message
    :raises ValueError: where it is empty, no text, or would mean another path
    """
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError(f"{name} must be a text or a whole number, not a {type(value).__name__}")  # noqa: TRY004 - one kind of error for all arguments
    text = str(value).strip()
    if not text or text in (".", ".."):
        raise ValueError(f"{name} must not be {text!r}: it names nothing on the platform")
    return quote(text, safe="")


def answer(kind: type[AnswerT]) -> Callable[[bytes], AnswerT]:
    """Return a reader of one answer's model; it raises ``ValueError`` with places and reasons, no values."""

    def read(content: bytes) -> AnswerT:
        try:
            return kind.model_validate_json(content)
        except ValidationError as error:
            raise ValueError(explain(error)) from None

    return read


def answers(kind: type[AnswerT], *keys: str) -> Callable[[bytes], list[AnswerT]]:
    """Return a reader of a list of answers, be it bare or under one of ``keys`` of an object."""
    return lambda content: [fit(kind, item) for item in items(decode(content), *keys)]


def fit(kind: type[AnswerT], value: object) -> AnswerT:
    """Read decoded JSON as an answer.

    :raises ValueError: where it does not fit, with places and reasons, no values
    """
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        raise ValueError(explain(error)) from None


def decode(content: bytes) -> Json:
    """Read JSON.

    :raises ValueError: where it is none
    """
    return cast("Json", decode_as(content, object))


def decode_as(content: bytes, kind: type[T]) -> T:
    """Read JSON of a known form, fast.

    :param kind: what it must be; what that leaves out is skipped
    :raises ValueError: where it is no JSON, or of another form
    """
    try:
        return msgspec.json.decode(content, type=kind)
    except msgspec.MsgspecError as error:  # a ValueError since 0.20 only
        raise ValueError(str(error)) from None
    except RecursionError:
        raise ValueError("the JSON is nested too deeply") from None


def items(value: Json, *keys: str) -> list[Json]:
    """Return the list that ``value`` is, or that it holds under one of ``keys``; nothing at all is no items.

    :raises ValueError: where there is no such list
    """
    if isinstance(value, dict):
        found = next((value[key] for key in keys if key in value), None if value else [])
        value = found if found is not None else value
    if value is None:
        return []
    if not isinstance(value, list):
        expected = " or ".join(["a list", *(f"a list under {key!r}" for key in keys)])
        raise ValueError(f"{expected} was expected, not {kind_of(value)}")  # noqa: TRY004 - one kind of error for all answers
    return value


def names(value: Json, *keys: str) -> list[str]:
    """Return a list of names from plain texts, or from objects that have the name under one of ``keys``.

    :raises ValueError: where an item is neither
    """
    found: list[str] = []
    for item in items(value, "data", *keys, *(f"{key}s" for key in keys)):
        name = next((item[key] for key in keys if key in item), None) if isinstance(item, dict) else item
        if not isinstance(name, str):
            raise ValueError(f"item {len(found)} of the list has no name but is {kind_of(item)}")  # noqa: TRY004 - one kind of error for all answers
        found.append(name)
    return found


def kind_of(value: Json) -> str:
    """Say what sort of JSON a value is, without showing it."""
    if value is None:
        return "null"
    if isinstance(value, dict):
        shown = [key for key in list(value)[:6] if re.fullmatch(r"\w{1,40}", key)]
        return f"an object with {', '.join(shown)}" if shown else "an object"
    known = {bool: "a truth value", int: "a number", float: "a number", str: "a text", list: "a list"}
    return known[type(value)]


def explain(error: ValidationError) -> str:
    """Say in one line where data does not fit and why, without showing the data."""
    found: list[str] = []
    for each in error.errors(include_input=False, include_url=False, include_context=False):
        place = ".".join(map(str, each["loc"]))
        reason = each["msg"].removeprefix("Value error, ")
        line = reason if not place or reason.startswith(place) else f"{place}: {reason}"
        if line not in found:
            found.append(line)
    more = f" and {len(found) - 5} more" if len(found) > 5 else ""  # noqa: PLR2004 - enough for a person
    return "; ".join(found[:5]) + more
