"""Rows that the platform refuses: they are found and fail alone, and everything else is processed once."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from airflow_provider_lamini.api.errors import BadRequestError
from airflow_provider_lamini.exceptions import TooManyFailedRowsError
from airflow_provider_lamini.results import read_outputs
from tests.support.results import rows_in
from tests.support.tasks import run_to_end
from tests.support.upstream import text_for

pytestmark = pytest.mark.any_airflow

PROMPTS = [f"row {number} of all" for number in range(25)]

BATCH = "/v1/batch_completions"
waiting_ways = pytest.mark.parametrize("deferrable", [True, False])


def sizes(platform):
    """The numbers of rows of the jobs that were started."""
    return [job["total"] for job in platform.control.jobs()]


@waiting_ways
@pytest.mark.parametrize("status", [400, 422, 413])
def test_a_row_for_which_a_chunk_is_refused_fails_alone(platform, inference, out, status, deferrable):
    platform.control.fault(BATCH, status=status, contains="row 13 of all", times=None)
    ended = run_to_end(inference(max_failed_rows=1, deferrable=deferrable))
    assert sum(sizes(platform)) == 24
    found = rows_in(out)
    assert [row["index"] for row in found] == list(range(25))
    assert [row["output"] for row in found] == [
        None if number == 13 else text_for(prompt) for number, prompt in enumerate(PROMPTS)
    ]
    reason = "prompt_too_long" if status == 413 else "rejected"
    assert [(row["index"], row["error_reason"]) for row in rows_in(out, "errors-*.jsonl")] == [(13, reason)]
    assert ended.result["counts"]["failures"] == {reason: 1}
    assert ended.result["counts"]["retried"] == 0


@waiting_ways
def test_several_refused_rows_of_a_chunk_are_found(platform, inference, engine, rows, deferrable):
    bad = [0, 3, 4, 19, 24]
    for number in bad:
        platform.control.fault(BATCH, status=400, contains=f'"{PROMPTS[number]}"', times=None)
    ended = run_to_end(inference(max_failed_rows="20%", deferrable=deferrable, max_in_flight=3))
    assert [row["index"] for row in rows() if row["error"] is not None] == bad
    assert Counter(engine.prompts) == Counter(p for number, p in enumerate(PROMPTS) if number not in bad)
    assert ended.result["counts"]["failures"] == {"rejected": 5}


@waiting_ways
def test_after_a_request_that_is_too_large_chunks_are_smaller(platform, inference, engine, rows, deferrable):
    fits_five = len(json.dumps(PROMPTS[10:15])) + 60
    platform.control.fault(BATCH, status=413, longer_than=fits_five, times=None)
    ended = run_to_end(inference(deferrable=deferrable))
    assert Counter(engine.prompts) == Counter(PROMPTS)
    assert sorted(sizes(platform)) == [5, 5, 5, 5, 5]
    assert [row["index"] for row in rows()] == list(range(25))
    # The first chunk was planned before anything was known.
    assert ended.result["chunks"] == 4
    assert ended.result["counts"]["failed"] == 0


def test_no_more_jobs_run_at_once_than_may_although_a_chunk_was_split(platform, inference, rows):
    platform.control.fault(BATCH, status=413, longer_than=100, times=None)

    ended = run_to_end(inference(max_in_flight=2))
    assert max(len(deferral.trigger["job_ids"]) for deferral in ended.deferrals) == 2
    assert [row["output"] for row in rows()] == [text_for(prompt) for prompt in PROMPTS]


def test_more_refused_rows_than_may_fail_end_the_task_with_what_the_platform_says(platform, inference):
    platform.control.fault(BATCH, status=400, contains="row 13 of all", times=None)
    with pytest.raises(TooManyFailedRowsError, match=r"refused 1 row sent alone.*An injected fault"):
        run_to_end(inference())
    done = len(sizes(platform))
    ended = run_to_end(inference(max_failed_rows=1))
    assert ended.result["counts"]["ok"] == 24
    assert sum(sizes(platform)) == 24
    assert len(sizes(platform)) > done


def test_a_platform_that_refuses_every_row_ends_the_task_after_a_few(platform, inference):
    platform.control.fault(BATCH, status=400, times=None)
    with pytest.raises(BadRequestError, match="An injected fault"):
        run_to_end(inference(max_failed_rows=None))
    (fault,) = platform.control.faults()
    assert fault["hits"] < 30
    platform.control.clear_faults()
    assert run_to_end(inference()).result["counts"]["ok"] == 25


def test_a_refused_row_is_found_again_when_rows_are_sent_again(platform, inference, rows):
    platform.control.row_fault("row 3 of", times=1)
    platform.control.row_fault("row 5 of", times=1)
    platform.control.fault(BATCH, status=400, skip=3, contains="row 5 of all", times=None)
    run_to_end(inference(max_failed_rows=1, chunk_size=25, max_in_flight=1))
    # The third request with the row is the first that is refused: the second round was accepted.
    assert [row["index"] for row in rows() if row["error"] is not None] == []


@pytest.mark.parametrize("status", [400, 422, 413])
@pytest.mark.parametrize("endpoint", ["completions", "chat"])
def test_a_row_that_is_refused_as_a_request_fails_alone(platform, inference, rows, endpoint, status):
    platform.control.fault(
        "/v2/completions|/inf/chat/completions", status=status, contains="row 13 of", times=None
    )
    ended = run_to_end(inference(endpoint=endpoint, max_failed_rows=1))
    reason = "prompt_too_long" if status == 413 else "rejected"
    assert [row["index"] for row in rows() if row["error"] is not None] == [13]
    assert ended.result["counts"]["failures"] == {reason: 1}


@pytest.mark.parametrize("status", [400, 413])
@pytest.mark.parametrize("endpoint", ["batch", "embedding"])
def test_a_text_that_is_refused_has_no_vector_and_the_others_do(platform, embed, out, endpoint, status):
    platform.control.fault("/v1/(batch_embeddings|embedding)", status=status, contains="text 13", times=None)
    texts = [f"text {number}." for number in range(25)]
    ended = run_to_end(embed(input=texts, endpoint=endpoint, max_failed_rows=1))
    found = list(read_outputs(str(out)))
    assert [row["index"] for row in found if row["embedding"] is None] == [13]
    assert ended.result["counts"]["failed"] == 1
