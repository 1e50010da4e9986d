"""Plurals and articles in messages."""

from __future__ import annotations

import pytest

from airflow_provider_lamini.wording import a_type, counted


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 rows"), (1, "1 row"), (2, "2 rows"), (1000, "1,000 rows")]
)
def test_a_noun_has_the_number_of_its_count(count, text):
    assert counted(count, "row") == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "None"), ({}, "a dict"), (5, "an int"), (object(), "an object"), ([], "a list")],
)
def test_a_type_has_its_article(value, text):
    assert a_type(value) == text
