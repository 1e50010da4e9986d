"""How much faster the local platform answers requests at once than one after another.

``python bench/local_batching.py`` starts the platform with its real models, sends as many requests each
way, and prints rows per second and the ratios. The prompts differ, so that nothing is answered from a cache.
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

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx

MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
CLIENTS = 8


def prompts(way: str, rows: int) -> list[str]:
    return [f"Ticket {way}{number}: the {number}th order has not arrived.\nReply:" for number in range(rows)]


def timed(what: Callable[[], None]) -> float:
    began = time.perf_counter()
    what()
    return time.perf_counter() - began


def measure(platform: LocalPlatform, rows: int, tokens: int) -> dict[str, float]:
    """Seconds for each way of sending the rows."""
    with platform.client() as http:

        def ask(prompt: str) -> None:
            body = {"model_name": MODEL, "prompt": prompt, "max_new_tokens": tokens}
            http.post("/v1/completions", json=body, timeout=300).raise_for_status()

        def one_after_another() -> None:
            for prompt in prompts("a", rows):
                ask(prompt)

        def at_once() -> None:
            with ThreadPoolExecutor(CLIENTS) as clients:
                list(clients.map(ask, prompts("b", rows)))

        def batch() -> None:
            body = {"model_name": MODEL, "prompt": prompts("c", rows), "max_new_tokens": tokens}
            job_id = http.post("/v1/batch_completions", json=body).raise_for_status().json()["id"]
            while not _done(http, job_id):
                time.sleep(0.05)

        ask("Warm up:")
        ways = {
            "one after another": one_after_another,
            f"{CLIENTS} clients at once": at_once,
            "as a batch": batch,
        }
        return {name: timed(way) for name, way in ways.items()}


def _done(http: httpx.Client, job_id: str) -> bool:
    answer = http.get(f"/v1/batch_completions/{job_id}/result").raise_for_status().json()
    return bool(answer) and all(answer["finish_reason"])


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=int, default=24)
    parser.add_argument("--tokens", type=int, default=40, help="most tokens per answer")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, local_platform(Path(folder)) as platform:
        seconds = measure(platform, options.rows, options.tokens)
    slowest = seconds["one after another"]
    print(f"{options.rows} rows of at most {options.tokens} tokens")
    for name, took in seconds.items():
        print(f"{name:>20}: {took:6.1f} s, {options.rows / took:5.2f} rows/s, {slowest / took:4.2f}x")
    return 0


if __name__ == "__main__":
    sys.exit(main())
