"""Dags whose lineage ``test_lineage_events.py`` looks at. It copies this file into Airflow's Dags folder."""

from __future__ import annotations

from datetime import UTC, datetime

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_lamini.operators.batch_inference import LaminiBatchInferenceOperator
from airflow_provider_lamini.results import read_outputs

with DAG(
    "lineage",
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    params={"model": "none", "output": "none"},
    default_args={"retries": 0},
) as lineage:
    infer = LaminiBatchInferenceOperator(
        task_id="infer",
        input="{{ params.output }}/rows.jsonl",
        model_name="{{ params.model }}",
        output="{{ params.output }}/{{ run_id }}",
        deferrable=True,
        poll_interval=0.1,
        timeout=60,
    )

    @task
    def count(folder: str) -> int:
        """Count the results."""
        return sum(1 for _ in read_outputs(folder))

    strict = LaminiBatchInferenceOperator(
        task_id="strict",
        input="{{ params.output }}/rows.jsonl",
        model_name="{{ params.model }}",
        output="{{ params.output }}/strict/{{ run_id }}",
        check="builtins.callable",  # no text is
        deferrable=True,
        poll_interval=0.1,
        timeout=60,
    )

    count(infer.output["output"]) >> strict
