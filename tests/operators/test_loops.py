"""Every operator and TaskFlow decorator in a task-group loop of Airflow 3.4: each iteration does its own work."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from airflow.providers.common.compat.sdk import task_group

from airflow_provider_lamini.get_provider_info import get_provider_info
from tests.bad_input.conftest import emissary_stub, stub, world  # noqa: F401 - fixtures
from tests.support.databases import sqlite

pytestmark = [
    pytest.mark.dags,
    pytest.mark.usefixtures("airflow_db"),
    pytest.mark.skipif(not hasattr(task_group(lambda: None), "loop"), reason="loops came with Airflow 3.4"),
]

FILE = Path(__file__).with_name("loop_dags.py")


@pytest.mark.parametrize("family", ["lamini", "emissary", "decorated"])
def test_each_iteration_of_a_loop_submits_its_own_work(load_dags, world, family, tmp_path, monkeypatch):  # noqa: F811
    def work_of(iterations):
        """The requests that start or make something, with a folder for each run."""
        world.reset()
        folder = tmp_path / str(iterations)
        (folder / "docs").mkdir(parents=True)
        (folder / "docs" / "page.md").write_text("A page about spam.\n")
        monkeypatch.setenv("LOOP_FOLDER", str(folder))
        monkeypatch.setenv("AIRFLOW__LAMINI__STATE_PATH", str(folder / "state"))
        ended = load_dags(FILE)[f"loop_{family}_{iterations}"].test()
        states = {(ti.task_id, ti.region_index): str(ti.state) for ti in ended.get_task_instances()}
        assert set(states.values()) == {"success"}, states
        return Counter(
            {
                request: count
                for request, count in world.work.items()
                if request.startswith("POST") and not request.endswith("/deactivate")  # parked once is enough
            }
        )

    once, twice = work_of(1), work_of(2)
    assert once
    assert twice == once + once


def test_a_function_in_a_loop_is_called_in_each_iteration(load_dags, world, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setenv("LOOP_FOLDER", str(tmp_path))
    world.reset()
    dags = load_dags(FILE)
    assert set(dags["DECORATORS"]) == {each["name"] for each in get_provider_info()["task-decorators"]}
    dags["loop_decorated_2"].test()
    sent = str([platform.bodies for platform in (world.platform, world.emissary)])
    for iteration in range(2):
        assert sent.count(f"text of iteration {iteration}") == len(dags["DECORATORS"])


def test_each_iteration_of_a_loop_loads_its_own_table(load_dags, tmp_path, monkeypatch):
    pytest.importorskip("airflow.providers.sqlite")
    database = sqlite(tmp_path)
    database.run(*(f"CREATE TABLE answers_{number} (id INTEGER, answer TEXT)" for number in range(2)))
    database.connect(monkeypatch)
    monkeypatch.setenv("LOOP_FOLDER", str(tmp_path))
    ended = load_dags(FILE)["loop_table_2"].test()
    assert {str(ti.state) for ti in ended.get_task_instances()} == {"success"}
    loaded = [database.rows(f"SELECT id, answer FROM answers_{number}") for number in range(2)]
    assert loaded == [[(7, "fine"), (8, None)]] * 2


def test_only_a_task_in_a_loop_is_known_by_its_region(load_dags, world, tmp_path, monkeypatch):  # noqa: F811
    """A mapped task outside loops is known by its map index, as it was before Airflow had regions."""
    monkeypatch.setenv("LOOP_FOLDER", str(tmp_path))
    ended = load_dags(FILE)["loop_mapped"].test()
    assert {str(ti.state) for ti in ended.get_task_instances()} == {"success"}

    def owner(folder):
        owner = json.loads((tmp_path / folder / "_ledger.json").read_text())["header"]["owner"]
        assert owner.pop("run") == ended.run_id
        return owner

    outside = [owner(f"outside-{number}") for number in range(2)]
    assert outside == [{"dag": "loop_mapped", "task": "outside", "map_index": number} for number in range(2)]
    inside = [owner(f"inside-{iteration}-{number}") for iteration in range(2) for number in range(2)]
    assert [own["region_index"] for own in inside] == [0, 1, 0, 1]
    assert len({own["region_id"] for own in inside}) == 2
    assert world.work["POST /v1/batch_completions"] == 6
