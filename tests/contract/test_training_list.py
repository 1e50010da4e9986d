"""The list of tuning jobs, read in pieces."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_lamini.platforms.lamini.api import training_list

HISTORY = [{"step": step, "loss": 1.0, "note": "},{"} for step in range(40)]


def job(number: int, **fields: object) -> dict[str, object]:
    return {"job_id": number, "status": "COMPLETED", "history": json.dumps(HISTORY), **fields}


def found(content: bytes, wanted: set[str]) -> tuple[list[str], int]:
    """The ids of the jobs that were found, and in how many pieces."""
    pieces = list(training_list.list_unread().parse(content).only(wanted))
    return [job.job_id for piece in pieces for job in piece], len(pieces)


@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": "), (" ,\n ", " : ")])
@pytest.mark.parametrize("wrap", [lambda jobs: jobs, lambda jobs: {"jobs": jobs, "next": None}])
def test_a_long_list_is_read_in_pieces_and_no_job_is_missed(separators, wrap):
    content = json.dumps(wrap([job(number) for number in range(500)]), separators=separators).encode()
    ids, pieces = found(content, {str(number) for number in range(500)})
    assert ids == [str(number) for number in range(500)]
    assert pieces >= len(content) // training_list.PIECE // 2


def test_a_list_whose_jobs_hold_objects_like_themselves_is_read_all_the_same():
    inner = [{"job_id": number, "status": "FAILED"} for number in range(3000)]
    content = json.dumps([job(number, steps=inner) for number in range(9)]).encode()
    assert found(content, {"3", "8", "2999"})[0] == ["3", "8"]


@pytest.mark.parametrize("content", [b"[]", b"null", b"{}", b'{"jobs": []}', b'{"total": 0, "data": []}'])
def test_no_jobs_are_an_empty_list(content):
    assert found(content, {"1"}) == ([], 1)


def test_an_unusual_wrapping_is_read_in_one_piece():
    content = json.dumps({"total": 2, "data": [job(1), job(2)]}).encode()
    assert found(content, {"2"}) == (["2"], 1)


def test_one_strange_job_makes_no_list_unreadable():
    content = json.dumps([job(1, status=None), {"job_id": [7]}, {}, job(4)]).encode()
    assert found(content, {"1", "4"})[0] == ["4"]


@pytest.mark.parametrize("content", [b"<html>", b"", b'"text"', b"7"])
def test_what_is_no_list_is_refused_at_once(content):
    with pytest.raises(ValueError, match="list of jobs"):
        training_list.list_unread().parse(content)


@pytest.mark.parametrize("content", [b"[1, 2]", b'[{"job_id": 1}', b'{"detail": "no"}'])
def test_what_is_no_list_further_down_is_refused_when_it_is_read(content):
    with pytest.raises(ValueError, match=r"\w"):
        found(content, {"1"})


def test_a_list_of_a_hundred_thousand_old_jobs_stops_nobody_for_long():
    content = json.dumps([job(number, history="[]") for number in range(100_000)]).encode()
    pieces = training_list.list_unread().parse(content).only({"99999"})
    longest, more = 0.0, True
    while more:
        began = time.thread_time()
        more = next(pieces, None) is not None
        longest = max(longest, time.thread_time() - began)
    assert longest < 0.1


@given(
    st.lists(
        st.fixed_dictionaries(
            {"job_id": st.integers(0, 99), "status": st.sampled_from(["FAILED", '},{"job_id"'])},
            optional={"custom_model_name": st.text(), "steps": st.recursive(st.none(), st.lists)},
        ),
        max_size=30,
    ),
    st.integers(1, 400),
)
def test_pieces_of_any_size_hold_what_the_list_holds(jobs, size):
    listed = training_list.TrainJobList(json.dumps(jobs).encode(), piece=size)
    read = [each.job_id for piece in listed.only({str(number) for number in range(100)}) for each in piece]
    assert read == [str(each["job_id"]) for each in jobs]
