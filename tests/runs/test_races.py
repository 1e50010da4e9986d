"""Two live tries of one task at the same moment: nothing is paid for twice, wherever the output lies."""

from __future__ import annotations

import json

import pytest

from tests.support.races import batch_platform, race
from tests.support.racing_tasks import ROWS, infer, tune
from tests.support.tuning_platform import tuning  # noqa: F401 - a fixture


@pytest.fixture
def platform(monkeypatch):
    with batch_platform() as serving:
        fields = {"conn_type": "lamini", "host": serving.url, "password": "key", "extra": {"retry_budget": 5}}
        monkeypatch.setenv("AIRFLOW_CONN_LAMINI_DEFAULT", json.dumps(fields))
        yield serving


@pytest.fixture
def race_folder(monkeypatch, tmp_path):
    """Returns a function that says where the processes work: on which store."""
    return lambda store: monkeypatch.setenv("RACE_FOLDER", f"{store}{tmp_path}")


@pytest.mark.long
@pytest.mark.parametrize(
    ("where", "rounds", "processes"), [("", 60, 3), ("memory://", 40, 2)], ids=["local disk", "object store"]
)
def test_no_chunk_is_sent_twice_by_processes_that_race_for_a_folder(
    platform, race_folder, where, rounds, processes
):
    """On a local disk all of them come to the end; on an object store all but the last one stop."""
    race_folder(where)
    ended = race(infer, rounds, processes, timeout=240)
    well = f"{ROWS} ok"
    assert {each for one in ended for each in one} <= {well} | ({"taken over"} if where else set())
    assert all(well in one for one in ended)
    assert {prompt: times for prompt, times in platform.prompts.items() if times > 1} == {}
    assert len(platform.prompts) == rounds * ROWS


@pytest.mark.long
def test_processes_that_race_for_the_record_of_a_job_submit_one(tuning, race_folder):  # noqa: F811
    """One of them submits while the others wait for the lock; then they attach to its job."""
    race_folder("")
    tuning.datasets["given"] = [{"input": "q", "output": "a"}]
    tuning.script = [("CREATED", *["TRAINING MODEL"] * 1000)]
    ended = race(tune, 20, 3, timeout=120)
    assert [len(set(one)) for one in ended] == [1] * 20
    assert sorted({one[0] for one in ended}) == sorted(f"job {number}" for number in range(1, 21))
    assert len(tuning.jobs) == 20
