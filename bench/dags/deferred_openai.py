"""The same with the OpenAI provider: one batch per task, for a file that is already uploaded."""

from __future__ import annotations

import os

from airflow.providers.openai.operators.openai import OpenAITriggerBatchOperator
from airflow.sdk import DAG

with DAG("deferred_openai", schedule=None, max_active_tasks=int(os.environ["BENCH_TASKS"])):
    OpenAITriggerBatchOperator.partial(
        task_id="wait",
        file_id="file-1",
        endpoint="/v1/chat/completions",
        deferrable=True,
        poll_interval=int(os.environ["BENCH_POLL_INTERVAL"]),
    ).expand(metadata=[{"number": str(number)} for number in range(int(os.environ["BENCH_TASKS"]))])
