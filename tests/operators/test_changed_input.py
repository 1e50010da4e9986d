"""A file that changes while a task works on it: what is written belongs to one state of the input, or the task fails."""

from __future__ import annotations

import json
import threading
import time

import pytest

from airflow_provider_lamini.exceptions import InvalidArgumentError
from airflow_provider_lamini.results import read_outputs
from tests.support.row_tasks import DIRECT, each_operator
from tests.support.tasks import TI, at_log_line, begin, run_to_end
from tests.support.upstream import text_for

pytestmark = pytest.mark.any_airflow

OLD = [f"row {number} of all" for number in range(9)]
NEW = [f"new {number} of all" for number in range(9)]
LONG = "x" * 60_000
"""So long that the reader does not have the next rows in its memory yet."""


def lines(prompts, **others):
    return "".join(json.dumps({"id": n, **others, "prompt": text}) + "\n" for n, text in enumerate(prompts))


@pytest.fixture
def given(tmp_path):
    path = tmp_path / "in" / "b.jsonl"
    path.parent.mkdir()
    path.write_text(lines(OLD, note=LONG))
    return path


@each_operator
@pytest.mark.parametrize("waits", ["deferred", "in the worker"])
def test_rows_that_were_replaced_before_any_was_sent_are_sent_as_they_are_now(task, given, out, waits):
    make = task(input=str(given), passthrough=["prompt"], deferrable=waits == "deferred")
    with at_log_line("Validated", lambda: given.write_text(lines(NEW))):
        run_to_end(make)
    assert [row["prompt"] for row in read_outputs(str(out))] == NEW


@each_operator
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: path.write_text(lines(OLD[:5])), "9 rows"),
        (lambda path: path.write_text(""), "9 rows"),
        (lambda path: path.write_text(lines(OLD)[:-20]), "not valid JSON"),
        (lambda path: path.write_text(lines([*OLD, "one more"])), "9 rows then, 10 now"),
        (lambda path: (path.parent / "a.jsonl").write_text(lines(NEW[:2])), "9 rows then, 11 now"),
        (lambda path: path.write_text(lines([*OLD[:8], ""])), "blank"),
    ],
    ids=["fewer", "empty", "cut", "more", "another file", "blank"],
)
def test_rows_that_were_added_or_removed_meanwhile_fail_the_task(task, given, out, change, message):
    make = task(input=str(given.parent / "*.jsonl"), passthrough=["prompt"], deferrable=False)
    with at_log_line("Validated", lambda: change(given)), pytest.raises(InvalidArgumentError, match=message):
        run_to_end(make)
    assert not (out / "manifest.json").exists()


@each_operator
def test_rows_that_are_added_meanwhile_extend_the_run_if_it_may_be(task, given, out):
    make = task(
        input=str(given), passthrough=["prompt"], on_changed_input="extend", max_in_flight=1, deferrable=False
    )
    with at_log_line("Validated", lambda: given.write_text(lines([*OLD, *NEW]))):
        ended = run_to_end(make)
    assert [row["prompt"] for row in read_outputs(str(out))] == [*OLD, *NEW]
    assert ended.result["counts"]["ok"] == 18


def overwrite(path):
    with path.open("r+") as file:
        file.write(lines(NEW, note=LONG))


def replace(path):
    path.with_suffix(".tmp").write_text(lines(NEW, note=LONG))
    path.with_suffix(".tmp").replace(path)


@pytest.mark.parametrize("endpoint", ["completions", "chat"])
@pytest.mark.parametrize("change", [overwrite, replace])
def test_old_and_new_rows_are_not_mixed(inference, engine, given, endpoint, change):
    make = inference(input=str(given), endpoint=endpoint, chunk_size=1, deferrable=False)
    out = given.parents[1] / "out"
    engine.open.clear()

    def change_meanwhile():
        deadline = time.monotonic() + 20
        while not engine.prompts and time.monotonic() < deadline:
            time.sleep(0.005)
        change(given)
        engine.open.set()

    changing = threading.Thread(target=change_meanwhile)
    changing.start()
    with pytest.raises(InvalidArgumentError, match=r"another input.*restore the input and clear the task"):
        run_to_end(make)
    changing.join()
    assert not (out / "manifest.json").exists()
    given.write_text(lines(OLD))
    if change is replace:  # all rows were read from the old file, which was open
        run_to_end(make, TI.cleared())
        assert sorted(engine.prompts) == OLD
        assert [row["output"] for row in read_outputs(str(out))] == list(map(text_for, OLD))


def test_the_error_names_the_jobs_that_run_and_what_to_restore(inference, platform, given):
    platform.control.hold()
    jobs = begin(inference(input=str(given))).trigger["job_ids"]
    given.write_text(lines(NEW))
    with pytest.raises(
        InvalidArgumentError, match=rf"may still run and bill: {', '.join(jobs)}.*restore the input"
    ):
        run_to_end(inference(input=str(given)), TI.retried())
    with pytest.raises(InvalidArgumentError, match=r"another input.*restore the input and the arguments"):
        run_to_end(inference(input=str(given), max_new_tokens=3), TI.retried())
    given.write_text(lines(OLD))
    platform.control.release()
    run_to_end(inference(input=str(given)), TI.retried())
    assert [job["id"] for job in platform.control.jobs()] == jobs


@pytest.mark.parametrize("operator", DIRECT)
def test_a_file_that_is_removed_meanwhile_is_named(task, given, out, operator):
    del operator
    with (
        at_log_line("Validated", given.unlink),
        pytest.raises(Exception, match=r"b\.jsonl .*(does not exist|cannot be opened)"),
    ):
        run_to_end(task(input=str(given)))
    assert not (out / "manifest.json").exists()


@pytest.mark.parametrize("endpoint", ["batch", "completions"])
def test_a_change_in_an_object_store_is_noticed_too(inference, object_store, monkeypatch, endpoint):
    monkeypatch.setattr("airflow_provider_lamini.runs.row_run.LAST_CHECK", 0.0)
    monkeypatch.setattr("airflow_provider_lamini.rows.storage.objects._SAME_ANSWER_SECONDS", 0.0)
    path, output = "memory://bucket/in.jsonl", "memory://bucket/out"
    object_store.pipe_file("/bucket/in.jsonl", lines(OLD).encode())
    make = inference(input=path, output=output, endpoint=endpoint, passthrough=["prompt"], deferrable=False)
    more = lines([*OLD, *NEW]).encode()
    with (
        at_log_line("Validated", lambda: object_store.pipe_file("/bucket/in.jsonl", more)),
        pytest.raises(InvalidArgumentError, match="9 rows then, 18 now"),
    ):
        run_to_end(make)
    assert not object_store.exists("/bucket/out/manifest.json")
