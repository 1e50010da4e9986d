"""How much faster the local platform answers concurrent requests than sequential ones.

``python bench/local_batching.py`` starts the platform with its real models, sends the same number of requests in each way,
and prints rows per second and the ratios. All prompts differ, so that no answer comes from a cache.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.support.local_platform import LocalPlatform, local_platform
from tests.support.processes import unwind_on_sigterm

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx

MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
CLIENTS = 8


def make_prompts(mark: str, count: int) -> list[str]:
    """Make prompts that differ from each other and from those with another mark."""
    return [
        f"Ticket {mark}{number}: the {number}th order has not arrived.\nReply:" for number in range(count)
    ]


def timed(function: Callable[[], None]) -> float:
    """Call a function, and return the seconds that it took."""
    started_at = time.perf_counter()
    function()
    return time.perf_counter() - started_at


def measure(platform: LocalPlatform, rows: int, tokens: int) -> dict[str, float]:
    """Return the seconds that each way of sending the rows takes."""
    with platform.client() as http:

        def complete(prompt: str) -> None:
            body = {"model_name": MODEL, "prompt": prompt, "max_new_tokens": tokens}
            http.post("/v1/completions", json=body, timeout=300).raise_for_status()

        def send_sequentially() -> None:
            for prompt in make_prompts("a", rows):
                complete(prompt)

        def send_concurrently() -> None:
            with ThreadPoolExecutor(CLIENTS) as clients:
                list(clients.map(complete, make_prompts("b", rows)))

        def send_batch() -> None:
            body = {"model_name": MODEL, "prompt": make_prompts("c", rows), "max_new_tokens": tokens}
            job_id = http.post("/v1/batch_completions", json=body).raise_for_status().json()["id"]
            while not is_done(http, job_id):
                time.sleep(0.05)

        complete("Warm up:")
        return {
            "sequential": timed(send_sequentially),
            f"{CLIENTS} clients at once": timed(send_concurrently),
            "as a batch": timed(send_batch),
        }


def is_done(http: httpx.Client, job_id: str) -> bool:
    result = http.get(f"/v1/batch_completions/{job_id}/result").raise_for_status().json()
    return bool(result) and all(result["finish_reason"])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=int, default=24)
    parser.add_argument("--tokens", type=int, default=40, help="maximum tokens per answer")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, local_platform(Path(folder)) as platform:
        seconds = measure(platform, options.rows, options.tokens)
    sequential = seconds["sequential"]
    print(f"{options.rows} rows of at most {options.tokens} tokens")
    for name, taken in seconds.items():
        print(f"{name:>20}: {taken:6.1f} s, {options.rows / taken:5.2f} rows/s, {sequential / taken:4.2f}x")


if __name__ == "__main__":
    unwind_on_sigterm()
    main()
