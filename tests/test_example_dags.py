"""The example Dags, parsed and run by Airflow itself, on every supported version of Airflow."""

from __future__ import annotations

import itertools
import json
import os
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from airflow_provider_lamini.results import read_outputs
from tests.operators.conftest import load_dags  # noqa: F401 - a fixture
from tests.support import demo, scripted_tuning
from tests.support.emissary_api import EmissaryClient
from tests.support.local_platform import wait_until
from tests.support.platforms import engine, shared_platform  # noqa: F401 - fixtures
from tests.support.upstream import TEXT_MODEL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.local_platform import LocalPlatform
    from tests.support.scripted_tuning import TunablePlatform

pytestmark = [pytest.mark.dags, pytest.mark.usefixtures("airflow_db")]

HAS_APPROVAL = find_spec("airflow.sdk") is not None and find_spec("airflow.providers.standard") is not None

PARSE = """
import pathlib, runpy, sys
for file in sorted(pathlib.Path(sys.argv[1]).glob("*.py")):
    print(file.name, flush=True)
    runpy.run_path(str(file))
"""


def run(*arguments: str, **env: str) -> str:
    """Run Python with the example Dags as Dags folder; return stdout and stderr.

    :param arguments: Python's arguments
    :param env: more environment variables
    """
    process = subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "AIRFLOW__CORE__DAGS_FOLDER": str(demo.EXAMPLES), **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=150,
        check=False,
    )
    assert process.returncode == 0, process.stdout
    return process.stdout


def test_all_examples_can_be_parsed():
    assert run("-c", PARSE, str(demo.EXAMPLES)).count(".py\n") == len(list(demo.EXAMPLES.glob("*.py"))) > 5


@pytest.fixture
def connected_platform(shared_platform: LocalPlatform, monkeypatch: pytest.MonkeyPatch) -> LocalPlatform:  # noqa: F811
    """The session's platform. ``lamini_default`` points to it."""
    connection = {"conn_type": "lamini", "host": shared_platform.url, "password": shared_platform.key}
    monkeypatch.setenv("AIRFLOW_CONN_LAMINI_DEFAULT", json.dumps(connection))
    return shared_platform


def test_the_demo_runs_with_deferral(
    connected_platform: LocalPlatform,
    load_dags: Callable[[Path], dict[str, Any]],  # noqa: F811
    tmp_path: Path,
    airflow_db: Path,
    capsys: pytest.CaptureFixture[str],
):
    tickets = demo.first_tickets(tmp_path)
    conf = {"input": str(tickets.file), "output": str(tickets.output), "model": TEXT_MODEL}

    ended = dag_of(load_dags(demo.DAG_FILE)).test(run_conf=conf)

    assert {str(ti.state) for ti in ended.get_task_instances()} == {"success"}
    output = "".join(capsys.readouterr())
    assert "deferr" in output.lower()
    assert connected_platform.key not in output
    database = b"".join(file.read_bytes() for file in airflow_db.parent.glob("airflow.db*"))
    assert demo.DAG_ID.encode() in database
    assert not [text for text in (connected_platform.key, *tickets.texts) if text.encode() in database]
    (manifest,) = tickets.output.glob("*/manifest.json")
    demo.assert_every_row_once(json.loads(manifest.read_text()), tickets)
    assert len(connected_platform.control.jobs()) == demo.CHUNKS


def dag_of(found: dict[str, Any]) -> Any:
    """The Dag of a file's globals."""
    return next(value.dag for value in found.values() if hasattr(value, "task_id"))


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


@pytest.fixture
def run_dag(
    tunable: TunablePlatform,
    load_dags: Callable[[Path], dict[str, Any]],  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., dict[str, str]]:
    """Returns a function that runs an example in this process, and returns the state of each task.

    Connections to the platform exist.
    """
    connection = {"host": tunable.url, "password": scripted_tuning.KEY, "extra": {"retry_budget": 2}}
    emissary = {**connection, "host": f"{tunable.url}/emissary", "conn_type": "emissary"}
    monkeypatch.setenv("AIRFLOW_CONN_LAMINI_DEFAULT", json.dumps({**connection, "conn_type": "lamini"}))
    monkeypatch.setenv("AIRFLOW_CONN_EMISSARY_DEFAULT", json.dumps(emissary))
    monkeypatch.setenv("AIRFLOW__LAMINI__STATE_PATH", str(tmp_path / "state"))

    def to_end(dag_id: str, **conf: object) -> dict[str, str]:
        dag = dag_of(load_dags(demo.EXAMPLES / f"{dag_id}.py"))
        for task in dag.tasks:
            assert task.retries
            task.retries = 0  # a failure must not wait for its retry
        ended = dag.test(run_conf=conf)
        return {ti.task_id: str(ti.state) for ti in ended.get_task_instances()}

    return to_end


