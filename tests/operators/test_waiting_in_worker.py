"""A task that waits in its worker keeps its input open, and reads and fetches nothing twice."""

from __future__ import annotations

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy

import pytest

from airflow_provider_lamini.api.client import Client
from airflow_provider_lamini.exceptions import InvalidArgumentError
from airflow_provider_lamini.rows.sources.source import FileSource
from airflow_provider_lamini.rows.storage import objects
from tests.support.local_platform import wait_until
from tests.support.platforms import submissions
from tests.support.results import outputs
from tests.support.tasks import kill_once, log_lines, run_to_end
from tests.support.upstream import text_for

PROMPTS = [f"row {number} of all" for number in range(25)]
OUTPUTS = [text_for(prompt) for prompt in PROMPTS]


@pytest.fixture
def input_file(tmp_path):
    """A file with the 25 prompts and a name for each."""
    path = tmp_path / "in.jsonl"
    write(path, PROMPTS)
    return path


@pytest.fixture
def in_worker(inference, input_file):
    """Like ``inference``, but the operators read ``input_file`` and wait in their worker."""

    def make(**changed):
        return inference(**{"input": str(input_file), "passthrough": ["name"], "deferrable": False} | changed)

    return make


def write(path, prompts):
    lines = [json.dumps({"prompt": prompt, "name": f"name of {prompt}"}) for prompt in prompts]
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture
def sent(monkeypatch):
    """Counts the calls that the task sends itself, by operation; polls are not included."""
    counts: Counter[str] = Counter()
    send = Client.send

    def counting(self, call):
        counts[call.operation] += 1
        return send(self, call)

    monkeypatch.setattr(Client, "send", counting)
    return counts


FETCH = "batch_completion_result_v1_batch_completions__id__result_get"


@pytest.mark.parametrize("deferrable", [False, True])
def test_results_come_with_the_status_if_the_task_itself_polls(in_worker, rows, sent, deferrable):
    run_to_end(in_worker(deferrable=deferrable))
    assert sent[FETCH] == (3 if deferrable else 0)
    assert outputs(rows()) == OUTPUTS
    assert [row["name"] for row in rows()] == [f"name of {prompt}" for prompt in PROMPTS]


def test_results_that_do_not_fit_in_memory_are_fetched(in_worker, rows, sent, monkeypatch):
    monkeypatch.setattr("airflow_provider_lamini.jobs.result_cache.MAX_BYTES", 0)
    run_to_end(in_worker())
    assert sent[FETCH] == 3
    assert outputs(rows()) == OUTPUTS


def test_each_row_is_read_once_for_validation_and_once_for_sending(in_worker, rows, monkeypatch):
    starts = []
    batches = FileSource.batches

    def counting(self, start=None, **options):
        starts.append(start)
        return batches(self, start, **options)

    monkeypatch.setattr(FileSource, "batches", counting)
    run_to_end(in_worker())
    # After each wait, it continues where it stopped.
    assert [start and start.row for start in starts] == [None, 0, 20]
    assert outputs(rows()) == OUTPUTS


def test_the_log_does_not_say_after_each_wait_that_the_run_resumes(in_worker):
    with log_lines() as lines:
        run_to_end(in_worker(max_in_flight=1))
    assert not any("Resuming" in line for line in lines)


def test_a_killed_try_closes_its_input(platform, in_worker):
    """Airflow sometimes copies operators, which fails if one has an open file."""
    platform.control.hold()
    operators = []

    def make():
        operators.append(in_worker()())
        return operators[-1]

    kill_once(lambda: submissions(platform) == 2 and polls(platform) >= 2, make)
    assert deepcopy(operators[0]).output_folder == operators[0].output_folder


def polls(platform):
    """Number of polls."""
    return platform.control.stats()["requests"].get("GET /v1/batch_completions/{id}/result", 0)


def run_with_change(platform, make, change):
    """Run a task, and call ``change`` while it waits in its worker."""
    platform.control.hold()
    with ThreadPoolExecutor(1) as thread:
        running = thread.submit(run_to_end, make)
        wait_until(lambda: submissions(platform) == 2)
        wait_until(lambda: polls(platform) >= 2)
        change()
        platform.control.release()
        return running.result(30)


def test_an_input_that_changes_during_the_wait_stops_the_task(platform, in_worker, input_file):
    def change():
        write(input_file, [*PROMPTS[:9], "another", *PROMPTS[10:]])

    with pytest.raises(InvalidArgumentError, match="another input"):
        run_with_change(platform, in_worker(), change)
    assert submissions(platform) == 2


def test_an_input_that_is_rewritten_with_the_same_rows_does_not_stop_the_task(
    platform, in_worker, input_file, rows
):
    ended = run_with_change(platform, in_worker(), lambda: write(input_file, PROMPTS))
    assert ended.result["counts"]["ok"] == 25
    assert submissions(platform) == 3
    assert outputs(rows()) == OUTPUTS


def test_a_ledger_that_is_deleted_during_the_wait_stops_the_task(platform, in_worker, out):
    with pytest.raises(InvalidArgumentError, match="is not in"):
        run_with_change(platform, in_worker(), (out / "_ledger.json").unlink)
    assert submissions(platform) == 2


def test_a_small_file_on_an_object_store_is_read_with_one_request(object_store, in_worker, input_file):
    object_store.pipe_file("/bucket/in.jsonl", input_file.read_bytes())
    object_store.calls.clear()
    run_to_end(in_worker(input="memory://bucket/in.jsonl", max_in_flight=1))
    assert (object_store.calls.count("cat_file"), object_store.calls.count("open")) == (1, 0)


def test_a_large_file_on_an_object_store_is_opened_again_after_each_wait(
    object_store, in_worker, input_file, rows, monkeypatch
):
    """A connection may not stay open as long as a wait."""
    monkeypatch.setattr(objects, "_BLOCK", 8)
    object_store.pipe_file("/bucket/in.jsonl", input_file.read_bytes())
    object_store.calls.clear()
    run_to_end(in_worker(input="memory://bucket/in.jsonl", max_in_flight=1))
    assert object_store.calls.count("open") == 1 + 3  # for validation, and for each chunk
    assert outputs(rows()) == OUTPUTS
    assert [row["name"] for row in rows()] == [f"name of {prompt}" for prompt in PROMPTS]
