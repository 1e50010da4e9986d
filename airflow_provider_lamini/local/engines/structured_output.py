"""Structured output, field by field: the engine writes the JSON of a flat object, the model only its values.

An ``output_type`` is a flat object. A small model left alone wastes tokens on braces and white space, writes endless
digits, and runs out of tokens before the object is complete. Therefore the engine appends names and braces to the
prompt. The model picks the value of an enum from the allowed ones. A grammar that must end constrains every other
value, and a string that is too long is closed where it was truncated. The result always matches the type.

An object with a single enum is not generated as JSON at all: the model continues the prompt with the bare label. That
is what a prompt such as ``Ticket: ... Category:`` asks for, and small models are far better at it. Likewise, a tuned
model writes an object with a single string as plain text, because that is what it was trained on.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from airflow_provider_lamini.local.engines.base import BadGenerationRequest, EngineError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_lamini.api.call import Json

Kind = Literal["string", "integer", "number", "boolean", "enum"]

GRAMMAR_HEADER = "%llguidance {}\n"
INTEGER = "/-?(0|[1-9][0-9]{0,14})/"
NUMBER = "/-?(0|[1-9][0-9]{0,14})(\\.[0-9]{1,9})?/"
COMPACT_JSON: dict[str, Json] = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
MAX_NUMBER_TOKENS = 48
"""More tokens than any number needs."""
_KINDS: dict[Json, Kind] = {
    "string": "string",
    "integer": "integer",
    "number": "number",
    "boolean": "boolean",
}
_PLAIN_KEYS = {"type", "enum", "title", "description"}


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a flat object.

    :param name: its name
    :param kind: type of its value
    :param allowed: allowed values of an enum
    """

    name: str
    kind: Kind
    allowed: tuple[Json, ...] = ()

    def choices(self, *, last: bool) -> list[str] | None:
        """Return the texts that the value can be chosen from, each with a leading space; ``None`` for a free value.

        No text is a prefix of another: unless the value is a string, the character after it is included.

        :param last: whether this is the last field of the object
        """
        if self.kind == "boolean":
            return [" true", " false"]
        if self.kind != "enum":
            return None
        end = "}" if last else ","
        return [
            f" {json.dumps(value, ensure_ascii=False)}{'' if isinstance(value, str) else end}"
            for value in self.allowed
        ]

    def choice_json(self, index: int) -> str:
        """Return the JSON of the choice at an index."""
        if self.kind == "boolean":
            return ("true", "false")[index]
        return json.dumps(self.allowed[index], ensure_ascii=False)

    def max_tokens(self) -> int | None:
        """Return the maximum tokens of a free value; ``None`` for a string, which has no maximum."""
        return None if self.kind == "string" else MAX_NUMBER_TOKENS

    def grammar(self) -> str:
        """Return the grammar of a free value with its leading space and, for a number, its terminator."""
        if self.kind == "string":
            return f'{GRAMMAR_HEADER}start: " " %json {{"type": "string"}}'
        # A number is only complete once the character after it is written.
        return f'{GRAMMAR_HEADER}start: " " {INTEGER if self.kind == "integer" else NUMBER} ("," | "}}")'

    def parse_value(self, text: str, *, truncated: bool) -> str:
        """Return the JSON of a free value.

        :param text: the model's output under :meth:`grammar`
        :param truncated: whether the output reached the token limit; only a string may
        :raises EngineError: the output is not a value of this kind
        """
        value = text.strip()
        if truncated and self.kind == "string":
            return close_string(value)
        if self.kind != "string":
            value = value[:-1]
        try:
            json.loads(value)
        except ValueError:
            raise EngineError(
                f"The engine did not generate a valid {self.kind} for field {self.name!r}."
            ) from None
        return value

    def wrap_text(self, text: str) -> str:
        """Return the JSON object whose only field this is, from the output of a tuned model.

        :param text: the plain value; or the whole object, if the model was trained to write it
        """
        try:
            value = json.loads(text)
        except ValueError:
            value = None
        if isinstance(value, dict) and value.keys() == {self.name} and isinstance(value[self.name], str):
            return json.dumps(value, ensure_ascii=False)
        return json.dumps({self.name: text.strip()}, ensure_ascii=False)


