"""Scheduled on a Memory RAG index: whenever ``rag_index_refresh`` has changed the index, answer the frequent questions anew.

The index and what was done to it come from the asset event; ``LaminiMemoryRagRefreshOperator`` puts them there. Started by hand,
the Dag takes the id of the index from ``params``.
"""

import pendulum
from airflow.providers.common.compat.sdk import DAG, AirflowSkipException, Asset, Param, task

from airflow_provider_lamini.operators.memory_rag_query import LaminiMemoryRagQueryOperator

INDEX = Asset("lamini://indexes/help-site")
QUESTIONS = ["How do I pair my buds?", "How many days do I have to send back something I bought?"]

with DAG(
    "answer_from_index",
    schedule=[INDEX],
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    default_args={"retries": 2},
    params={
        "index": Param(
            None, type=["null", "string"], description="For a run started by hand: the id of an index"
        ),
        "output": "/tmp/answer_from_index",  # noqa: S108
        "model": "HuggingFaceTB/SmolLM2-135M-Instruct",
    },
) as dag:

    @task
    def changed_index(**context: object) -> str:
        """Return the id of the index; skip the run if no refresh has changed anything."""
        # Airflow 2 calls assets datasets.
        events = context.get("triggering_asset_events") or context.get("triggering_dataset_events") or {}
        extras = [event.extra for found in events.values() for event in found]
        if not extras:
            if context["params"]["index"] is None:
                raise ValueError("Pass the id of an index as the parameter index.")
            return context["params"]["index"]
        if all(extra["action"] == "unchanged" for extra in extras):
            raise AirflowSkipException("The pages of the site have not changed.")
        return str(extras[-1]["index_id"])

    LaminiMemoryRagQueryOperator(
        task_id="answer",
        index_id=changed_index(),
        input=QUESTIONS,
        model_name="{{ params.model }}",
        output="{{ params.output }}/{{ run_id }}",
        rag_query_size=1,  # a small model does better with only the best passage
    )
