"""A key that is revoked, and a connection that is deleted, while a task is deferred under Airflow's real components."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.support.airflow_stack import AirflowStack, Run
    from tests.support.tuning_platform import TuningPlatform

SLOW = ("CREATED", *["TRAINING MODEL"] * 10_000)


def log_of(airflow: AirflowStack, run: Run) -> str:
    """All logs of the task of a run, the triggerer's among them."""
    files = [file for file in airflow.home.rglob("*.log*") if run.run_id in str(file)]
    return "".join(file.read_text(errors="replace") for file in files)


@pytest.mark.parametrize(
    ("what", "words"),
    [
        (
            "revoked",
            "The tuning job 1 may still run and bill; a retry polls it again. Check the key of the connection. ",
        ),
        (
            "deleted",
            "Define the connection 'waiting', which no longer exists. 1 job may still run and bill (1); a retry",
        ),
    ],
)
def test_the_log_of_a_deferred_task_that_loses_its_connection_names_the_job(
    airflow: AirflowStack, tuning: TuningPlatform, what: str, words: str
):
    tuning.script = [SLOW]
    tuning.datasets["dataset1"] = [{"input": "a", "output": "b"}]
    airflow.add_connection("waiting", conn_type="lamini", host=tuning.url, password=tuning.key)
    key = tuning.key
    try:
        run = airflow.trigger_dag("train_waiting")
        airflow.wait_task(run, "train", "deferred")
        if what == "revoked":
            tuning.key = "another-key-0123"
        else:
            airflow.stop("triggerer")
            airflow.remove_connection("waiting")
            airflow.start("triggerer")
        airflow.until(words, 120, lambda: words in log_of(airflow, run))
        airflow.wait_task(run, "train", "up_for_retry")
        tuning.key = key
        tuning.jobs["1"].states = ["COMPLETED"]
        if what == "deleted":
            airflow.add_connection("waiting", conn_type="lamini", host=tuning.url, password=key)
        assert airflow.wait_run(run) == "success"
        assert list(tuning.jobs) == ["1"]
    finally:
        tuning.key = key
        airflow.remove_connection("waiting")
