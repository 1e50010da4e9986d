"""Embedding refresh: every night a vector for each support ticket, in Parquet, and a look for the nearest ones.

The tickets are sent to the platform as batch jobs, and waited for without holding a worker. The output folder holds
Parquet files with one row per ticket, in order: its id, its subject and its vector. With the local platform
(``lamini-local serve``) it runs on a laptop.
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
        "input": str(
            HERE / "data" / "support_tickets.jsonl"
        ),  # or s3://, gs://, abfs://; CSV and Parquet, too
        "output": "/tmp/embedding_refresh",  # noqa: S108
        "question": "I was charged twice",
    },
) as dag:
    tickets = LaminiEmbeddingOperator(
        task_id="embed_tickets",
        input="{{ params.input }}",
        prompt="{subject}\n{body}",  # what of a row becomes the text; all-MiniLM-L6-v2 reads the first 256 tokens
        passthrough=["ticket_id", "subject"],  # whatever you need to find the row again
        output="{{ params.output }}/{{ run_id }}",  # a folder per run: a retry finds what is done there
        output_format="parquet",  # or jsonl, which needs no pyarrow
        chunk_size=100,
        deferrable=True,
        poll_interval=5,
        # Where the platform has no batches: endpoint="embedding", which holds a worker while it runs.
    )
    # A few texts need no folder: their vectors are the task's result.
    question = LaminiEmbeddingOperator(task_id="embed_question", input="{{ params.question }}")

    @task
    def nearest(manifest: dict[str, object], asked: dict[str, object]) -> list[dict[str, object]]:
        """Find the tickets that are closest to the question; a vector database does so for millions."""
        from airflow_provider_lamini.results import read_outputs

        (wanted,) = asked["embeddings"]
        rows = [row for row in read_outputs(manifest["output"]) if row["embedding"]]
        rows.sort(key=lambda row: -sum(a * b for a, b in zip(wanted, row["embedding"], strict=True)))
        return [{"ticket": row["ticket_id"], "subject": row["subject"]} for row in rows[:3]]

    nearest(tickets.output, question.output)
