"""The shape that a model's output must have, and reading an output of that shape out of a model's answer."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from datetime import date, datetime, time
from functools import cache, partial
from typing import TYPE_CHECKING
from uuid import UUID

import msgspec

from airflow_provider_lamini.api.output_types import flat_output_type, json_schema
from airflow_provider_lamini.rows.answers.lenient import Relaxation, has_unique_names, object_in
from airflow_provider_lamini.rows.errors import MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from jsonschema import FormatChecker
    from jsonschema.exceptions import ValidationError as SchemaError
    from jsonschema.protocols import Validator
    from pydantic import BaseModel
    from pydantic_core import ErrorDetails

    from airflow_provider_lamini.api.call import Json
    from airflow_provider_lamini.api.output_types import OutputType

_NOT_AN_OBJECT = "it is not an object"


class MisfitError(ValueError):
    """An output does not have the shape. The message says what is wrong, without the output's content."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputShape:
    """The shape of each output: an object.

    :param schema: its JSON Schema
    :param model: a pydantic model that validates it as well; ``None`` if there is only the schema
    :param strict: whether an output must be the JSON of the object and nothing else. Otherwise it may have words or a
        code fence around it, and values such as ``1.0`` for an integer are taken where their meaning is certain.
    """

    schema: dict[str, Json]
    model: type[BaseModel] | None = None
    strict: bool = False

    @property
    def fields(self) -> list[str]:
        """The names of the object's fields."""
        properties = self.schema.get("properties")
        return list(properties) if isinstance(properties, dict) else []

    @property
    def flat(self) -> OutputType | None:
        """The same as field names with types, for endpoints that decode no JSON Schema; ``None`` if that says less."""
        return flat_output_type(self.schema)

    def plain(self) -> object:
        """Everything that decides which outputs are accepted, as plain values, for a fingerprint."""
        flat = self.flat
        if flat is not None and self.model is None and not self.strict and self.schema == json_schema(flat):
            return flat
        model = None if self.model is None else self.model.__qualname__
        return {"schema": self.schema, "model": model, "strict": self.strict}

    def read(self, output: Json) -> Json:
        """Read the object out of an output.

        :param output: the object, or a text that contains it
        :return: the object, with the values that the shape asks for
        :raises MisfitError: if the output does not have the shape, or its meaning is not certain
        """
        value = _decoded(output) if self.strict else object_in(output)
        if not isinstance(value, dict):
            raise MisfitError(_NOT_AN_OBJECT)
        if not self.strict:
            value = Relaxation(self.schema).relax_object(value)
        if self.model is not None:
            return _validated(self.model, value)
        wrong = _misfit(value, self.schema)
        if wrong is not None:
            raise MisfitError(wrong)
        return value


def schema_validator(schema: dict[str, Json]) -> Validator:
    """The validator of a JSON Schema, also of the formats of dates, times, addresses and UUIDs.

    :raises MissingExtraError: if jsonschema is not installed
    """
    try:
        from jsonschema import Draft202012Validator
    except ImportError:
        raise MissingExtraError(
            "A JSON Schema as output_type needs jsonschema: pip install 'airflow-provider-lamini[schema]'"
        ) from None
    return Draft202012Validator(schema, format_checker=_format_checker())


@cache
def _format_checker() -> FormatChecker:
    """Checks formats in the same way in each environment: jsonschema checks some only where other packages are installed."""
    from jsonschema import FormatChecker

    checker = FormatChecker(())
    for name, parse in _FORMATS.items():
        checker.checks(name, raises=ValueError)(partial(_has_format, parse))  # it is a decorator
    return checker


def _has_format(parse: Callable[[str], object], value: object) -> bool:
    """Whether a value can be parsed. Another rule of the schema says whether it must be a text.

    :raises ValueError: if it cannot
    """
    if isinstance(value, str):
        parse(value)
    return True


def _decoded(output: Json) -> Json:
    """Decode an output: platforms return objects as such, or as text."""
    if not isinstance(output, str):
        return output
    try:
        decoded: Json = msgspec.json.decode(output)
    except msgspec.DecodeError:
        return output
    return decoded if has_unique_names(output) else output


def _misfit(value: dict[str, Json], schema: dict[str, Json]) -> str | None:
    """What is wrong with an object, briefly and without its content; ``None`` if nothing is."""
    flat = flat_output_type(schema)
    if flat is not None and schema.get("required") == list(flat):
        return _flat_misfit(value, flat)
    error = next(iter(sorted(schema_validator(schema).iter_errors(value), key=_place)), None)
    return None if error is None else _described(error, schema)


_FORMATS: dict[str, Callable[[str], object]] = {
    "date": date.fromisoformat,
    "date-time": datetime.fromisoformat,
    "time": time.fromisoformat,
    "ipv4": ipaddress.IPv4Address,
    "ipv6": ipaddress.IPv6Address,
    "uuid": UUID,
}
"""Formats of texts in a JSON Schema, and what parses them."""
_TYPES: dict[str, type | tuple[type, ...]] = {"str": str, "int": int, "float": (int, float), "bool": bool}


def _flat_misfit(value: dict[str, Json], output_type: OutputType) -> str | None:
    for name, kind in output_type.items():
        if name not in value:
            return f"field {name!r} is missing"
        found = value[name]
        if isinstance(kind, list):
            # Compare types too: in Python, True == 1 and 1.0 == 1.
            if not any(found == allowed and type(found) is type(allowed) for allowed in kind):
                return f"field {name!r} is not one of the allowed values"
        elif not isinstance(found, _TYPES[kind]) or (isinstance(found, bool) and kind != "bool"):
            return f"field {name!r} is not of type {kind}"
    return None


def _place(error: SchemaError) -> list[str]:
    return list(map(str, error.absolute_path))


def _described(error: SchemaError, schema: dict[str, Json]) -> str:
    """An error of a JSON Schema without content of the output, whose keys may be content as well."""
    field = _field_name(error.absolute_path, schema)
    if error.validator == "required" and isinstance(error.instance, dict):
        missing = [name for name in error.validator_value if name not in error.instance]
        within = "" if field == "it" else f" of {field}"
        return f"field {missing[0]!r}{within} is missing"
    if error.validator == "type":
        return f"{field} is not of type {error.validator_value}"
    if error.validator in ("enum", "const"):
        return f"{field} is not one of the allowed values"
    return f"{field} violates {error.validator!r}"


def _field_name(path: Iterable[str | int], schema: dict[str, Json]) -> str:
    known = set(re.findall(r'"((?:[^"\\]|\\.)*)":', msgspec.json.encode(schema).decode()))
    names = [str(part) if isinstance(part, int) or part in known else "*" for part in path]
    return f"field {'.'.join(names)!r}" if names else "it"


def _validated(model: type[BaseModel], value: dict[str, Json]) -> Json:
    from pydantic import ValidationError

    try:
        found = model.model_validate_json(msgspec.json.encode(value), strict=True)
    except ValidationError as error:
        raise MisfitError(
            _model_misfit(error.errors(include_input=False, include_url=False)[0], model)
        ) from None
    dumped: Json = found.model_dump(mode="json", by_alias=True)
    return dumped


def _model_misfit(error: ErrorDetails, model: type[BaseModel]) -> str:
    """An error of a model; the text of a validator of its own may contain the value, so it is left out."""
    field = _field_name(error["loc"], model.model_json_schema())
    if error["type"] == "missing":
        return f"{field} is missing"
    return f"{field} does not pass {model.__name__} ({error['type']})"
