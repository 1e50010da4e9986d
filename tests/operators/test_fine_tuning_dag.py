"""The fine-tuning example, run by Airflow: which model is promoted, and which is not.

With the same Dag, ``make demo-tuning`` shows that the local model really becomes better.
"""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from sqlite3 import connect
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.demo import EXAMPLES
from tests.support.scripted_tuning import BASE, KEY, ScriptedTrainer, tunable_platform

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [pytest.mark.dags, pytest.mark.usefixtures("airflow_db")]

FILE = EXAMPLES / "scheduled_fine_tuning.py"


@pytest.fixture
def dag(load_dags: Callable[[Path], dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The example, with a folder for submission records, needed by Airflow versions without a task state store."""
    monkeypatch.setenv("AIRFLOW__LAMINI__STATE_PATH", str(tmp_path / "state"))
    return load_dags(FILE)["train"].dag


def connect_to(monkeypatch: pytest.MonkeyPatch, url: str, key: str) -> None:
    fields = {"conn_type": "lamini", "host": url, "password": key}
    monkeypatch.setenv("AIRFLOW_CONN_LAMINI_DEFAULT", json.dumps(fields))


def tickets(folder: Path, held_out: int, *, same: bool = False) -> Path:
    """The example's tickets, with this number of held-out ones; with ``same``, those are the training tickets."""
    folder.mkdir()
    for name, source in (
        ("tickets_examples", "tickets_examples"),
        ("tickets_held_out", "tickets_examples" if same else "tickets_held_out"),
    ):
        lines = (EXAMPLES / "data" / f"{source}.jsonl").read_text().splitlines(keepends=True)
        (folder / f"{name}.jsonl").write_text("".join(lines[:held_out] if name.endswith("out") else lines))
    return folder


def run(dag: Any, **conf: Any) -> tuple[dict[str, str], dict[str, Any]]:
    """Run the Dag in this process: the state of each task, and what each returned."""
    if hasattr(dag, "sync_to_db"):
        dag.sync_to_db()  # Airflow 2 records events only of datasets in its database
    ended = dag.test(run_conf=conf)
    tasks = ended.get_task_instances()
    states = {ti.task_id: str(ti.state) for ti in tasks}
    return states, {ti.task_id: ti.xcom_pull(ti.task_id) for ti in tasks}


def promoted(airflow_db: Path) -> list[dict[str, Any]]:
    """The events of the model's asset that Airflow has recorded."""
    with closing(connect(airflow_db)) as database:
        tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master")}
        table = "asset_event" if "asset_event" in tables else "dataset_event"
        found = database.execute(
            f"SELECT extra FROM {table} WHERE source_dag_id = 'scheduled_fine_tuning' ORDER BY id"
        )
        return [json.loads(extra) for (extra,) in found]


@pytest.mark.long
def test_only_a_model_that_became_better_is_promoted(dag, tmp_path, airflow_db, monkeypatch):
    """The scripted trainer memorizes tickets, so it knows the training tickets and no others."""
    with tunable_platform(tmp_path / "platform", ScriptedTrainer()) as platform:
        connect_to(monkeypatch, platform.url, KEY)
        conf = {"model": BASE, "output": str(tmp_path / "out")}
        states, results = run(dag, data=str(tickets(tmp_path / "seen", 20, same=True)), **conf)
        assert set(states.values()) == {"success"}
        event = promoted(airflow_db)[-1]
        assert event["model_name"] == results["train"]["model_name"] == f"tickets-{dag_run_of(results)}"
        assert event["metrics"]["model"]["exact_match"] == 1.0
        assert event["metrics"]["gain"]["exact_match"] >= 0.2
        assert (event["platform"], event["passed"], event["base_model_name"]) == ("lamini", True, BASE)
        assert "# Evaluation of tickets-" in Path(event["report"]).read_text()
        before = len(promoted(airflow_db))
        states, results = run(dag, data=str(tickets(tmp_path / "unseen", 10)), **conf)
        assert states["evaluate"] == "skipped"
        assert len(promoted(airflow_db)) == before


def dag_run_of(results: dict[str, Any]) -> str:
    """The run's id, from the evaluation's folder."""
    return results["evaluate"]["output"].rstrip("/").rpartition("/")[2]
