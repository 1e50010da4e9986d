"""Crashes of Airflow's real components: what a user keeps is every row once, and each job submitted once.

``tests/airflow`` has the demo's Dag under the same components; here tasks die in the middle of their work.
"""

from __future__ import annotations

import json
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_lamini.results import read_outputs
from tests.support.airflow_stack import AirflowStack, Run, airflow_stack
from tests.support.local_platform import LocalPlatform, local_platform, wait_until
from tests.support.tuning_platform import WELL, TuningPlatform, tuning_platform
from tests.support.upstream import TEXT_MODEL, text_for, upstream

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow

ROWS = 30
CHUNKS = 3


@dataclass(frozen=True, slots=True)
class Site:
    """Airflow's components, the platforms, and a folder of the test's own."""

    airflow: AirflowStack
    local: LocalPlatform
    tuning: TuningPlatform
    folder: Path

    def start(self, dag: str, *, die_at: str | None = None) -> Run:
        """Start a Dag; its task dies once at a step, if one is named."""
        rows = "".join(f'{{"id": {number}, "text": "row {number}"}}\n' for number in range(ROWS))
        (self.folder / "rows.jsonl").write_text(rows)
        conf: dict[str, Any] = {
            "input": str(self.folder / "rows.jsonl"),
            "output": str(self.folder / "out"),
            "model": TEXT_MODEL,
        }
        if die_at:
            (self.folder / "die").touch()
            conf["die"] = {"step": die_at, "flag": str(self.folder / "die")}
        return self.airflow.trigger_dag(dag, conf)

    def ended(self, run: Run, *, cleared: int = 0) -> None:
        """Wait for a good end, to which no try has failed but by the death of its worker.

        :param cleared: how often the task was cleared
        """
        assert self.airflow.wait_run(run) == "success"
        tries = 1 + cleared + self.airflow.tries_given_up(run)
        assert {task["try_number"] for task in self.airflow.task_instances(run)} == {tries}
        assert not (self.folder / "die").exists(), "the task has never come to that step"

    def every_row_once(self) -> None:
        """What lies on storage."""
        rows = [(row["id"], row["output"]) for row in read_outputs(str(self.folder / "out"))]
        assert rows == [(number, text_for(f"row {number}")) for number in range(ROWS)]

    def clear(self, run: Run) -> None:
        """Clear the task, as a person does in the UI."""
        self.airflow.clear(run, "work")


@pytest.fixture(scope="module")
def parts(tmp_path_factory) -> Iterator[tuple[AirflowStack, LocalPlatform, TuningPlatform]]:
    home = tmp_path_factory.mktemp("stack")
    dags = [Path(__file__).parent / "dags" / "mortal_dags.py"]
    with (
        upstream() as engine,
        local_platform(home / "platform", engine.url) as local,
        tuning_platform() as tuning,
    ):
        env = {
            "AIRFLOW_CONN_LAMINI_DEFAULT": json.dumps(
                {"conn_type": "lamini", "host": local.url, "password": local.key}
            ),
            "AIRFLOW_CONN_TUNING": json.dumps(
                {"conn_type": "lamini", "host": tuning.url, "password": tuning.key}
            ),
        }
        with airflow_stack(home / "airflow", dags, env, parallelism=2) as airflow:
            yield airflow, local, tuning


@pytest.fixture
def site(parts, tmp_path) -> Iterator[Site]:
    """Everything, as if nothing had been before."""
    airflow, local, tuning = parts
    local.control.reset()
    tuning.jobs.clear()
    tuning.script = [WELL]
    yield Site(airflow, local, tuning, tmp_path)
    local.control.release()


def test_a_worker_that_dies_when_a_part_is_written_costs_no_job(site):
    """Its task has been deferred and woken up; the next try takes up what is there."""
    run = site.start("mortal_batch", die_at="part-N.jsonl is whole, not yet named")
    site.ended(run)
    site.every_row_once()
    assert len(site.local.control.jobs()) == CHUNKS


def test_a_worker_that_dies_when_its_tuning_job_has_just_begun_leaves_it_to_the_next_try(site):
    """The record is in Airflow's own task state store; the platform's list tells the id that it lacks."""
    run = site.start("mortal_train", die_at="POST /v1/train is answered")
    site.ended(run)
    assert len(site.tuning.jobs) == 1
    assert site.airflow.xcom(run, "work")["model_name"] == "tuned-1"


def test_triggerer_scheduler_and_platform_that_are_killed_cost_no_try(site):
    """All three, while the task is deferred."""
    site.local.control.hold(after_rows=5)
    run = site.start("mortal_batch")
    site.airflow.wait_task(run, "work", "deferred")
    wait_until(lambda: len(site.local.control.jobs()) == CHUNKS)
    site.airflow.stop("triggerer", signal.SIGKILL)
    site.airflow.stop("scheduler", signal.SIGKILL)
    site.local.kill()
    site.local.restart()
    site.airflow.start("scheduler")
    site.airflow.start("triggerer")
    site.ended(run)
    site.every_row_once()
    assert len(site.local.control.jobs()) == CHUNKS


def test_a_deferred_task_that_is_cleared_attaches_to_its_batch_jobs(site):
    site.local.control.hold(after_rows=5)
    run = site.start("mortal_batch")
    site.airflow.wait_task(run, "work", "deferred")
    before = tries_of(site, run)
    site.clear(run)
    wait_until(lambda: tries_of(site, run) > before)
    site.local.control.release()
    site.ended(run, cleared=1)
    site.every_row_once()
    assert len(site.local.control.jobs()) == CHUNKS


def test_a_deferred_tuning_that_is_cleared_is_cancelled_and_begun_anew(site):
    """Of two jobs one is cancelled, and the task returns the other, whichever of kill and new try comes first."""
    site.tuning.script = [("CREATED", *["TRAINING MODEL"] * 1000), WELL]
    run = site.start("mortal_train")
    site.airflow.wait_task(run, "work", "deferred")
    wait_until(
        lambda: site.tuning.jobs["1"].looks > 2
    )  # by the trigger: only one that runs is told of the clearing
    site.clear(run)
    site.ended(run, cleared=1)
    assert [job.state for job in site.tuning.jobs.values()] == ["CANCELLED", "COMPLETED"]
    assert site.airflow.xcom(run, "work")["model_name"] == "tuned-2"


def tries_of(site: Site, run: Run) -> int:
    return max(task["try_number"] for task in site.airflow.task_instances(run))
