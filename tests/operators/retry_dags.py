"""A Dag whose task has the retry policy. ``test_retry_dags.py`` copies this file into Airflow's Dags folder."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_lamini.operators.completion import LaminiCompletionOperator
from airflow_provider_lamini.retry_policies import platform_retry_policy

with DAG(
    "retries",
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    params={"model": "none"},
    default_args={
        "retries": 2,
        "retry_delay": timedelta(minutes=1),
        "retry_policy": platform_retry_policy(loading_delay=timedelta(seconds=1)),
    },
) as dag:
    LaminiCompletionOperator(task_id="complete", prompt="one two", model_name="{{ params.model }}")
