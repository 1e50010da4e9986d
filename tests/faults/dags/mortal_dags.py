"""Dags whose tasks die once, at a step that the run's configuration names."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_lamini.operators.batch_inference import LaminiBatchInferenceOperator
from airflow_provider_lamini.operators.train import LaminiTrainOperator
from tests.support.crash.steps import Watch, die

RETRIES: dict[str, Any] = {"retries": 2, "retry_delay": timedelta(seconds=0)}


class Once(Watch):
    """Dies at a step for as long as a file is there, and takes that file along."""

    def __init__(self, step: str, flag: Path) -> None:
        super().__init__()
        self._step = step
        self._flag = flag

    def passed(self, step: str) -> None:
        """Die, if it is the step."""
        if step == self._step and self._flag.exists():
            self._flag.unlink()
            die()


class Mortal:
    """An operator whose process is watched."""

    def work(self, task):
        told = task.context["dag_run"].conf.get("die")
        if told:
            watch = Once(told["step"], Path(told["flag"]))
            watch.learn()
            watch.start()
        return super().work(task)


class MortalBatch(Mortal, LaminiBatchInferenceOperator):
    """Batch inference that dies."""


class MortalTrain(Mortal, LaminiTrainOperator):
    """Tuning that dies."""

    list_delay = 0.2


with DAG("mortal_batch", schedule=None, catchup=False):
    MortalBatch(
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

with DAG("mortal_train", schedule=None, catchup=False):
    MortalTrain(
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
