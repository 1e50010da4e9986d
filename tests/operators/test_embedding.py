"""Embeddings of every row of an input, as JSON Lines and as Parquet."""

from __future__ import annotations

import asyncio
import json
from math import ceil

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_lamini.api.errors import AuthenticationError, UnavailableError
from airflow_provider_lamini.exceptions import (
    InvalidArgumentError,
    JobFailedError,
    JobLostError,
    TooManyFailedRowsError,
    WaitTimeoutError,
)
from airflow_provider_lamini.results import read_outputs
from tests.support.local_platform import wait_until
from tests.support.platforms import connect, posts
from tests.support.results import near
from tests.support.tasks import begin, execute, log_lines, resume, run_to_end
from tests.support.upstream import DIMENSIONS, EMBEDDING_MODEL

pytestmark = pytest.mark.any_airflow

TEXTS = [f"row {number} of all" for number in range(25)]
ROWS = [
    {
        "id": number,
        "title": f"title {number}",
        "body": f"body {number}",
        "score": number / 2,
        "new": number % 2 == 0,
    }
    for number in range(7)
]
BATCH, DIRECT = "POST /v1/batch_embeddings", "POST /v1/embedding"


def table(out):
    """All Parquet parts, read by pyarrow as one dataset."""
    pytest.importorskip("pyarrow")
    from pyarrow import dataset

    return dataset.dataset(sorted(map(str, out.glob("part-*.parquet")))).to_table()


# -- storage to storage -----------------------------------------------------------------------------------


@pytest.mark.parametrize("endpoint", ["batch", "embedding"])
def test_each_row_is_written_in_order_with_its_vector(platform, embed, rows, out, endpoint):
    ended = run_to_end(embed(endpoint=endpoint))
    assert [row.pop("embedding") for row in rows()] == near(TEXTS)
    assert [row | {"embedding": 0} for row in rows()] == [
        {"index": number, "embedding": 0, "error": None} for number in range(25)
    ]
    ended.result.pop("seconds")
    assert ended.result == {
        "output": str(out),
        "manifest": f"{out}/manifest.json",
        "parts": [f"{out}/part-0000{number}.jsonl" for number in range(3)],
        "errors": [],
        "chunks": 3,
        "counts": {
            "rows": 25,
            "ok": 25,
            "failed": 0,
            "retried": 0,
            "finish_reasons": {},
            "sums": {"numbers": 25.0 * DIMENSIONS},
            "failures": {},
            "reused": 0,
        },
        "model": EMBEDDING_MODEL,
        "input": "a list of 25 rows",
        "report": f"{out}/report.md",
        "report_html": f"{out}/report.html",
        "dimensions": DIMENSIONS,
    }
    assert bool(ended.deferrals) == (endpoint == "batch")
    assert posts(platform) == {BATCH: 3} if endpoint == "batch" else {DIRECT: 3}


def test_a_task_that_does_not_defer_has_the_same_results(platform, embed, rows):
    ended = run_to_end(embed(deferrable=False))
    assert ended.deferrals == []
    assert [row["embedding"] for row in rows()] == near(TEXTS)
    assert posts(platform) == {BATCH: 3}


@pytest.mark.parametrize("several", [1, 4, "25"])
def test_several_texts_are_sent_in_one_request(platform, embed, rows, engine, several):
    run_to_end(embed(endpoint="embedding", texts_per_request=several, chunk_size=25))
    assert posts(platform) == {DIRECT: ceil(25 / int(several))}
    assert sorted(engine.prompts) == sorted(TEXTS)
    assert [row["embedding"] for row in rows()] == near(TEXTS)


@pytest.mark.parametrize("endpoint", ["batch", "embedding"])
def test_a_given_model_is_sent_and_returned(embed, engine, endpoint):
    ended = run_to_end(embed(endpoint=endpoint, model_name=EMBEDDING_MODEL, input=TEXTS[:2]))
    assert ended.result["model"] == EMBEDDING_MODEL
    assert {body["model"] for body in engine.bodies} == {EMBEDDING_MODEL}


@pytest.mark.parametrize("endpoint", ["batch", "embedding"])
def test_parquet_has_typed_columns_and_vectors_of_fixed_size(embed, out, endpoint):
    pa = pytest.importorskip("pyarrow")
    ended = run_to_end(
        embed(
            input=ROWS,
            prompt="{title}: {body}",
            passthrough=["id", "title", "score", "new"],
            output_format="parquet",
            chunk_size=3,
            endpoint=endpoint,
        )
    )
    found = table(out)
    assert found.schema.equals(
        pa.schema(
            [
                ("index", pa.int64()),
                ("id", pa.int64()),
                ("title", pa.string()),
                ("score", pa.float64()),
                ("new", pa.bool_()),
                ("embedding", pa.list_(pa.float32(), DIMENSIONS)),
                ("error", pa.string()),
            ]
        )
    )
    assert found["index"].to_pylist() == list(range(7))
    for column in ("id", "title", "score", "new"):
        assert found[column].to_pylist() == [row[column] for row in ROWS]
    assert found["embedding"].to_pylist() == near([f"{row['title']}: {row['body']}" for row in ROWS])
    assert found["error"].to_pylist() == [None] * 7
    assert ended.result["parts"] == [f"{out}/part-0000{number}.parquet" for number in range(3)]
    assert [row["id"] for row in read_outputs(str(out))] == [row["id"] for row in ROWS]


