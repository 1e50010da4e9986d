"""A platform outside this package runs a training job and a row run, through crashes, with nothing added to the core."""

from __future__ import annotations

import json
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from airflow_provider_lamini.results import read_outputs
from tests.support.forks import Fork, warm_python
from tests.support.tasks import Deferral, resume, run_to_end
from tests.support.toy_server import KEY, toy_server

pytestmark = pytest.mark.long

ROOT = Path(__file__).resolve().parents[1]
DISTRIBUTION = ROOT / "tests" / "toy_platform"
STEP = """
import json, os, sys
sys.path[:0] = os.environ["PYTHONPATH"].split(os.pathsep)
from tests.support.toy_process import main
main(sys.argv[1], json.loads(sys.argv[2]))
"""


@pytest.fixture
def toy(monkeypatch):
    """The server, a connection to it, and the platform's distribution on the import path."""
    with toy_server() as server:
        monkeypatch.syspath_prepend(DISTRIBUTION)
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(DISTRIBUTION), str(ROOT)]))
        connection = {"conn_type": "toy", "host": server.url, "password": KEY}
        monkeypatch.setenv("AIRFLOW_CONN_TOY_DEFAULT", json.dumps(connection))
        yield server


@pytest.fixture(scope="module")
def python():
    """A process that has imported Airflow, and forks itself for each step of a task."""
    with warm_python(
        "import httpx, tests.support.tasks; from airflow.providers.common.compat.sdk import BaseOperator"
    ) as warm:
        yield warm


@dataclass
class Step:
    """A step of a task that runs in a process of its own.

    :param process: the process
    :param output: the file with its stdout
    :param errors: the file with its stderr
    """

    process: Fork
    output: Path
    errors: Path

    def result(self):
        """The last line that it printed before it killed itself."""
        assert self.process.wait(60) == -signal.SIGKILL, self.errors.read_text()
        return json.loads(self.output.read_text().splitlines()[-1])

    def kill_when(self, condition):
        """Kill it with SIGKILL as soon as a condition holds."""
        deadline = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < deadline, self.errors.read_text()
            assert self.process.poll() is None, self.errors.read_text()
            time.sleep(0.02)
        self.process.kill()
        assert self.process.wait(60) == -signal.SIGKILL


@pytest.fixture
def start(python, toy, tmp_path_factory):  # noqa: ARG001 - the steps need its environment
    """Returns a function that starts a step."""

    def in_a_process(step, arguments):
        folder = tmp_path_factory.mktemp(step)
        output, errors = folder / "stdout", folder / "stderr"
        output.touch()
        errors.touch()
        process = python.start(STEP, step, json.dumps(arguments), stdout=str(output), stderr=str(errors))
        return Step(process, output, errors)

    return in_a_process


@pytest.mark.faults
def test_a_training_job_is_submitted_once_through_crashes_of_worker_and_triggerer(toy, start, tmp_path):
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
    start("execute", step).kill_when(lambda: toy.runs)
    toy.respond.set()

    # The retry finds the job by its mark, defers, and dies.
    deferral = start("execute", step).result()
    assert deferral["trigger"]["kind"] == "toy/training"
    assert deferral["trigger"]["job_ids"] == ["runs-1"]

    # The triggerer dies while it polls; another one takes over. It imports nothing of any other platform.
    polls = toy.count("GET", "/runs/runs-1")
    start("trigger", deferral).kill_when(lambda: toy.count("GET", "/runs/runs-1") >= polls + 2)
    toy.finish()
    reported = start("trigger", deferral).result()
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
def test_a_row_run_sends_no_row_twice_after_a_crash(toy, start, tmp_path):
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
    deferral = start("execute", {"operator": "ToyBulkOperator", **arguments}).result()
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
