"""Real Dags, run by Airflow: templates and XComs as arguments of tuning."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from pathlib import Path

import pytest
from airflow.providers.common.compat.sdk import AirflowTaskTimeout

from tests.support.local_platform import local_platform
from tests.support.platforms import connect
from tests.support.upstream import PARROT_MODEL, TEXT_MODEL, upstream

pytestmark = [pytest.mark.dags, pytest.mark.usefixtures("airflow_db")]

FILE = Path(__file__).with_name("tuning_dags.py")
TICKETS = [{"subject": f"late parcel {number}", "category": f"{number} parcel late"} for number in range(4)]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A platform whose tuned model answers the tickets correctly, and whose base model does not."""
    with (
        upstream(more_models=(PARROT_MODEL,)) as engine,
        local_platform(tmp_path_factory.mktemp("platform"), engine.url) as running,
    ):
        yield running


@pytest.fixture
def run(load_dags, tmp_path):
    """Returns a function that runs a Dag in this process, including its triggers, and returns its tasks' states."""

    def to_end(name, **conf):
        ended = load_dags(FILE)[name].test(run_conf={"output": str(tmp_path), **conf})
        return {ti.task_id: str(ti.state) for ti in ended.get_task_instances()}

    return to_end


@pytest.mark.parametrize("better", [True, False])
def test_a_model_is_tuned_compared_and_promoted_only_if_it_is_better(
    run, tuning, models, monkeypatch, tmp_path, *, better
):
    connect(monkeypatch, models, "lamini_models")
    for name in ("tickets", "held-out"):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in TICKETS))
    base, tuned = (PARROT_MODEL, TEXT_MODEL) if better else (TEXT_MODEL, PARROT_MODEL)
    tuning.script = [("CREATED", "FAILED")]  # so it is resumed

    states = run("weekly", base=base, tuned=tuned)

    assert states == {
        **dict.fromkeys(("upload", "train", "evaluate", "decide"), "success"),
        "promote": "success" if better else "skipped",
        "keep": "skipped" if better else "success",
    }
    (sent,) = tuning.sent("/v1/train")
    assert sent["dataset_id"] == "dataset1"
    assert sent["finetune_args"] == {"max_steps": 50}
    assert sent["custom_model_name"].startswith("tickets-manual__")
    assert tuning.datasets["dataset1"][0] == {"input": "Sort: late parcel 0", "output": "0 parcel late"}
    assert len(list(tmp_path.glob("*/loss_history.jsonl"))) == 1
    if better:
        promoted = json.loads((tmp_path / "promoted.json").read_text())
        assert promoted["tuned"]["model_name"] == "tuned-1"
        assert promoted["tuned"]["resumes"] == 1
        assert promoted["gain"]["exact_match"] == 1
        assert promoted["link"] == "https://web.test/train/1"


def test_a_job_is_submitted_without_waiting_then_awaited_resumed_and_evaluated(run, tuning):
    tuning.downloads["org/model"] = ["requested", "downloading", "available"]
    tuning.script = [("CREATED", "TRAINING MODEL", "TRAINING MODEL", "COMPLETED")]
    states = run("without_waiting", base="base-model", tuned="org/model")
    assert set(states.values()) == {"success"}, states
    assert len(tuning.jobs) == 1
    assert tuning.sent("/v1/train")[0]["finetune_args"] == {"max_steps": 50}
    assert tuning.sent("/v1/local-data")[0]["data"] == [{"input": "q", "output": "a"}]
    assert tuning.sent("/v1/eval/run")[0]["test_model_id"] == "12"


def test_the_execution_timeout_ends_a_task_in_its_worker_and_cancels_its_job(run, tuning):
    tuning.script = [("CREATED", *["TRAINING MODEL"] * 1000)]
    began = time.monotonic()
    with suppress(AirflowTaskTimeout):  # dag.test() of Airflow 2 propagates it
        assert run("impatient", base="base-model") == {"train": "failed"}
    assert time.monotonic() - began < 20
    assert [job.state for job in tuning.jobs.values()] == ["CANCELLED"]
