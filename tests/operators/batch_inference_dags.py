"""Dags as users write them. ``test_batch_inference_dags.py`` copies this file into Airflow's Dags folder."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

from airflow.providers.common.compat.sdk import DAG, ObjectStoragePath, task

from airflow_provider_lamini.operators.batch_inference import LaminiBatchInferenceOperator

COMMON = {"deferrable": True, "poll_interval": 0.1, "timeout": 60, "retries": 0}
COMMON_DAG = {
    "start_date": datetime(2026, 1, 1, tzinfo=UTC),
    "params": {"model": "none", "output": "none"},
}

with DAG(
    "inference_templates",
    schedule=None,
    **COMMON_DAG
    | {"params": {**COMMON_DAG["params"], "topic": "shipping", "size": 2, "kind": {"said": "str"}}},
    render_template_as_native_obj=True,
) as templates:
    LaminiBatchInferenceOperator(
        task_id="infer",
        input=["one", "two", "three"],
        prompt="{{ params.topic }} of {prompt}",
        model_name="{{ params.model }}",
        output="{{ params.output }}/{{ run_id }}",
        output_type="{{ params.kind }}",
        chunk_size="{{ params.size }}",
        max_new_tokens="{{ 4 + 4 }}",
        max_failed_rows="{{ 0.5 }}",
        **COMMON,
    )

with DAG("inference_texts", schedule=None, **COMMON_DAG) as texts:
    # Without native objects, templates render strings, also for numbers.
    LaminiBatchInferenceOperator(
        task_id="infer",
        input="{{ params.output }}/{{ ds }}.jsonl",
        prompt="{body}",
        model_name="{{ params.model }}",
        output="{{ params.output }}/{{ run_id }}",
        passthrough=["{{ 'i' }}d"],
        chunk_size="{{ 1 + 1 }}",
        max_failed_rows="{{ 10 }}%",
        row_retries="{{ 0 }}",
        **COMMON,
    )

with DAG("inference_mapped", schedule=None, **COMMON_DAG) as mapped:
    shards = LaminiBatchInferenceOperator.partial(
        task_id="infer",
        model_name="{{ params.model }}",
        output="{{ params.output }}/{{ run_id }}/{{ ti.map_index }}",
        chunk_size=2,
        **COMMON,
    ).expand(input=[["a one", "a two", "a three"], ["b one"]])

    @task
    def total(manifests: list[dict], params: dict) -> None:
        """Add up the rows of the shards."""
        count = sum(manifest["counts"]["ok"] for manifest in manifests)
        Path(params["output"], "total.txt").write_text(str(count))

    total(shards.output)

with DAG("inference_own_folders", schedule=None, **COMMON_DAG) as own_folders:

    @task
    def shard_arguments(params: dict) -> list[dict]:
        """Split the work: one input and one folder per shard."""
        return [
            {"input": [f"{name} one", f"{name} two"], "output": f"{params['output']}/{name}"} for name in "xy"
        ]

    LaminiBatchInferenceOperator.partial(
        task_id="infer", model_name="{{ params.model }}", **COMMON
    ).expand_kwargs(shard_arguments())

with DAG("inference_between_tasks", schedule=None, **COMMON_DAG) as between_tasks:

    @task
    def fetch() -> list[dict]:
        """Rows, as from a database."""
        return [{"id": number, "body": f"body {number}"} for number in range(5)]

    infer = LaminiBatchInferenceOperator(
        task_id="infer",
        input=fetch(),
        prompt="{body}",
        passthrough=["id"],
        model_name="{{ params.model }}",
        output="{{ params.output }}/{{ run_id }}",
        chunk_size=2,
        max_in_flight=1,  # so that it defers several times
        **COMMON,
    )

    @task
    def report(manifest: dict, output: str, params: dict) -> None:
        """Read the results from the folder that the task returned."""
        from airflow_provider_lamini.results import read_outputs

        content = {"manifest": manifest, "rows": list(read_outputs(output))}
        Path(params["output"], "report.json").write_text(json.dumps(content))

    report(infer.output, infer.output["output"])

with DAG("inference_paths", schedule=None, **COMMON_DAG) as paths:

    @task
    def write_files(params: dict) -> list[ObjectStoragePath]:
        """Write files for mapped tasks, and return Airflow's own path objects."""
        files = {"é.jsonl": b'{"prompt": "one"}\n', "b.csv": b"prompt\ntwo\n"}
        paths = []
        for name, content in files.items():
            paths.append(ObjectStoragePath(f"file://{params['output']}/{name}"))
            paths[-1].write_bytes(content)
        return paths

    LaminiBatchInferenceOperator.partial(
        task_id="infer",
        model_name="{{ params.model }}",
        output="{{ params.output }}/{{ ti.map_index }}",
        **COMMON,
    ).expand(input=write_files())
