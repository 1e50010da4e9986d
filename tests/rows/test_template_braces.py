"""Braces as in f-strings, in Jinja's filters, and in Jinja's own double form, which nothing has rendered."""

from __future__ import annotations

import pytest

from airflow_provider_lamini.rows.errors import ColumnError
from airflow_provider_lamini.rows.prompts.template import PromptTemplate

ROW = {"body": "B", "id": "1"}


@pytest.mark.parametrize("brace", ["body|upper", "body | trim", "body=", "body.upper()", "body.strip('x')"])
def test_an_expression_over_a_column_is_refused_instead_of_being_sent(brace):
    with pytest.raises(ColumnError, match=r"Did you mean \{body\}"):
        PromptTemplate.parse(f"{{id}} {{{brace}}}").for_columns(ROW)


@pytest.mark.parametrize("brace", ["\u201cbody\u201d", "'body'", '"body"', "\u2018Body\u2019"])
def test_a_column_in_quotes_as_word_processors_and_python_write_it_is_refused(brace):
    with pytest.raises(ColumnError, match=r"Did you mean \{body\}"):
        PromptTemplate.parse(f"{{id}} {{{brace}}}").for_columns(ROW)


@pytest.mark.parametrize("text", ["{{body}}", "a {{body}}: {id}", "{{no_column}}"])
def test_a_name_in_double_braces_is_refused_with_both_remedies(text):
    with pytest.raises(ColumnError, match=r"belong to Jinja.*Write \{\w+\} for the column, or \\\{\w+\\\}"):
        PromptTemplate.parse(text)


@pytest.mark.parametrize(
    ("text", "prompt"),
    [
        (r"\{{body}\}", "{B}"),
        (r"\{\{ ds \}\} {id}", "{{ ds }} 1"),
        ("{id} {x | y} {a=1} {f(x)} {n.sum()}", "1 {x | y} {a=1} {f(x)} {n.sum()}"),
        ('{id} {"a": {body}}', '1 {"a": B}'),
        ('{id} {"body": 1} {"other"}', '1 {"body": 1} {"other"}'),
    ],
)
def test_what_names_no_column_stays_text(text, prompt):
    assert PromptTemplate.parse(text).for_columns(ROW).render(ROW) == prompt
