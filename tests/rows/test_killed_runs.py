"""Whatever kills the process, each row comes out once and in order, and what is finished is not paid for again."""

from __future__ import annotations

import json
from array import array
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_lamini.results import read_outputs
from airflow_provider_lamini.rows.counts import Counts
from airflow_provider_lamini.rows.output.failed_rows import FailedRows, FailedRowsSource
from airflow_provider_lamini.rows.output.manifest import read_manifest
from airflow_provider_lamini.rows.sources.source import open_source
from airflow_provider_lamini.rows.storage.folder import OutputFolder
from tests.rows.run_model import Fate, KilledError, Run

SENTENCES = ["fine", "a", "retry", "b", "fail", "", "r", "c"]


def finish(run: Run, kills: list[int]) -> list[int]:
    """Retry until the run ends, killing each try at its step. Returns the number of steps of each try."""
    steps = []
    for kill in [*kills, 0]:
        fate = Fate(kill)
        try:
            run.attempt(fate)
        except KilledError:
            steps.append(fate.step)
        else:
            return [*steps, fate.step]
    raise AssertionError("a try that is not killed must end")


def check(run: Run, texts: list[str], kills: int) -> None:
    """Each row once, in order, with what the platform said of it, and nothing paid for without need."""
    outputs = list(read_outputs(run.output))
    expected = []
    for index, text in enumerate(texts):
        prompt = f"Say: {text}{index}"
        failed = "f" in prompt
        expected.append(
            (index, index, None if failed else prompt.upper(), None if failed else "stop", failed)
        )
    assert [
        (row["index"], row["id"], row["output"], row["finish_reason"], row["error"] is not None)
        for row in outputs
    ] == expected
    failed = sum(error for *_, error in expected)
    again = sum("f" in f"{text}" or "r" in text for text in texts)
    manifest = read_manifest(OutputFolder(run.output))
    ok = len(texts) - failed
    failures = {"no_answer": failed} if failed else {}
    assert manifest.counts == Counts(len(texts), ok, failed, again, {"stop": ok} if ok else {}, {}, failures)
    left = OutputFolder(run.output).names(work=True)
    assert [name for name in left if not (kills and name.startswith("_work/owner-"))] == []
    needed = len(texts) + again
    paid = sum(run.platform.asked.values())
    # A kill costs at most the submission of which nothing is known, which the policy here is to repeat.
    assert needed <= paid <= needed + run.unknown * run.chunk_size
    assert run.unknown <= kills


def rows_of(texts: list[str]) -> list[dict]:
    return [{"id": index, "text": f"{text}{index}"} for index, text in enumerate(texts)]


@pytest.mark.usefixtures("object_store")
@pytest.mark.parametrize("where", ["local", "object store"])
@pytest.mark.faults
def test_killed_at_every_step_in_turn(tmp_path, where):
    """Kill the first try at step 1, then at step 2, and so on until a try ends before it is killed."""
    for kill in count(1):
        output = f"{tmp_path}/{kill}" if where == "local" else f"memory://bucket/{kill}"
        run = Run(open_source(rows_of(SENTENCES)), output, chunk_size=3, in_flight=2)
        steps = finish(run, [kill])
        check(run, SENTENCES, 1)
        if len(steps) == 1:
            break
    assert kill > 60


@pytest.mark.faults
def test_killed_at_every_step_of_the_try_that_follows_a_kill(tmp_path):
    for first in (9, 17, 25, 40):
        for kill in range(1, 60, 2):
            run = Run(
                open_source(rows_of(SENTENCES)), f"{tmp_path}/{first}-{kill}", chunk_size=3, in_flight=2
            )
            finish(run, [first, kill])
            check(run, SENTENCES, 2)


@pytest.mark.faults
def test_failed_rows_of_an_earlier_run_survive_a_kill_at_every_step_too(tmp_path):
    path, indices = tmp_path / "in.jsonl", [1, 2, 5, 9, 10, 13, 15]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows_of(SENTENCES * 2)))
    failed = FailedRows(
        OutputFolder(str(tmp_path / "earlier")), array("q", indices), array("Q", [0] * 7), ("id",), ""
    )
    for kill in count(1):
        source = FailedRowsSource(open_source(str(path)), failed)
        run = Run(source, f"{tmp_path}/{kill}", chunk_size=2, in_flight=2, only_failed_of="earlier")
        steps = finish(run, [kill])
        found = [(row["index"], row["id"]) for row in read_outputs(run.output)]
        assert found == list(zip(indices, indices, strict=True))
        assert set(run.platform.asked) == {f"Say: {(SENTENCES * 2)[index]}{index}" for index in indices}
        again = sum(any(letter in (SENTENCES * 2)[index] for letter in "fr") for index in indices)
        assert 7 + again <= sum(run.platform.asked.values()) <= 7 + again + run.unknown * run.chunk_size
        if len(steps) == 1:
            break
    assert kill > 60


@settings(max_examples=60, deadline=None)
@given(
    texts=st.lists(st.sampled_from(SENTENCES), max_size=14),
    chunk_size=st.integers(1, 5),
    in_flight=st.integers(1, 4),
    kills=st.lists(st.integers(1, 70), max_size=6),
    suffix=st.sampled_from([".jsonl", "list"]),
)
@pytest.mark.faults
def test_killed_at_random_steps(tmp_path_factory, *, texts, chunk_size, in_flight, kills, suffix):
    folder = tmp_path_factory.mktemp("run")
    rows = rows_of(texts)
    source: object = rows
    if suffix == ".jsonl":
        (folder / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        source = str(folder / "in.jsonl")
    run = Run(open_source(source), str(folder / "out"), chunk_size, in_flight)
    finish(run, kills)
    check(run, texts, len(kills))


def test_retrying_a_finished_run_pays_nothing(tmp_path):
    run = Run(open_source(rows_of(SENTENCES)), str(tmp_path / "out"), chunk_size=3, in_flight=2)
    finish(run, [])
    paid = len(run.platform.jobs)
    before = read_manifest(OutputFolder(run.output))
    finish(run, [])
    assert len(run.platform.jobs) == paid
    assert read_manifest(OutputFolder(run.output)) == before
