"""Two live tries of one task at the same moment: no job is submitted twice, wherever the output is stored."""

from __future__ import annotations

import json

import pytest

from tests.support.races import ROWS, batch_platform, infer, race, tune
from tests.support.tuning_platform import tuning  # noqa: F401 - a fixture

pytestmark = [pytest.mark.long, pytest.mark.faults]

ROUNDS = 12


@pytest.fixture
def platform(monkeypatch):
    with batch_platform() as platform:
        fields = {
            "conn_type": "lamini",
            "host": platform.url,
            "password": "key",
            "extra": {"retry_budget": 5},
        }
        monkeypatch.setenv("AIRFLOW_CONN_LAMINI_DEFAULT", json.dumps(fields))
        yield platform


@pytest.mark.parametrize(
    ("store", "processes"), [("", 3), ("memory://", 2)], ids=["local disk", "object store"]
)
def test_processes_that_race_for_a_folder_submit_no_chunk_twice(
    platform, monkeypatch, tmp_path, store, processes
):
    """On a local disk all processes complete the run; on an object store all but the last one stop."""
    monkeypatch.setenv("RACE_FOLDER", f"{store}{tmp_path}")
    by_round = race(infer, ROUNDS, processes, timeout=240)
    complete = f"{ROWS} ok"
    assert {result for results in by_round for result in results} <= {complete} | (
        {"taken over"} if store else set()
    )
    assert all(complete in results for results in by_round)
    assert {prompt: times for prompt, times in platform.prompts.items() if times > 1} == {}
    assert len(platform.prompts) == ROUNDS * ROWS


def test_processes_that_race_for_the_record_of_a_job_submit_one(tuning, monkeypatch, tmp_path):  # noqa: F811
    """One process submits while the others wait for the lock; then they attach to its job."""
    monkeypatch.setenv("RACE_FOLDER", str(tmp_path))
    tuning.datasets["given"] = [{"input": "q", "output": "a"}]
    tuning.script = [("CREATED", *["TRAINING MODEL"] * 1000)]
    by_round = race(tune, ROUNDS, 3, timeout=120)
    assert [len(set(results)) for results in by_round] == [1] * ROUNDS
    assert sorted({results[0] for results in by_round}) == sorted(
        f"job {number}" for number in range(1, ROUNDS + 1)
    )
    assert len(tuning.jobs) == ROUNDS
