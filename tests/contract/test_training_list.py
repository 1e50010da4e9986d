"""The list of tuning jobs, of which only some become models."""

from __future__ import annotations

import gc
import json
import time
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_lamini.platforms.lamini.api import training_list

HISTORY = [{"step": step, "loss": 1.0, "note": "},{"} for step in range(40)]


def job(number: int, **fields: object) -> dict[str, object]:
    return {"job_id": number, "status": "COMPLETED", "history": json.dumps(HISTORY), **fields}


def found(content: bytes, job_ids: set[str], block: int = 0) -> list[str]:
    """The ids of the jobs that were found, in the whole list or while it arrives in blocks."""
    call = training_list.list_all(job_ids, lambda job: job.job_id)
    if not block:
        return call.parse(content).found
    reader = call.reader()
    for start in range(0, len(content), block):
        reader.feed(content[start : start + block])
    result = reader.result()
    assert result.size == len(content)
    return result.found


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
        found(content, {"1"})


@pytest.mark.parametrize("content", [b"[1, 2]", b'[{"job_id": 1}', b'{"detail": "no"}'])
def test_an_invalid_list_is_refused(content):
    with pytest.raises(ValueError, match=r"\w"):
        found(content, {"1"})


def test_a_list_with_thirty_thousand_old_jobs_is_read_in_short_steps():
    content = json.dumps([job(number, history="[]") for number in range(30_000)]).encode()
    call = training_list.list_all({str(number) for number in range(3_000)}, lambda job: job.job_id)
    reader, longest = call.reader(), 0.0
    gc.collect()
    gc.freeze()  # else the test process's own heap is what the garbage collector measures
    for start in range(0, len(content), 65_536):
        started = time.thread_time()
        reader.feed(content[start : start + 65_536])
        longest = max(longest, time.thread_time() - started)
    started = time.thread_time()
    count = len(reader.result().found)
    gc.unfreeze()
    assert count == 3_000
    assert max(longest, time.thread_time() - started) < 0.1


STEPS = [{"step": step, "loss": 1.0} for step in range(200)]


@pytest.mark.parametrize("block", [65_536, 1 << 24])
@pytest.mark.parametrize(
    "fields",
    [{}, {"history": STEPS}, {"history": json.dumps(STEPS)}, {"note": '"},{"job_id": 7'}],
    ids=["short", "steps", "steps as text", "misleading text"],
)
@pytest.mark.parametrize("head", [b"", b'{"total": 300, "data": '])
def test_a_long_list_is_read_while_it_arrives(block, fields, head):
    jobs = json.dumps([job(number, **fields) for number in range(300)]).encode()
    content = head + jobs + (b', "next": [{"job_id": 7}]}' if head else b"")
    assert found(content, {"0", "7", "299"}, block) == ["0", "7", "299"]


def test_only_a_piece_of_a_long_list_is_in_memory():
    jobs = json.dumps([job(number) for number in range(1000)]).encode()[1:-1]
    call = training_list.list_all({"1"}, lambda job: job.job_id)
    reader = call.reader()
    reader.feed(b"[")
    tracemalloc.start()
    try:
        for _ in range(10):
            for start in range(0, len(jobs), 65_536):
                reader.feed(jobs[start : start + 65_536])
            reader.feed(b",")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(jobs) * 10 > 20_000_000
    assert peak < 3_000_000


@pytest.mark.parametrize(
    "piece", [b'{"job_id": 1},', b'{"job_id": ', b"[[", b"[1,", b'[{"job_id": 1, "steps": [{"job_id": 2},']
)
def test_what_never_becomes_a_list_is_refused_before_it_fills_the_memory(piece):
    with pytest.raises(ValueError, match="a list of jobs was expected"):
        found(piece * (12_000_000 // len(piece)), {"1"}, 65_536)


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
