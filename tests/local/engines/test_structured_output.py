"""Tests for structured output: flat objects and labels, field by field."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_lamini.api.output_types import json_schema
from airflow_provider_lamini.local.engines.base import BadGenerationRequest, EngineError
from airflow_provider_lamini.local.engines.structured_output import (
    Field,
    Label,
    close_string,
    field_prefix,
    flat_fields,
    single_label,
)


def test_every_output_type_is_a_flat_object() -> None:
    schema = json_schema(
        {"s": "str", "i": "int", "f": "float", "b": "bool", "words": ["a", "b"], "numbers": [1, 10]}
    )
    assert flat_fields(schema) == [
        Field("s", "string"),
        Field("i", "integer"),
        Field("f", "number"),
        Field("b", "boolean"),
        Field("words", "enum", ("a", "b")),
        Field("numbers", "enum", (1, 10)),
    ]


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "array", "items": {"type": "string"}},
        {"type": "object"},
        {"type": "object", "properties": {}},
        {"type": "object", "properties": {"a": {"type": "object"}}},
        {"type": "object", "properties": {"a": {"type": ["string", "null"]}}},
        {"type": "object", "properties": {"a": {"type": "string", "maxLength": 3}}},
        {"type": "object", "properties": {"a": {"enum": [["x"]]}}},
        {"type": "object", "properties": {"a": {"type": "string"}}, "patternProperties": {}},
        {"type": "object", "properties": {"a": True}},
    ],
)
def test_any_other_schema_is_not_a_flat_object(schema: dict[str, Any]) -> None:
    assert flat_fields(schema) is None


def test_an_empty_enum_is_rejected() -> None:
    with pytest.raises(BadGenerationRequest, match="'a'"):
        flat_fields({"type": "object", "properties": {"a": {"enum": []}}})


@settings(deadline=None)
@given(text=st.text(), length=st.integers(0, 400))
def test_a_string_truncated_anywhere_is_closed_to_a_prefix_of_itself(text: str, length: int) -> None:
    """The ASCII form is truncated, so escape sequences of every length occur."""
    complete = json.dumps(text)
    truncated = complete[: min(length, len(complete) - 1)]
    assert text.startswith(json.loads(close_string(truncated)))


def test_a_truncated_string_keeps_everything_but_the_incomplete_escape() -> None:
    assert close_string('"caf\\u00e9 \\ud83d\\ud8') == '"café "'.replace("é", "\\u00e9")
    assert close_string('"half a sen') == '"half a sen"'
    assert close_string('"ends with \\') == '"ends with "'
    assert close_string("") == '""'


@pytest.mark.parametrize(
    ("field", "text", "value"),
    [
        (Field("a", "integer"), " -12,", "-12"),
        (Field("a", "number"), " 0.50}", "0.50"),
        (Field("a", "string"), ' "x, y}"', '"x, y}"'),
    ],
)
def test_a_value_is_parsed_without_its_terminator(field: Field, text: str, value: str) -> None:
    assert field.parse_value(text, truncated=False) == value


@pytest.mark.parametrize(
    ("field", "text"), [(Field("a", "integer"), " twelve}"), (Field("a", "string"), " x")]
)
def test_an_invalid_value_raises_an_error(field: Field, text: str) -> None:
    with pytest.raises(EngineError, match="'a'"):
        field.parse_value(text, truncated=False)


def test_no_choice_is_a_prefix_of_another() -> None:
    field = Field("a", "enum", (1, 10, "1", "10", True, None, 1.5, 'a"b'))
    for last in (False, True):
        choices = field.choices(last=last)
        assert choices is not None
        assert not [(a, b) for a in choices for b in choices if a != b and b.startswith(a)]
    assert [json.loads(field.choice_json(index)) for index in range(8)] == list(field.allowed)
    assert Field("a", "boolean").choices(last=True) == [" true", " false"]
    assert Field("a", "string").choices(last=True) is None


def test_field_names_are_escaped_as_json() -> None:
    assert field_prefix(Field('na"me', "string"), first=True) == '{"na\\"me":'
    assert field_prefix(Field("naïve", "string"), first=False) == ', "naïve":'


@pytest.mark.parametrize(
    ("output_type", "labels"),
    [
        ({"a": ["x", "long word"]}, ("x", "long word")),
        ({"a": [1, 2]}, None),
        ({"a": ["x"], "b": "bool"}, None),
        ({"a": "str"}, None),
        ({"a": ["two\nlines"]}, None),
        ({"a": [" padded"]}, None),
    ],
)
def test_only_a_single_enum_of_plain_strings_is_a_label(
    output_type: dict[str, Any], labels: tuple[str, ...] | None
) -> None:
    label = single_label(flat_fields(json_schema(output_type)) or [])
    assert (label.allowed if label else None) == labels


def test_a_chosen_label_is_returned_as_an_object() -> None:
    label = Label("a", ("x", 'a "b"', "x y"))
    assert label.choices(" ") == [" x\n", ' a "b"\n', " x y\n"]
    assert json.loads(label.to_json(1)) == {"a": 'a "b"'}
