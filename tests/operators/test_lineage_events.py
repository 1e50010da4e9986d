"""The events that OpenLineage's own provider sends about a Dag: over HTTP, from the processes in which Airflow runs tasks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.support.serving import served

pytest.importorskip("airflow.providers.openlineage")
pytestmark = [pytest.mark.dags, pytest.mark.usefixtures("airflow_db")]

FILE = Path(__file__).with_name("lineage_dags.py")
RUN = """
import json, runpy, sys
runpy.run_path(sys.argv[1])["lineage"].test(run_conf=json.loads(sys.argv[2]))
"""


@pytest.fixture
def events():
    """The events so far, and the address that takes them."""
    received = []

    class Handler(BaseHTTPRequestHandler):
        disable_nagle_algorithm = True

        def do_POST(self):
            received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(201)
            self.end_headers()

        def log_message(self, *_):
            pass

    with served(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as address:
        yield received, f"http://{address}"


def names(datasets):
    return {(data["namespace"], data["name"]) for data in datasets}


def test_a_dag_reports_its_tasks_after_deferral_on_success_and_on_failure(
    events, platform, tmp_path, airflow_home
):
    received, url = events
    (tmp_path / "rows.jsonl").write_text("".join(f'{{"prompt": "row {number}"}}\n' for number in range(4)))
    dag_file = airflow_home / "dags" / FILE.name
    dag_file.write_text(FILE.read_text())
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            RUN,
            str(dag_file),
            json.dumps({"model": platform.models[0], "output": str(tmp_path)}),
        ],
        env={name: value for name, value in os.environ.items() if name != "PYTEST_VERSION"}
        | {"AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps({"type": "http", "url": url})},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    dag_file.unlink()
    ends = {
        event["job"]["name"]: event
        for event in received
        if event["eventType"] in ("COMPLETE", "FAIL") and "." in event["job"]["name"]
    }
    assert set(ends) == {"lineage.infer", "lineage.count", "lineage.strict"}, done.stdout + done.stderr
    infer, count, strict = (ends[f"lineage.{name}"] for name in ("infer", "count", "strict"))
    model = (f"lamini://{platform.url.removeprefix('http://')}", f"models/{platform.models[0]}")
    rows = ("file", str(tmp_path / "rows.jsonl"))

    assert infer["eventType"] == "COMPLETE"
    assert names(infer["inputs"]) == {rows, model}
    (output,) = infer["outputs"]
    assert output["name"].startswith(f"{tmp_path}/")
    assert output["outputFacets"]["outputStatistics"]["rowCount"] == 4
    facet = infer["run"]["facets"]["airflow_provider_lamini"]
    assert facet["counts"] == {"rows": 4, "ok": 4, "failed": 0, "retried": 0, "reused": 0}
    assert facet["jobIds"] == [infer["run"]["facets"]["externalQuery"]["externalQueryId"]]
    assert infer["job"]["facets"]["airflow_provider_lamini"]["platform"] == "lamini"

    assert count["eventType"] == "COMPLETE"
    # In this test one process runs all tasks, so it has also collected the reads of the earlier one.
    assert names(infer["outputs"]) <= names(count["inputs"])

    assert strict["eventType"] == "FAIL"
    assert names(strict["inputs"]) == {rows, model}
    assert strict["run"]["facets"]["airflow_provider_lamini"]["counts"]["failed"] == 4
    assert "max_failed_rows" in strict["run"]["facets"]["errorMessage"]["message"]

    starts = [
        event
        for event in received
        if event["job"]["name"] == "lineage.infer" and event["eventType"] == "START"
    ]
    assert names(starts[0]["inputs"]) == {rows}
