"""The harness that the other tests of this folder stand on, held against Dags that need nothing of ours."""

from __future__ import annotations

import signal
from pathlib import Path

import psutil
import pytest

from tests.support.airflow_stack import COMPONENTS, AirflowStack, airflow_stack

pytestmark = pytest.mark.slow

PROBES = Path(__file__).parent / "dags" / "probes.py"


@pytest.fixture(scope="module")
def airflow(unused_airflow_db, tmp_path_factory):
    home = tmp_path_factory.mktemp("stack") / "airflow"
    env = {"AIRFLOW_CONN_FS_DEFAULT": "fs://"}
    with airflow_stack(home, [PROBES], env, database=unused_airflow_db, parallelism=1) as stack:
        yield stack


def test_a_deferred_task_leaves_the_only_slot_to_others(airflow: AirflowStack, tmp_path):
    """The stack has one slot; a second Dag ends while the first one's task is deferred."""
    file = tmp_path / "here"
    waiting = airflow.trigger_dag("probe_waits", {"file": str(file)})
    airflow.wait_task(waiting, "wait", "deferred")

    working = airflow.trigger_dag("probe_works")
    assert airflow.wait_run(working) == "success"
    assert airflow.xcom(working, "work") == "done"
    assert airflow.run_state(waiting) == "running"

    file.touch()
    assert airflow.wait_run(waiting) == "success"
    assert airflow.states_seen(waiting, "wait")[-1] == "success"


def test_a_trigger_goes_on_in_the_next_triggerer_after_a_crash(airflow: AirflowStack, tmp_path):
    file = tmp_path / "here"
    run = airflow.trigger_dag("probe_waits", {"file": str(file)})
    airflow.wait_task(run, "wait", "deferred")

    airflow.stop("triggerer", signal.SIGKILL)
    file.touch()
    airflow.start("triggerer")

    assert airflow.wait_run(run) == "success"
    assert [task["try_number"] for task in airflow.task_instances(run)] == [1 + airflow.tries_given_up(run)]


def test_waiting_for_a_state_that_cannot_come_any_more_fails_at_once(airflow: AirflowStack):
    run = airflow.trigger_dag("probe_works")
    assert airflow.wait_run(run) == "success"
    with pytest.raises(AssertionError, match="never was seen deferred"):
        airflow.wait_task(run, "work", "deferred")


def test_nothing_that_the_stack_started_outlives_it(unused_airflow_db, tmp_path):
    with airflow_stack(tmp_path / "airflow", [PROBES], database=unused_airflow_db, parallelism=1) as stack:
        started = [psutil.Process(stack.processes[name].pid) for name in COMPONENTS]
        started += [child for process in started for child in process.children(recursive=True)]
        assert len(started) > len(COMPONENTS)
    assert [process for process in started if process.is_running()] == []
