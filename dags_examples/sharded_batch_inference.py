"""Sharded batch inference: one task per file of a folder, and one merged result.

When one task is not enough, Airflow is the distributed engine: the operator is mapped over the files of a folder. Each
file is a shard with its own output folder and ledger, so a crash or a retry affects only one shard. At the end, the
shards' manifests are merged; rows are not copied. With the local platform (``lamini-local serve``) the Dag runs on a laptop.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pendulum
from airflow.providers.common.compat.sdk import DAG, ObjectStoragePath, task

from airflow_provider_lamini.operators.batch_inference import LaminiBatchInferenceOperator

with DAG(
    "sharded_batch_inference",
    schedule="@weekly",
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    default_args={"retries": 3, "retry_delay": timedelta(minutes=1)},
    params={
        # s3://, gs://, abfs://, or a local path. At most 1024 files ([core] max_map_length); for more, make each shard a glob.
        "input": str(Path(__file__).parent / "data" / "tickets_by_product"),
        "output": "/tmp/sharded_batch_inference",  # noqa: S108
        "model": "HuggingFaceTB/SmolLM2-135M-Instruct",
    },
):

    @task
    def list_shards(params: dict[str, str], run_id: str) -> list[dict[str, str]]:
        """List one shard per file. The list is stored as this task's result, so a retry of a shard sees the same list."""
        folder = ObjectStoragePath(params["input"])
        files = sorted((file for file in folder.iterdir() if file.suffix == ".jsonl"), key=str)
        return [{"input": str(file), "output": f"{params['output']}/{run_id}/{file.stem}"} for file in files]

    infer = LaminiBatchInferenceOperator.partial(
        task_id="infer",
        prompt='{body}\n\nThe subject of this message is "{subject}". It is about',
        model_name="{{ params.model }}",
        output_type={"category": ["payment", "login", "delivery", "broken", "wish"]},
        passthrough=["ticket_id"],
        chunk_size=5,  # small for the demo; use thousands for a real table
        deferrable=True,  # waiting shards hold no worker; max_active_tis_per_dag limits how many read and write
        poll_interval=5,
    ).expand_kwargs(list_shards())

    @task
    def merge(manifests: list[dict[str, object]], params: dict[str, str], run_id: str) -> dict[str, object]:
        """Write ``shards.json``; ``read_shards`` then returns all rows in order."""
        from airflow_provider_lamini.results import merge_shards

        return merge_shards(manifests, f"{params['output']}/{run_id}")

    merge(infer.output)
