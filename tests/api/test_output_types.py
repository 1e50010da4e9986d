"""An output type is checked before anything is sent, and is a JSON schema."""

from __future__ import annotations

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_lamini.api.output_types import check_output_type, json_schema

KINDS = st.one_of(
    st.sampled_from(["str", "int", "float", "bool"]),
    st.lists(st.text(max_size=5), min_size=1, max_size=4, unique=True),
    st.lists(st.integers(), min_size=1, max_size=4, unique=True),
)
TYPES = st.dictionaries(st.text(min_size=1, max_size=8), KINDS, min_size=1, max_size=5)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"answer": "string"}, "'answer' must be one of str, int, float, bool"),
        ({"answer": ["a", 1]}, "'answer' must contain only strings or only integers"),
        ({"answer": [True, False]}, "'answer' must contain only strings or only integers"),
        ({"answer": [1.5]}, "'answer' must contain"),
        ({"answer": []}, "'answer' is empty"),
        ({"answer": ["a", "a"]}, "'answer' contains a value twice"),
        ({"answer": {"a": "str"}}, "'answer' must be one of"),
        ({"answer": int}, "'answer' must be one of"),
        ({"": "str"}, "not a valid field name"),
        ({1: "str"}, "not a valid field name"),
        ({}, "output_type is empty"),
        (["str"], "must map names to types"),
        ("str", "must map names to types"),
        (None, "must map names to types"),
    ],
)
def test_an_invalid_output_type_is_refused_by_field_name(value, words):
    with pytest.raises(ValueError, match=words):
        check_output_type(value)


def test_the_schema_requires_all_fields_in_order_and_allows_no_others():
    schema = json_schema({"category": ["billing", "bug"], "urgent": "bool", "stars": [1, 2], "why": "str"})
    assert list(schema["properties"]) == ["category", "urgent", "stars", "why"]
    assert schema["required"] == ["category", "urgent", "stars", "why"]
    assert schema["properties"]["stars"] == {"type": "integer", "enum": [1, 2]}
    assert schema["additionalProperties"] is False


@given(TYPES)
def test_every_output_type_is_unchanged_and_its_values_match_its_schema(output_type):
    assert check_output_type(output_type) == output_type
    schema = json_schema(output_type)
    jsonschema.Draft202012Validator.check_schema(schema)
    samples = {"str": "x", "int": 3, "float": 0.5, "bool": True}
    value = {name: samples[kind] if isinstance(kind, str) else kind[-1] for name, kind in output_type.items()}
    jsonschema.validate(value, schema)
    name = next(iter(output_type))
    assert not jsonschema.Draft202012Validator(schema).is_valid({**value, name: None})
