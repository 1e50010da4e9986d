"""The example Dags under Airflow's real scheduler and triggerer, with one worker slot."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from airflow_provider_lamini.results import read_shards
from tests.support import demo
from tests.support.upstream import TEXT_MODEL

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.airflow_stack import AirflowStack
    from tests.support.local_platform import LocalPlatform


def test_four_deferred_shards_leave_the_only_worker_slot_to_another_dag(
    airflow: AirflowStack, platform: LocalPlatform, tmp_path: Path
):
    platform.control.hold()
    folder = demo.EXAMPLES / "data" / "tickets_by_product"
    conf = {"input": str(folder), "output": str(tmp_path), "model": TEXT_MODEL}
    run = airflow.trigger_dag("sharded_batch_inference", conf)

    def deferred() -> int:
        return sum(task["state"] == "deferred" for task in airflow.task_instances(run))

    airflow.until("four deferred shards", 90, lambda: deferred() == 4)
    other = airflow.trigger_dag("quick")
    assert airflow.wait_run(other) == "success"
    assert airflow.xcom(other, "work") == "done"
    assert airflow.run_state(run) == "running"
    assert deferred() == 4

    platform.control.release()
    assert airflow.wait_run(run) == "success"
    rows = list(read_shards(str(tmp_path / run.run_id)))
    assert [row["index"] for row in rows] == list(range(60))
    assert [row["error"] for row in rows] == [None] * 60
    assert len(platform.control.jobs()) == 12


def test_neither_the_database_nor_a_log_contains_a_secret_or_a_row(
    airflow: AirflowStack, platform: LocalPlatform, tmp_path: Path
):
    """Checked after a run that succeeded and one whose task failed."""
    tickets = demo.first_tickets(tmp_path)
    conf = {"input": str(tickets.file), "output": str(tickets.output), "model": TEXT_MODEL}
    run = airflow.trigger_dag(demo.DAG_ID, conf)
    failing = airflow.trigger_dag(demo.DAG_ID, {**conf, "model": "test/nothing"})
    assert airflow.wait_run(run) == "success"
    demo.assert_every_row_once(airflow.xcom(run, demo.TASK_ID), tickets)
    assert 0 <= airflow.xcom(run, "share_that_agrees") <= 1
    assert "deferred" in airflow.states_seen(run, demo.TASK_ID)
    assert airflow.failed_tries(run) <= airflow.abandoned_tries(run)
    assert len(platform.control.jobs()) == demo.CHUNKS
    airflow.wait_task(failing, demo.TASK_ID, "failed")

    files = [*airflow.home.glob("airflow.db*"), *airflow.home.rglob("*.log")]
    contents = {file: file.read_bytes() for file in files}
    assert any(b"no such model" in content for content in contents.values())
    connection = json.loads(airflow.env["AIRFLOW_CONN_LAMINI_DEFAULT"])
    header = connection["extra"]["headers"]["X-Tenant-Auth"].removeprefix("Basic ")
    words = [platform.key, header, *tickets.texts]
    assert [(file, word) for word in words for file in files if word.encode() in contents[file]] == []
