"""A Dag that Airflow 2 starts by itself, once."""

from __future__ import annotations

import os

import pendulum
from airflow.providers.common.compat.sdk import DAG

from airflow_provider_lamini.operators.batch_inference import LaminiBatchInferenceOperator

with DAG("once", schedule="@once", start_date=pendulum.datetime(2026, 1, 1), catchup=False):
    LaminiBatchInferenceOperator(
        task_id="infer",
        input=["one", "one two", "one two three"],
        model_name=os.environ["MODEL"],
        output=os.environ["OUTPUT"],
        deferrable=True,
        poll_interval=1,
    )