def test_all_parts_have_the_same_types_whatever_their_rows_hold(embed, out):
    """The first part has no notes, the second has texts, the third has other values."""
    rows = [
        {"t": "a", "note": None, "tags": ["x"], "big": 1, "part": 1},
        {"t": "b", "note": None, "tags": [], "big": 2, "part": 2.5},
        {"t": "c", "note": "text", "tags": {"y": 1}, "big": 2**70, "part": None},
        {"t": "d", "tags": None, "big": 4, "part": 4},
        {"t": "e", "note": "5", "tags": ["z"], "big": 5, "part": 5},
    ]
    columns = ["note", "tags", "big", "part"]
    run_to_end(embed(input=rows, prompt="t", passthrough=columns, output_format="parquet", chunk_size=2))
    found = table(out)
    assert [str(found.schema.field(column).type) for column in columns] == [
        "string",
        "string",
        "string",
        "double",
    ]
    assert found["note"].to_pylist() == [None, None, "text", None, "5"]
    assert found["tags"].to_pylist() == ['["x"]', "[]", '{"y":1}', None, '["z"]']
    assert found["part"].to_pylist() == [1.0, 2.5, None, 4.0, 5.0]
    back = [{column: row[column] for column in columns} for row in read_outputs(str(out))]
    assert back == [{"note": None} | {column: row.get(column) for column in columns} for row in rows]


def test_an_empty_input_succeeds_without_rows(platform, embed):
    for number, kind in enumerate(("jsonl", "parquet")):
        ended = run_to_end(embed(input=[], output_format=kind, on_other_run="replace"))
        assert (ended.result["counts"]["rows"], ended.result["dimensions"], number) == (0, None, number)
    assert posts(platform) == {}


def test_files_are_read_and_ids_passed_through(embed, rows, tmp_path):
    path = tmp_path / "docs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    run_to_end(embed(input=str(path), prompt="body", passthrough=["id"]))
    assert [(row["id"], row["embedding"]) for row in rows()] == list(
        zip(range(7), near([row["body"] for row in ROWS]), strict=True)
    )


# -- rows and requests that fail ----------------------------------------------------------------------------


@pytest.mark.parametrize("output_format", ["jsonl", "parquet"])
def test_only_the_text_that_makes_a_request_fail_is_a_failed_row(
    platform, embed, error_rows, out, output_format
):
    platform.control.fault("/v1/embedding", status=422, times=4)  # 8 texts, then 4, 2 and 1 of them
    ended = run_to_end(
        embed(
            input=TEXTS[:8],
            endpoint="embedding",
            max_in_flight=1,
            max_failed_rows=1,
            passthrough=["prompt"],
            output_format=output_format,
        )
    )
    assert posts(platform) == {DIRECT: 7}
    rows = list(read_outputs(str(out)))
    assert rows[0]["embedding"] is None
    assert "422" in rows[0]["error"]
    assert TEXTS[0] not in rows[0]["error"]
    assert [row["embedding"] for row in rows[1:]] == near(TEXTS[1:8])
    assert error_rows() == [
        {"index": 0, "prompt": TEXTS[0], "error_reason": "rejected", "error": rows[0]["error"]}
    ]
    assert (ended.result["counts"]["ok"], ended.result["counts"]["failed"]) == (7, 1)
    assert ended.result["dimensions"] == DIMENSIONS


def test_a_part_without_any_vector_is_readable_beside_the_others(platform, embed, out):
    """It is the first one, so the number of dimensions is not known yet."""
    platform.control.fault("/v1/embedding", status=422, times=2)
    make = embed(
        input=TEXTS[:3],
        endpoint="embedding",
        max_in_flight=1,
        chunk_size=1,
        max_failed_rows=2,
        output_format="parquet",
    )
    run_to_end(make)
    found = table(out)
    assert found["embedding"].to_pylist() == [None, None, *near(TEXTS[2:3])]
    assert [error is None for error in found["error"].to_pylist()] == [False, False, True]


def test_a_response_with_too_few_vectors_is_rejected(platform, embed, rows):
    platform.control.fault("/v1/embedding", status=200, body='{"embedding": [[1.0, 2.0]]}', times=1)
    run_to_end(embed(input=TEXTS[:4], endpoint="embedding"))
    assert [row["embedding"] for row in rows()] == near(TEXTS[:4])
    assert posts(platform) == {DIRECT: 3}


def test_more_failed_rows_than_allowed_fail_the_task(platform, embed):
    platform.control.fault("/v1/embedding", status=400, times=None)
    with pytest.raises(TooManyFailedRowsError, match=r"[12]0 of 25 rows failed"):
        run_to_end(embed(endpoint="embedding"))


