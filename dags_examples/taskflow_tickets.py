"""TaskFlow: a function writes the prompts, the platform answers them as batch jobs, and a second function asks for a summary.

What a function returns is sent as it is: it is neither a template nor a path. ``categorize`` is called once per run, however
often its task is deferred or retried.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pendulum
from airflow.providers.common.compat.sdk import DAG, ObjectStoragePath

from airflow_provider_lamini.decorators import (
    task,  # Airflow's own, with types for this provider's decorators
)

with DAG(
    "taskflow_tickets",
    schedule="@daily",
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    default_args={"retries": 2},
    params={
        "data": str(Path(__file__).parent / "data" / "tickets_by_product"),  # or s3://, gs://, abfs://
        "output": "/tmp/taskflow_tickets",  # noqa: S108
        "model": "HuggingFaceTB/SmolLM2-135M-Instruct",
    },
) as dag:

    @task.lamini_batch_inference(
        model_name="{{ params.model }}",
        output="{{ params.output }}/{{ run_id }}/{{ ti.map_index }}",
        output_type={"topic": ["payment", "login", "delivery", "broken", "wish"]},
        passthrough=["ticket_id"],
        max_failed_rows="10%",
        deferrable=True,
        poll_interval=5,
    )
    def categorize(product: str, *, params: dict) -> Iterator[dict[str, object]]:
        """Yield a row for each ticket of a product."""
        import json

        file = ObjectStoragePath(f"{params['data']}/{product}.jsonl")
        for ticket in map(json.loads, file.read_text(encoding="utf-8").splitlines()):
            prompt = f"{ticket['body']}\n\nThis message to the makers of {product} is about"
            yield {"ticket_id": ticket["ticket_id"], "prompt": prompt}

    @task.lamini_completion(model_name="{{ params.model }}", max_new_tokens=60)
    def summarize(answers: list[dict]) -> str:
        """Return one prompt with the most frequent topic of each product."""
        from airflow_provider_lamini.results import read_outputs

        lines = []
        for manifest in answers:
            topics = Counter(
                row["output"]["topic"] for row in read_outputs(manifest["output"]) if row["output"]
            )
            lines.append(f"- {manifest['output']}: {topics.most_common(1)}")
        return "\n".join(["The most frequent topics of today's tickets:", *lines, "In one sentence,"])

    summarize(categorize.expand(product=["kestova_notes", "loftkeep_cloud"]))
