"""Real Dags, run by Airflow: templates, mapped arguments and XComs."""

from __future__ import annotations

import json
from pathlib import Path

import pendulum
import pytest

from tests.support.platforms import submissions
from tests.support.results import rows_in
from tests.support.upstream import TEXT_MODEL, text_for

pytestmark = [pytest.mark.dags, pytest.mark.usefixtures("airflow_db", "platform")]

FILE = Path(__file__).with_name("batch_inference_dags.py")


@pytest.fixture
def run(load_dags, tmp_path):
    """Returns a function that runs a Dag in this process, including its triggers, and returns the Dag run."""

    def to_end(name, **conf):
        ended = load_dags(FILE)[name].test(run_conf={"model": TEXT_MODEL, "output": str(tmp_path), **conf})
        states = {(ti.task_id, ti.map_index): str(ti.state) for ti in ended.get_task_instances()}
        assert set(states.values()) == {"success"}, states
        return ended

    return to_end


def outputs_in(folder):
    return [row["output"] for row in rows_in(folder)]


def test_templates_render_native_objects_if_the_dag_says_so(run, tmp_path, platform):
    ended = run("templates", topic="billing")
    assert outputs_in(tmp_path / ended.run_id) == [
        {"said": text_for(f"billing of {row}")} for row in ("one", "two", "three")
    ]
    assert submissions(platform) == 2


def test_numbers_can_be_strings_rendered_by_templates(run, tmp_path):
    rows = [{"id": number, "body": f"body {number}"} for number in range(5)]
    day = pendulum.now("UTC").format("YYYY-MM-DD")
    (tmp_path / f"{day}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    ended = run("texts")
    assert [row["id"] for row in rows_in(tmp_path / ended.run_id)] == [0, 1, 2, 3, 4]
    assert outputs_in(tmp_path / ended.run_id) == [text_for(row["body"]) for row in rows]
    assert len(list((tmp_path / ended.run_id).glob("part-*"))) == 3


def test_a_mapped_task_infers_over_shards_and_another_task_adds_up_the_rows(run, tmp_path):
    ended = run("mapped")
    folder = tmp_path / ended.run_id
    assert outputs_in(folder / "0") == ["one a", "two a", "three a"]
    assert outputs_in(folder / "1") == ["one b"]
    assert (tmp_path / "total.txt").read_text() == "4"


def test_inputs_and_folders_can_be_mapped_together(run, tmp_path):
    run("own_folders")
    assert outputs_in(tmp_path / "x") == ["one x", "two x"]
    assert outputs_in(tmp_path / "y") == ["one y", "two y"]


def test_rows_can_come_from_a_task_and_the_manifest_can_go_to_another(run, tmp_path, platform):
    ended = run("between_tasks")
    report = json.loads((tmp_path / "report.json").read_text())
    assert [row["output"] for row in report["rows"]] == [text_for(f"body {number}") for number in range(5)]
    assert [row["id"] for row in report["rows"]] == [0, 1, 2, 3, 4]
    assert report["manifest"]["output"] == str(tmp_path / ended.run_id)
    assert report["manifest"]["counts"]["ok"] == 5
    assert submissions(platform) == 3


def test_a_task_can_return_paths_of_airflow_for_mapping(run, tmp_path):
    run("paths")
    assert outputs_in(tmp_path / "0") == [text_for("one")]
    assert outputs_in(tmp_path / "1") == [text_for("two")]
