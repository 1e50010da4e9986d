"""Dags that are scheduled on jobs of a platform, and on what another Dag has made."""

from __future__ import annotations

import os
from typing import Any

from airflow.sdk import DAG, Asset, AssetWatcher, task

from airflow_provider_lamini.operators.memory_rag_build import LaminiMemoryRagBuildOperator
from airflow_provider_lamini.operators.train import LaminiTrainOperator
from airflow_provider_lamini.triggers.job_event import JobEventTrigger

TUNED = Asset(
    "lamini://jobs/tuned",
    watchers=[
        AssetWatcher(
            name="tuning",
            trigger=JobEventTrigger(
                platform="lamini",
                kind="tuning",
                conn_id="lamini_default",
                states=["succeeded", "failed"],
                poll_interval=0.5,
            ),
        )
    ],
)
TRAINED = Asset(
    "emissary://jobs/trained",
    watchers=[
        AssetWatcher(
            name="training",
            trigger=JobEventTrigger(
                platform="emissary",
                kind="training",
                conn_id="emissary_default",
                scope=os.environ["WATCHED_PROJECT"],
                poll_interval=0.5,
            ),
        )
    ],
)
MODEL = Asset("lamini://models/answers")
INDEX = Asset("lamini://indexes/answers")


def reads(dag_id: str, asset: Asset) -> None:
    """Make a Dag that returns the ``extra`` of the events by which it was started."""
    with DAG(dag_id, schedule=[asset], catchup=False):

        @task
        def read(triggering_asset_events: Any) -> list[Any]:
            """Return the events that the Dag has received."""
            return [event.extra for event in triggering_asset_events[asset]]

        read()


for dag_id, asset in (
    ("after_tuning", TUNED),
    ("after_training", TRAINED),
    ("after_model", MODEL),
    ("after_index", INDEX),
):
    reads(dag_id, asset)

with DAG("makes", schedule=None, catchup=False):
    LaminiTrainOperator(
        task_id="train",
        input="{{ dag_run.conf['input'] }}",
        model_name="test/base",
        finetune_args={"max_steps": 2},
        custom_model_name="answers",
        outlets=[MODEL],
        deferrable=True,
        poll_interval=0.5,
        retries=2,
    )
    LaminiMemoryRagBuildOperator(
        task_id="build",
        files="{{ dag_run.conf['documents'] }}",
        model_name="test/base",
        outlets=[INDEX],
        deferrable=True,
        poll_interval=0.5,
        retries=2,
    )
