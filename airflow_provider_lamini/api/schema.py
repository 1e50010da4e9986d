"""What all operations share: request bodies from arguments, typed responses from bytes."""

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, TypeVar, cast
from urllib.parse import quote

import msgspec
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    ValidationError,
)
from pydantic_core import CoreSchema

from airflow_provider_lamini.api.call import Json
from airflow_provider_lamini.api.output_types import OutputType, check_output_type
from airflow_provider_lamini.wording import a_type


def _stop_at_first_error(schema: object) -> None:
    """Set ``fail_fast`` for the lists in a schema of pydantic."""
    if isinstance(schema, dict):
        if schema.get("type") == "list":
            schema["fail_fast"] = True
        for part in schema.values():
            _stop_at_first_error(part)
    elif isinstance(schema, list | tuple):
        for part in schema:
            _stop_at_first_error(part)


class Request(BaseModel):
    """A request body. It accepts unknown fields: servers differ. Validation stops at the first invalid item of a list."""

    model_config = ConfigDict(extra="allow", hide_input_in_errors=True)

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: type[BaseModel], handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Make validation stop at the first error of each list: one error takes far more memory than an item."""
        schema = handler(source)
        _stop_at_first_error(handler.resolve_ref_schema(schema))
        return schema


class Response(BaseModel):
    """A response. It keeps unknown fields, so that new fields of a server break nothing."""

    model_config = ConfigDict(
        extra="allow", hide_input_in_errors=True, coerce_numbers_to_str=True, defer_build=True
    )


def _number_to_text(value: object) -> object:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Id = Annotated[str, BeforeValidator(_number_to_text), Field(min_length=1)]
"""An id, which some servers write as a number."""


def _finite(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("it is not a text, but a number that JSON does not allow")
    return value


Output = Annotated[str, BeforeValidator(_finite)]
"""What a model has written. A server may have made a number of it, but not one such as NaN."""

Prompts = str | Annotated[list[str], Field(min_length=1)]
"""One prompt, or several."""

BoundType = Annotated[OutputType, BeforeValidator(check_output_type)]
"""A validated output type."""

TokenBound = Annotated[int, Field(ge=1)]
"""A maximum number of tokens."""

_MAX_TOKENS = 10**12


def _none_to_zero(value: object) -> object:
    return 0 if value is None else value


def _possible_tokens(value: float) -> float:
    return value if 0 <= value <= _MAX_TOKENS else 0


Tokens = Annotated[int | float, BeforeValidator(_none_to_zero), AfterValidator(_possible_tokens)]
"""A number of tokens that a platform has counted; 0 if it sends none, or a number that cannot be one."""

T = TypeVar("T")
ResponseT = TypeVar("ResponseT", bound=Response)

_ANY = msgspec.json.Decoder(object)
_MAX_ERRORS = 5
"""Validation errors that a message contains."""
_UNION_TAGS = ("bool", "float", "int", "str")


def body(model: type[Request], arguments: Mapping[str, object]) -> dict[str, Json]:
    """Validate arguments with a request's model and return the body to send.

    :param model: the request's model
    :param arguments: the arguments; those that are ``None`` are omitted
    :returns: the given arguments and nothing else, so that the platform's own defaults apply
    :raises ValueError: if an argument is invalid; the message names it and does not contain its value
    """
    values = {name: value for name, value in arguments.items() if value is not None}
    try:
        request = model.model_validate(values)
    except ValidationError as error:
        raise ValueError(describe_error(error)) from None
    fields: dict[str, Json] = request.model_dump(mode="json", by_alias=True, exclude_unset=True)
    return fields


def set_fields(value: Request | Mapping[str, object] | None) -> object:
    """Return an argument that may be a model of a part of the body as plain values: only the fields that were set.

    :param value: a model, or already plain values
    """
    return value.model_dump(exclude_unset=True) if isinstance(value, Request) else value


def prompts_body(
    model: type[Request], prompt: str | Sequence[str], arguments: Mapping[str, object]
) -> dict[str, Json]:
    """Return a body with prompts, which are checked to be texts but not copied one by one.

    :param model: the request's model
    :param prompt: one prompt or a list of prompts
    :param arguments: the other arguments
    :raises ValueError: if an argument is invalid, the list is empty, or an item is not a text
    """
    if isinstance(prompt, str):
        return body(model, {**arguments, "prompt": prompt})
    prompts = check_texts("prompt", prompt)
    return {**body(model, {**arguments, "prompt": [""]}), "prompt": prompts}


def check_texts(name: str, value: object) -> list[Json]:
    """Validate a list of texts.

    :param name: the argument's name, for the message
    :param value: a sequence of strings; a single string is refused
    :raises ValueError: if it is not a list, is empty, or an item is not a text; the message has the item's index
    """
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise ValueError(f"{name} must be a list of texts, not {a_type(value)}")  # noqa: TRY004 - one kind of error for all arguments
    if not value:
        raise ValueError(f"{name} is an empty list: there is nothing to send")
    if {*map(type, value)} != {str}:
        for index, item in enumerate(value):
            if not isinstance(item, str):
                raise ValueError(f"{name} {index} must be a text, not {a_type(item)}")  # noqa: TRY004 - one kind of error for all arguments
    return list(value)


def check_rows(name: str, value: object) -> list[Json]:
    """Validate a list of rows without copying each row.

    :param name: the argument's name, for the message
    :param value: a sequence of objects
    :raises ValueError: if it is not a list, is empty, or an item is not an object; the message has the item's index
    """
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise ValueError(f"{name} must be a list of rows, not {a_type(value)}")  # noqa: TRY004 - one kind of error for all arguments
    if not value:
        raise ValueError(f"{name} is an empty list: there is nothing to send")
    for index, item in enumerate(value):
        if not isinstance(item, dict):
            raise ValueError(f"{name} {index} must be an object, not {a_type(item)}")  # noqa: TRY004 - one kind of error for all arguments
    return list(value)


def path_segment(value: object, name: str = "id") -> str:
    """Quote an id or a name for use as one segment of a path.

    :param value: text or a whole number
    :param name: the argument's name, for the message
    :raises ValueError: if it is empty, is not a text, or would change the path
    """
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError(f"{name} must be a text or a whole number, not {a_type(value)}")  # noqa: TRY004 - one kind of error for all arguments
    text = str(value).strip()
    if not text or text in (".", ".."):
        raise ValueError(f"{name} must not be {text!r}: it names nothing on the platform")
    return quote(text, safe="")


def parser(model: type[ResponseT]) -> Callable[[bytes], ResponseT]:
    """Return a function that parses a response.

    It raises ``ValueError`` with fields and reasons, without values.

    :param model: the response's model
    """

    def parse(content: bytes) -> ResponseT:
        try:
            return model.model_validate_json(content)
        except ValidationError as error:
            raise ValueError(describe_error(error)) from None

    return parse


def list_parser(model: type[ResponseT], *keys: str) -> Callable[[bytes], list[ResponseT]]:
    """Return a function that parses a list of responses.

    :param model: the model of an item
    :param keys: the list may be the value of one of these fields, instead of the whole response
    """
    return lambda content: [validate(model, item) for item in find_items(decode(content), *keys)]


def validate(model: type[ResponseT], value: object) -> ResponseT:
    """Validate decoded JSON as a response.

    :raises ValueError: if it is invalid; the message has fields and reasons, no values
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise ValueError(describe_error(error)) from None


