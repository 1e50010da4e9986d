"""Embedding refresh: every night, embed all support tickets into Parquet and find the ones nearest to a question.

The Dag sends the tickets to the platform as batch jobs; no worker slot is held while they run. The output folder holds
Parquet files with one row per ticket, in order: its id, its subject and its vector. With the local platform
(``lamini-local serve``) the Dag runs on a laptop. Parquet needs the extra ``parquet``.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pendulum
from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_lamini.operators.embedding import LaminiEmbeddingOperator

HERE = Path(__file__).parent

with DAG(
    "embedding_refresh",
    schedule="0 3 * * *",
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    default_args={"retries": 2, "retry_delay": timedelta(minutes=5)},
    params={
        "input": str(HERE / "data" / "support_tickets.jsonl"),  # or s3://, gs://; also CSV or Parquet
        "output": "/tmp/embedding_refresh",  # noqa: S108
        "question": "I was charged twice",
    },
) as dag:
    tickets = LaminiEmbeddingOperator(
        task_id="embed_tickets",
        input="{{ params.input }}",
        prompt="{subject}\n{body}",  # builds the text from a row; all-MiniLM-L6-v2 reads the first 256 tokens
        passthrough=["ticket_id", "subject"],  # columns that identify the row
        output="{{ params.output }}/{{ run_id }}",  # one folder per run: a retry continues from it
        # Rows that have not changed since the last run are copied from its folder and not sent again.
        reuse_from="{{ ti.xcom_pull(task_ids='embed_tickets', key='output', include_prior_dates=True) or '' }}",
        output_format="parquet",  # or jsonl, which needs no pyarrow
        chunk_size=100,
        deferrable=True,
        poll_interval=5,
        # For a platform without batches, use endpoint="embedding", which holds a worker while it runs.
    )
    # A few texts need no output folder: their vectors are the task's result.
    question = LaminiEmbeddingOperator(task_id="embed_question", input="{{ params.question }}")

    @task
    def nearest(manifest: dict[str, object], query: dict[str, object]) -> list[dict[str, object]]:
        """Find the tickets nearest to the question. For millions of tickets, use a vector database."""
        from airflow_provider_lamini.results import read_outputs

        (target,) = query["embeddings"]
        rows = [row for row in read_outputs(manifest["output"]) if row["embedding"]]
        rows.sort(key=lambda row: -sum(a * b for a, b in zip(target, row["embedding"], strict=True)))
        return [{"ticket": row["ticket_id"], "subject": row["subject"]} for row in rows[:3]]

    nearest(tickets.output, question.output)
