"""Embeddings of one text, or a few, in the task's result."""

from __future__ import annotations

import pytest

from airflow_provider_lamini.api.errors import InvalidRequestError
from airflow_provider_lamini.exceptions import InvalidArgumentError
from tests.support.platforms import posts
from tests.support.results import near
from tests.support.tasks import log_lines, run_to_end
from tests.support.upstream import DIMENSIONS, EMBEDDING_MODEL

TEXTS = [f"row {number} of all" for number in range(25)]
ROWS = [{"id": number, "title": f"title {number}", "body": f"body {number}"} for number in range(2)]
DIRECT = "POST /v1/embedding"


def test_the_result_has_the_vector_of_one_text(platform, embed, out):
    ended = run_to_end(embed(input="How do I reset my password?", output=None))
    assert ended.deferrals == []
    assert ended.result == {
        "model": EMBEDDING_MODEL,
        "dimensions": DIMENSIONS,
        "embeddings": near(["How do I reset my password?"]),
    }
    assert posts(platform) == {DIRECT: 1}
    assert not out.exists()


def test_the_result_has_the_vectors_of_a_short_list(platform, embed):
    result = run_to_end(embed(input=TEXTS[:16], output=None, texts_per_request=5)).result
    assert result["embeddings"] == near(TEXTS[:16])
    assert posts(platform) == {DIRECT: 4}


def test_texts_can_be_rendered_from_rows_without_a_folder(embed):
    result = run_to_end(embed(input=ROWS[:2], output=None, prompt="{title}, {body}")).result
    assert result["embeddings"] == near(["title 0, body 0", "title 1, body 1"])


def test_a_refused_text_without_a_folder_fails_the_task(platform, embed):
    platform.control.fault("/v1/embedding", status=422, times=1)
    with log_lines() as lines, pytest.raises(InvalidRequestError):
        run_to_end(embed(input=TEXTS[:16], output=None, texts_per_request=8, max_in_flight=1))
    assert "Request 1 of 2 failed." in lines


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (TEXTS[:17], "17 rows; without output, 16 are allowed"),
        ("s3://bucket/docs.jsonl", "Give output, the folder for the results"),
        ("docs.parquet", "Give output, the folder for the results"),
        ("  ", "input is an empty text"),
        (None, "input or input_sql is required"),
        ([{"body": "x"}], "the name of a column"),
        (["a", None], "row 1 of the list"),
    ],
)
def test_an_input_that_needs_a_folder_is_rejected_without_one(platform, embed, given, why):
    with pytest.raises(InvalidArgumentError, match=why):
        run_to_end(embed(input=given, output=None))
    assert posts(platform) == {}
