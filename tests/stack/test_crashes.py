"""Crashes of Airflow's real components and of task processes: every row is written once, each job is submitted once."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_lamini.results import read_outputs
from tests.support.upstream import TEXT_MODEL, text_for

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.airflow_stack import AirflowStack, Run
    from tests.support.local_platform import LocalPlatform
    from tests.support.tuning_platform import TuningPlatform

ROWS = 30
CHUNKS = 3
POLL_SECONDS = 1


class Task:
    """The task of one run of the Dag ``batch`` or ``train``, and its files."""

    def __init__(self, airflow: AirflowStack, folder: Path) -> None:
        self.airflow = airflow
        self.folder = folder
        self.run: Run

    def start(self, dag: str, *, crash_at: str | None = None) -> None:
        """Start the Dag.

        :param crash_at: step at which the task's process dies once
        """
        rows = "".join(f'{{"id": {number}, "text": "row {number}"}}\n' for number in range(ROWS))
        (self.folder / "rows.jsonl").write_text(rows)
        conf: dict[str, Any] = {
            "input": str(self.folder / "rows.jsonl"),
            "output": str(self.folder / "out"),
            "model": TEXT_MODEL,
        }
        if crash_at:
            (self.folder / "flag").touch()
            conf["crash"] = {"step": crash_at, "flag": str(self.folder / "flag")}
        self.run = self.airflow.trigger_dag(dag, conf)

    def wait_deferred(self) -> None:
        """Wait until the task is deferred."""
        self.airflow.wait_task(self.run, "work", "deferred")

    def clear(self) -> None:
        """Clear the task as a user does in the UI."""
        self.airflow.clear(self.run, "work")

    @property
    def tries(self) -> int:
        """The number of tries so far."""
        return 1 + self.airflow.failed_tries(self.run)

    def assert_succeeds(self, *, cleared: int = 0) -> None:
        """Wait for the run's success. No try may fail, except that its process died or its scheduler abandoned it.

        :param cleared: how often the task was cleared
        """
        assert self.airflow.wait_run(self.run) == "success"
        fewest = 1 + cleared
        assert fewest <= self.tries <= fewest + self.airflow.abandoned_tries(self.run)
        assert not (self.folder / "flag").exists(), "the task never reached the step"

    def assert_every_row_once(self) -> None:
        """Check the output files."""
        rows = [(row["id"], row["output"]) for row in read_outputs(str(self.folder / "out"))]
        assert rows == [(number, text_for(f"row {number}")) for number in range(ROWS)]


@pytest.fixture
def task(airflow: AirflowStack, tmp_path: Path) -> Task:
    return Task(airflow, tmp_path)


def test_a_worker_that_dies_while_it_writes_a_part_costs_no_job(task: Task, platform: LocalPlatform):
    """The task was deferred and resumed; the retry fetches the results of the same jobs."""
    task.start("batch", crash_at="part-N.jsonl is complete, not yet renamed")
    task.assert_succeeds()
    task.assert_every_row_once()
    assert len(platform.control.jobs()) == CHUNKS


def test_a_retry_finds_the_tuning_job_whose_worker_died_before_it_read_the_id(
    task: Task, tuning: TuningPlatform
):
    """The record is in Airflow's task state store. It has no job id, so the retry looks in the platform's list."""
    task.start("train", crash_at="POST /v1/train is answered")
    task.assert_succeeds()
    assert len(tuning.jobs) == 1
    assert task.airflow.xcom(task.run, "work")["model_name"] == "tuned-1"


def test_killed_triggerer_scheduler_and_platform_cost_no_try(task: Task, platform: LocalPlatform):
    """All three die while the task is deferred, and the platform stays away for longer than a poll."""
    platform.control.hold(after_rows=5)
    task.start("batch")
    task.wait_deferred()
    task.airflow.until("all jobs", 60, lambda: len(platform.control.jobs()) == CHUNKS)
    platform.kill()
    time.sleep(1.5 * POLL_SECONDS)
    assert task.airflow.run_state(task.run) == "running"
    task.airflow.stop("triggerer", signal.SIGKILL)
    task.airflow.stop("scheduler", signal.SIGKILL)
    platform.restart()
    task.airflow.start("scheduler")
    task.airflow.start("triggerer")
    task.assert_succeeds()
    task.assert_every_row_once()
    assert len(platform.control.jobs()) == CHUNKS


def test_a_deferred_task_that_is_cleared_attaches_to_its_batch_jobs(task: Task, platform: LocalPlatform):
    platform.control.hold(after_rows=5)
    task.start("batch")
    task.wait_deferred()
    before = task.tries
    task.clear()
    task.airflow.until("another try", 60, lambda: task.tries > before)
    platform.control.release()
    task.assert_succeeds(cleared=1)
    task.assert_every_row_once()
    assert len(platform.control.jobs()) == CHUNKS


def test_a_deferred_tuning_that_is_cleared_is_cancelled_and_submitted_anew(
    task: Task, tuning: TuningPlatform
):
    """One of two jobs is cancelled and the task returns the other, in whatever order kill and new try happen."""
    tuning.script = [("CREATED", *["TRAINING MODEL"] * 1000), ("CREATED", "TRAINING MODEL", "COMPLETED")]
    task.start("train")
    task.wait_deferred()
    # Only a trigger that runs is told that its task was cleared: wait until it has polled.
    task.airflow.until("polls", 60, lambda: tuning.jobs["1"].polls > 2)
    task.clear()
    task.assert_succeeds(cleared=1)
    assert [job.state for job in tuning.jobs.values()] == ["CANCELLED", "COMPLETED"]
    assert task.airflow.xcom(task.run, "work")["model_name"] == "tuned-2"
