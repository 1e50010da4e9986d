"""Labelled examples: from a mapping, rows or files, each checked before anything is sent."""

from __future__ import annotations

import pytest

from airflow_provider_lamini.rows.errors import BadRowError, InputError, MissingColumnError
from airflow_provider_lamini.rows.examples import read_examples

COLUMNS = {"text_column": "body", "class_column": "kind"}
WANTED = {"spam": ["buy now", "win big"], "ham": ["see you at noon"]}


def test_a_mapping_of_texts_is_taken_as_it_is():
    assert read_examples(WANTED, **COLUMNS) == WANTED


def test_rows_of_a_list_and_of_files_come_to_the_same(file):
    rows = [{"body": text, "kind": name, "more": 1} for name, texts in WANTED.items() for text in texts]
    assert read_examples(rows, **COLUMNS) == WANTED
    lines = "".join(f"{row['kind']},{row['body']}\n" for row in rows)
    assert read_examples(file("rows.csv", "kind,body\n" + lines), **COLUMNS) == WANTED


def test_a_number_in_a_table_may_be_a_class():
    assert read_examples([{"body": "x", "kind": 3}], classes=["3"], **COLUMNS) == {"3": ["x"]}


def test_bad_examples_are_named_by_their_place_and_not_shown():
    rows = [
        {"body": "fine", "kind": "ham"},
        {"body": " ", "kind": "ham"},
        {"body": "secret", "kind": "eggs"},
        {"body": "secret", "kind": None},
        {"body": None, "kind": "ham"},
    ]
    with pytest.raises(BadRowError) as caught:
        read_examples(rows, classes=["ham", "spam"], **COLUMNS)
    told = str(caught.value)
    assert told.startswith("4 example(s) cannot be used")
    assert "'eggs'" in told
    assert "secret" not in told
    with pytest.raises(BadRowError, match="text 1 of class 'ham' has no text"):
        read_examples({"ham": ["x", ""]}, **COLUMNS)


def test_many_bad_examples_are_counted():
    with pytest.raises(BadRowError, match=r"25 example.*; and 15 more"):
        read_examples([{"body": "", "kind": "ham"}] * 25, **COLUMNS)


def test_a_missing_column_is_named():
    with pytest.raises(MissingColumnError, match=r"no column 'kind'.*Columns there: body, label"):
        read_examples([{"body": "x", "label": "ham"}], **COLUMNS)


@pytest.mark.parametrize("given", [[], {}, {"ham": "not a list"}, {"ham": []}, 5, "no such file.csv"])
def test_what_holds_no_examples_is_refused(given):
    with pytest.raises(InputError):
        read_examples(given, **COLUMNS)
