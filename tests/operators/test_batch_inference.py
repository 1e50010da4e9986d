"""Every row of the input comes out once, in order, with the platform's output."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import pytest

from tests.support.platforms import posts, submissions
from tests.support.tasks import TI, run_to_end
from tests.support.upstream import TEXT_MODEL, instance_of, text_for

PROMPTS = [f"row {number} of all" for number in range(25)]
TICKETS = [
    {"id": number, "subject": f"ticket number {number}", "body": f"the {number} parcel is late", "free": None}
    for number in range(7)
]
ENDPOINTS = ("batch", "completions", "chat")


def test_rows_are_written_in_order_after_deferrals(platform, inference, rows, out):
    ended = run_to_end(inference())
    assert rows() == [
        {"index": number, "output": text_for(prompt), "finish_reason": "stop", "error": None}
        for number, prompt in enumerate(PROMPTS)
    ]
    assert len(ended.deferrals) >= 1
    assert submissions(platform) == 3
    assert sorted(path.name for path in out.iterdir()) == [
        "_keys-00000.bin",
        "_keys-00001.bin",
        "_keys-00002.bin",
        "_ledger.json",
        "manifest.json",
        "part-00000.jsonl",
        "part-00001.jsonl",
        "part-00002.jsonl",
        "report.html",
        "report.md",
    ]


def test_the_manifest_has_the_paths_and_counts_of_the_results(inference, out):
    manifest = run_to_end(inference()).result
    seconds = manifest.pop("seconds")
    assert 0 < seconds < 30
    assert manifest == {
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
            "finish_reasons": {"stop": 25},
            "sums": {},
            "failures": {},
            "reused": 0,
        },
        "model": TEXT_MODEL,
        "input": "a list of 25 rows",
        "report": f"{out}/report.md",
        "report_html": f"{out}/report.html",
    }
    written = json.loads((out / "manifest.json").read_text())
    assert [part["first_row"] for part in written["parts"]] == [0, 10, 20]


def test_a_task_that_does_not_defer_has_the_same_results(platform, inference, rows):
    ended = run_to_end(inference(deferrable=False))
    assert ended.deferrals == []
    assert ended.result["counts"]["ok"] == 25
    assert [row["output"] for row in rows()] == [text_for(prompt) for prompt in PROMPTS]
    assert submissions(platform) == 3


def test_jobs_that_end_within_seconds_do_not_need_the_triggerer(platform, inference, rows, monkeypatch):
    monkeypatch.setenv("AIRFLOW__AIRFLOW_PROVIDER_LAMINI__DEFER_AFTER", "30")
    ended = run_to_end(inference())
    assert ended.deferrals == []
    assert [row["output"] for row in rows()] == [text_for(prompt) for prompt in PROMPTS]
    assert submissions(platform) == 3


def test_a_task_defers_when_its_jobs_take_longer_than_defer_after(platform, inference, rows, monkeypatch):
    monkeypatch.setenv("AIRFLOW__AIRFLOW_PROVIDER_LAMINI__DEFER_AFTER", "0.6")
    platform.control.hold()
    ended = run_to_end(inference(), while_deferred=lambda _: platform.control.release())
    assert len(ended.deferrals) >= 1
    assert [row["output"] for row in rows()] == [text_for(prompt) for prompt in PROMPTS]
    assert submissions(platform) == 3


@pytest.mark.parametrize("endpoint", ["completions", "chat"])
def test_endpoints_without_jobs_have_the_same_results(platform, inference, rows, engine, endpoint):
    path = {"completions": "/v2/completions", "chat": "/inf/chat/completions"}[endpoint]
    ended = run_to_end(inference(endpoint=endpoint, max_in_flight=4))
    assert ended.deferrals == []  # there is no job to wait for
    assert posts(platform) == {f"POST {path}": 25}
    assert [row["index"] for row in rows()] == list(range(25))
    assert [row["output"] for row in rows()] == [text_for(prompt) for prompt in PROMPTS]
    assert ended.result["chunks"] == 3
    assert engine.most_at_once <= 4


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_an_output_type_returns_objects_on_every_endpoint(inference, rows, endpoint):
    kind = {"mood": ["good", "bad"], "sure": "float", "words": "int", "said": "str", "loud": "bool"}
    run_to_end(inference(endpoint=endpoint, output_type=kind, input=PROMPTS[:4]))
    properties = {
        "mood": {"enum": ["good", "bad"]},
        "sure": {"type": "number"},
        "words": {"type": "integer"},
        "said": {"type": "string"},
        "loud": {"type": "boolean"},
    }
    schema = {"type": "object", "properties": properties}
    assert [row["output"] for row in rows()] == [instance_of(schema, prompt) for prompt in PROMPTS[:4]]


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_a_token_limit_truncates_the_output_and_says_so(inference, rows, endpoint):
    ended = run_to_end(inference(endpoint=endpoint, max_new_tokens=2, input=PROMPTS[:3]))
    assert [row["output"] for row in rows()] == ["all of"] * 3
    assert {row["finish_reason"] for row in rows()} == {"length"}
    assert ended.result["counts"]["finish_reasons"] == {"length": 3}


def test_prompts_are_rendered_from_columns_and_columns_are_passed_through(inference, rows, engine):
    run_to_end(
        inference(
            input=TICKETS,
            prompt='Say {"x": 1} to {subject}: {body}',
            passthrough=["id", "free"],
            chunk_size=3,
        )
    )
    prompts = [f'Say {{"x": 1}} to {ticket["subject"]}: {ticket["body"]}' for ticket in TICKETS]
    assert sorted(engine.prompts) == sorted(prompts)
    assert rows() == [
        {
            "index": number,
            "id": number,
            "free": None,
            "output": text_for(prompt),
            "finish_reason": "stop",
            "error": None,
        }
        for number, prompt in enumerate(prompts)
    ]


def test_a_prompt_can_be_the_name_of_a_column(inference, rows):
    run_to_end(inference(input=TICKETS, prompt="body"))
    assert [row["output"] for row in rows()] == [text_for(ticket["body"]) for ticket in TICKETS]


def write_jsonl(path, tickets):
    path.write_text("".join(json.dumps(ticket) + "\n" for ticket in tickets))


def write_csv(path, tickets):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["id", "subject", "body"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(tickets)


def write_parquet(path, tickets):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    columns = {name: [ticket[name] for ticket in tickets] for name in ("id", "subject", "body")}
    parquet.write_table(pyarrow.table(columns), path)


@pytest.mark.parametrize(
    ("write", "suffix"), [(write_jsonl, "jsonl"), (write_csv, "csv"), (write_parquet, "parquet")]
)
def test_files_are_read_and_columns_passed_through(inference, rows, tmp_path, write, suffix):
    path = tmp_path / f"tickets.{suffix}"
    write(path, TICKETS)
    ended = run_to_end(inference(input=str(path), prompt="{body}", passthrough=["subject"], chunk_size=5))
    assert [row["output"] for row in rows()] == [text_for(ticket["body"]) for ticket in TICKETS]
    assert [row["subject"] for row in rows()] == [ticket["subject"] for ticket in TICKETS]
    assert ended.result["input"] == str(path)


def test_the_files_of_a_glob_are_read_in_the_order_of_their_names(inference, rows, tmp_path):
    write_jsonl(tmp_path / "b.jsonl", TICKETS[4:])
    write_jsonl(tmp_path / "a.jsonl", TICKETS[:4])
    ended = run_to_end(inference(input=f"file://{tmp_path}/*.jsonl", prompt="{body}", chunk_size=3))
    assert [row["output"] for row in rows()] == [text_for(ticket["body"]) for ticket in TICKETS]
    assert ended.result["chunks"] == 3


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("kind", ["list", "jsonl", "csv"])
def test_an_empty_input_succeeds_without_rows(platform, inference, tmp_path, kind, endpoint):
    path = tmp_path / f"nothing.{kind}"
    path.write_text("prompt\n" if kind == "csv" else "")
    ended = run_to_end(inference(input=[] if kind == "list" else str(path), endpoint=endpoint))
    assert ended.deferrals == []
    assert ended.result["counts"]["rows"] == 0
    assert (ended.result["chunks"], ended.result["parts"]) == (0, [])
    assert (tmp_path / "out" / "manifest.json").exists()
    assert posts(platform) == {}


def test_the_number_of_running_jobs_is_limited(platform, inference):
    platform.control.hold()
    alive = []

    def count_jobs(_):
        alive.append(sum(job["ended"] is None for job in platform.control.jobs()))
        platform.control.release()

    ended = run_to_end(inference(chunk_size=3, max_in_flight=3), while_deferred=count_jobs)
    assert alive[0] == 3
    assert max(alive) <= 3
    assert submissions(platform) == 9
    assert ended.result["counts"]["ok"] == 25


def test_each_mapped_task_has_its_own_results(inference, tmp_path):
    """Mapped instances of one task, each with its own folder, do not affect each other."""
    for index in range(2):
        ended = run_to_end(
            inference(input=PROMPTS[index * 3 :][:3], output=str(tmp_path / str(index))),
            replace(TI, map_index=index),
        )
        assert ended.result["counts"]["ok"] == 3
