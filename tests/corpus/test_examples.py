"""Labelled examples: from a mapping, rows or files, each checked before anything is sent."""

from __future__ import annotations

import pytest

from airflow_provider_lamini.corpus.examples import read_examples
from airflow_provider_lamini.corpus.pairs import Columns
from airflow_provider_lamini.rows.errors import BadRowError, InputError, RowError

COLUMNS = Columns.parse("body", "kind")
WANTED = {"spam": ["buy now", "win big"], "ham": ["see you at noon"]}


def test_a_mapping_of_texts_is_used_as_it_is():
    assert read_examples(WANTED, COLUMNS).by_class == WANTED


def test_rows_of_a_list_and_of_files_give_the_same_examples(file):
    rows = [{"body": text, "kind": name, "more": 1} for name, texts in WANTED.items() for text in texts]
    assert read_examples(rows, COLUMNS).by_class == WANTED
    lines = "".join(f"{row['kind']},{row['body']}\n" for row in rows)
    assert read_examples(file("rows.csv", "kind,body\n" + lines), COLUMNS).by_class == WANTED


def test_a_text_may_be_made_of_columns_and_a_number_may_be_a_class():
    columns = Columns.parse("{subject}: {body}", "kind")
    rows = [{"subject": "a", "body": "b", "kind": 3}]
    assert read_examples(rows, columns, classes=["3"]).by_class == {"3": ["a: b"]}


def test_errors_name_the_position_of_bad_examples_and_not_their_content():
    rows = [
        {"body": "fine", "kind": "ham"},
        {"body": " ", "kind": "ham"},
        {"body": "secret", "kind": None},
        {"kind": "ham"},
    ]
    with pytest.raises(BadRowError, match="3 rows of a list of 4 rows cannot be used") as caught:
        read_examples(rows, COLUMNS)
    assert "secret" not in str(caught.value)
    with pytest.raises(BadRowError, match="text 1 of class 'ham'"):
        read_examples({"ham": ["x", ""]}, COLUMNS)


def test_the_error_names_unknown_classes():
    with pytest.raises(BadRowError, match="not in classes: 'spam'"):
        read_examples(WANTED, COLUMNS, classes=["ham"])


@pytest.mark.parametrize(
    "given",
    [
        [],
        {},
        {"ham": "not a list"},
        {"ham": []},
        {5: ["x"]},
        {"": ["x"]},
        {"ham": [5]},
        5,
        "no such file.csv",
    ],
)
def test_a_value_without_examples_is_refused(given):
    with pytest.raises(RowError) as caught:
        read_examples(given, COLUMNS)
    assert isinstance(caught.value, InputError | BadRowError)
