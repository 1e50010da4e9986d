"""Two small Dags: one waits in the triggerer until a file is there, the other needs a worker for a moment."""

from __future__ import annotations

from datetime import timedelta

from airflow.providers.common.compat.sdk import DAG, task
from airflow.providers.standard.sensors.filesystem import FileSensor

with DAG("probe_waits", schedule=None, catchup=False):
    FileSensor(
        task_id="wait",
        filepath="{{ dag_run.conf['file'] }}",
        poke_interval=0.5,
        deferrable=True,
        retries=2,  # a scheduler that is late gives a try up
        retry_delay=timedelta(seconds=0),
    )

with DAG("probe_works", schedule=None, catchup=False):

    @task
    def work() -> str:
        """Occupy a worker's slot briefly."""
        return "done"

    work()
