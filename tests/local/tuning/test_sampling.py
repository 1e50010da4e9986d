"""The rows that a tuning job learns from."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from airflow_provider_lamini.local.datasets.shelf import Dataset
from airflow_provider_lamini.local.jobs.runner import JobFailed
from airflow_provider_lamini.local.tuning.sampling import CHECK_EVERY, take_rows

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def make(tmp_path: Path) -> Callable[[int], Dataset]:
    """Returns a function that makes a dataset of so many rows."""

    def make(rows: int) -> Dataset:
        path = tmp_path / "dataset.jsonl"
        lines = (
            json.dumps({"input": f"q{number}", "output": f"a{number}", "id": number})
            for number in range(rows)
        )
        path.write_text("\n".join(lines))
        return Dataset("d", "local", rows, is_public=False, created=0.0, path=path)

    return make


def nothing() -> None:
    """The job may go on."""


def taken(target: Path) -> list[int]:
    rows = [json.loads(line) for line in target.read_text().splitlines()]
    assert all(row == {"input": row["input"], "output": f"a{row['input'][1:]}"} for row in rows)
    return [int(row["input"][1:]) for row in rows]


def test_a_small_dataset_is_taken_whole_in_its_order_without_other_columns(make, tmp_path):
    target = tmp_path / "rows.jsonl"
    assert take_rows(make(30), target, 30, 1, nothing) == 30
    assert taken(target) == list(range(30))


def test_of_a_larger_one_a_random_part_is_taken_that_the_seed_decides(make, tmp_path):
    dataset, parts = make(1000), []
    for number, seed in enumerate((1, 1, 2)):
        target = tmp_path / f"{number}.jsonl"
        assert take_rows(dataset, target, 50, seed, nothing) == 50
        parts.append(taken(target))
    assert parts[0] == parts[1] != parts[2]
    assert parts[0] == sorted(set(parts[0]))
    assert max(parts[0]) > 700  # not just the first ones
    assert min(parts[0]) < 300


def test_rows_that_are_not_taken_are_checked_too(make, tmp_path):
    dataset = make(100)
    with dataset.path.open("a") as file:
        file.write('\n{"input": "no output"}\n')
    with pytest.raises(JobFailed, match=r"Row 100 of dataset d \(from 0\) has no text 'output'\."):
        take_rows(dataset, tmp_path / "rows.jsonl", 5, 1, nothing)


def test_an_empty_dataset_and_one_that_is_gone_are_told(make, tmp_path):
    dataset = make(0)
    with pytest.raises(JobFailed, match="has no rows"):
        take_rows(dataset, tmp_path / "rows.jsonl", 5, 1, nothing)
    dataset.path.unlink()
    with pytest.raises(JobFailed, match="nothing was uploaded"):
        take_rows(dataset, tmp_path / "rows.jsonl", 5, 1, nothing)


def test_a_job_that_must_end_leaves_no_half_file(make, tmp_path):
    class Told(Exception):  # noqa: N818 - the test raises it
        pass

    calls = []

    def check() -> None:
        calls.append(1)
        if len(calls) == 2:
            raise Told

    with pytest.raises(Told):
        take_rows(make(CHECK_EVERY + 1), tmp_path / "rows.jsonl", 5, 1, check)
    assert not (tmp_path / "rows.jsonl").exists()
