from __future__ import annotations

import json

import pytest

from airflow_provider_lamini.rows.errors import BadRowError, MissingColumnError
from airflow_provider_lamini.rows.prompts.template import PromptTemplate
from airflow_provider_lamini.rows.sources.source import open_source
from airflow_provider_lamini.rows.sources.validation import InputSummary, needed_columns, validate_input

BODY = PromptTemplate.parse("Summarize: {body}")


def lines(*rows: dict) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def test_rows_are_counted(file):
    path = file("a.jsonl", lines({"body": "x"}, {"body": "y"}) + "\n")
    found = validate_input(open_source(path), BODY)
    assert found.total_rows == 2
    assert found == validate_input(open_source(path), BODY)


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv"])
def test_an_empty_input_is_accepted(file, name):
    path = file(name, "" if name.endswith("l") else "body,id\n")
    assert validate_input(open_source(path), BODY, passthrough=["id"]).total_rows == 0
    assert validate_input(open_source([]), BODY, passthrough=["id"]).total_rows == 0


def test_the_error_names_a_row_without_a_needed_value_and_its_columns(file):
    rows = [{"body": "x", "id": 1}] * 20_000
    for bad, reason in (
        ({"text": 1, "id": 2}, "no column 'body'. Existing columns: text, id"),
        ({"body": None}, "no value in"),
    ):
        source = open_source(file("a.jsonl", lines(*rows, bad, *rows)))
        with pytest.raises(MissingColumnError, match=reason) as caught:
            validate_input(source, BODY, passthrough=["id"])
        assert str(caught.value).startswith("row 20000 (a.jsonl, line 20001)")


def test_a_column_that_no_row_has_is_a_wrong_name(file):
    source = open_source(file("a.jsonl", lines({"text": "x"}, {"text": "y"})))
    with pytest.raises(
        MissingColumnError, match=r"no column 'body'. Existing columns: text\. The prompt needs it"
    ):
        validate_input(source, BODY)


def test_a_passthrough_column_may_be_missing_in_some_rows_but_not_in_all(file):
    source = open_source(file("a.jsonl", lines({"body": "x"}, {"body": "y", "id": None})))
    assert validate_input(source, BODY, passthrough=["id"]).total_rows == 2
    with pytest.raises(MissingColumnError, match=r"has no column 'key'. Existing columns: body"):
        validate_input(source, BODY, passthrough=["id", "key"])


def test_the_error_says_what_needs_a_column_that_a_csv_file_lacks(file):
    source = open_source(file("a.csv", "text,id\nx,1\n"))
    with pytest.raises(
        MissingColumnError, match=r"a\.csv has no column 'body'.*text, id\. The prompt needs it"
    ):
        validate_input(source, BODY)
    with pytest.raises(
        MissingColumnError, match=r"a\.csv \(.* has no column 'key'. Existing columns: text, id\."
    ):
        validate_input(source, PromptTemplate.parse("text"), passthrough=["key"])
    with pytest.raises(MissingColumnError, match="names no column in braces") as caught:
        validate_input(source, PromptTemplate.parse("Say the secret"))
    assert "secret" not in str(caught.value)


def test_the_error_names_the_row_of_a_prompt_that_is_too_long(file):
    source = open_source(file("a.csv", "body\n" + "x\n" * 3000 + "y" * 20 + "\n" + "z" * 30 + "\n"))
    assert validate_input(source, BODY, max_prompt_chars=41).total_rows == 3002
    with pytest.raises(
        BadRowError,
        match=r"row 3000 \(a\.csv, line 3002\): the prompt has 31 characters, and max_prompt_chars allows 30\.",
    ):
        validate_input(source, BODY, max_prompt_chars=30)


def test_a_line_that_is_not_a_row_fails_the_validation(file):
    with pytest.raises(BadRowError, match=r"a\.jsonl, line 2"):
        validate_input(open_source(file("a.jsonl", '{"body": "x"}\n{')), BODY)


def test_columns_are_read_once():
    template = PromptTemplate.parse("{a} {b} {a}")
    assert needed_columns(template, ["b", "c"]) == ("a", "b", "c")
    assert validate_input(open_source(["x"]), PromptTemplate.parse("prompt")) == InputSummary(
        1,
        characters=1,
    )
