"""Flat objects field by field: the engine writes the JSON around the values, the model only the values.

An ``output_type`` is a flat object. Left to itself a small model spends its tokens on braces and white space, goes
on with digits for ever, and is cut before the object is whole. So the names and braces are given to it as part of the
prompt; a value from a list is chosen by asking for the likeliest of the listed ones; any other is bound by a grammar
that ends, and a text that is too long is closed where it was cut: what comes back always fits.

An object of one enum alone is not even shown as JSON: the prompt is continued with the bare label, which is what a
prompt such as ``Ticket: ... Category:`` asks for, and what a small model is far better at.
A tuned model has learned what follows a prompt: it writes an object of one text alone without JSON, too.
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
TIGHT: dict[str, Json] = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
BOUNDED_TOKENS = 48
"""Tokens that no number or boolean can need."""
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
    :param kind: what its value is
    :param allowed: the allowed values of an enum
    """

    name: str
    kind: Kind
    allowed: tuple[Json, ...] = ()

    def choices(self, *, last: bool) -> list[str] | None:
        """Return what may be written for the value, from the space before it on; ``None`` for one that is free.

        None of them begins another: where it could, what follows the value belongs to it.

        :param last: whether it is the object's last field
        """
        if self.kind == "boolean":
            return [" true", " false"]
        if self.kind != "enum":
            return None
        end = "}" if last else ","
        texts = [isinstance(value, str) for value in self.allowed]
        written = [f" {json.dumps(value, ensure_ascii=False)}" for value in self.allowed]
        return [one if is_text else one + end for one, is_text in zip(written, texts, strict=True)]

    def chosen(self, number: int) -> str:
        """Return the JSON of the choice with this number."""
        if self.kind == "boolean":
            return ("true", "false")[number]
        return json.dumps(self.allowed[number], ensure_ascii=False)

    def most_tokens(self) -> int | None:
        """Tokens that a free value cannot exceed; ``None`` for a text."""
        return None if self.kind == "string" else BOUNDED_TOKENS

    def grammar(self) -> str:
        """Return the grammar of a free value, from the space before it to what ends it."""
        if self.kind == "string":
            return f'{GRAMMAR_HEADER}start: " " %json {{"type": "string"}}'
        # A number needs what follows it to end.
        return f'{GRAMMAR_HEADER}start: " " {INTEGER if self.kind == "integer" else NUMBER} ("," | "}}")'

    def value_of(self, text: str, *, cut: bool) -> str:
        """Return the JSON of a free value.

        :param text: what the model wrote under :meth:`grammar`
        :param cut: whether it was cut at the limit of tokens; only a text may be
        :raises EngineError: it is no such value
        """
        value = text.strip()
        if cut and self.kind == "string":
            return close_string(value)
        if self.kind != "string":
            value = value[:-1]
        try:
            json.loads(value)
        except ValueError:
            raise EngineError(f"The engine wrote no {self.kind} for the field {self.name!r}.") from None
        return value

    def object_of(self, text: str) -> str:
        """Return the object whose only field this is, from what a tuned model wrote.

        :param text: the value of a text as it is; or the object, where the model has learned to write that
        """
        try:
            written = json.loads(text)
        except ValueError:
            written = None
        if (
            isinstance(written, dict)
            and written.keys() == {self.name}
            and isinstance(written[self.name], str)
        ):
            return json.dumps(written, ensure_ascii=False)
        return json.dumps({self.name: text.strip()}, ensure_ascii=False)


def close_string(text: str) -> str:
    """Return a JSON string that was cut as a whole one, short of an escape that was cut too.

    :param text: the JSON string from its opening quote on; may be empty
    """
    # The longest escape is a pair of \\uXXXX: 12 characters.
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
    """Return the fields of a schema that describes a flat object of plain values, else ``None``.

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
    """The one enum of an object that has no other field, written without JSON.

    :param name: the field's name
    :param allowed: the allowed words
    """

    name: str
    allowed: tuple[str, ...]

    def choices(self, gap: str) -> list[str]:
        """Return what may be written.

        :param gap: what stands between the prompt and the word
        """
        return [f"{gap}{word}\n" for word in self.allowed]

    def chosen(self, number: int) -> str:
        """Return the object of the choice with this number."""
        return json.dumps({self.name: self.allowed[number]}, ensure_ascii=False)


def single_label(fields: list[Field]) -> Label | None:
    """Return the label that an object consists of, if it is one enum of plain words."""
    if len(fields) != 1 or fields[0].kind != "enum":
        return None
    words = [word for word in fields[0].allowed if isinstance(word, str) and word == word.strip()]
    if len(words) != len(fields[0].allowed) or not all(word and word.isprintable() for word in words):
        return None
    return Label(fields[0].name, tuple(words))


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


def opening(field: Field, *, first: bool) -> str:
    """Return what stands before a field's value, its space left to the grammar."""
    return f"{'{' if first else ', '}{json.dumps(field.name, ensure_ascii=False)}:"


def schema_grammar(schema: Mapping[str, Json], mark: str) -> str:
    """Return the grammar of a mark followed by a JSON value of any schema, written without loose white space."""
    schema = {**schema, "x-guidance": TIGHT}
    return f"{GRAMMAR_HEADER}start: {json.dumps(mark) if mark else ''} %json {json.dumps(schema)}"
