"""A platform outside this package runs a training job and a row run, through crashes, with nothing added to the core."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from airflow_provider_lamini.results import read_outputs
from tests.support.tasks import Deferral, resume, run_to_end
from tests.support.toy_server import KEY, toy_server

pytestmark = pytest.mark.long

ROOT = Path(__file__).resolve().parents[1]
DISTRIBUTION = ROOT / "tests" / "toy_platform"


@pytest.fixture
def toy(monkeypatch):
    """The server, a connection to it, and the platform's distribution on the import path."""
    with toy_server() as server:
        monkeypatch.syspath_prepend(DISTRIBUTION)
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(DISTRIBUTION), str(ROOT)]))
        connection = {"conn_type": "toy", "host": server.url, "password": KEY}
        monkeypatch.setenv("AIRFLOW_CONN_TOY_DEFAULT", json.dumps(connection))
        yield server


def start(step, arguments):
    """Start a step of a task in a process of its own."""
    command = [sys.executable, "-m", "tests.support.toy_process", step, json.dumps(arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)


def result(process):
    """The last line that a step printed before it killed itself."""
    output, errors = process.communicate(timeout=60)
    assert output, errors
    return json.loads(output.splitlines()[-1])


def kill_when(process, condition):
    """Kill a process with SIGKILL as soon as a condition holds."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, process.poll() and process.communicate()
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.kill()
    process.communicate()


@pytest.mark.faults
def test_a_training_job_is_submitted_once_through_crashes_of_worker_and_triggerer(toy, tmp_path):
    arguments = {
        "task_id": "train",
        "recipe": "soup",
        "state_path": str(tmp_path),
        "deferrable": True,
        "poll_interval": 0.2,
        "timeout": 60,
    }
    step = {"operator": "ToyTrainOperator", **arguments}

    # The worker dies after the platform has accepted the job and before it has responded.
    toy.respond.clear()
    kill_when(start("execute", step), lambda: toy.runs)
    toy.respond.set()

    # The retry finds the job by its mark, defers, and dies.
    deferral = result(start("execute", step))
    assert deferral["trigger"]["kind"] == "toy/training"
    assert deferral["trigger"]["job_ids"] == ["runs-1"]

    # The triggerer dies while it polls; another one takes over. It imports nothing of any other platform.
    polls = toy.count("GET", "/runs/runs-1")
    kill_when(start("trigger", deferral), lambda: toy.count("GET", "/runs/runs-1") >= polls + 2)
    toy.finish()
    reported = result(start("trigger", deferral))
    assert reported["event"]["ended"]["runs-1"]["state"] == "succeeded"
    assert "toy_platform.platform" in reported["modules"]
    # Airflow itself reads the connection forms of all providers.
    assert {name for name in reported["modules"] if ".platforms.lamini." in name} <= {
        "airflow_provider_lamini.platforms.lamini.connection"
    }

    from toy_platform.operators import ToyTrainOperator

    returned = resume(lambda: ToyTrainOperator(**arguments), Deferral(**deferral), reported["event"])
    assert returned == {"run": "runs-1", "phase": "served"}
    assert toy.count("POST", "/runs") == 1
    assert {headers.get("x-toy-edition") for _, _, headers in toy.requests} == {"7"}
    assert not any("authorization" in headers for _, _, headers in toy.requests)


@pytest.mark.faults
def test_a_row_run_sends_no_row_twice_after_a_crash(toy, tmp_path):
    arguments = {
        "task_id": "bulk",
        "input": [f"row {number}" for number in range(25)],
        "output": str(tmp_path / "out"),
        "chunk_size": 10,
        "max_in_flight": 2,
        "deferrable": True,
        "poll_interval": 0.2,
        "timeout": 60,
    }
    deferral = result(start("execute", {"operator": "ToyBulkOperator", **arguments}))
    assert deferral["trigger"]["kind"] == "toy/batch"
    assert len(toy.bulks) == 2

    from toy_platform.operators import ToyBulkOperator

    ended = run_to_end(lambda: ToyBulkOperator(**arguments), while_deferred=lambda _: toy.finish())
    assert ended.deferrals
    assert ended.result["counts"]["rows"] == 25
    outputs = [row["output"] for row in read_outputs(str(tmp_path / "out"))]
    assert outputs == [f"ROW {number}" for number in range(25)]
    sent = [line for bulk in toy.bulks.values() for line in bulk["lines"]]
    assert sorted(sent) == sorted(arguments["input"])


def test_its_own_error_codes_are_understood(toy):
    from toy_platform import calls
    from toy_platform.operators import ToyHook

    from airflow_provider_lamini.api.errors import JobNotFoundError

    with ToyHook() as hook:
        toy.fail = [561]
        assert hook.send(calls.ping()) == {"kitchen": "open"}
        with pytest.raises(JobNotFoundError, match=r"460 \(no such order\): no runs 9"):
            hook.send(calls.run("9"))


def test_its_connection_is_tested_with_its_own_probe(toy):
    from toy_platform.operators import ToyHook

    assert ToyHook().test_connection() == (
        True,
        f"{toy.url} responds and accepts the key; kitchen: open.",
    )
