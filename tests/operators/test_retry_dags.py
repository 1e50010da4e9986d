"""Airflow applies the retry policy to a task that it runs."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.support.platforms import connect, posts
from tests.support.upstream import TEXT_MODEL

pytest.importorskip("airflow.sdk.definitions.retry_policy", reason="retry policies need Airflow 3.3")
pytestmark = [pytest.mark.dags, pytest.mark.usefixtures("airflow_db")]
PATH = "/v2/completions"


@pytest.fixture
def run(load_dags):
    """Runs the Dag; returns the end of its task and its number of tries."""

    def run_dag():
        dag = load_dags(Path(__file__).with_name("retry_dags.py"))["dag"]
        (ti,) = dag.test(run_conf={"model": TEXT_MODEL}).get_task_instances()
        return str(ti.state), ti.try_number

    return run_dag


def test_a_refused_key_is_not_retried(run, platform, monkeypatch):
    connect(monkeypatch, platform, password="another-key-0123456789")
    assert run() == ("failed", 1)
    assert posts(platform) == {f"POST {PATH}": 1}


def test_a_model_that_still_loads_is_retried_after_the_policys_delay_and_not_the_tasks(
    run, platform, monkeypatch
):
    connect(monkeypatch, platform, extra={"retry_budget": 0, "model_loading_budget": 0})
    platform.control.fault(PATH, status=513, times=1)
    began = time.monotonic()
    assert run() == ("success", 2)
    assert posts(platform) == {f"POST {PATH}": 2}
    assert 1 < time.monotonic() - began < 60
