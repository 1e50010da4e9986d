"""Plurals and articles in messages."""

from __future__ import annotations

import pytest

from airflow_provider_lamini.wording import a_type, counted, left_running


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 rows"), (1, "1 row"), (2, "2 rows"), (1000, "1,000 rows")]
)
def test_a_noun_has_the_number_of_its_count(count, text):
    assert counted(count, "row") == text


@pytest.mark.parametrize(
    ("job_ids", "text"),
    [(["7"], "1 job keeps running and bills (7)."), (["7", "8"], "2 jobs keep running and bill (7, 8).")],
)
def test_jobs_that_are_left_running_are_named(job_ids, text):
    assert left_running(job_ids) == f"cancel_on_kill is off: {text}"


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "None"), ({}, "a dict"), (5, "an int"), (object(), "an object"), ([], "a list")],
)
def test_a_type_has_its_article(value, text):
    assert a_type(value) == text
