"""A Dag whose tasks have pages: one of this provider, and another one."""

from __future__ import annotations

from datetime import timedelta

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_lamini.operators.batch_inference import LaminiBatchInferenceOperator

with DAG("shown", schedule=None, catchup=False):
    LaminiBatchInferenceOperator(
        task_id="infer",
        input="{{ dag_run.conf['input'] }}",
        prompt="text",
        passthrough=["id"],
        model_name="{{ dag_run.conf['model'] }}",
        output="{{ dag_run.conf['output'] }}",
        row_retries=0,
        max_failed_rows=1,
        retries=2,
        retry_delay=timedelta(seconds=0),
    )

    @task
    def other() -> dict[str, str]:
        """Return what looks like a result of the operator."""
        return {"output": "/etc", "manifest": "/etc/manifest.json"}

    other()
