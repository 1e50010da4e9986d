"""Processes rows in one of several variants, in a process of its own, and prints what that took as JSON.

``rows.py`` starts it: ``python bench/support/rows_worker.py VARIANT INPUT OUTPUT URL``.
"""

from __future__ import annotations

import json
import os
import sys
import time
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parents[2]
CHUNK_SIZE = int(os.environ.get("ROWS_PER_CHUNK", "1000"))
PROMPT = "Summarize in one sentence: "
MODEL = "some/model"
IN_FLIGHT = int(os.environ.get("JOBS_IN_FLIGHT", "8"))
REUSE_FROM = os.environ.get("REUSE_FROM") or None


def memory(field: str) -> float:
    """Return this process's memory in MiB.

    :param field: ``VmRSS`` for the current value, ``VmHWM`` for the peak
    """
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{field}:")[1].split()[0]) / 1024


def measure(function: Callable[[], object]) -> dict[str, float]:
    """Call a function, and return what that took: the fields of ``Cost`` in ``rows.py``."""
    idle = memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    started_at, cpu = time.perf_counter(), time.process_time()
    function()
    return {
        "seconds": time.perf_counter() - started_at,
        "cpu": time.process_time() - cpu,
        "memory": memory("VmHWM") - idle,
        "idle_memory": idle,
    }


def operator(path: str, output: str, url: str) -> Callable[[], object]:
    """Prepare the batch inference operator, as a worker has it when a task begins."""
    _set_up_airflow(url)
    _load_libraries(path)
    from airflow_provider_lamini.operators.batch_inference import LaminiBatchInferenceOperator
    from tests.support.tasks import execute

    task = LaminiBatchInferenceOperator(
        task_id="infer",
        input=path,
        prompt=PROMPT + "{text}",
        passthrough=["id"],
        model_name=MODEL,
        output=output,
        chunk_size=CHUNK_SIZE,
        max_in_flight=IN_FLIGHT,
        reuse_from=REUSE_FROM,
        deferrable=False,
    )
    return lambda: execute(task)


def embedding(path: str, output: str, url: str) -> Callable[[], object]:
    """Prepare the embedding operator, which writes Parquet."""
    _set_up_airflow(url)
    from airflow_provider_lamini.operators.embedding import LaminiEmbeddingOperator
    from tests.support.tasks import execute

    task = LaminiEmbeddingOperator(
        task_id="embed",
        input=path,
        prompt="text",
        passthrough=["id"],
        output=output,
        output_format="parquet",
        chunk_size=CHUNK_SIZE,
        max_in_flight=IN_FLIGHT,
        deferrable=False,
    )
    return lambda: execute(task)


def loop(path: str, output: str, url: str) -> Callable[[], object]:
    """Prepare the barest loop: read the rows, build the bodies, post them, write the raw answers."""
    import httpx

    _load_libraries(path)

    def process_rows() -> None:
        with httpx.Client(base_url=url) as http:
            for number, rows in enumerate(_chunks(path)):
                body = {"model_name": MODEL, "prompt": [PROMPT + row["text"] for row in rows]}
                job_id = http.post("/v1/batch_completions", json=body).json()["id"]
                answer = http.get(f"/v1/batch_completions/{job_id}/result")
                Path(output, f"{number}.json").write_bytes(answer.content)

    Path(output).mkdir()
    return process_rows


def embedding_loop(path: str, output: str, url: str) -> Callable[[], object]:
    """Prepare the barest loop for embeddings in Parquet."""
    import httpx
    import pyarrow as pa
    from pyarrow import parquet

    def process_rows() -> None:
        with httpx.Client(base_url=url) as http:
            for number, rows in enumerate(_chunks(path)):
                body = {"prompt": [row["text"] for row in rows]}
                job_id = http.post("/v1/batch_embeddings", json=body).json()["id"]
                vectors = http.get(f"/v1/batch_embeddings/{job_id}/result").json()["embedding"]
                vector_type = pa.list_(pa.float32(), len(vectors[0]))
                columns = {
                    "id": pa.array([row["id"] for row in rows]),
                    "embedding": pa.array(vectors, type=vector_type),
                }
                parquet.write_table(pa.table(columns), Path(output, f"{number}.parquet"))

    Path(output).mkdir()
    return process_rows


def _chunks(path: str) -> Iterator[list[dict[str, Any]]]:
    if path.endswith(".parquet"):
        from pyarrow import parquet

        for batch in parquet.ParquetFile(path).iter_batches(CHUNK_SIZE, columns=["id", "text"]):
            yield batch.to_pylist()
        return
    with Path(path).open("rb") as file:
        while lines := list(islice(file, CHUNK_SIZE)):
            yield [json.loads(line) for line in lines]


def _load_libraries(path: str) -> None:
    """Import the libraries that both variants use before either is measured: they cost both the same."""
    import httpx  # noqa: F401

    if path.endswith(".parquet"):
        from pyarrow import parquet  # noqa: F401


def _set_up_airflow(url: str) -> None:
    sys.path.insert(0, str(ROOT))
    os.environ["AIRFLOW_CONN_LAMINI_DEFAULT"] = json.dumps(
        {"conn_type": "lamini", "host": url, "password": "key"}
    )
    # A task's process is forked from its supervisor, and loads all plugins before it runs the task.
    import airflow.sdk.execution_time.supervisor  # noqa: F401
    from airflow.sdk.listener import get_listener_manager

    get_listener_manager()


VARIANTS = {
    "operator": operator,
    "barest loop": loop,
    "embedding operator": embedding,
    "barest embedding loop": embedding_loop,
}

if __name__ == "__main__":
    _, variant, *arguments = sys.argv
    print(json.dumps(measure(VARIANTS[variant](*arguments))))
