"""Tasks that share an output folder do not replace each other's files, and a task replaces its own."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from airflow.providers.common.compat.sdk import AirflowNotFoundException
from fsspec.implementations.memory import MemoryFileSystem

from airflow_provider_lamini.api.errors import PlatformError
from airflow_provider_lamini.exceptions import InvalidArgumentError
from tests.support.tasks import TI, WAITING, TaskInstance, run_to_end

OUT = {"output": "{out}"}
WRITERS = {
    "TrainOperator": {**OUT, **WAITING},
    "EmissaryTrainOperator": {**OUT, **WAITING},
    "EmissaryGRPOTrainOperator": {**OUT, **WAITING},
    "EvaluateClassifierOperator": OUT,
    "EvaluateOperator": {**OUT, "endpoint": "completions"},
}
"""The operators that write an output folder of files that are not parts, and their arguments."""
OTHERS = {
    "another task": replace(TI, task_id="other"),
    "another Dag": replace(TI, dag_id="other"),
    "another mapped task": replace(TI, map_index=3),
}
REPLACING = [name for name in WRITERS if name != "EvaluateOperator"]
"""Those whose later runs may use the same folder. An evaluation of models has a run over rows in it."""


@dataclass(frozen=True, slots=True)
class TaskInLoop(TaskInstance):
    """A task instance of Airflow 3.4 in a task-group loop, which has another region in each run of the Dag."""

    region_id: str = "first"
    region_index: int = 1
    iteration: int = 1


def run(world, operator, ti=TI, **arguments):
    options = WRITERS.get(
        operator, {"endpoint": "completions"} if operator == "BatchInferenceOperator" else {}
    )
    return run_to_end(lambda: world.make(operator, {**options, **arguments}), ti).result


def contents(folder):
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("operator", WRITERS)
def test_files_of_another_task_are_not_replaced(world, operator, other):
    run(world, operator)
    before = contents(world.folder / "out")
    world.reset()
    with pytest.raises(
        InvalidArgumentError, match=r"was taken by dag nightly, task infer,.*Nothing was submitted"
    ):
        run(world, operator, OTHERS[other])
    assert not world.work
    assert contents(world.folder / "out") == before


@pytest.mark.parametrize("operator", REPLACING)
def test_a_task_replaces_its_own_files_in_each_run(world, operator):
    first = run(world, operator)
    world.reset()
    assert run(world, operator, replace(TI, run_id="run-2")).keys() == first.keys()
    assert world.work


@pytest.mark.parametrize("operator", REPLACING)
def test_an_iteration_of_a_loop_replaces_its_own_files_in_each_run(world, operator):
    run(world, operator, TaskInLoop())
    run(world, operator, TaskInLoop(run_id="run-2", region_id="second"))
    with pytest.raises(InvalidArgumentError, match=r"was taken by dag nightly, .* region_index 1, for its"):
        run(world, operator, TaskInLoop(region_index=2, iteration=2))


FAILURES = {
    "TrainOperator": {"input": None, "dataset_id": "gone"},
    "EmissaryGRPOTrainOperator": {"test_functions": ["acuracy"], "reward": {"acuracy": 1}},
    "EvaluateClassifierOperator": {"lamini_conn_id": "missing"},
}
"""Arguments whose mistakes only the platform, or the connection to it, shows."""


@pytest.mark.parametrize("operator", FAILURES)
def test_a_task_that_fails_before_its_submission_takes_no_folder(world, operator):
    with pytest.raises((InvalidArgumentError, PlatformError, AirflowNotFoundException)):
        run(world, operator, **FAILURES[operator])
    run(world, operator, OTHERS["another task"])


@pytest.mark.parametrize("operator", REPLACING)
def test_of_two_tasks_that_reserve_a_file_at_one_moment_one_gets_it(world, operator, object_store):
    run(world, operator, output="memory://one/out")
    (reserved,) = object_store.glob("/one/out/_reserved-*")
    name = reserved.rpartition("/")[2]

    def other_is_faster():
        if object_store.calls_of("pipe_file", name)[1:]:
            MemoryFileSystem.pipe_file(
                object_store, f"/two/out/{name}", object_store.store[reserved].getvalue()
            )
        return False

    object_store.fail_while("pipe_file", other_is_faster, OSError())
    world.reset()
    with pytest.raises(InvalidArgumentError, match="was taken by dag nightly, task infer,"):
        run(world, operator, OTHERS["another task"], output="memory://two/out")
    assert not any("eval" in path or "train" in path for path in world.work)


@pytest.mark.parametrize("operator", ["TrainOperator", "EmissaryTrainOperator"])
def test_a_training_that_attaches_with_another_folder_reserves_its_file_there(world, operator):
    run(world, operator, OTHERS["another task"], output="{here}/taken")
    before = contents(world.folder / "taken")
    first = run(world, operator, state_path="{here}/state")
    world.note_files()
    count = sum(world.work.values())
    with pytest.raises(
        InvalidArgumentError, match=r"task other, .* The job has ended\. Cleared with another folder"
    ):
        run(world, operator, state_path="{here}/state", output="{here}/taken")
    assert contents(world.folder / "taken") == before
    moved = run(world, operator, state_path="{here}/state", output="{here}/free")
    assert moved["job_id"] == first["job_id"]
    assert sum(world.work.values()) == count
    with pytest.raises(InvalidArgumentError, match="taken by dag nightly, task infer"):
        run(world, operator, OTHERS["another task"], output="{here}/free")


def test_a_resume_continues_the_losses_of_the_training_and_leaves_them_to_it(world):
    trained = run(world, "TrainOperator")
    reservation = world.folder / "out" / "_reserved-loss_history.json"
    before = reservation.read_bytes()
    (world.folder / "out" / "loss_history.jsonl").unlink()
    resume = replace(TI, task_id="resume")
    resumed = run(world, "ResumeJobOperator", resume, job_id=trained["job_id"], **OUT, **WAITING)
    assert resumed["history"] == trained["history"]
    assert (world.folder / "out" / "loss_history.jsonl").exists()
    assert reservation.read_bytes() == before
    run(world, "TrainOperator", replace(TI, run_id="run-2"))


@pytest.mark.parametrize("operator", REPLACING)
def test_what_a_killed_try_has_left_of_its_lock_is_removed(world, operator):
    run(world, operator)
    (world.folder / "out" / ".ledger.lock").touch()
    run(world, operator, replace(TI, run_id="run-2"))
    assert not (world.folder / "out" / ".ledger.lock").exists()


def test_a_resume_in_a_folder_of_its_own_reserves_nothing(world):
    run(world, "ResumeJobOperator", replace(TI, task_id="resume"), **OUT, **WAITING)
    assert [path.name for path in (world.folder / "out").iterdir()] == ["loss_history.jsonl"]


def test_an_evaluation_replaces_that_of_another_task_where_it_is_told_to(world):
    run(world, "EvaluateOperator")
    run(world, "EvaluateOperator", OTHERS["another task"], on_other_run="replace")
    with pytest.raises(InvalidArgumentError, match="task other"):
        run(world, "EvaluateOperator")


def test_training_and_evaluation_may_share_a_folder(world):
    for operator in WRITERS:
        if operator in ("TrainOperator", "EvaluateOperator"):
            run(world, operator, replace(TI, task_id=operator))
    names = {path.name for path in (world.folder / "out").iterdir()}
    assert {"loss_history.jsonl", "report.md", "scores.jsonl", "model"} <= names


@pytest.mark.parametrize("operator", ["EvaluateOperator", "EvaluateClassifierOperator"])
def test_the_report_of_a_run_over_rows_is_not_replaced_nor_that_of_an_evaluation(world, operator):
    run(world, "BatchInferenceOperator", output="{here}/rows")
    with pytest.raises(InvalidArgumentError, match="holds the results of a run over rows"):
        run(world, operator, output="{here}/rows")
    run(world, operator, output="{here}/evaluation")
    with pytest.raises(InvalidArgumentError, match="belong to another run"):
        run(world, "BatchInferenceOperator", output="{here}/evaluation")
