"""RAG index refresh: fetch the pages of a web site, index them, and answer a question from the index.

The refresh adds new pages, rebuilds the index if pages changed or are gone, and otherwise does nothing. To run the Dag on a
laptop, serve the site with ``python -m http.server 8000 --directory dags_examples/data/help_site``, start ``lamini-local serve``,
and define the connection ``lamini_default``.
"""

from __future__ import annotations

import pendulum
from airflow.providers.common.compat.sdk import DAG, Asset, ObjectStoragePath, task

from airflow_provider_lamini.operators.memory_rag_query import LaminiMemoryRagQueryOperator
from airflow_provider_lamini.operators.memory_rag_refresh import LaminiMemoryRagRefreshOperator

INDEX = Asset("lamini://indexes/help-site")

with DAG(
    "rag_index_refresh",
    schedule="0 3 * * *",
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    default_args={"retries": 2},
    max_active_runs=1,  # only one run at a time may change the index
    params={
        "site": "http://127.0.0.1:8000",
        "folder": "/tmp/rag_index_refresh",  # noqa: S108 - or a URI of any object storage that Airflow supports
        "model": "HuggingFaceTB/SmolLM2-135M-Instruct",
        "question": "How many days do I have to send back something I bought?",
    },
):

    @task
    def list_pages(*, params: dict) -> list[str]:
        """Return the names of the site's pages."""
        import httpx

        return httpx.get(f"{params['site']}/pages.txt", timeout=60).raise_for_status().text.split()

    @task
    def fetch(name: str, *, params: dict, run_id: str) -> str:
        """Save a page as a file; only its path goes into XCom."""
        import httpx

        page = ObjectStoragePath(f"{params['folder']}/{run_id}/{name}")
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_bytes(httpx.get(f"{params['site']}/{name}", timeout=60).raise_for_status().content)
        return str(page)

    refresh = LaminiMemoryRagRefreshOperator(
        task_id="refresh",
        # Each run has its own folder, so a page that the site no longer has is missing from it and leaves the index.
        files="{{ params.folder }}/{{ run_id }}",
        manifest="{{ params.folder }}/index.json",
        model_name="{{ params.model }}",
        deferrable=True,
        outlets=[INDEX],  # the event's extra has index_id and action; answer_from_index.py is scheduled on it
    )
    ask = LaminiMemoryRagQueryOperator(
        task_id="ask",
        index_id=refresh.output["index_id"],
        input="{{ params.question }}",
        rag_query_size=1,  # a small model does better with only the best passage
    )
    fetch.expand(name=list_pages()) >> refresh