def decode(content: bytes) -> Json:
    """Decode JSON.

    :raises ValueError: if it is not JSON
    """
    return cast("Json", decode_as(content, _ANY))


def decode_as(content: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    """Decode JSON into a given type, fast.

    :param content: the JSON
    :param decoder: decodes the type; fields that the type does not have are skipped. It is made when its module is
        imported: if two threads resolve the types of a struct at the same moment, the process crashes.
    :raises ValueError: if it is not JSON, or not of this type
    """
    try:
        return decoder.decode(content)
    except msgspec.MsgspecError as error:  # a ValueError since 0.20 only
        raise ValueError(str(error)) from None
    except RecursionError:
        raise ValueError("the JSON is nested too deeply") from None


class _Usage(msgspec.Struct):
    total_tokens: float | None = None
    prompt_tokens: float | None = None
    completion_tokens: float | None = None


class _Counted(msgspec.Struct):
    usage: _Usage | None = None


_COUNTED = msgspec.json.Decoder(_Counted)

_MAX_TOKENS = 10_000_000
"""More than any model reads and writes for one request."""


def used_tokens(content: bytes) -> float | None:
    """Read the tokens of prompt and output from a response with OpenAI's ``usage``.

    :param content: the response's body
    :returns: the tokens; ``None`` if the platform does not count them, or the number is absurd
    """
    try:
        usage = decode_as(content, _COUNTED).usage
    except ValueError:
        return None
    if usage is None:
        return None
    used = usage.total_tokens or (usage.prompt_tokens or 0) + (usage.completion_tokens or 0)
    return used if 0 < used <= _MAX_TOKENS else None


def is_json(content: bytes) -> bool:
    """Whether JSON can be decoded as it is."""
    try:
        decode(content)
    except ValueError:
        return False
    return True


def decode_leniently(content: bytes) -> Json:
    """Decode JSON of which single values are not what JSON allows: half a surrogate pair, NaN, invalid UTF-8.

    :raises ValueError: if it is not JSON otherwise
    """
    try:
        found: Json = json.loads(content.decode(errors="surrogateescape"))
    except RecursionError:
        raise ValueError("the JSON is nested too deeply") from None
    return found


def is_decodable(value: Json) -> bool:
    """Whether a value of `decode_leniently` is what JSON allows."""
    if isinstance(value, dict):
        return all(is_decodable(key) and is_decodable(item) for key, item in value.items())
    if isinstance(value, list):
        return all(map(is_decodable, value))
    if isinstance(value, float):
        return math.isfinite(value)
    try:
        return not isinstance(value, str) or value.isascii() or bool(value.encode())
    except UnicodeEncodeError:
        return False


def find_items(value: Json, *keys: str) -> list[Json]:
    """Return a list that is the whole value, or the value of one of some fields.

    :param value: decoded JSON; ``null`` and an empty object count as an empty list
    :param keys: the fields
    :raises ValueError: if there is no such list
    """
    if isinstance(value, dict):
        found = next((value[key] for key in keys if key in value), None if value else [])
        value = found if found is not None else value
    if value is None:
        return []
    if not isinstance(value, list):
        expected = " or ".join(["a list", *(f"a list under {key!r}" for key in keys)])
        raise ValueError(f"{expected} was expected, not {describe_type(value)}")  # noqa: TRY004 - one kind of error for all responses
    return value


def find_names(value: Json, *keys: str) -> list[str]:
    """Return a list of names from a list of texts, or of objects with a name.

    :param value: decoded JSON
    :param keys: fields of the objects that may contain the name
    :raises ValueError: if an item has no name
    """
    names: list[str] = []
    for item in find_items(value, "data", *keys, *(f"{key}s" for key in keys)):
        name = next((item[key] for key in keys if key in item), None) if isinstance(item, dict) else item
        if not isinstance(name, str):
            raise ValueError(f"item {len(names)} of the list has no name but is {describe_type(item)}")  # noqa: TRY004 - one kind of error for all responses
        names.append(name)
    return names


def describe_type(value: Json) -> str:
    """Describe the type of a JSON value without showing the value."""
    if value is None:
        return "null"
    if isinstance(value, dict):
        keys = [key for key in list(value)[:6] if re.fullmatch(r"\w{1,40}", key)]
        return f"an object with {', '.join(keys)}" if keys else "an object"
    known = {bool: "a boolean", int: "a number", float: "a number", str: "a text", list: "a list"}
    return known[type(value)]


def describe_error(error: ValidationError) -> str:
    """Return one line that says which fields are invalid and why, without showing data."""
    lines: list[str] = []
    for item in error.errors(include_input=False, include_url=False, include_context=False):
        steps = item["loc"]
        # Of a union, pydantic adds which type did not fit.
        location = ".".join(map(str, steps[:-1] if steps[-1:] and steps[-1] in _UNION_TAGS else steps))
        reason = item["msg"].removeprefix("Value error, ")
        line = reason if not location or reason.startswith(location) else f"{location}: {reason}"
        if line not in lines:
            lines.append(line)
    more = f" and {len(lines) - _MAX_ERRORS} more" if len(lines) > _MAX_ERRORS else ""
    return "; ".join(lines[:_MAX_ERRORS]) + more
