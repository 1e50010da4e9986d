"""One way to take rows through the platform, in a process of its own: prints what it took as JSON.

``python bench/rows_work.py operator INPUT OUTPUT URL``: see ``rows.py``, which starts it.
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

ROOT = Path(__file__).resolve().parents[1]
CHUNK = int(os.environ.get("ROWS_PER_CHUNK", "1000"))
PROMPT = "Summarize in one sentence: "
MODEL = "some/model"
IN_FLIGHT = int(os.environ.get("JOBS_IN_FLIGHT", "8"))


def memory(field: str) -> float:
    """MiB of this process: ``VmRSS`` now, ``VmHWM`` at the most so far."""
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{field}:")[1].split()[0]) / 1024


def measured(work: Callable[[], object]) -> dict[str, float]:
    """Seconds, CPU seconds and MiB above what the process had before."""
    idle = memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here on
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return {
        "seconds": time.perf_counter() - wall,
        "cpu": time.process_time() - cpu,
        "memory": memory("VmHWM") - idle,
        "idle": idle,
    }


def operator(path: str, output: str, url: str) -> Callable[[], object]:
    """The operator, as a worker has it when a task begins."""
    _airflow(url)
    _libraries(path)
    from airflow_provider_lamini.operators.batch_inference import LaminiBatchInferenceOperator
    from tests.support.tasks import execute

    task = LaminiBatchInferenceOperator(
        task_id="infer",
        input=path,
        prompt=PROMPT + "{text}",
        passthrough=["id"],
        model_name=MODEL,
        output=output,
        chunk_size=CHUNK,
        max_in_flight=IN_FLIGHT,
        deferrable=False,
    )
    return lambda: execute(task)


def embedding(path: str, output: str, url: str) -> Callable[[], object]:
    """The embedding operator, into Parquet."""
    _airflow(url)
    from airflow_provider_lamini.operators.embedding import LaminiEmbeddingOperator
    from tests.support.tasks import execute

    task = LaminiEmbeddingOperator(
        task_id="embed",
        input=path,
        prompt="text",
        passthrough=["id"],
        output=output,
        output_format="parquet",
        chunk_size=CHUNK,
        max_in_flight=IN_FLIGHT,
        deferrable=False,
    )
    return lambda: execute(task)


def bare(path: str, output: str, url: str) -> Callable[[], object]:
    """The barest loop: read, build the bodies, post, write the raw answers. It checks and remembers nothing."""
    import httpx

    _libraries(path)

    def work() -> None:
        with httpx.Client(base_url=url) as http:
            for number, rows in enumerate(_chunks(path)):
                body = {"model_name": MODEL, "prompt": [PROMPT + row["text"] for row in rows]}
                job_id = http.post("/v1/batch_completions", json=body).json()["id"]
                answer = http.get(f"/v1/batch_completions/{job_id}/result")
                Path(output, f"{number}.json").write_bytes(answer.content)

    Path(output).mkdir()
    return work


def bare_vectors(path: str, output: str, url: str) -> Callable[[], object]:
    """The barest loop for vectors in Parquet."""
    import httpx
    import pyarrow as pa
    from pyarrow import parquet

    def work() -> None:
        with httpx.Client(base_url=url) as http:
            for number, rows in enumerate(_chunks(path)):
                body = {"prompt": [row["text"] for row in rows]}
                job_id = http.post("/v1/batch_embeddings", json=body).json()["id"]
                vectors = http.get(f"/v1/batch_embeddings/{job_id}/result").json()["embedding"]
                kind = pa.list_(pa.float32(), len(vectors[0]))
                columns = {
                    "id": pa.array([row["id"] for row in rows]),
                    "embedding": pa.array(vectors, type=kind),
                }
                parquet.write_table(pa.table(columns), Path(output, f"{number}.parquet"))

    Path(output).mkdir()
    return work


def _chunks(path: str) -> Iterator[list[dict[str, Any]]]:
    if path.endswith(".parquet"):
        from pyarrow import parquet

        for batch in parquet.ParquetFile(path).iter_batches(CHUNK, columns=["id", "text"]):
            yield batch.to_pylist()
        return
    with Path(path).open("rb") as lines:
        while some := list(islice(lines, CHUNK)):
            yield [json.loads(line) for line in some]


def _libraries(path: str) -> None:
    """Load what both ways take from others, before either is measured: it costs both the same."""
    import httpx  # noqa: F401

    if path.endswith(".parquet"):
        from pyarrow import parquet  # noqa: F401


def _airflow(url: str) -> None:
    sys.path.insert(0, str(ROOT))
    os.environ["AIRFLOW_CONN_LAMINI_DEFAULT"] = json.dumps(
        {"conn_type": "lamini", "host": url, "password": "key"}
    )


WAYS = {"operator": operator, "embedding": embedding, "bare": bare, "bare-vectors": bare_vectors}

if __name__ == "__main__":
    _, way, *arguments = sys.argv
    print(json.dumps(measured(WAYS[way](*arguments))))
