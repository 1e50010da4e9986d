"""Dags as users write them. ``test_knowledge_dags.py`` copies this file into Airflow's Dags folder."""

from __future__ import annotations

from datetime import UTC, datetime

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_lamini.operators.classifier_train import LaminiClassifierTrainOperator
from airflow_provider_lamini.operators.classify import LaminiClassifyOperator
from airflow_provider_lamini.operators.memory_rag_build import LaminiMemoryRagBuildOperator
from airflow_provider_lamini.operators.memory_rag_query import LaminiMemoryRagQueryOperator

WAITING = {"deferrable": True, "poll_interval": "{{ 0.5 }}", "timeout": "{{ 60 }}"}
STATE = "{{ params.output }}/state"
COMMON_DAG = {
    "start_date": datetime(2026, 1, 1, tzinfo=UTC),
    "params": {"output": "none", "docs": "none", "model": "none", "size": 2},
    "default_args": {"retries": 0},
}

with DAG("knowledge_without_waiting", schedule=None, **COMMON_DAG) as without_waiting:
    # The task that queries the index waits for it, not the task that builds it.
    build = LaminiMemoryRagBuildOperator(
        task_id="build",
        files=["{{ params.docs }}/*.md", "{{ params.docs }}/more"],
        model_name="{{ params.model }}",
        state_path=STATE,
        wait=False,
        **WAITING,
    )
    LaminiMemoryRagQueryOperator(
        task_id="ask",
        index_id=build.output["index_id"],
        input=[{"name": "alpha"}, {"name": "{{ 'be' }}ta"}],
        prompt="What is {name}?",
        rag_query_size="{{ params.size }}",
        output="{{ params.output }}/answers",
        passthrough=["name"],
        **WAITING,
    )

with DAG("knowledge_native", schedule=None, render_template_as_native_obj=True, **COMMON_DAG) as native:
    train = LaminiClassifierTrainOperator(
        task_id="train",
        project="{{ 'mail' }}",
        model_name="{{ params.model }}",
        classes="{{ {'spam': 'offers', 'ham': 'letters'} }}",
        examples={"spam": ["{{ 'buy' }} now"], "ham": ["see you"]},
        state_path=STATE,
        **WAITING,
    )
    LaminiClassifyOperator(
        task_id="classify", model_id=train.output["model_id"], input="buy now", top_n="{{ params.size - 1 }}"
    )