def close_string(text: str) -> str:
    """Close a truncated JSON string, and drop an incomplete escape sequence at its end.

    :param text: the JSON string from its opening quote; may be empty
    """
    # The longest escape sequence is a surrogate pair of \\uXXXX: 12 characters.
    for dropped in range(min(12, len(text)) + 1):
        candidate = text[: len(text) - dropped] + '"'
        try:
            if isinstance(json.loads(candidate), str):
                json.loads(candidate).encode()
                return candidate
        except ValueError:
            continue
    return '""'


def flat_fields(schema: Mapping[str, Json]) -> list[Field] | None:
    """Return the fields of a schema of a flat object with scalar values; ``None`` for any other schema.

    :param schema: a JSON schema
    """
    properties = schema.get("properties")
    if schema.get("type") != "object" or not isinstance(properties, dict) or not properties:
        return None
    if set(schema) - {"type", "properties", "required", "additionalProperties", "title", "description"}:
        return None
    fields = [_field(name, part) for name, part in properties.items()]
    plain = [field for field in fields if field is not None]
    return plain if len(plain) == len(fields) else None


@dataclass(frozen=True, slots=True)
class Label:
    """The only field of an object, an enum of plain strings, generated without JSON.

    :param name: name of the field
    :param allowed: allowed labels
    """

    name: str
    allowed: tuple[str, ...]

    def choices(self, space: str) -> list[str]:
        """Return the texts that the model can choose from.

        :param space: white space between the prompt and the label
        """
        return [f"{space}{label}\n" for label in self.allowed]

    def to_json(self, index: int) -> str:
        """Return the JSON object for the choice at an index."""
        return json.dumps({self.name: self.allowed[index]}, ensure_ascii=False)


def single_label(fields: list[Field]) -> Label | None:
    """Return the only field of an object as a label if it is an enum of plain strings; otherwise ``None``."""
    if len(fields) != 1 or fields[0].kind != "enum":
        return None
    labels = [value for value in fields[0].allowed if isinstance(value, str) and value == value.strip()]
    if len(labels) != len(fields[0].allowed) or not all(label and label.isprintable() for label in labels):
        return None
    return Label(fields[0].name, tuple(labels))


def _field(name: str, schema: Json) -> Field | None:
    if not isinstance(schema, dict) or set(schema) - _PLAIN_KEYS:
        return None
    if "enum" in schema:
        allowed = schema["enum"]
        if not isinstance(allowed, list) or not allowed:
            raise BadGenerationRequest(f"The JSON schema allows no value for {name!r}: its enum is empty.")
        return Field(name, "enum", tuple(allowed)) if all(_is_scalar(value) for value in allowed) else None
    kind = schema.get("type")
    return Field(name, _KINDS[kind]) if isinstance(kind, str) and kind in _KINDS else None


def _is_scalar(value: Json) -> bool:
    return value is None or isinstance(value, str | int | float | bool)


def field_prefix(field: Field, *, first: bool) -> str:
    """Return the JSON before a field's value; the space after the colon is left to the grammar."""
    return f"{'{' if first else ', '}{json.dumps(field.name, ensure_ascii=False)}:"


def schema_grammar(schema: Mapping[str, Json], mark: str) -> str:
    """Return the grammar for a mark followed by compact JSON of any schema.

    :param schema: a JSON schema
    :param mark: literal text before the JSON; may be empty
    """
    schema = {**schema, "x-guidance": COMPACT_JSON}
    return f"{GRAMMAR_HEADER}start: {json.dumps(mark) if mark else ''} %json {json.dumps(schema)}"
