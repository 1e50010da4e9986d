"""``output_type``: the structure that a model's output must have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from airflow_provider_lamini.api.call import Json

OutputType = dict[str, str | list[str] | list[int]]
"""Field names with ``str``, ``int``, ``float``, ``bool``, or a list of allowed strings or integers."""

_SCHEMAS: dict[str, str] = {"str": "string", "int": "integer", "float": "number", "bool": "boolean"}


def check_output_type(value: object) -> OutputType:
    """Validate an output type.

    :param value: a mapping of each field's name to ``"str"``, ``"int"``, ``"float"``, ``"bool"``, or to a
        list of allowed strings or of allowed integers
    :returns: a copy with tuples as lists
    :raises ValueError: if it is invalid; the message names the field
    """
    if not isinstance(value, Mapping):
        raise ValueError(  # noqa: TRY004 - one kind of error for all
            f"output_type must map names to types, such as {{'answer': 'str'}}, not {value!r:.100}"
        )
    if not value:
        raise ValueError(
            "output_type is empty: give at least one field, such as {'answer': 'str'}, or omit output_type"
        )
    checked: OutputType = {}
    for name, kind in value.items():
        if not isinstance(name, str) or not name:
            raise ValueError(f"output_type: {name!r:.60} is not a valid field name")
        checked[name] = _checked_kind(name, kind)
    return checked


def _checked_kind(name: str, kind: object) -> str | list[str] | list[int]:
    if isinstance(kind, str):
        if kind in _SCHEMAS:
            return kind
        raise ValueError(
            f"output_type: {name!r} must be one of {', '.join(_SCHEMAS)} or a list, not {kind[:60]!r}"
        )
    if not isinstance(kind, list | tuple):
        raise ValueError(  # noqa: TRY004 - one kind of error for all
            f"output_type: {name!r} must be one of {', '.join(_SCHEMAS)} or a list, not {kind!r:.60}"
        )
    if not kind:
        raise ValueError(f"output_type: the list of {name!r} is empty, so no value is allowed")
    if len(set(map(repr, kind))) < len(kind):
        raise ValueError(f"output_type: the list of {name!r} contains a value twice")
    strings = [item for item in kind if isinstance(item, str)]
    integers = [item for item in kind if isinstance(item, int) and not isinstance(item, bool)]
    if len(strings) == len(kind):
        return strings
    if len(integers) == len(kind):
        return integers
    raise ValueError(f"output_type: the list of {name!r} must contain only strings or only integers")


def json_schema(output_type: Mapping[str, str | list[str] | list[int]]) -> dict[str, Json]:
    """Return the JSON schema of an output type.

    :param output_type: as for :func:`check_output_type`
    :returns: an object schema: every field is required, in the given order, and no other field is allowed
    :raises ValueError: if the output type is invalid
    """
    properties: dict[str, Json] = {}
    for name, kind in check_output_type(output_type).items():
        if isinstance(kind, str):
            properties[name] = {"type": _SCHEMAS[kind]}
        else:
            schema_type = "string" if isinstance(kind[0], str) else "integer"
            properties[name] = {"type": schema_type, "enum": list(kind)}
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


_NOTES = {"title", "description", "default", "examples", "$comment", "$schema"}
"""Keys of a JSON schema that say nothing about the values."""
_KINDS = {schema_type: name for name, schema_type in _SCHEMAS.items()}


def flat_output_type(schema: Mapping[str, Json]) -> OutputType | None:
    """Return the output type that says the same as a JSON schema; ``None`` if an output type cannot say it.

    :param schema: a JSON schema
    """
    properties = schema.get("properties")
    known = {*_NOTES, "$defs", "type", "properties", "required", "additionalProperties"}
    if schema.get("type") != "object" or not isinstance(properties, dict) or not properties:
        return None
    if set(schema) - known or schema.get("additionalProperties") not in (None, True, False):
        return None
    kinds = {name: _flat_kind(_definition(part, schema)) for name, part in properties.items()}
    return None if None in kinds.values() else cast("OutputType", kinds)


def _definition(part: Json, schema: Mapping[str, Json]) -> Json:
    """What a reference to a definition of the same schema refers to."""
    definitions = schema.get("$defs")
    reference = part.get("$ref") if isinstance(part, dict) else None
    if not isinstance(part, dict) or not isinstance(reference, str) or set(part) - {"$ref", *_NOTES}:
        return part
    name = reference.removeprefix("#/$defs/")
    return definitions.get(name) if isinstance(definitions, dict) else None


def _flat_kind(schema: Json) -> str | list[str] | list[int] | None:
    if not isinstance(schema, dict) or set(schema) - {*_NOTES, "type", "enum", "const"}:
        return None
    kind = schema.get("type")
    if "enum" not in schema and "const" not in schema:
        return _KINDS.get(kind) if isinstance(kind, str) else None
    values = [schema["const"]] if "const" in schema else schema["enum"]
    try:
        return _checked_kind("enum", values)
    except ValueError:
        return None
