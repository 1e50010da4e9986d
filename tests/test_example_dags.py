"""The example Dags, parsed and run by Airflow itself, on every supported version of Airflow."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from airflow_provider_lamini.results import read_outputs
from tests.support import demo, scripted_tuning
from tests.support.emissary_api import EmissaryClient
from tests.support.platforms import engine, shared_platform  # noqa: F401 - fixtures
from tests.support.upstream import TEXT_MODEL

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.local_platform import LocalPlatform
    from tests.support.scripted_tuning import TunablePlatform

pytestmark = [pytest.mark.dags, pytest.mark.usefixtures("airflow_db")]

PARSE = """
import pathlib, runpy, sys
for file in sorted(pathlib.Path(sys.argv[1]).glob("*.py")):
    print(file.name, flush=True)
    for name, value in runpy.run_path(str(file)).items():
        if type(value).__name__.startswith("Lamini"):
            assert value.retries, f"{name} has no retries"
"""


def run(*arguments: str, fails: bool = False, **env: str) -> str:
    """Run Python with the example Dags as Dags folder; return stdout and stderr.

    :param arguments: Python's arguments
    :param fails: whether the process must fail instead of succeed
    :param env: more environment variables
    """
    process = subprocess.Popen(
        [sys.executable, *arguments],
        env={**os.environ, "AIRFLOW__CORE__DAGS_FOLDER": str(demo.EXAMPLES), **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    timeout = threading.Timer(150, process.kill)
    timeout.start()
    output = []
    with process:
        for line in process.stdout:
            output.append(line)
            if (
                "up_for_retry" in line.lower()
            ):  # the retry is minutes away, and the error is already in the output
                process.kill()
    timeout.cancel()
    assert (process.returncode != 0) is fails, "".join(output)
    return "".join(output)


def test_all_examples_can_be_parsed():
    assert run("-c", PARSE, str(demo.EXAMPLES)).count(".py\n") == len(list(demo.EXAMPLES.glob("*.py"))) > 5


def test_the_demo_runs_with_deferral(
    shared_platform: LocalPlatform,  # noqa: F811
    tmp_path: Path,
    airflow_db: Path,
):
    tickets = demo.first_tickets(tmp_path)
    connection = {"conn_type": "lamini", "host": shared_platform.url, "password": shared_platform.key}
    conf = {"input": str(tickets.file), "output": str(tickets.output), "model": TEXT_MODEL}

    output = run(
        *("-m", "airflow", "dags", "test", demo.DAG_ID, "--conf", json.dumps(conf)),
        AIRFLOW_CONN_LAMINI_DEFAULT=json.dumps(connection),
    )

    assert "deferr" in output.lower()
    assert shared_platform.key not in output
    database = b"".join(file.read_bytes() for file in airflow_db.parent.glob("airflow.db*"))
    assert demo.DAG_ID.encode() in database
    assert not [text for text in (shared_platform.key, *tickets.texts) if text.encode() in database]
    (manifest,) = tickets.output.glob("*/manifest.json")
    demo.assert_every_row_once(json.loads(manifest.read_text()), tickets)
    assert len(shared_platform.control.jobs()) == demo.CHUNKS


# -- tuning: a platform whose trainer learns rows by heart


@pytest.fixture(scope="module")
def tunable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TunablePlatform]:
    trainer = scripted_tuning.ScriptedTrainer()
    folder = tmp_path_factory.mktemp("tunable")
    with scripted_tuning.tunable_platform(folder / "platform", trainer) as running:
        yield running


@pytest.fixture
def client(tunable: TunablePlatform) -> Iterator[EmissaryClient]:
    tunable.http.post("/_control/reset").raise_for_status()
    with EmissaryClient(tunable.url, scripted_tuning.KEY) as connected:
        yield connected


@pytest.fixture
def tickets(tmp_path: Path) -> Path:
    """A folder with ten tickets to train on, which are also those to answer: the trainer knows no others."""
    with (demo.EXAMPLES / "data" / "tickets_examples.jsonl").open(encoding="utf-8") as lines:
        rows = "".join(itertools.islice(lines, 10))
    for name in ("tickets_examples", "tickets_held_out"):
        (tmp_path / f"{name}.jsonl").write_text(rows, encoding="utf-8")
    return tmp_path


def run_dag(platform: TunablePlatform, dag_id: str, *, fails: bool = False, **conf: object) -> str:
    """Run a Dag, with connections to the platform, and return its log."""
    connection = {"host": platform.url, "password": scripted_tuning.KEY, "extra": {"retry_budget": 2}}
    emissary = {**connection, "host": f"{platform.url}/emissary", "conn_type": "emissary"}
    return run(
        *("-m", "airflow", "dags", "test", dag_id, "--conf", json.dumps(conf)),
        fails=fails,
        AIRFLOW_CONN_LAMINI_DEFAULT=json.dumps({**connection, "conn_type": "lamini"}),
        AIRFLOW_CONN_EMISSARY_DEFAULT=json.dumps(emissary),
    )


def tuning_conf(tickets: Path) -> dict[str, object]:
    return {"data": str(tickets), "output": str(tickets / "output"), "project": "tickets"}


def deployments(client: EmissaryClient) -> list[dict[str, object]]:
    (project,) = client.get("/projects").json()
    found: list[dict[str, object]] = client.get(f"/projects/{project['id']}/deployments").json()
    return found


def test_emissary_fine_tuning_answers_with_the_best_checkpoint_and_removes_it(tunable, client, tickets):
    conf = tuning_conf(tickets) | {"model": scripted_tuning.BASE, "threshold": 0}
    run_dag(tunable, "emissary_fine_tuning", **conf)
    (output,) = (tickets / "output").glob("*/answers")
    rows = list(read_outputs(str(output)))
    right = [row["output"] == row["category"] for row in rows]
    assert (len(rows), sum(right)) == (10, 8)  # two rows were held out to test the checkpoints
    assert deployments(client) == []


def test_emissary_fine_tuning_removes_the_deployment_after_a_failure(tunable, client, tickets):
    (tickets / "tickets_held_out.jsonl").write_text('{"unknown": "column"}\n')
    conf = tuning_conf(tickets) | {"model": scripted_tuning.BASE, "threshold": 0}
    log = run_dag(tunable, "emissary_fine_tuning", fails=True, **conf)
    assert "no column" in log
    assert deployments(client) == []


def test_tuning_on_two_platforms_promotes_the_better_model(tunable, client, tickets):
    models = dict.fromkeys(("lamini_model", "emissary_model"), scripted_tuning.BASE)
    conf = tuning_conf(tickets) | models
    log = run_dag(tunable, "tuning_on_two_platforms", **conf, max_steps=4)
    assert "promoting lamini" in log
    assert deployments(client) == []