def tuning_conf(tickets: Path) -> dict[str, object]:
    return {"data": str(tickets), "output": str(tickets / "output"), "project": "tickets"}


def deployments(client: EmissaryClient) -> list[dict[str, object]]:
    (project,) = client.get("/projects").json()
    found: list[dict[str, object]] = client.get(f"/projects/{project['id']}/deployments").json()
    return found


def test_emissary_fine_tuning_answers_with_the_best_checkpoint_and_removes_it(run_dag, client, tickets):
    conf = tuning_conf(tickets) | {"model": scripted_tuning.BASE, "threshold": 0}
    assert set(run_dag("emissary_fine_tuning", **conf).values()) == {"success"}
    (output,) = (tickets / "output").glob("*/answers")
    rows = list(read_outputs(str(output)))
    right = [row["output"] == row["category"] for row in rows]
    assert (len(rows), sum(right)) == (10, 8)  # two rows were held out to test the checkpoints
    assert deployments(client) == []


def test_emissary_fine_tuning_removes_the_deployment_after_a_failure(run_dag, client, tickets, capsys):
    (tickets / "tickets_held_out.jsonl").write_text('{"unknown": "column"}\n')
    conf = tuning_conf(tickets) | {"model": scripted_tuning.BASE, "threshold": 0}
    states = run_dag("emissary_fine_tuning", **conf)
    assert states["infer"] == "failed"
    assert "no column" in capsys.readouterr().out
    assert deployments(client) == []


def test_tuning_on_two_platforms_promotes_the_better_model(run_dag, client, tickets):
    models = dict.fromkeys(("lamini_model", "emissary_model"), scripted_tuning.BASE)
    states = run_dag("tuning_on_two_platforms", **(tuning_conf(tickets) | models), max_steps=4)
    assert set(states.values()) == {"success"}  # Emissary's deployment is removed only if its model is worse
    assert deployments(client) == []


@pytest.fixture(scope="module")
def airflow_api(airflow_db: Path) -> Iterator[Callable[[str, str, object], Any]]:
    """Airflow's API in a process of its own, on the tests' database: a function that sends a request."""
    del airflow_db  # exists
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "airflow",
            "api-server",
            "--port",
            str(port),
            "--workers",
            "1",
            "--host",
            "127.0.0.1",
        ],
        env={
            **os.environ,
            "AIRFLOW__CORE__DAGS_FOLDER": str(demo.EXAMPLES),
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=30) as client:

        def call(method: str, path: str, body: object = None) -> Any:
            if "Authorization" not in client.headers:
                client.headers["Authorization"] = f"Bearer {client.get('/auth/token').json()['access_token']}"
            response = client.request(method, f"/api/v2/{path}", json=body)
            return response.raise_for_status().json()

        try:
            wait_until(lambda: _answers(client), timeout=90)
            yield call
        finally:
            server.terminate()
            server.wait(30)


def _answers(client: httpx.Client) -> bool:
    with suppress(httpx.HTTPError):
        return client.get("/api/v2/version").is_success
    return False


@pytest.mark.skipif(not HAS_APPROVAL, reason="ApprovalOperator needs Airflow 3.1")
@pytest.mark.usefixtures("client")  # resets the platform
@pytest.mark.parametrize(("answer", "promoted"), [("Approve", "success"), ("Reject", "skipped")])
def test_a_model_is_promoted_only_if_a_person_approves_it(run_dag, tickets, airflow_api, answer, promoted):
    ended = threading.Event()

    def answered() -> dict[str, Any]:
        """Answer the Dag's question, once it is asked."""
        questions: list[dict[str, Any]] = []

        def asked() -> bool:
            found = airflow_api("GET", "dags/~/dagRuns/~/hitlDetails?response_received=false")["hitl_details"]
            questions[:] = [
                each for each in found if each["task_instance"]["dag_id"] == "promote_after_approval"
            ]
            return bool(questions) or ended.is_set()

        wait_until(asked, timeout=140, pause=0.5)
        (question,) = questions
        task = question["task_instance"]
        path = f"dags/{task['dag_id']}/dagRuns/{task['dag_run_id']}/taskInstances/approve/-1/hitlDetails"
        airflow_api("PATCH", path, {"chosen_options": [answer]})
        return question

    with ThreadPoolExecutor(1) as pool:
        answering = pool.submit(answered)
        conf = tuning_conf(tickets) | {"model": scripted_tuning.BASE, "max_steps": 4, "gain": 0.01}
        try:
            states = run_dag("promote_after_approval", **conf)
        finally:
            ended.set()
        question = answering.result()
    assert question["subject"].startswith("Promote ")
    assert "| exact match |" in question["body"]
    assert "report.md" in question["body"]
    assert states == {**dict.fromkeys(("train", "evaluate", "approve"), "success"), "promote": promoted}
