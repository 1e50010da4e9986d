"""The arguments that say which answers count as outputs, what shape an output has, and which columns stand beside it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from enum import Enum
from types import GenericAlias, UnionType
from typing import TYPE_CHECKING, Literal, Union, cast, get_args, get_origin

from airflow_provider_lamini.api.output_types import check_output_type, json_schema
from airflow_provider_lamini.exceptions import InvalidArgumentError
from airflow_provider_lamini.rows.answers.judging import ACCEPTABLE, AnswerPolicy
from airflow_provider_lamini.rows.answers.output_shape import OutputShape, schema_validator
from airflow_provider_lamini.rows.errors import MissingExtraError
from airflow_provider_lamini.rows.failures import FailureReason
from airflow_provider_lamini.rows.output.parts import text_writer
from airflow_provider_lamini.runs.arguments import ModelClass, flag, imported, json_object, one_of, shown

if TYPE_CHECKING:
    from airflow_provider_lamini.api.call import Json
    from airflow_provider_lamini.rows.answers.judging import Check
    from airflow_provider_lamini.rows.endpoints import DirectEndpoint, JobEndpoint
    from airflow_provider_lamini.rows.output.parts import PartWriter


def parse_answer_policy(
    output_type: object,
    strict: object,
    check: object,
    fail_on_length: object,
    accept_answers: object,
    *,
    flat_only: str | None,
    reasoning: object = "drop",
) -> AnswerPolicy:
    """Validate the arguments that say which answers count as outputs.

    :param output_type: the shape of each output; ``None`` for plain text
    :param strict: whether an output must be the object's JSON and nothing else
    :param check: judges each output
    :param fail_on_length: whether a row fails whose output was cut at the token limit
    :param accept_answers: reasons for which a row does not fail
    :param flat_only: path of the endpoint, if it decodes no JSON Schema
    :param reasoning: ``keep`` or ``drop`` what a model has thought
    :raises InvalidArgumentError: if one is wrong
    """
    accept = AnswerPolicy().accept | _accepted(accept_answers)
    if flag("fail_on_length", fail_on_length):
        accept -= {FailureReason.TRUNCATED}
    if isinstance(check, str):
        check = imported("check", check)
    if check is not None and not callable(check):
        raise InvalidArgumentError(
            f"check must be a callable, which takes an output, or its dotted path, not {shown(check)}."
        )
    shape = parse_output_type(output_type, strict=strict)
    if shape is not None and flat_only is not None and shape.flat is None:
        raise InvalidArgumentError(
            f"output_type needs a chat endpoint: {flat_only} decodes only fields of the types str, int, float and bool, and "
            "allowed values; no lists, nested objects, optional fields or limits."
        )
    return AnswerPolicy(
        shape=shape,
        accept=accept,
        check=cast("Check | None", check),
        keep_reasoning=one_of("reasoning", reasoning, ("drop", "keep")) == "keep",
    )


def parse_writer(
    endpoint: JobEndpoint | DirectEndpoint, *, reasoning: bool, row_usage: object
) -> type[PartWriter]:
    """Validate whether each row's tokens are written, and choose what writes the parts.

    :param endpoint: sends the rows
    :param reasoning: whether to write what a model has thought
    :param row_usage: whether to write the model and the tokens of each row
    :raises InvalidArgumentError: if it is not a flag, or the endpoint reports no tokens
    """
    usage = flag("row_usage", row_usage)
    if usage and not endpoint.reports_tokens:
        raise InvalidArgumentError(
            "row_usage cannot be true: this endpoint reports no tokens. Remove row_usage, or use a chat endpoint."
        )
    return text_writer(reasoning=reasoning, usage=usage)


def _accepted(value: object) -> frozenset[FailureReason]:
    allowed = tuple(sorted(reason.value for reason in ACCEPTABLE - {FailureReason.TRUNCATED}))
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, list | tuple | set | frozenset):
        raise InvalidArgumentError(
            f"accept_answers must be a list of {', '.join(allowed)}, not {shown(value)}."
        )
    return frozenset(FailureReason(one_of("accept_answers", item, allowed)) for item in items)


_LIST = re.compile(r"\s*list\s*\[\s*(str|int|float|bool)\s*\]\s*", re.IGNORECASE)
_DOTTED = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*[.:][^\W\d]\w*")
_SCALARS = ("str", "int", "float", "bool")
_TYPE_NAMES = {
    "string": "str",
    "text": "str",
    "integer": "int",
    "number": "float",
    "double": "float",
    "boolean": "bool",
    **{name: name for name in _SCALARS},
    **{f"list[{name}]": name for name in _SCALARS},
}
"""Words that mean a type wherever they stand, unless somebody classifies types; and our names for these."""
_SCHEMA_TYPES = frozenset({"object", "array", "string", "integer", "number", "boolean", "null"})
_COMBINATORS = ("anyOf", "oneOf", "allOf")
_SUPPORTED = "a mapping of fields such as {'answer': 'str'}, a JSON Schema, or a pydantic model"


def parse_output_type(value: object, *, strict: object = False) -> OutputShape | None:
    """Validate an operator's ``output_type``.

    :param value: field names with ``str``, ``int``, ``float``, ``bool``, ``list[str]`` (or of another of these), or a
        list of allowed values, as ``Literal`` and enums are; or a JSON Schema of an object; or a pydantic model or its
        dotted path; ``None`` for text
    :param strict: the operator's ``strict_output``
    :raises InvalidArgumentError: if it is none of these
    """
    only_json = flag("strict_output", strict)
    if isinstance(value, str) and _DOTTED.fullmatch(value.strip()):
        value = imported("output_type", value)
    if isinstance(value, ModelClass):
        value = value.model
    if isinstance(value, type):
        return _of_model(value, strict=only_json)
    found = json_object("output_type", _plain(value))
    if found is None:
        return None
    if not _is_schema(found):
        return OutputShape(schema=_of_fields(found), strict=only_json)
    return OutputShape(schema=_checked_schema(_unwrapped(found)), strict=only_json)


def _plain(value: object) -> object:
    """A mapping whose fields may be Python types, such as ``list[str]``, with the names of these types."""
    if not isinstance(value, Mapping):
        return value
    return {name: _type_name(kind) for name, kind in value.items()}


def _type_name(kind: object) -> object:
    if get_origin(kind) in (Union, UnionType):
        raise InvalidArgumentError(
            f"output_type has a field that may be {shown(str(kind))}. For a field of several types, or one that may be missing, "
            "pass a pydantic model, or a JSON Schema with 'anyOf'."
        )
    if get_origin(kind) is Literal:
        return list(get_args(kind))
    if isinstance(kind, type) and issubclass(kind, Enum):
        return [item.value for item in kind]
    if isinstance(kind, GenericAlias):
        return str(kind)
    if isinstance(kind, type):
        return kind.__name__
    return [_type_name(item) for item in kind] if isinstance(kind, list | tuple) else kind


def _of_fields(fields: Mapping[str, Json]) -> dict[str, Json]:
    """The JSON Schema of field names with types."""
    lists = {name: match[1].lower() for name, kind in fields.items() if (match := _list_of(kind))}
    for name, kind in fields.items():
        _refuse_ambiguous(name, kind)
    plain = {name: lists.get(name, kind) for name, kind in fields.items()}
    try:
        schema = json_schema(check_output_type(plain))
    except ValueError as error:
        raise InvalidArgumentError(str(error)) from error.__cause__
    properties = schema["properties"]
    assert isinstance(properties, dict)  # noqa: S101 - as json_schema makes it
    for name in lists:
        properties[name] = {"type": "array", "items": properties[name]}
    return schema


def _list_of(kind: Json) -> re.Match[str] | None:
    return _LIST.fullmatch(kind) if isinstance(kind, str) else None


def _refuse_ambiguous(name: str, kind: Json) -> None:
    """Refuse a list of types, which would be read as a list of allowed words."""
    if isinstance(kind, Mapping):
        raise InvalidArgumentError(
            f"output_type: {shown(name)} is a mapping. For nested objects pass a JSON Schema, which has 'type': 'object' and "
            "'properties', or a pydantic model."
        )
    words = [item.strip().lower() for item in kind if isinstance(item, str)] if isinstance(kind, list) else []
    types = [_TYPE_NAMES[word] for word in words if word in _TYPE_NAMES]
    if not isinstance(kind, list) or not types or len(types) < len(kind):
        return
    if len(types) > 1:
        types_text = ", ".join(words)
        raise InvalidArgumentError(
            f"output_type: {shown(name)} lists the types {types_text}. If one of several types is meant, pass a JSON Schema "
            "with 'anyOf'; if the answer should be one of these words, pass a JSON Schema with 'enum'."
        )
    raise InvalidArgumentError(
        f"output_type: {shown(name)} may mean a list of {types[0]} values, or the word {words[0]!r} as the only allowed "
        f"value. For the list write 'list[{types[0]}]', for the word a JSON Schema with 'enum': [{words[0]!r}]."
    )


def _is_schema(value: Mapping[str, Json]) -> bool:
    """Whether a mapping is a JSON Schema and not field names with types."""
    if (
        isinstance(value.get("json_schema"), Mapping)
        or "$schema" in value
        or "$ref" in value
        or "$defs" in value
    ):
        return True
    if any(isinstance(value.get(key), list) and _mappings(value[key]) for key in _COMBINATORS):
        return True
    if isinstance(value.get("properties"), Mapping) or isinstance(value.get("items"), Mapping):
        return True
    kind = value.get("type")
    return isinstance(kind, str) and kind in _SCHEMA_TYPES


def _mappings(items: Json) -> bool:
    return isinstance(items, list) and bool(items) and all(isinstance(item, dict) for item in items)


def _unwrapped(value: dict[str, Json]) -> dict[str, Json]:
    """The schema in a ``response_format`` of OpenAI's API; any other schema as it is."""
    for key in ("json_schema", "schema"):
        inner = value.get(key)
        if isinstance(inner, dict) and (key == "json_schema" or "properties" not in value):
            value = inner
    return value


