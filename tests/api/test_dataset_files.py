"""Rows in a file become one JSON body that is read in blocks."""

from __future__ import annotations

import io
import json
import tracemalloc

import httpx
import pytest

from airflow_provider_lamini.api import errors
from airflow_provider_lamini.api.call import FilePart
from airflow_provider_lamini.platforms.lamini.api import datasets

ROWS = [
    {"input": f"question {n} with ünïcode\nand lines", "output": 'an "answer", with commas'}
    for n in range(40)
]
MADE = httpx.Response(200, json={"dataset_id": 7, "dataset_location": "/data/7"})


def lines(rows, end=""):
    return ("\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + end).encode()


def call_of(content, **options):
    return datasets.upload_file(
        upload_base_path="/data", data=FilePart("rows.jsonl", lambda: io.BytesIO(content)), **options
    )


@pytest.mark.parametrize("end", ["", "\n"])
@pytest.mark.parametrize("count", [1, 40])
def test_the_body_is_the_same_as_that_of_rows_in_memory(driver, settings, responses, count, end):
    app = responses(MADE)
    rows = ROWS[:count]
    made = driver.send(settings(), call_of(lines(rows, end), is_public=True), app=app)
    driver.send(settings(), datasets.upload(upload_base_path="/data", data=rows, is_public=True), app=app)
    from_file, from_memory = app.requests
    assert made.dataset_id == "7"
    assert json.loads(from_file.content) == json.loads(from_memory.content)
    assert from_file.headers["content-type"] == "application/json"
    assert from_file.headers["content-length"] == str(len(from_file.content))


def test_each_attempt_sends_the_whole_body(driver, settings, responses):
    app = responses(httpx.Response(429), httpx.Response(429), MADE)
    driver.send(settings(), call_of(lines(ROWS)), app=app)
    bodies = {request.content for request in app.requests}
    assert len(app.requests) == 3
    assert json.loads(bodies.pop())["data"] == ROWS
    assert not bodies


def test_a_lost_response_is_not_retried(driver, settings, responses):
    app = responses(httpx.ReadError("gone"))
    with pytest.raises(errors.UnavailableError) as failed:
        driver.send(settings(), call_of(lines(ROWS)), app=app)
    assert failed.value.may_have_started
    assert len(app.requests) == 1


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("row 3 is bad: question 3 with ünïcode", False),
        ("this platform takes no more than ten rows", True),
        ("short", True),
    ],
)
def test_a_refusal_that_repeats_a_row_is_redacted(driver, settings, responses, said, shown):
    app = responses(httpx.Response(400, json={"detail": said}))
    with pytest.raises(errors.BadRequestError) as failed:
        driver.send(settings(), call_of(lines(ROWS)), app=app)
    assert (said in str(failed.value)) is shown
    assert failed.value.detail == (said if shown else "[...]")


def test_memory_does_not_depend_on_the_rows(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_bytes((lines(ROWS) + b"\n") * 4000)
    call = datasets.upload_file(upload_base_path="/data", data=FilePart("rows", lambda: file.open("rb")))
    tracemalloc.start()
    size = 0
    with call.content.open() as body:
        while block := body.read(65536):
            size += len(block)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert size > file.stat().st_size > 10_000_000
    assert peak < 1_000_000
