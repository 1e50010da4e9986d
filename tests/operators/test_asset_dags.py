"""Asset events of tasks that were run by Airflow, and the example Dags that are scheduled on them."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from sqlite3 import connect
from types import SimpleNamespace

import pytest
from airflow.providers.common.compat.sdk import AirflowSkipException

from airflow_provider_lamini.results import read_outputs
from tests.support.demo import EXAMPLES
from tests.support.platforms import connect as connect_platform
from tests.support.upstream import TEXT_MODEL

pytestmark = [pytest.mark.dags, pytest.mark.usefixtures("airflow_db", "platform")]


def run(dag, **conf):
    if hasattr(dag, "sync_to_db"):
        dag.sync_to_db()  # Airflow 2 records events only of datasets in its database
    ended = dag.test(run_conf=conf)
    states = {ti.task_id: str(ti.state) for ti in ended.get_task_instances()}
    return states, {ti.task_id: ti.xcom_pull(ti.task_id) for ti in ended.get_task_instances()}


def extras(airflow_db, dag_id):
    with closing(connect(airflow_db)) as database:
        tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master")}
        table = "asset_event" if "asset_event" in tables else "dataset_event"
        found = database.execute(f"SELECT extra FROM {table} WHERE source_dag_id = ? ORDER BY id", (dag_id,))
        return [json.loads(extra) for (extra,) in found]


def test_after_a_deferral_the_event_has_the_ids_and_counts_and_what_the_author_adds(
    load_dags, tmp_path, airflow_db
):
    dag = load_dags(Path(__file__).with_name("asset_dags.py"))["dag"]
    run(dag, model=TEXT_MODEL, output=str(tmp_path / "out"))
    extra = extras(airflow_db, "publishes")[-1]
    folder = str(tmp_path / "out")
    assert len(extra.pop("job_ids")) == 2
    assert extra == {
        "team": "support",
        "platform": "lamini",
        "model": TEXT_MODEL,
        "output": folder,
        "manifest": f"{folder}/manifest.json",
        "report": f"{folder}/report.md",
        "report_html": f"{folder}/report.html",
        "counts": {"rows": 2, "ok": 2, "failed": 0, "retried": 0, "reused": 0},
    }


def test_the_event_of_a_chat_has_its_tokens_and_its_cost(
    load_dags, tmp_path, airflow_db, platform, monkeypatch
):
    prices = {"*": {"input": 1000, "output": 3000}}
    connect_platform(monkeypatch, platform, extra={"prices": prices})
    dag = load_dags(Path(__file__).with_name("asset_dags.py"))["dag"]
    run(dag, model=TEXT_MODEL, output=str(tmp_path / "out"), endpoint="chat")
    usage = extras(airflow_db, "publishes")[-1]["usage"]
    assert usage == {
        "prompt_tokens": 5,
        "completion_tokens": 5,
        "total_tokens": 10,
        "cost": pytest.approx(0.02),
    }


def function_of(dag, task_id):
    return dag.get_task(task_id).python_callable


def events(*extras):
    return {"any": [SimpleNamespace(extra=extra) for extra in extras]}


def test_a_dag_is_scheduled_on_the_tuned_model(load_dags, tmp_path):
    dag = load_dags(EXAMPLES / "answer_with_tuned_model.py")["dag"]
    newest = function_of(dag, "newest_model")
    triggering = events({"model_name": "tickets-1"}, {"model_name": "tickets-2"})
    assert newest(triggering_asset_events=triggering) == "tickets-2"
    assert newest(triggering_dataset_events=triggering) == "tickets-2"
    rows = tmp_path / "tickets.jsonl"
    rows.write_text('{"ticket_id": 1, "subject": "s", "body": "b"}\n')
    states, results = run(dag, input=str(rows), model=TEXT_MODEL, output=str(tmp_path))
    assert set(states.values()) == {"success"}
    assert results["newest_model"] == TEXT_MODEL
    (row,) = read_outputs(results["sort_tickets"]["output"])
    assert row["ticket_id"] == 1


def test_a_dag_is_scheduled_on_the_index(load_dags):
    dag = load_dags(EXAMPLES / "answer_from_index.py")["dag"]
    changed = function_of(dag, "changed_index")
    unchanged = {"index_id": "4", "action": "unchanged"}
    assert changed(triggering_asset_events=events(unchanged, {"index_id": "4", "action": "added"})) == "4"
    assert changed(triggering_dataset_events={}, params={"index": "3"}) == "3"
    with pytest.raises(ValueError, match="Pass the id of an index"):
        changed(triggering_asset_events={}, params={"index": None})
    with pytest.raises(AirflowSkipException):
        changed(triggering_asset_events=events(unchanged))