def _checked_schema(schema: dict[str, Json]) -> dict[str, Json]:
    try:
        validator = schema_validator(schema)
    except MissingExtraError as error:
        raise InvalidArgumentError(str(error)) from error.__cause__
    from jsonschema.exceptions import SchemaError

    try:
        validator.check_schema(schema)
    except SchemaError as error:
        place = ".".join(map(str, error.absolute_path)) or "its root"
        raise InvalidArgumentError(f"output_type is not a valid JSON Schema: see {place[:100]}.") from None
    outside = next((reference for reference in _references(schema) if not _resolves(reference, schema)), None)
    if outside is not None:
        raise InvalidArgumentError(
            f"output_type: the JSON Schema refers to {shown(outside)}, which it does not contain. Put it under '$defs'."
        )
    root = schema if "$ref" not in schema else _target(str(schema["$ref"]), schema)
    if not isinstance(root, dict) or root.get("type") != "object":
        raise InvalidArgumentError(
            "output_type: the JSON Schema must describe an object ('type': 'object' at its root). Put a list or a value "
            "into a property of one."
        )
    return schema


def _references(schema: Json) -> list[str]:
    if isinstance(schema, list):
        return [reference for item in schema for reference in _references(item)]
    if not isinstance(schema, dict):
        return []
    found = [schema["$ref"]] if isinstance(schema.get("$ref"), str) else []
    return [*map(str, found), *(reference for item in schema.values() for reference in _references(item))]


