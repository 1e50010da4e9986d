"""A value that JSON does not allow in one answer of many: that row fails, and the job has ended all the same."""

from __future__ import annotations

import json

import pytest

from airflow_provider_lamini.platforms.lamini.api.batches import (
    BatchProgress,
    completions_progress,
    embeddings_progress,
)
from airflow_provider_lamini.results import read_outputs
from tests.support.tasks import run_to_end

pytestmark = pytest.mark.any_airflow

DAMAGED = {
    "half a surrogate pair": b'"half \\ud83d"',
    "half a surrogate pair at the end": b'"\\ude00"',
    "NaN": b"NaN",
    "infinity": b'{"score": -Infinity}',
    "invalid UTF-8": b'"caf\xe9"',
    "half a pair in a key": b'{"\\ud83d": 1}',
    "NaN in a list": b"[1, [NaN]]",
}
each_damage = pytest.mark.parametrize("cell", DAMAGED.values(), ids=DAMAGED)
waiting_ways = pytest.mark.parametrize("deferrable", [True, False])


def spoiled(content: bytes, cell: bytes) -> str:
    """The body of a response whose second row is a damaged cell, as latin-1 text."""
    return content.replace(b'"MARK"', cell).decode("latin-1")


@pytest.fixture
def spoil(platform):
    """Returns a function that makes the platform answer a path with these bytes from now on."""

    def of(path, body):
        if not body.isascii():
            pytest.skip("the fault's body is a text")
        platform.control.fault(path, method="GET", body=body, status=200, times=None)

    return of


@each_damage
@waiting_ways
def test_a_batch_with_a_damaged_answer_ends_and_keeps_the_others(inference, rows, spoil, cell, deferrable):
    body = json.dumps({"outputs": ["a", "MARK", "c"], "finish_reason": ["stop"] * 3}).encode()
    spoil("/v1/batch_completions/.*/result", spoiled(body, cell))
    ended = run_to_end(
        inference(input=["1", "2", "3"], max_failed_rows=1, deferrable=deferrable, row_retries=0)
    )
    assert [row["output"] for row in rows()] == ["a", None, "c"]
    assert ended.result["counts"]["failures"] == {"undecodable": 1}


@pytest.mark.parametrize("number", ["NaN", "Infinity", "null", '"x"', "true"])
@waiting_ways
def test_a_batch_with_a_damaged_vector_ends_and_keeps_the_others(embed, out, spoil, number, deferrable):
    spoil("/v1/batch_embeddings/.*/result", f'{{"embedding": [[1.0, 2.0], [1.0, {number}], [3, 4]]}}')
    ended = run_to_end(embed(input=["1", "2", "3"], max_failed_rows=1, deferrable=deferrable, row_retries=0))
    assert [row["embedding"] for row in read_outputs(str(out))] == [[1.0, 2.0], None, [3.0, 4.0]]
    assert ended.result["counts"]["failures"] == {"undecodable": 1}


@each_damage
def test_the_progress_of_a_batch_does_not_depend_on_its_cells(cell):
    body = b'{"outputs": ["a", %s, "c"], "finish_reason": ["stop", "stop", null]}' % cell
    assert completions_progress("b").parse(body) == BatchProgress(3, 2)
    assert embeddings_progress("b").parse(b'{"embedding": [[1.0], [%s], [2.0]]}' % cell) == 3


@pytest.mark.parametrize("body", [b"", b"{", b'{"outputs": ["a", NaN', b"<html>", b'{"outputs": ["a" NaN]}'])
def test_what_is_no_json_at_all_is_still_refused(body):
    with pytest.raises(ValueError):  # noqa: PT011 - the decoder's words
        completions_progress("b").parse(body)


@pytest.mark.parametrize("endpoint", ["chat", "completions"])
@pytest.mark.parametrize("row_retries", [0, 1])
def test_a_damaged_answer_to_a_request_fails_its_row_and_is_paid_for_once(
    platform, inference, engine, endpoint, row_retries
):
    message = '{"role": "assistant", "content": "half \\ud83d"}'
    path, body = {
        "chat": (
            "/inf/chat/completions",
            f'{{"choices": [{{"message": {message}, "finish_reason": "stop"}}]}}',
        ),
        "completions": ("/v2/completions", '{"outputs": ["half \\ud83d"], "finish_reason": ["stop"]}'),
    }[endpoint]
    platform.control.fault(path, method="POST", body=body, status=200, times=1)
    make = inference(input=["1", "2"], endpoint=endpoint, max_failed_rows=1, row_retries=row_retries)
    counts = run_to_end(make).result["counts"]
    assert counts["failures"] == ({} if row_retries else {"undecodable": 1})
    assert len(engine.prompts) == (2 if row_retries else 1)
