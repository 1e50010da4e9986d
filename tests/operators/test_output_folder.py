"""An output folder has the results of one run over one input, never a mix."""

from __future__ import annotations

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from airflow_provider_lamini.exceptions import InvalidArgumentError
from airflow_provider_lamini.results import read_outputs
from airflow_provider_lamini.rows.errors import LedgerLostError
from airflow_provider_lamini.rows.ledger.ledger import Ledger
from tests.support.platforms import posts, submissions, totals
from tests.support.results import outputs
from tests.support.tasks import TI, begin, resume, run_to_end
from tests.support.upstream import text_for

pytestmark = pytest.mark.any_airflow

PROMPTS = [f"row {number} of all" for number in range(25)]
OUTPUTS = [text_for(prompt) for prompt in PROMPTS]


@pytest.mark.parametrize(
    "other",
    [
        replace(TI, run_id="run-2"),
        replace(TI, task_id="other"),
        replace(TI, dag_id="other"),
        replace(TI, map_index=0),
    ],
)
def test_another_runs_folder_is_not_changed(platform, inference, out, other):
    run_to_end(inference(input=PROMPTS[:3]))
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    sent = posts(platform)
    with pytest.raises(InvalidArgumentError, match="holds the results of dag nightly, task infer, run run-1"):
        run_to_end(inference(input=PROMPTS[:3]), other)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert posts(platform) == sent


def test_another_runs_folder_is_replaced_if_the_user_says_so(inference, rows, out):
    run_to_end(inference())
    (out / "notes.txt").write_text("mine")
    make = inference(input=PROMPTS[20:23], on_other_run="replace")
    ended = run_to_end(make, replace(TI, run_id="run-2"))
    assert ended.result["counts"]["ok"] == 3
    assert outputs(rows()) == OUTPUTS[20:23]
    assert sorted(path.name for path in out.iterdir()) == [
        "_keys-00000.bin",
        "_ledger.json",
        "manifest.json",
        "notes.txt",
        "part-00000.jsonl",
        "report.html",
        "report.md",
    ]


def test_a_task_can_replace_its_own_results_with_other_settings(inference, rows):
    run_to_end(inference())
    run_to_end(inference(max_new_tokens=1, on_other_run="replace"))
    assert outputs(rows()) == ["all"] * 25


def test_a_retry_of_a_run_that_replaces_continues_it(platform, inference, rows):
    run_to_end(inference(input=PROMPTS[:3]), replace(TI, run_id="run-0"))
    make = inference(on_other_run="replace")
    platform.control.hold()
    begin(make)
    platform.control.release()
    run_to_end(make)
    assert totals(platform) == [3, 10, 10, 5]
    assert outputs(rows()) == OUTPUTS


@pytest.fixture
def jsonl_input(tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in PROMPTS))
    return path


def test_an_input_that_changed_between_tries_is_rejected(platform, inference, jsonl_input):
    platform.control.hold()
    make = inference(input=str(jsonl_input))
    begin(make)
    jsonl_input.write_text(jsonl_input.read_text().replace("row 7", "line 7"))
    before = posts(platform)
    with pytest.raises(InvalidArgumentError, match="with another input"):
        run_to_end(make)
    assert posts(platform) == before


def test_an_input_that_changed_during_the_wait_is_rejected(platform, inference, jsonl_input, rows):
    make = inference(input=str(jsonl_input))
    deferral = begin(make)
    event = deferral.wait()
    jsonl_input.write_text(jsonl_input.read_text().replace("row 7", "line 7"))
    before = posts(platform)
    with pytest.raises(InvalidArgumentError, match="input"):
        resume(make, deferral, event)
    assert posts(platform) == before
    assert rows() == []


def test_a_rewritten_input_with_the_same_content_is_the_same_input(platform, inference, jsonl_input, rows):
    platform.control.hold()
    make = inference(input=str(jsonl_input))
    begin(make)
    content = jsonl_input.read_text()
    jsonl_input.unlink()
    jsonl_input.write_text(content)
    platform.control.release()
    run_to_end(make)
    assert submissions(platform) == 3
    assert outputs(rows()) == OUTPUTS


@pytest.fixture(params=["in.jsonl", "in.parquet"])
def path(request, tmp_path):
    """The path of an input file that does not exist yet."""
    return tmp_path / request.param


def test_an_input_that_changed_without_a_new_version_is_rejected(platform, inference, path, rows):
    """Its size and its modification time are the same."""
    modified_at = time.time() - 3600
    write_input(path, PROMPTS, modified_at)
    make = inference(input=str(path), passthrough=["id"])
    deferral = begin(make)
    event = deferral.wait()
    size = path.stat().st_size
    write_input(path, [prompt.replace("row", "raw") for prompt in PROMPTS], modified_at)
    assert path.stat().st_size == size
    before = posts(platform)
    with pytest.raises(InvalidArgumentError, match=r"the content of rows .* is not what was sent"):
        resume(make, deferral, event)
    assert posts(platform) == before
    assert rows() == []


@pytest.mark.parametrize("touched", [False, True])
def test_an_unchanged_input_is_read_again_for_its_columns(inference, path, rows, touched):
    write_input(path, PROMPTS, time.time() - 3600)
    make = inference(input=str(path), passthrough=["id"])
    run_to_end(make, while_deferred=lambda _: path.chmod(0o600) if touched else None)
    assert [row["id"] for row in rows()] == list(range(25))
    assert outputs(rows()) == OUTPUTS


def write_input(path, prompts, modified_at):
    """Write prompts, each with an id, and set the file's modification time."""
    if path.suffix == ".parquet":
        parquet = pytest.importorskip("pyarrow.parquet")
        table = pytest.importorskip("pyarrow").table({"id": range(len(prompts)), "prompt": prompts})
        parquet.write_table(table, path, compression="none")
    else:
        rows = [{"id": number, "prompt": prompt} for number, prompt in enumerate(prompts)]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    os.utime(path, (modified_at, modified_at))


@pytest.mark.parametrize("place", ["disk", "store"])
def test_rows_of_a_run_that_is_replaced_while_it_sends_them_are_not_written(
    request, platform, inference, monkeypatch, place
):
    out = request.getfixturevalue("out")
    monkeypatch.setattr(Ledger, "late_write", 1.1)
    if place == "store":
        request.getfixturevalue("object_store")
    output = "memory://bucket/out" if place == "store" else str(out)
    options = {
        "output": output,
        "endpoint": "completions",
        "chunk_size": 10,
        "on_other_run": "replace",
        "deferrable": False,
    }
    platform.control.fault("/v2/completions", contains="old", delay=0.6, times=None)
    first = inference(input=["old row"], **options)
    with ThreadPoolExecutor() as pool:
        old = pool.submit(run_to_end, first)
        wait_until(lambda: platform.control.stats()["requests"].get("POST /v2/completions"))
        run_to_end(inference(input=["new row"], **options), replace(TI, task_id="other"))
        with pytest.raises(LedgerLostError):
            old.result()
    assert [row["output"] for row in read_outputs(output)] == ["row new"]


def wait_until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
