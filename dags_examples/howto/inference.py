"""How to infer: rows from storage to storage, a few prompts, vectors, results into a table."""

import pendulum
from airflow.providers.common.compat.sdk import DAG

from airflow_provider_lamini.operators.batch_inference import LaminiBatchInferenceOperator
from airflow_provider_lamini.operators.chat import LaminiChatOperator
from airflow_provider_lamini.operators.completion import LaminiCompletionOperator
from airflow_provider_lamini.operators.embedding import LaminiEmbeddingOperator
from airflow_provider_lamini.operators.results_to_table import ResultsToTableOperator

with DAG(
    "howto_inference",
    schedule="@daily",
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    default_args={"retries": 2},
    params={"data": "s3://company", "model": "meta-llama/Llama-3.1-8B-Instruct"},
) as dag:
    infer = LaminiBatchInferenceOperator(
        task_id="infer",
        input="{{ params.data }}/reviews/*.jsonl",
        prompt="Review: {body}\nIs it positive?",
        model_name="{{ params.model }}",
        output_type={"positive": "bool"},
        output="{{ params.data }}/answers/{{ run_id }}",
        passthrough=["review_id"],
        deferrable=True,
    )
    load = ResultsToTableOperator(
        task_id="load",
        results=infer.output,
        conn_id="warehouse",
        table="reviews",
        columns={"review_id": "review_id", "positive": "output.positive"},
        key=["review_id"],
    )
    complete = LaminiCompletionOperator(
        task_id="complete",
        prompt="Review: works, but loud.\nIs it positive?",
        model_name="{{ params.model }}",
        output_type={"positive": "bool", "reason": "str"},
    )
    chat = LaminiChatOperator(
        task_id="chat",
        system="You write short, friendly mails.",
        messages="Thank a customer for this review: works, but loud.",
        model_name="{{ params.model }}",
        max_new_tokens=200,
    )
    embed = LaminiEmbeddingOperator(
        task_id="embed",
        input="{{ params.data }}/reviews/*.jsonl",
        prompt="{body}",
        output="{{ params.data }}/vectors/{{ run_id }}",
        output_format="parquet",
        passthrough=["review_id"],
        deferrable=True,
    )
