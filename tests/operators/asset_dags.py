"""A Dag with an outlet. ``test_asset_dags.py`` copies this file into Airflow's Dags folder."""

from __future__ import annotations

from datetime import UTC, datetime

from airflow.providers.common.compat.sdk import DAG, Asset

from airflow_provider_lamini.decorators import task

RESULTS = Asset("lamini://results/nightly")


def add_team(context: dict, result: object) -> None:
    """Add to the event what only the author knows."""
    del result
    context["outlet_events"][RESULTS].extra["team"] = "support"


with DAG(
    "publishes",
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    params={"model": "none", "output": "none", "endpoint": "batch"},
) as dag:

    @task.lamini_batch_inference(
        endpoint="{{ params.endpoint }}",
        model_name="{{ params.model }}",
        output="{{ params.output }}",
        chunk_size=1,
        outlets=[RESULTS],
        post_execute=add_team,
        deferrable=True,
        poll_interval=0.1,
    )
    def prompts() -> list[str]:
        """Return prompts."""
        return ["a secret question", "another one"]

    prompts()
