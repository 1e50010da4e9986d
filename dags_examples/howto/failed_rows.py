"""How to send the rows that one model has failed to another model, and to put the answers of both together."""

from typing import Any

import pendulum
from airflow.providers.common.compat.sdk import DAG, ObjectStoragePath, task

from airflow_provider_lamini.operators.batch_inference import LaminiBatchInferenceOperator

with DAG(
    "howto_failed_rows",
    schedule="@daily",
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    default_args={"retries": 2},
    params={
        "data": "s3://company",
        "model": "tuned-reviews",
        "other_model": "meta-llama/Llama-3.1-8B-Instruct",
    },
) as dag:
    reviews: dict[str, Any] = {
        "input": "{{ params.data }}/reviews/*.jsonl",
        "prompt": "Review: {body}\nSummary:",
        "passthrough": ["review_id"],
        "deferrable": True,
    }
    first = LaminiBatchInferenceOperator(
        task_id="first",
        model_name="{{ params.model }}",
        output="{{ params.data }}/first/{{ run_id }}",
        max_failed_rows="10%",
        **reviews,
    )
    second = LaminiBatchInferenceOperator(
        task_id="second",
        model_name="{{ params.other_model }}",
        only_failed_of=first.output["output"],
        output="{{ params.data }}/second/{{ run_id }}",
        **reviews,
    )

    @task
    def combine(results: list[dict[str, Any]], path: str) -> None:
        """Write all rows in their order, each with the model that has answered it."""
        import json

        from airflow_provider_lamini.results import read_outputs

        first, second = results
        answered = {row["index"]: row | {"model": second["model"]} for row in read_outputs(second["output"])}
        with ObjectStoragePath(path).open("w") as file:
            for row in read_outputs(first["output"]):
                found = answered.get(row["index"], row | {"model": first["model"]})
                file.write(json.dumps(found) + "\n")

    combine([first.output, second.output], "{{ params.data }}/combined-{{ run_id }}.jsonl")
