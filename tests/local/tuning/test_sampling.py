"""Tests for sampling the rows that a tuning job trains on."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from airflow_provider_lamini.local.datasets.repository import StoredDataset
from airflow_provider_lamini.local.jobs.runner import JobFailed
from airflow_provider_lamini.local.tuning.sampling import CHECK_EVERY, sample_rows

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def make_dataset(tmp_path: Path) -> Callable[[int], StoredDataset]:
    """Return a function that creates a dataset with a number of rows."""

    def create(rows: int) -> StoredDataset:
        path = tmp_path / "dataset.jsonl"
        lines = (
            json.dumps({"input": f"q{number}", "output": f"a{number}", "id": number})
            for number in range(rows)
        )
        path.write_text("\n".join(lines))
        return StoredDataset("d", "local", rows, is_public=False, created=0.0, path=path)

    return create


def no_check() -> None:
    """Let the job continue."""


def sampled(target: Path) -> list[int]:
    rows = [json.loads(line) for line in target.read_text().splitlines()]
    assert all(row == {"input": row["input"], "output": f"a{row['input'][1:]}"} for row in rows)
    return [int(row["input"][1:]) for row in rows]


def test_a_small_dataset_is_copied_in_order_without_other_columns(make_dataset, tmp_path):
    target = tmp_path / "rows.jsonl"
    assert sample_rows(make_dataset(30), target, 30, 1, no_check) == 30
    assert sampled(target) == list(range(30))


def test_a_large_dataset_is_sampled_at_random_with_a_seed(make_dataset, tmp_path):
    dataset, samples = make_dataset(1000), []
    for number, seed in enumerate((1, 1, 2)):
        target = tmp_path / f"{number}.jsonl"
        assert sample_rows(dataset, target, 50, seed, no_check) == 50
        samples.append(sampled(target))
    assert samples[0] == samples[1] != samples[2]
    assert samples[0] == sorted(set(samples[0]))
    assert max(samples[0]) > 700  # not just the first ones
    assert min(samples[0]) < 300


def test_rows_that_are_not_sampled_are_validated(make_dataset, tmp_path):
    dataset = make_dataset(100)
    with dataset.path.open("a") as file:
        file.write('\n{"input": "no output"}\n')
    with pytest.raises(JobFailed, match=r"Row 100 of dataset d \(counted from 0\) has no string 'output'\."):
        sample_rows(dataset, tmp_path / "rows.jsonl", 5, 1, no_check)


def test_an_empty_or_missing_dataset_fails_the_job(make_dataset, tmp_path):
    dataset = make_dataset(0)
    with pytest.raises(JobFailed, match="has no rows"):
        sample_rows(dataset, tmp_path / "rows.jsonl", 5, 1, no_check)
    dataset.path.unlink()
    with pytest.raises(JobFailed, match="nothing was uploaded"):
        sample_rows(dataset, tmp_path / "rows.jsonl", 5, 1, no_check)


def test_a_stopped_job_leaves_no_partial_file(make_dataset, tmp_path):
    class Stopped(Exception):  # noqa: N818 - the test raises it
        pass

    calls = []

    def check() -> None:
        calls.append(1)
        if len(calls) == 2:
            raise Stopped

    with pytest.raises(Stopped):
        sample_rows(make_dataset(CHECK_EVERY + 1), tmp_path / "rows.jsonl", 5, 1, check)
    assert not (tmp_path / "rows.jsonl").exists()
