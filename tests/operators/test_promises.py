"""The rest of the promises in the docs' table: clocks, kills, forced and damaged runs of every kind of task."""

from __future__ import annotations

import json
import threading

import pytest

from airflow_provider_lamini.exceptions import InvalidArgumentError, TaskKilledError
from airflow_provider_lamini.operators.memory_rag_refresh import LaminiMemoryRagRefreshOperator
from airflow_provider_lamini.operators.train import LaminiTrainOperator
from airflow_provider_lamini.operators.upload_dataset import LaminiUploadDatasetOperator
from tests.support.local_platform import wait_until
from tests.support.platforms import submissions, totals
from tests.support.tasks import WAITING, begin, execute, log_lines, maker, run_to_end
from tests.support.tuning_platform import LinkedTask

TASK = LinkedTask()
ROWS = [{"input": "q", "output": "a"}]


# ---- rows in chunks ------------------------------------------------------------------------------------------


@pytest.fixture
def ledger(out):
    """Returns a function that reads the ledger, and applies a change to it if one is given."""
    file = out / "_ledger.json"

    def of(change=None):
        found = json.loads(file.read_bytes())
        if change is not None:
            change(found)
            file.write_text(json.dumps(found))
        return found

    return of


@pytest.mark.parametrize("hours", [-5, 5])
def test_a_clock_that_jumps_between_tries_sends_no_chunk_again(platform, inference, rows, ledger, hours):
    def shift(found):
        for chunk in found["open"]:
            for submission in chunk["rounds"]:
                submission["intended_at"] -= hours * 3600
                submission["submitted_at"] -= hours * 3600

    platform.control.hold()
    begin(inference())
    assert len(ledger(shift)["open"]) == 2
    platform.control.release()
    run_to_end(inference(on_unknown_submission="fail"))
    assert len(rows()) == 25
    assert totals(platform) == [10, 10, 5]


DAMAGE = {
    "truncated": lambda text: text[:-40],
    "empty": lambda _: b"",
    "of a newer version": lambda text: text.replace(b'"version":1', b'"version":9'),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("on_other_run", ["fail", "replace"])
def test_a_task_with_a_damaged_ledger_sends_nothing_and_does_not_change_it(
    platform, inference, out, damage, on_other_run
):
    platform.control.hold()
    begin(inference())
    file = out / "_ledger.json"
    damaged = DAMAGE[damage](file.read_bytes())
    assert damaged != file.read_bytes()
    file.write_bytes(damaged)
    with pytest.raises(InvalidArgumentError, match=r"_ledger\.json"):
        run_to_end(inference(on_other_run=on_other_run))
    assert file.read_bytes() == damaged
    assert submissions(platform) == 2


def test_a_kill_while_a_chunk_is_submitted_keeps_its_job(platform, inference, rows, ledger):
    """Airflow 3 lets the task continue for a while; it records the id, and submits nothing more."""
    platform.control.fault("/v1/batch_completions", when="after", delay=1.0)
    operator = inference()()

    def kill():
        wait_until(lambda: submissions(platform) == 1)
        operator.on_kill()

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(TaskKilledError, match="before it submitted rows 10 to 19"):
        execute(operator)
    killer.join()
    assert ledger()["open"][0]["rounds"][-1]["job_id"] is not None
    run_to_end(inference(on_unknown_submission="fail"))
    assert len(rows()) == 25
    assert totals(platform) == [10, 10, 5]


# ---- one job -------------------------------------------------------------------------------------------------


@pytest.fixture
def train(tuning, tmp_path):
    """Returns a function that takes arguments and returns a factory of operators."""
    tuning.datasets["given"] = ROWS
    return maker(
        LaminiTrainOperator,
        task_id="train",
        model_name="m",
        dataset_id="given",
        state_path=str(tmp_path / "state"),
        **WAITING,
    )


def test_another_run_and_another_mapped_task_have_their_own_jobs(train):
    tasks = [TASK, LinkedTask(run_id="run-2"), LinkedTask(map_index=1)]
    assert [run_to_end(train(), task).result["job_id"] for task in tasks] == ["1", "2", "3"]
    assert [run_to_end(train(), task.cleared()).result["job_id"] for task in tasks] == ["1", "2", "3"]


def test_a_clear_before_the_trigger_has_started_attaches(tuning, train):
    """No triggerer has the trigger yet, so nothing cancels the job, and nothing logs that it keeps running."""
    begin(train(), TASK)
    with log_lines() as lines:
        assert run_to_end(train(), TASK.cleared()).result["job_id"] == "1"
    assert any(line == "Attached to tuning job 1." for line in lines)
    assert len(tuning.jobs) == 1


def test_a_forced_dataset_is_uploaded_once_for_all_retries_and_again_for_each_clear(tuning, tmp_path):
    upload = maker(
        LaminiUploadDatasetOperator, task_id="upload", input=ROWS, state_path=str(tmp_path), force_new="True"
    )
    tries = [TASK, TASK.retried(), TASK.retried().cleared(), TASK.retried().cleared().retried()]
    results = [run_to_end(upload(), task).result for task in tries]
    assert [result["dataset_id"] for result in results] == ["dataset1", "dataset1", "dataset2", "dataset2"]
    assert [result["new"] for result in results] == [True, False, True, False]
    assert len(tuning.datasets) == 2


def test_a_forced_index_is_built_once_for_all_retries_and_again_for_each_clear(knowledge, tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text("alpha")
    refresh = maker(
        LaminiMemoryRagRefreshOperator,
        task_id="refresh",
        files=str(tmp_path / "docs"),
        model_name="m",
        manifest=str(tmp_path / "index.json"),
        **WAITING,
    )
    forced, again = refresh(force_new=True), TASK.cleared()
    run_to_end(refresh(), TASK)
    assert begin(forced, again).trigger["job_ids"] == ["2"]
    assert run_to_end(forced, again.retried()).result["index_id"] == "2"
    assert run_to_end(forced, again.retried().retried()).result["index_id"] == "2"
    assert run_to_end(forced, again.retried().cleared()).result["index_id"] == "3"
    assert len(knowledge.indexes) == 3
