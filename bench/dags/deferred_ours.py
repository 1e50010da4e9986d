"""Many tasks that wait at the same time, each for a batch of one row."""

from __future__ import annotations

import os

from airflow.sdk import DAG

from airflow_provider_lamini.operators.batch_inference import LaminiBatchInferenceOperator

with DAG("deferred_ours", schedule=None, max_active_tasks=int(os.environ["BENCH_TASKS"])):
    LaminiBatchInferenceOperator.partial(
        task_id="wait",
        model_name="any",
        deferrable=True,
        poll_interval=int(os.environ["BENCH_POLL_INTERVAL"]),
    ).expand_kwargs(
        [
            {"input": [f"row {number}"], "output": f"{os.environ['BENCH_OUTPUT']}/{{{{ run_id }}}}/{number}"}
            for number in range(int(os.environ["BENCH_TASKS"]))
        ]
    )
