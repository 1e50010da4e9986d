"""A Dag that ends at once, and Dags whose task process dies once, at a step that the run's configuration names."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_lamini.operators.batch_inference import LaminiBatchInferenceOperator
from airflow_provider_lamini.operators.train import LaminiTrainOperator
from tests.support.crash.steps import Watch, die

RETRIES: dict[str, Any] = {"retries": 2, "retry_delay": timedelta(seconds=0)}


class CrashOnce(Watch):
    """Kills the process at a step while a flag file exists, and deletes that file."""

    def __init__(self, step: str, flag: Path) -> None:
        super().__init__()
        self._step = step
        self._flag = flag

    def passed(self, step: str) -> None:
        """Die if this is the step."""
        if step == self._step and self._flag.exists():
            self._flag.unlink()
            die()


class Crashing:
    """Operator mixin: watches the task's process."""

    def work(self, task):
        crash = task.context["dag_run"].conf.get("crash")
        if crash:
            watch = CrashOnce(crash["step"], Path(crash["flag"]))
            watch.learn()
            watch.start()
        return super().work(task)


class CrashingBatch(Crashing, LaminiBatchInferenceOperator):
    """Batch inference whose process dies."""


class CrashingTrain(Crashing, LaminiTrainOperator):
    """Tuning whose process dies."""

    list_delay = 0.2


with DAG("quick", schedule=None, catchup=False):

    @task
    def work() -> str:
        """Occupy a worker slot briefly."""
        return "done"

    work()


with DAG("batch", schedule=None, catchup=False):
    CrashingBatch(
        task_id="work",
        input="{{ dag_run.conf['input'] }}",
        output="{{ dag_run.conf['output'] }}",
        prompt="text",
        passthrough=["id"],
        model_name="{{ dag_run.conf['model'] }}",
        chunk_size=10,
        deferrable=True,
        poll_interval=1,
        **RETRIES,
    )

with DAG("train", schedule=None, catchup=False):
    CrashingTrain(
        task_id="work",
        lamini_conn_id="tuning",
        input="{{ dag_run.conf['input'] }}",
        prompt="text",
        answer="text",
        model_name="base",
        deferrable=True,
        poll_interval=1,
        **RETRIES,
    )

with DAG("train_waiting", schedule=None, catchup=False):
    LaminiTrainOperator(
        task_id="train",
        lamini_conn_id="waiting",
        dataset_id="dataset1",
        model_name="base",
        deferrable=True,
        poll_interval=1,
        retries=2,
        retry_delay=timedelta(seconds=20),
    )
