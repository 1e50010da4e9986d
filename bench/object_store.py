"""A run over rows on an object store, beside the barest loop on the same store: requests per chunk, and seconds.

``.venv-stores/bin/python bench/object_store.py`` needs the environment of ``make test-stores``. The store is an emulator of S3
in a process of its own, behind a proxy in another one, which counts the requests and makes each of them take 20 ms. The platform
ends every job at once. ``--check`` exits with 1 if a bound is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench.stubs.instant_jobs import running_stub
from bench.support.figures import Figures, exit_status
from tests.support.processes import unwind_on_sigterm
from tests.support.stores.emulators import MOTO, quiet_environment, running
from tests.support.stores.proxy import store_proxy

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.stores.proxy import StoreProxy

CHUNKS = 50
ROWS = 100
"""Rows per chunk."""
DELAY = 0.02
"""Seconds that each request takes at least."""
IN_FLIGHT = 16
MAX_REQUESTS = 8.0
MAX_SECONDS = 6.0
IDLE_LOOP_SECONDS = 2.5
"""What the loop takes on an idle machine, at most. On a busy one, the bound grows as much as the loop's time."""


def measure(proxy: StoreProxy, work: Callable[[], object]) -> tuple[float, float, Counter[str]]:
    """Return the seconds, the CPU seconds and the requests by kind of some work."""
    proxy.reset(delay=DELAY)
    started_at, cpu = time.perf_counter(), time.process_time()
    work()
    seconds, cpu = time.perf_counter() - started_at, time.process_time() - cpu
    kinds = Counter(each.kind for each in proxy.log())
    proxy.reset()
    return seconds, cpu, kinds


def loop(source: str, output: str, url: str) -> None:
    """Read the rows, post them, fetch the answers and write them; no check, no record, one after the other."""
    import httpx

    from airflow_provider_lamini.compat import object_storage_path

    rows = [json.loads(line) for line in object_storage_path(source).read_bytes().splitlines()]
    with httpx.Client(base_url=url) as http:
        for number in range(CHUNKS):
            prompts = [row["text"] for row in rows[number * ROWS : (number + 1) * ROWS]]
            job_id = http.post("/v1/batch_completions", json={"model_name": "m", "prompt": prompts}).json()[
                "id"
            ]
            answer = http.get(f"/v1/batch_completions/{job_id}/result")
            path = object_storage_path(output)
            path.fs.pipe_file(f"{path.path}/{number}.json", answer.content)


def compare(figures: Figures, proxy: StoreProxy, url: str) -> None:
    """Measure the operator, deferred and in place, and the loop."""
    from airflow_provider_lamini.compat import object_storage_path
    from airflow_provider_lamini.operators.batch_inference import LaminiBatchInferenceOperator
    from tests.support.tasks import run_to_end

    source = MOTO.uri("rows.jsonl")
    lines = [json.dumps({"id": row, "text": f"row {row} of many"}) for row in range(CHUNKS * ROWS)]
    object_storage_path(source).write_bytes("\n".join(lines).encode())

    def operator(name: str, *, deferrable: bool) -> Callable[[], object]:
        def make() -> LaminiBatchInferenceOperator:
            return LaminiBatchInferenceOperator(
                task_id="infer",
                input=source,
                prompt="{text}",
                passthrough=["id"],
                model_name="m",
                output=MOTO.uri(name),
                chunk_size=ROWS,
                max_in_flight=IN_FLIGHT,
                deferrable=deferrable,
                poll_interval=0.5,
            )

        return lambda: run_to_end(make)

    measure(proxy, operator("first", deferrable=False))  # loads all modules
    bare, _, _ = measure(proxy, lambda: loop(source, MOTO.uri("bare"), url))
    figures.note(f"barest loop, {CHUNKS} chunks", bare, "s")
    for name, deferrable in (("in place", False), ("deferred", True)):
        seconds, cpu, kinds = measure(proxy, operator(name.replace(" ", "-"), deferrable=deferrable))
        figures.check(f"{name}: requests per chunk", sum(kinds.values()) / CHUNKS, "<=", MAX_REQUESTS)
        for kind in ("read", "write", "delete", "look", "list"):
            figures.note(f"{name}: {kind} requests", kinds[kind])
        bound = MAX_SECONDS * max(1.0, bare / IDLE_LOOP_SECONDS)
        figures.check(f"{name}: {CHUNKS} chunks", seconds, "<=", bound, "s")
        figures.note(f"{name}: CPU", cpu, "s")
        figures.note(f"{name}: time, relative to the loop", seconds / bare)


def main() -> int:
    """Run the comparison.

    :return: the exit status
    """
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="exit with 1 if a bound is missed")
    options = parser.parse_args()
    figures = Figures(f"Rows on an object store whose requests take {DELAY * 1000:.0f} ms")
    with tempfile.TemporaryDirectory() as folder, running(MOTO, Path(folder) / "store") as store:
        os.environ |= quiet_environment() | {
            "AIRFLOW_HOME": f"{folder}/airflow",
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
            "AIRFLOW__AIRFLOW_PROVIDER_LAMINI__DEFER_AFTER": "0",
            "AIRFLOW__AIRFLOW_PROVIDER_LAMINI__MIN_TRIGGER_SECONDS": "0",
        }
        with store_proxy(store) as proxy, running_stub(ROWS) as url:
            fields = {"conn_type": "lamini", "host": url, "password": "a-key"}
            os.environ |= MOTO.environment(proxy.url) | {"AIRFLOW_CONN_LAMINI_DEFAULT": json.dumps(fields)}
            compare(figures, proxy, url)
    figures.print()
    return exit_status([figures], check=options.check)


if __name__ == "__main__":
    unwind_on_sigterm()
    sys.exit(main())
