"""Real Dags in Airflow's own hands: what templates, mapping and XComs make of the arguments."""

from __future__ import annotations

import json
from pathlib import Path

import pendulum
import pytest

from tests.support.platforms import submissions
from tests.support.results import rows_in
from tests.support.upstream import TEXT_MODEL, text_for

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("airflow_db", "platform")]

FILE = Path(__file__).with_name("inference_dags.py")


@pytest.fixture
def run(dag_in, tmp_path):
    """Returns a function that runs a Dag in this process, its triggers too, and returns the run."""

    def to_end(name, **conf):
        ended = dag_in(FILE)[name].test(run_conf={"model": TEXT_MODEL, "output": str(tmp_path), **conf})
        states = {(ti.task_id, ti.map_index): str(ti.state) for ti in ended.get_task_instances()}
        assert set(states.values()) == {"success"}, states
        return ended

    return to_end


def outputs_in(folder):
    return [row["output"] for row in rows_in(folder)]


def test_templates_give_native_objects_where_the_dag_asks_for_them(run, tmp_path, platform):
    ended = run("templates", topic="billing")
    assert outputs_in(tmp_path / ended.run_id) == [
        {"said": text_for(f"billing of {row}")} for row in ("one", "two", "three")
    ]
    assert submissions(platform) == 2


def test_templates_give_texts_elsewhere_and_they_serve_as_numbers(run, tmp_path):
    rows = [{"id": number, "body": f"body {number}"} for number in range(5)]
    day = pendulum.now("UTC").format("YYYY-MM-DD")
    (tmp_path / f"{day}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    ended = run("texts")
    assert [row["id"] for row in rows_in(tmp_path / ended.run_id)] == [0, 1, 2, 3, 4]
    assert outputs_in(tmp_path / ended.run_id) == [text_for(row["body"]) for row in rows]
    assert len(list((tmp_path / ended.run_id).glob("part-*"))) == 3


def test_a_mapped_task_infers_over_shards_and_a_task_adds_them_up(run, tmp_path):
    ended = run("mapped")
    folder = tmp_path / ended.run_id
    assert outputs_in(folder / "0") == ["one a", "two a", "three a"]
    assert outputs_in(folder / "1") == ["one b"]
    assert (tmp_path / "total.txt").read_text() == "4"


def test_a_mapped_task_takes_inputs_and_folders_together(run, tmp_path):
    run("own_folders")
    assert outputs_in(tmp_path / "x") == ["one x", "two x"]
    assert outputs_in(tmp_path / "y") == ["one y", "two y"]


def test_rows_come_from_a_task_and_the_manifest_goes_to_a_task(run, tmp_path, platform):
    ended = run("between_tasks")
    report = json.loads((tmp_path / "report.json").read_text())
    assert [row["output"] for row in report["rows"]] == [text_for(f"body {number}") for number in range(5)]
    assert [row["id"] for row in report["rows"]] == [0, 1, 2, 3, 4]
    assert report["manifest"]["output"] == str(tmp_path / ended.run_id)
    assert report["manifest"]["counts"]["ok"] == 5
    assert submissions(platform) == 3


def test_paths_of_airflow_come_from_a_task(run, tmp_path):
    run("paths")
    assert outputs_in(tmp_path / "0") == [text_for("one")]
    assert outputs_in(tmp_path / "1") == [text_for("two")]
