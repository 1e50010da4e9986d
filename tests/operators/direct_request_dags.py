"""Dags as users write them. ``test_direct_request_dags.py`` copies this file into Airflow's Dags folder."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_lamini.operators.chat import LaminiChatOperator
from airflow_provider_lamini.operators.completion import LaminiCompletionOperator
from airflow_provider_lamini.operators.embedding import LaminiEmbeddingOperator

COMMON_DAG = {
    "start_date": datetime(2026, 1, 1, tzinfo=UTC),
    "params": {"model": "none", "output": "none", "topic": "parcels", "size": 2, "kind": {"said": "str"}},
}


@task
def keep(result: object, name: str, params: dict) -> None:
    """Save what a task returned."""
    Path(params["output"], f"{name}.json").write_text(json.dumps(result, default=list))


with DAG("direct_embeddings", schedule=None, **COMMON_DAG) as embeddings:
    folder = LaminiEmbeddingOperator(
        task_id="embed",
        input="{{ params.output }}/docs.jsonl",
        prompt="{title} on {{ params.topic }}",
        passthrough=["{{ 'i' }}d"],
        output="{{ params.output }}/{{ run_id }}",
        output_format="{{ 'par' + 'quet' }}",
        chunk_size="{{ params.size }}",
        deferrable=True,
        poll_interval=0.1,
        timeout=60,
    )
    keep.override(task_id="keep_folder")(folder.output, "folder")
    few = LaminiEmbeddingOperator(task_id="embed_few", input=["a", "b of {{ params.topic }}"])
    keep.override(task_id="keep_few")(few.output, "few")

with DAG("direct_texts", schedule=None, **COMMON_DAG, render_template_as_native_obj=True) as texts:
    complete = LaminiCompletionOperator(
        task_id="complete",
        prompt="about {{ params.topic }}",
        model_name="{{ params.model }}",
        output_type="{{ params.kind }}",
        max_new_tokens="{{ 4 + 4 }}",
    )
    chat = LaminiChatOperator(
        task_id="chat",
        messages=[
            "{{ ti.xcom_pull(task_ids='complete')['output']['said'] }} again",
            [{"role": "user", "content": "b c"}],
        ],
        model_name="{{ params.model }}",
        system="You know {{ params.topic }}.",
    )
    complete >> chat
    keep({"outputs": chat.output["outputs"], "model": complete.output["model"]}, "chat")

with DAG("direct_mapped", schedule=None, **COMMON_DAG) as mapped:
    completions = LaminiCompletionOperator.partial(
        task_id="complete", model_name="{{ params.model }}"
    ).expand(prompt=["one two", ["three four", "five six"]])
    keep.override(task_id="keep_mapped")(completions.output, "mapped")

    @task
    def uppercase(text: str) -> str:
        """Convert a text to upper case."""
        return text.upper()

    vectors = LaminiEmbeddingOperator(task_id="embed_mapped", input=uppercase.expand(text=["a", "b"]))
    keep.override(task_id="keep_vectors")(vectors.output, "vectors")
