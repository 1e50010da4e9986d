"""The list of tuning jobs, of which only some become models."""

from __future__ import annotations

import gc
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_lamini.platforms.lamini.api import training_list

HISTORY = [{"step": step, "loss": 1.0, "note": "},{"} for step in range(40)]


def job(number: int, **fields: object) -> dict[str, object]:
    return {"job_id": number, "status": "COMPLETED", "history": json.dumps(HISTORY), **fields}


def found(content: bytes, job_ids: set[str]) -> list[str]:
    """The ids of the jobs that were found."""
    batches = training_list.list_all().parse(content).only(job_ids)
    return [job.job_id for batch in batches for job in batch]


@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": "), (" ,\n ", " : ")])
@pytest.mark.parametrize("wrap", [lambda jobs: jobs, lambda jobs: {"jobs": jobs, "next": None}])
def test_every_requested_job_is_found(separators, wrap):
    content = json.dumps(wrap([job(number) for number in range(500)]), separators=separators).encode()
    assert found(content, {str(number) for number in range(500)}) == [str(number) for number in range(500)]


def test_a_list_whose_jobs_contain_similar_objects_is_parsed():
    inner = [{"job_id": number, "status": "FAILED"} for number in range(3000)]
    content = json.dumps([job(number, steps=inner) for number in range(9)]).encode()
    assert found(content, {"3", "8", "2999"}) == ["3", "8"]


@pytest.mark.parametrize("content", [b"[]", b"null", b"{}", b'{"jobs": []}', b'{"total": 0, "data": []}'])
def test_an_empty_response_is_an_empty_list(content):
    assert found(content, {"1"}) == []


def test_a_list_inside_an_object_is_found():
    content = json.dumps({"total": 2, "data": [job(1), job(2)]}).encode()
    assert found(content, {"2"}) == ["2"]


def test_one_invalid_job_does_not_make_the_list_unreadable():
    content = json.dumps([job(1, status=None), {"job_id": [7]}, {}, job(4)]).encode()
    assert found(content, {"1", "4"}) == ["4"]


@pytest.mark.parametrize("content", [b"<html>", b"", b'"text"', b"7"])
def test_a_response_that_is_not_a_list_is_refused_at_once(content):
    with pytest.raises(ValueError, match="list of jobs"):
        training_list.list_all().parse(content)


@pytest.mark.parametrize("content", [b"[1, 2]", b'[{"job_id": 1}', b'{"detail": "no"}'])
def test_an_invalid_list_is_refused(content):
    with pytest.raises(ValueError, match=r"\w"):
        found(content, {"1"})


def test_a_list_with_a_hundred_thousand_old_jobs_does_not_block_for_long():
    """Neither decoding it nor any step of parsing the requested jobs."""
    content = json.dumps([job(number, history="[]") for number in range(100_000)]).encode()
    gc.collect()
    gc.freeze()  # else the test process's own heap is what the garbage collector measures
    started = time.thread_time()
    batches = training_list.list_all().parse(content).only({str(number) for number in range(10_000)})
    longest, count = time.thread_time() - started, 0
    while True:
        started = time.thread_time()
        batch = next(batches, None)
        longest = max(longest, time.thread_time() - started)
        if batch is None:
            break
        count += len(batch)
    gc.unfreeze()
    assert count == 10_000
    assert longest < 0.1


@given(
    st.lists(
        st.fixed_dictionaries(
            {"job_id": st.integers(0, 99), "status": st.sampled_from(["FAILED", '},{"job_id"'])},
            optional={"custom_model_name": st.text(), "steps": st.recursive(st.none(), st.lists)},
        ),
        max_size=30,
    ),
)
def test_any_list_is_parsed_completely(jobs):
    assert found(json.dumps(jobs).encode(), {str(number) for number in range(100)}) == [
        str(job["job_id"]) for job in jobs
    ]
