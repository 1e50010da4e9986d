"""Assets under Airflow's real scheduler, Dag processor and triggerer: Dags that follow jobs, models and indexes."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.airflow_stack import AirflowStack, airflow_stack
from tests.support.emissary_api import EmissaryClient
from tests.support.otlp import Collector, otlp_collector
from tests.support.scripted_tuning import BASE, KEY, ScriptedTrainer, TunablePlatform, tunable_platform
from tests.support.statsd import statsd_configuration, statsd_metrics, statsd_server
from tests.support.tuning_api import ROWS, start_job, wait_for_jobs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from socket import socket

SPANS = {"advance": "worker", "wait": "trigger"}
"""Our spans, and the processes of Airflow that open them."""
DAGS = [Path(__file__).parent / "dags" / "asset_stack_dags.py"]


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TunablePlatform]:
    """A local platform whose trainer needs no torch."""
    with tunable_platform(tmp_path_factory.mktemp("assets") / "platform", ScriptedTrainer()) as running:
        yield running


@pytest.fixture(scope="module")
def emissary(local: TunablePlatform) -> Iterator[EmissaryClient]:
    """Its Emissary API."""
    with EmissaryClient(local.url, KEY) as client:
        yield client


@pytest.fixture(scope="module")
def project(emissary: EmissaryClient) -> str:
    """The project whose jobs are watched."""
    return emissary.project()


@pytest.fixture(scope="module")
def statsd() -> Iterator[socket]:
    """A server of metrics."""
    with statsd_server() as server:
        yield server


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    """A collector of spans."""
    with otlp_collector() as running:
        yield running


@pytest.fixture(scope="module")
def airflow(
    local: TunablePlatform,
    project: str,
    statsd: socket,
    collector: Collector,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[AirflowStack]:
    """Airflow's components, which here start the runs of scheduled Dags."""
    env = {
        "AIRFLOW_CONN_LAMINI_DEFAULT": json.dumps(
            {"conn_type": "lamini", "host": local.url, "password": KEY}
        ),
        "AIRFLOW_CONN_EMISSARY_DEFAULT": json.dumps(
            {"conn_type": "emissary", "host": f"{local.url}/emissary", "password": KEY}
        ),
        "AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": "True",
        "WATCHED_PROJECT": project,
    }
    env |= statsd_configuration(statsd) | {
        "AIRFLOW__METRICS__STATSD_INFLUXDB_ENABLED": "True",
        "AIRFLOW__METRICS__METRICS_ALLOW_LIST": "airflow_provider_lamini",
    }
    env |= collector.configuration(metrics=False)
    with airflow_stack(tmp_path_factory.mktemp("stack") / "airflow", DAGS, env) as stack:
        yield stack


def received(airflow: AirflowStack, dag_id: str, runs: int) -> list[list[dict[str, object]]]:
    """The events that the runs of a Dag have received, when it has had this number of runs."""
    found = airflow.wait_runs(dag_id, runs)
    assert [airflow.wait_run(run) for run in found] == ["success"] * runs
    return [airflow.xcom(run, "read") for run in found]


def polls(local: TunablePlatform, path: str) -> int:
    requests: dict[str, int] = local.http.get("/_control/stats").json()["requests"]
    return requests.get(f"GET {path}", 0)


def tune(local: TunablePlatform) -> str:
    job_id = start_job(local)
    wait_for_jobs(local, job_id, "COMPLETED")
    return str(job_id)


def event(platform: str, kind: str, job_id: str, status: str) -> list[dict[str, object]]:
    payload = {
        "version": 1,
        "platform": platform,
        "kind": kind,
        "job_id": job_id,
        "state": "succeeded",
        "status": status,
    }
    return [{"from_trigger": True, "payload": payload}]


def test_a_dag_runs_once_for_each_job_that_ends_also_if_the_triggerer_crashes(
    airflow: AirflowStack, local: TunablePlatform, emissary: EmissaryClient, project: str
):
    jobs = "/emissary/v1/projects/{id}/training-jobs"
    airflow.until("polls", 90, lambda: polls(local, "/v1/train/jobs") > 0 and polls(local, jobs) > 0)
    first = tune(local)
    trained = emissary.trained(project, base_model=BASE, train_dataset_id=emissary.dataset(project))
    after_first = event("lamini", "tuning", first, "COMPLETED")
    after_training = event("emissary", "training", f"{project}/{trained}", "Success")
    assert received(airflow, "after_tuning", 1) == [after_first]
    assert received(airflow, "after_training", 1) == [after_training]

    airflow.stop("triggerer", signal.SIGKILL)
    second = tune(local)
    airflow.start("triggerer")
    after_second = event("lamini", "tuning", second, "COMPLETED")
    assert received(airflow, "after_tuning", 2) == [after_first, after_second]
    polled = polls(local, jobs)
    airflow.until("more polls", 60, lambda: polls(local, jobs) > polled + 1)
    assert received(airflow, "after_tuning", 2) == [after_first, after_second]
    assert received(airflow, "after_training", 1) == [after_training]


def test_dags_that_are_scheduled_on_a_model_and_on_an_index_are_told_what_was_made(
    airflow: AirflowStack, local: TunablePlatform, statsd: socket, collector: Collector, tmp_path: Path
):
    given = tmp_path / "rows.jsonl"
    given.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    (tmp_path / "guide.md").write_text("The lamp is red while it charges.")
    local.trainer.allowed = 0
    hold = {"kind": "memory_rag", "job_id": None, "after_rows": 0}
    local.http.post("/_control/holds", json=hold).raise_for_status()
    run = airflow.trigger_dag("makes", {"input": str(given), "documents": str(tmp_path / "guide.md")})
    airflow.wait_task(run, "train", "deferred")
    airflow.wait_task(run, "build", "deferred")  # a job that ends before that is not waited for
    local.trainer.reset()
    local.http.delete("/_control/holds").raise_for_status()
    assert airflow.wait_run(run) == "success"
    ((model,),) = received(airflow, "after_model", 1)
    ((index,),) = received(airflow, "after_index", 1)
    trained, built = airflow.xcom(run, "train"), airflow.xcom(run, "build")
    assert (model["platform"], model["job_id"], model["model_name"]) == (
        "lamini",
        trained["job_id"],
        trained["model_name"],
    )
    assert (index["platform"], index["index_id"]) == ("lamini", built["index_id"])
    assert model["model_name"] in local.engine.models()

    prefix, ended = "airflow.airflow_provider_lamini.", "platform=lamini,kind=tuning"
    measured = statsd_metrics(statsd)
    by_the_worker = f"{prefix}requests,platform=lamini,operation=train_v1_train_post"
    assert sum(measured[by_the_worker, "c"]) == 1
    in_the_triggerer = measured[f"{prefix}wait,{ended}", "ms"]
    assert len(in_the_triggerer) >= 1

    def spans() -> set[tuple[str, str]]:
        """Our spans, each with the span of Airflow that it is a child of."""
        names = {span.span_id: span.name for span in collector.spans}
        ours = [span for span in collector.spans if span.name.startswith("airflow_provider_lamini.")]
        return {(span.name.rpartition(".")[2], names.get(span.parent_span_id, "")) for span in ours}

    expected = {(span, f"{process}.{task}") for span, process in SPANS.items() for task in ("train", "build")}
    airflow.until("spans", 60, lambda: spans() >= expected)