def _resolves(reference: str, schema: dict[str, Json]) -> bool:
    return reference.startswith("#") and isinstance(_target(reference, schema), dict | bool)


def _target(reference: str, schema: dict[str, Json]) -> Json:
    found: Json = schema
    for part in reference.removeprefix("#").split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        found = found.get(key) if isinstance(found, dict) else None
    return found


def _of_model(model: type, *, strict: bool) -> OutputShape:
    from pydantic import BaseModel
    from pydantic.errors import PydanticUserError

    if not issubclass(model, BaseModel):
        raise InvalidArgumentError(f"output_type is the class {model.__name__}: give {_SUPPORTED}.")
    try:
        schema = model.model_json_schema()
    except PydanticUserError as error:
        raise InvalidArgumentError(
            f"output_type: {model.__name__} cannot be described as a JSON Schema: {str(error).splitlines()[0][:200]}"
        ) from error
    schema = json.loads(json.dumps(schema))
    if not schema.get("properties") and "$ref" not in schema:
        raise InvalidArgumentError(f"output_type: {model.__name__} has no fields.")
    return OutputShape(schema=_closed(_checked_schema(schema)), model=model, strict=strict)


def _closed(schema: Json) -> dict[str, Json]:
    """A model's schema whose objects have no other fields: without that, a model may invent some until its limit."""
    closed = _closed_part(schema)
    assert isinstance(closed, dict)  # noqa: S101 - a schema is an object
    return closed


def _closed_part(schema: Json) -> Json:
    if isinstance(schema, list):
        return [_closed_part(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: _closed_part(item) for key, item in schema.items()}
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object":
        found.setdefault("additionalProperties", False)
    return found
