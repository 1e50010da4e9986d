"""How to answer from documents: build an index once, or keep one up to date, and query it."""

import pendulum
from airflow.providers.common.compat.sdk import DAG

from airflow_provider_lamini.operators.memory_rag_build import LaminiMemoryRagBuildOperator
from airflow_provider_lamini.operators.memory_rag_query import LaminiMemoryRagQueryOperator
from airflow_provider_lamini.operators.memory_rag_refresh import LaminiMemoryRagRefreshOperator

with DAG(
    "howto_memory_rag",
    schedule="@daily",
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 2},
    params={"data": "s3://company", "model": "meta-llama/Llama-3.1-8B-Instruct"},
) as dag:
    build = LaminiMemoryRagBuildOperator(
        task_id="build",
        files="{{ params.data }}/contracts",
        model_name="{{ params.model }}",
        deferrable=True,
    )
    refresh = LaminiMemoryRagRefreshOperator(
        task_id="refresh",
        files="{{ params.data }}/handbook",
        manifest="{{ params.data }}/rag/handbook.json",
        model_name="{{ params.model }}",
        deferrable=True,
    )
    query = LaminiMemoryRagQueryOperator(
        task_id="query",
        index_id=refresh.output["index_id"],
        input="{{ params.data }}/questions/*.jsonl",
        prompt="{question}",
        rag_query_size=5,
        output="{{ params.data }}/answers/{{ run_id }}",
        passthrough=["question_id"],
    )
