"""Real Dags on Emissary, run by Airflow: templates, XComs and a teardown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytestmark = [pytest.mark.dags, pytest.mark.usefixtures("airflow_db")]

FILE = Path(__file__).with_name("emissary_dags.py")
TICKETS = [{"input": f"late parcel {number}", "output": "shipping"} for number in range(4)]


@pytest.fixture
def run(load_dags, tmp_path):
    """Returns a function that runs a Dag in this process, including its triggers, and returns its tasks' states."""
    (tmp_path / "tickets.jsonl").write_text("".join(json.dumps(row) + "\n" for row in TICKETS))

    def to_end(name, **conf):
        ended = load_dags(FILE)[name].test(run_conf={"output": str(tmp_path), **conf})
        return {ti.task_id: str(ti.state) for ti in ended.get_task_instances()}

    return to_end


def test_a_model_is_trained_deployed_asked_and_removed(run, emissary, tmp_path):
    states = run("weekly")
    assert set(states.values()) == {"success"}, states
    (sent,) = emissary.sent("/v1/projects/ms-2/training-jobs")
    assert (sent["train_dataset_id"], sent["train_test_split_ratio"]) == ("ds-1", 20)
    (deployed,) = emissary.sent("/v1/projects/ms-2/deployments")
    assert deployed["checkpoint"] == 100
    assert sorted(emissary.prompts) == [f"Say late parcel {number}" for number in range(4)]
    assert json.loads((tmp_path / "answers" / "manifest.json").read_text())["counts"]["ok"] == 4
    assert not emissary.deployments


def test_the_teardown_removes_the_deployment_of_a_run_that_failed(run, emissary):
    states = run("weekly", prompt="{nothing}")
    assert (states["infer"], states["undeploy"]) == ("failed", "success")
    assert emissary.sent("/v1/projects/ms-2/deployments")
    assert not emissary.deployments


def test_the_teardown_removes_a_deployment_whose_task_failed(run, emissary):
    emissary.scripts.deployment = ("Failed",)
    states = run("weekly")
    assert (states["deploy"], states["infer"], states["undeploy"]) == ("failed", "upstream_failed", "success")
    assert not emissary.deployments


def test_engines_and_jobs_are_controlled_by_tasks(run, emissary):
    emissary.new("dataset", ("uploaded",))
    states = run("parts")
    assert set(states.values()) == {"success"}, states
    assert not emissary.engines
    assert not emissary.projects