@pytest.mark.parametrize("endpoint", ["batch", "embedding"])
def test_a_wrong_key_is_reported_clearly(platform, embed, monkeypatch, endpoint):
    connect(monkeypatch, platform, password="not-the-key-0123456789")
    with pytest.raises(AuthenticationError, match="the key is missing or wrong") as caught:
        run_to_end(embed(endpoint=endpoint))
    assert "not-the-key" not in str(caught.value)


# -- tries of one task ----------------------------------------------------------------------------------------


def test_a_retry_attaches_to_the_running_jobs(platform, embed, rows):
    platform.control.hold()
    first = begin(embed())
    second = begin(embed())
    assert second.trigger["job_ids"] == first.trigger["job_ids"]
    platform.control.release()
    wait_until(lambda: all(job["ended"] for job in platform.control.jobs()))
    run_to_end(embed())
    assert posts(platform) == {BATCH: 3}
    assert [row["embedding"] for row in rows()] == near(TEXTS)


def test_a_retry_after_a_lost_response_sends_only_that_chunk(platform, embed, rows):
    platform.control.fault("/v1/batch_embeddings", when="after", drop=True, skip=1)
    with pytest.raises(UnavailableError, match="may run and bill"):
        run_to_end(embed())
    run_to_end(embed())
    assert posts(platform) == {BATCH: 4}
    assert [row["embedding"] for row in rows()] == near(TEXTS)


@pytest.mark.parametrize("output_format", ["jsonl", "parquet"])
def test_a_retry_of_a_direct_run_sends_only_the_remaining_chunks(platform, embed, out, output_format):
    make = embed(endpoint="embedding", max_in_flight=1, output_format=output_format)
    platform.control.fault("/v1/embedding", status=500, times=None, skip=1)
    with pytest.raises(UnavailableError):
        run_to_end(make)
    assert len(list(out.glob("part-*"))) == 1
    platform.control.clear_faults()
    before = posts(platform)[DIRECT]
    run_to_end(make)
    assert posts(platform)[DIRECT] == before + 2
    assert [row["embedding"] for row in read_outputs(str(out))] == near(TEXTS)


def test_clearing_a_finished_task_sends_nothing_and_returns_the_same_result(platform, embed):
    first = run_to_end(embed(output_format="parquet"))
    before = posts(platform)
    assert run_to_end(embed(output_format="parquet")).result == first.result
    assert posts(platform) == before


@pytest.mark.parametrize("changed", [{"output_format": "parquet"}, {"model_name": EMBEDDING_MODEL}])
def test_other_settings_between_tries_are_rejected(platform, embed, changed):
    run_to_end(embed())
    before = posts(platform)
    with pytest.raises(InvalidArgumentError, match="this task and run with other settings"):
        run_to_end(embed(**changed))
    assert posts(platform) == before


def test_a_failed_batch_ends_the_task_with_the_reason_in_place_of_its_result(platform, embed):
    platform.control.hold()
    make = embed(input=TEXTS[:5])
    deferral = begin(make)
    platform.control.end(deferral.trigger["job_ids"][0], "failed", "no GPU was free")
    with pytest.raises(JobFailedError, match=r"rows 0 to 4 ended as failed: no GPU was free\. A retry"):
        resume(make, deferral, deferral.wait())


def test_an_error_that_does_not_say_that_the_batch_failed_is_polled_until_the_timeout(platform, embed):
    platform.control.hold()
    make = embed(input=TEXTS[:5], timeout=3)
    deferral = begin(make)
    platform.control.fault("/v1/batch_embeddings/.*/result", status=500, times=None)
    with pytest.raises(WaitTimeoutError, match="timeout of 3 s has passed"):
        resume(make, deferral, deferral.wait())


def test_a_batch_that_cannot_be_polled_fails_the_task(platform, embed):
    platform.control.hold()
    make = embed()
    deferral = begin(make)
    platform.control.fault("/v1/batch_embeddings/.*/result", status=400, times=None)
    with pytest.raises(JobLostError, match="may still run and bill"):
        resume(make, deferral, deferral.wait())


def test_the_log_of_a_killed_task_says_that_its_batches_keep_running(platform, embed):
    platform.control.hold()
    deferral = begin(embed())
    expected = [
        f"Batch embeddings job {job_id} cannot be cancelled (the platform has no call for it): "
        "it runs to its end, and bills."
        for job_id in deferral.trigger["job_ids"]
    ]
    with log_lines() as lines:
        asyncio.run(deferral.make_trigger().on_kill())
    assert lines == expected

    operator = embed()()
    with pytest.raises(TaskDeferred):
        execute(operator)
    with log_lines() as lines:
        operator.on_kill()
    assert lines == expected


# -- arguments -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("endpoint", "completions"),
        ("output_format", "csv"),
        ("texts_per_request", 0),
        ("model_name", ""),
        ("chunk_size", "many"),
        ("passthrough", ["embedding"]),
        ("output", 5),
        ("output", ""),
    ],
)
def test_an_invalid_argument_fails_at_once_and_is_named(platform, embed, out, name, value):
    with pytest.raises(InvalidArgumentError) as caught:
        run_to_end(embed(**{name: value}))
    assert name in str(caught.value).lower()
    assert posts(platform) == {}
    assert not out.exists()
