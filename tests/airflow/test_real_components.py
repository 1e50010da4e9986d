"""The demo's Dag under Airflow's real scheduler and triggerer, with one worker slot, on a local platform.

Between deferral and result things die: what a user keeps is every row once, and each job submitted once.
"""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest

from airflow_provider_lamini.results import read_shards
from tests.support import demo
from tests.support.airflow_stack import AirflowStack, Run, airflow_stack
from tests.support.demo import TASK_ID, Tickets
from tests.support.local_platform import LocalPlatform, wait_until
from tests.support.upstream import TEXT_MODEL

pytestmark = pytest.mark.slow

TENANT = "a-header-for-tests-4711"
PROBES = Path(__file__).parent / "dags" / "probes.py"
SHARDED = demo.EXAMPLES / "sharded_batch_inference.py"


@pytest.fixture
def platform(shared_platform: LocalPlatform):
    """The module's platform, on which every job stops after five rows until it is released or restarted."""
    shared_platform.control.reset()
    shared_platform.control.hold(after_rows=5)
    yield shared_platform
    shared_platform.control.release()


@pytest.fixture(scope="module")
def airflow(unused_airflow_db, shared_platform: LocalPlatform, tmp_path_factory):
    connection = {
        "conn_type": "lamini",
        "host": shared_platform.url,
        "password": shared_platform.key,
        "extra": {"headers": {"X-Tenant-Auth": f"Basic {TENANT}"}},
    }
    env = {"AIRFLOW_CONN_LAMINI_DEFAULT": json.dumps(connection)}
    home = tmp_path_factory.mktemp("stack") / "airflow"
    with airflow_stack(
        home, [demo.DAG_FILE, SHARDED, PROBES], env, database=unused_airflow_db, parallelism=1
    ) as stack:
        yield stack


def start_demo(airflow: AirflowStack, platform: LocalPlatform, tickets: Tickets) -> Run:
    """Start the Dag; returns when its task is deferred, its jobs are submitted and work on them has begun."""
    conf = {"input": str(tickets.file), "output": str(tickets.output), "model": TEXT_MODEL}
    run = airflow.trigger_dag(demo.DAG_ID, conf)
    airflow.wait_task(run, TASK_ID, "deferred")
    assert len(platform.control.jobs()) == demo.CHUNKS
    wait_until(lambda: any(job["done"] == 5 for job in platform.control.jobs()))
    return run


def assert_done_at_the_first_try(
    airflow: AirflowStack, platform: LocalPlatform, run: Run, tickets: Tickets
) -> None:
    """Every row is there once, no try was lost, and no job was submitted twice."""
    assert airflow.wait_run(run) == "success"
    demo.assert_every_row_once(airflow.xcom(run, TASK_ID), tickets)
    assert 0 <= airflow.xcom(run, "share_that_agrees") <= 1
    assert sum(task["try_number"] - 1 for task in airflow.task_instances(run)) == airflow.tries_given_up(run)
    assert len(platform.control.jobs()) == demo.CHUNKS


def test_the_only_worker_slot_is_free_while_the_demo_waits(
    airflow: AirflowStack, platform: LocalPlatform, tickets: Tickets
):
    """Another Dag runs from start to end on the one slot while the demo's task is deferred."""
    run = start_demo(airflow, platform, tickets)

    other = airflow.trigger_dag("probe_works")
    assert airflow.wait_run(other) == "success"
    assert airflow.run_state(run) == "running"
    assert airflow.states_seen(run, TASK_ID)[-1] == "deferred"

    platform.control.release()
    assert_done_at_the_first_try(airflow, platform, run, tickets)


def test_a_platform_that_is_killed_and_started_again_costs_no_row(
    airflow: AirflowStack, platform: LocalPlatform, tickets: Tickets
):
    """The platform is away for longer than a poll, then resumes its jobs; the task waits on."""
    run = start_demo(airflow, platform, tickets)

    platform.kill()
    time.sleep(1.5 * demo.POLL_SECONDS)
    assert airflow.run_state(run) == "running"
    platform.restart()

    assert_done_at_the_first_try(airflow, platform, run, tickets)


def test_a_triggerer_that_is_killed_leaves_the_waiting_to_the_next(
    airflow: AirflowStack, platform: LocalPlatform, tickets: Tickets
):
    run = start_demo(airflow, platform, tickets)

    airflow.stop("triggerer", signal.SIGKILL)
    platform.control.release()
    airflow.start("triggerer")

    assert_done_at_the_first_try(airflow, platform, run, tickets)


def test_four_shards_wait_at_once_on_one_worker_slot_and_are_merged(
    airflow: AirflowStack, platform: LocalPlatform, tmp_path: Path
):
    platform.control.hold()
    folder = demo.EXAMPLES / "data" / "tickets_by_product"
    conf = {"input": str(folder), "output": str(tmp_path), "model": TEXT_MODEL}
    run = airflow.trigger_dag("sharded_batch_inference", conf)

    def deferred() -> int:
        return sum(task["state"] == "deferred" for task in airflow.task_instances(run))

    wait_until(lambda: deferred() == 4, timeout=90)
    platform.control.release()
    assert airflow.wait_run(run) == "success"
    rows = list(read_shards(str(tmp_path / run.run_id)))
    assert [row["index"] for row in rows] == list(range(60))
    assert [row["error"] for row in rows] == [None] * 60
    assert len(platform.control.jobs()) == 12


def test_neither_the_database_nor_a_log_holds_a_secret_or_a_row(
    airflow: AirflowStack, platform: LocalPlatform, tickets: Tickets
):
    """After a run that went well and one whose task has failed."""
    run = start_demo(airflow, platform, tickets)
    platform.control.release()
    assert_done_at_the_first_try(airflow, platform, run, tickets)
    conf = {"input": str(tickets.file), "output": str(tickets.output), "model": "test/nothing"}
    failing = airflow.trigger_dag(demo.DAG_ID, conf)
    airflow.wait_task(failing, TASK_ID, "up_for_retry")

    files = [*airflow.home.glob("airflow.db*"), *airflow.home.rglob("*.log")]
    left = {file: file.read_bytes() for file in files}
    assert any(b"no such model" in content for content in left.values())
    words = [platform.key, TENANT, *tickets.texts]
    assert [(file, word) for word in words for file in files if word.encode() in left[file]] == []
