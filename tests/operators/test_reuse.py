"""A run copies the results of an earlier one for rows that have not changed, and sends only the others."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest

from airflow_provider_lamini.exceptions import InvalidArgumentError, StorageError
from airflow_provider_lamini.results import SHARDS, merge_shards, read_outputs
from tests.support.tasks import at_log_line, log_lines, run_to_end
from tests.support.upstream import text_for, vector_for

pytestmark = pytest.mark.any_airflow

TEXTS = [f"row {number} of all" for number in range(25)]
CHANGED = [text if number % 8 else f"{text}, changed" for number, text in enumerate(TEXTS)]
each_endpoint = pytest.mark.parametrize("endpoint", ["batch", "completions"])
waiting_ways = pytest.mark.parametrize("deferrable", [True, False])


@pytest.fixture
def folders(tmp_path):
    return [str(tmp_path / name) for name in ("first", "second", "third")]


@each_endpoint
@waiting_ways
def test_only_changed_rows_are_sent(engine, inference, folders, endpoint, deferrable):
    first, second, third = folders
    options = {"endpoint": endpoint, "deferrable": deferrable}
    run_to_end(inference(input=TEXTS, output=first, reuse_from=third, **options))
    assert len(engine.prompts) == 25
    ended = run_to_end(inference(input=CHANGED, output=second, reuse_from=first, **options))
    assert sorted(engine.prompts[25:]) == sorted(set(CHANGED) - set(TEXTS))
    assert [row["output"] for row in read_outputs(second)] == [text_for(text) for text in CHANGED]
    counts = ended.result["counts"]
    assert (counts["rows"], counts["ok"], counts["reused"], counts["retried"]) == (25, 25, 21, 0)
    ended = run_to_end(inference(input=CHANGED, output=third, reuse_from=second, **options))
    assert len(engine.prompts) == 29
    assert ended.result["counts"]["reused"] == 25
    assert [row["output"] for row in read_outputs(third)] == [text_for(text) for text in CHANGED]


@each_endpoint
def test_rows_are_found_wherever_they_were(engine, inference, folders, endpoint):
    first, second, _ = folders
    run_to_end(inference(input=TEXTS, output=first, endpoint=endpoint, chunk_size=4))
    given = [*reversed(TEXTS), "one more", *TEXTS[:3]]
    ended = run_to_end(inference(input=given, output=second, endpoint=endpoint, reuse_from=first))
    assert engine.prompts[25:] == ["one more"]
    assert ended.result["counts"]["reused"] == 28
    assert [row["output"] for row in read_outputs(second)] == [text_for(text) for text in given]


def test_failed_rows_of_the_earlier_run_are_sent(platform, engine, inference, folders):
    first, second, _ = folders
    platform.control.row_fault("row 3 of", times=1)
    run_to_end(inference(input=TEXTS, output=first, row_retries=0, max_failed_rows=1))
    before = len(engine.prompts)
    ended = run_to_end(inference(input=TEXTS, output=second, reuse_from=first))
    assert engine.prompts[before:] == [TEXTS[3]]
    assert (ended.result["counts"]["reused"], ended.result["counts"]["ok"]) == (24, 25)


@pytest.mark.parametrize(
    "changed", [{"max_new_tokens": 7}, {"endpoint": "completions"}, {"prompt": "Say {prompt}"}]
)
def test_another_model_parameter_or_prompt_reuses_nothing(engine, inference, folders, changed):
    first, second, _ = folders
    run_to_end(inference(input=TEXTS, output=first))
    before = len(engine.prompts)
    assert (
        run_to_end(inference(input=TEXTS, output=second, reuse_from=first, **changed)).result["counts"][
            "reused"
        ]
        == 0
    )
    assert len(engine.prompts) == before + 25


@pytest.mark.parametrize("earlier", ["missing", None, "", "None"])
def test_without_an_earlier_run_everything_is_sent(engine, inference, folders, tmp_path, earlier):
    given = str(tmp_path / "missing") if earlier == "missing" else earlier
    with log_lines() as lines:
        run_to_end(inference(input=TEXTS, output=folders[0], reuse_from=given))
    assert len(engine.prompts) == 25
    assert any("Nothing can be reused" in line for line in lines) is (earlier == "missing")


def test_the_tasks_own_folder_is_no_earlier_run(engine, inference, folders):
    for _ in range(2):
        run_to_end(inference(input=TEXTS, output=folders[0], reuse_from=folders[0] + "/"))
    assert len(engine.prompts) == 25


def test_without_an_output_folder_nothing_can_be_reused(embed, folders):
    with pytest.raises(InvalidArgumentError, match="reuse_from needs output"):
        run_to_end(embed(input="a", output=None, reuse_from=folders[0]))


@pytest.mark.parametrize("endpoint", ["batch", "embedding"])
@pytest.mark.parametrize(
    ("before", "after"), [("jsonl", "jsonl"), ("parquet", "parquet"), ("jsonl", "parquet")]
)
def test_vectors_are_reused(embed, folders, endpoint, before, after):
    pytest.importorskip("pyarrow")
    first, second, _ = folders
    run_to_end(embed(input=TEXTS, output=first, endpoint=endpoint, output_format=before))
    ended = run_to_end(
        embed(input=CHANGED, output=second, endpoint=endpoint, output_format=after, reuse_from=first)
    )
    assert ended.result["counts"]["reused"] == 21
    old, new = list(read_outputs(first)), list(read_outputs(second))
    for number, (one, other) in enumerate(zip(old, new, strict=True)):
        assert (pytest.approx(one["embedding"], abs=1e-6) == other["embedding"]) is bool(number % 8)


@waiting_ways
def test_bad_failed_and_reused_rows_of_a_chunk_keep_apart(platform, inference, folders, deferrable):
    first, second, _ = folders
    run_to_end(inference(input=TEXTS[:4], output=first))
    platform.control.row_fault("new 6", times=1)
    given = [*TEXTS[:4], "", "new 5", "new 6"]
    ended = run_to_end(
        inference(
            input=given,
            output=second,
            reuse_from=first,
            on_bad_row="error",
            max_failed_rows=1,
            deferrable=deferrable,
        )
    )
    counts = ended.result["counts"]
    assert (counts["ok"], counts["reused"], counts["retried"], counts["failures"]) == (
        6,
        4,
        1,
        {"no_prompt": 1},
    )
    assert [row["error"] is None for row in read_outputs(second)] == [True] * 4 + [False] + [True] * 2


def swap(folder, suffix):
    one, other = (folder / f"part-0000{number}.{suffix}" for number in (0, 1))
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)


def reverse(folder, suffix):
    path = folder / f"part-00000.{suffix}"
    path.write_text("".join(reversed(path.read_text().splitlines(keepends=True))))


DAMAGES = {
    "missing": lambda folder, suffix: (folder / f"part-00000.{suffix}").unlink(),
    "cut": lambda folder, suffix: os.truncate(folder / f"part-00000.{suffix}", 300),
    "swapped": swap,
    "reversed": reverse,
    "no keys": lambda folder, _: (folder / "_keys-00000.bin").unlink(),
    "cut keys": lambda folder, _: os.truncate(folder / "_keys-00000.bin", 40),
}


@pytest.mark.parametrize("output_format", ["jsonl", "parquet"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_rows_of_a_part_that_somebody_has_changed_are_sent(embed, engine, folders, damage, output_format):
    if (damage, output_format) == ("reversed", "parquet"):
        pytest.skip("lines are reversed")
    pytest.importorskip("pyarrow")
    first, second, _ = folders
    options = {"input": TEXTS, "output_format": output_format, "deferrable": False}
    run_to_end(embed(output=first, **options))
    DAMAGES[damage](Path(first), output_format)
    before = len(engine.prompts)
    with log_lines() as lines:
        run_to_end(embed(output=second, reuse_from=first, **options))
    assert set(TEXTS[:4]) <= set(engine.prompts[before:])
    assert len(engine.prompts) - before < 25
    assert any("missing, damaged or replaced" in line for line in lines) is (damage in {"missing", "cut"})
    assert [row["embedding"] for row in read_outputs(second)] == [
        pytest.approx(vector_for(text), abs=1e-6) for text in TEXTS
    ]


@each_endpoint
def test_a_run_that_is_replaced_while_it_is_read_gives_nothing(inference, folders, endpoint):
    first, second, _ = folders
    run_to_end(inference(input=TEXTS, output=first, endpoint=endpoint))

    def replace_first():
        others = [f"other {number}" for number in range(25)]
        run_to_end(
            inference(input=others, output=first, endpoint=endpoint, on_other_run="replace", deferrable=False)
        )

    given = {"input": TEXTS, "reuse_from": first, "output": second, "chunk_size": 5, "max_in_flight": 1}
    with at_log_line("Submitted job" if endpoint == "batch" else "Validated", replace_first):
        run_to_end(inference(**given | {"input": ["new", *TEXTS]}, endpoint=endpoint, deferrable=False))
    assert [row["output"] for row in read_outputs(second)] == [text_for(text) for text in ["new", *TEXTS]]


@waiting_ways
def test_three_nights_pay_for_each_row_once(engine, inference, folders, deferrable):
    rows, earlier = list(TEXTS), None
    for night, folder in enumerate(folders):
        if night:
            rows[night] += " changed"
            rows.append(f"added in night {night}")
            del rows[10]
            rows.insert(0, rows.pop())
        before = len(engine.prompts)
        given = {"input": list(rows), "output": folder, "reuse_from": earlier, "deferrable": deferrable}
        counts = run_to_end(inference(**given)).result["counts"]
        expected = 2 if night else 25
        assert (len(engine.prompts) - before, counts["reused"]) == (expected, len(rows) - expected)
        assert [row["output"] for row in read_outputs(folder)] == list(map(text_for, rows))
        earlier = folder


def merged_runs(inference, tmp_path, **options):
    """Return the folder of the merged results of three runs, of which the last one may have other settings."""
    folder = tmp_path / "merged"
    results = [
        run_to_end(
            inference(input=texts, output=str(folder / str(number)), **(options if number == 2 else {}))
        )
        for number, texts in enumerate((TEXTS[:10], TEXTS[10:12], TEXTS[12:]))
    ]
    merge_shards([ended.result for ended in results], str(folder))
    return folder


@pytest.mark.parametrize("form", ["folder", "manifest"])
def test_merged_runs_are_an_earlier_run(engine, inference, folders, tmp_path, form):
    merged = merged_runs(inference, tmp_path)
    before, given = len(engine.prompts), [*reversed(TEXTS), "one more"]
    earlier = str(merged if form == "folder" else merged / SHARDS)
    ended = run_to_end(inference(input=given, output=folders[0], reuse_from=earlier))
    assert engine.prompts[before:] == ["one more"]
    assert ended.result["counts"]["reused"] == 25
    assert [row["output"] for row in read_outputs(folders[0])] == [text_for(text) for text in given]


def damage_settings(merged):
    """Leave a run as it is: it has other settings."""


def remove_run(merged):
    (merged / "2" / "manifest.json").unlink()


def remove_keys(merged):
    for keys in (merged / "2").glob("_keys-*"):
        keys.unlink()


@pytest.mark.parametrize(
    ("options", "damage"), [({"max_new_tokens": 7}, damage_settings), ({}, remove_run), ({}, remove_keys)]
)
def test_a_run_among_merged_ones_that_cannot_be_used_is_left_out(
    engine, inference, tmp_path, options, damage
):
    merged = merged_runs(inference, tmp_path, **options)
    damage(merged)
    before = len(engine.prompts)
    ended = run_to_end(inference(input=TEXTS, output=str(tmp_path / "out"), reuse_from=str(merged)))
    assert sorted(engine.prompts[before:]) == sorted(TEXTS[12:])
    assert ended.result["counts"]["reused"] == 12


@pytest.mark.parametrize("damage", [None, "missing", "cut", "swapped", "reversed", "no keys"])
def test_a_row_that_several_merged_runs_have_comes_from_one_where_it_succeeded(
    platform, engine, inference, tmp_path, damage
):
    merged, out = tmp_path / "merged", str(tmp_path / "out")
    results = []
    for number, failing in enumerate(("row 3 of", "row 12 of", "row 3 of")):
        platform.control.row_fault(failing, times=1)
        given = {"input": TEXTS, "output": str(merged / str(number)), "row_retries": 0, "max_failed_rows": 1}
        results.append(run_to_end(inference(**given)).result)
    merge_shards(results, str(merged))
    if damage is not None:
        DAMAGES[damage](merged / "0", "jsonl")
    before = len(engine.prompts)
    given = [TEXTS[3], *TEXTS, "one more"]
    ended = run_to_end(inference(input=given, output=out, reuse_from=str(merged)))
    assert engine.prompts[before:] == ["one more"]
    assert ended.result["counts"]["reused"] == 26
    assert [row["output"] for row in read_outputs(out)] == [text_for(text) for text in given]


def test_a_row_that_failed_in_all_merged_runs_is_sent(platform, engine, inference, folders, tmp_path):
    merged = tmp_path / "merged"
    platform.control.row_fault("row 3 of", times=2)
    results = [
        run_to_end(inference(input=TEXTS, output=str(merged / name), row_retries=0, max_failed_rows=1)).result
        for name in "ab"
    ]
    merge_shards(results, str(merged))
    before = len(engine.prompts)
    run_to_end(inference(input=TEXTS, output=folders[0], reuse_from=str(merged)))
    assert engine.prompts[before:] == [TEXTS[3]]


def test_a_damaged_list_of_merged_runs_is_said(engine, inference, folders, tmp_path):
    merged = merged_runs(inference, tmp_path)
    (merged / SHARDS).write_text('{"format": "')
    before = len(engine.prompts)
    with log_lines() as lines:
        run_to_end(inference(input=TEXTS, output=folders[0], reuse_from=str(merged)))
    assert any("Nothing can be reused: " in line and SHARDS in line for line in lines)
    assert len(engine.prompts) == before + 25


def test_a_full_disk_for_the_keys_is_named(monkeypatch, engine, inference, folders):
    first, second, _ = folders
    run_to_end(inference(input=TEXTS, output=first))
    connect = sqlite3.connect

    def connect_to_full_disk(*args, **options):
        database = connect(*args, **options)
        database.execute("PRAGMA max_page_count = 2")
        return database

    monkeypatch.setattr(sqlite3, "connect", connect_to_full_disk)
    before = len(engine.prompts)
    with pytest.raises(StorageError, match=r"keys for reuse_from do not fit.*disk is full.*set TMPDIR"):
        run_to_end(inference(input=TEXTS, output=second, reuse_from=first))
    assert len(engine.prompts) == before
    monkeypatch.setattr(sqlite3, "connect", connect)
    again = run_to_end(inference(input=TEXTS, output=second, reuse_from=first))
    assert again.result["counts"]["reused"] == 25
