"""Load a local platform with every kind of request at once, and print latencies, errors and memory.

``python -m tests.fuzz.load --seconds 300 --engine real`` does it with the real models.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import tempfile
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import psutil

from tests.fuzz.run import running
from tests.support.processes import unwind_on_sigterm

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.local_platform import LocalPlatform

SAMPLES = 10
"""Measurements of the memory."""
SETTLE_SECONDS = 60
"""Time for jobs to end after the load."""


class Load:
    """Clients that send requests until a deadline.

    :param platform: the platform
    :param deadline: monotonic time
    """

    def __init__(self, platform: LocalPlatform, deadline: float) -> None:
        self._platform = platform
        self._deadline = deadline
        self._lock = threading.Lock()
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self.errors: list[str] = []

    def run(
        self, requests: dict[str, Callable[[httpx.Client, int], httpx.Response]]
    ) -> list[threading.Thread]:
        """Start one client for each kind of request."""
        threads = [threading.Thread(target=self._client, args=item, daemon=True) for item in requests.items()]
        for thread in threads:
            thread.start()
        return threads

    def _client(self, name: str, send: Callable[[httpx.Client, int], httpx.Response]) -> None:
        with self._platform.client() as http:
            for number in itertools.count():
                if time.monotonic() > self._deadline:
                    return
                began = time.monotonic()
                try:
                    response = send(http, number)
                    problem = (
                        ""
                        if response.status_code == httpx.codes.OK
                        else f"{response.status_code} {response.text}"
                    )
                except httpx.TransportError as error:
                    problem = repr(error)
                with self._lock:
                    self.seconds[name].append(time.monotonic() - began)
                    if problem:
                        self.errors.append(f"{name}: {problem[:200]}")
                if name.startswith(("batch", "documents", "tune", "classif", "health")):
                    time.sleep(0.5)


def requests(model: str) -> dict[str, Callable[[httpx.Client, int], httpx.Response]]:
    """A request of each kind."""
    text = {"model_name": model, "max_new_tokens": 12}
    page = "# Page {}\n\nThe harbour of town {} has {} cranes. They were built long ago.\n\n" * 20
    chat = {"model": model, "messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 12}
    return {
        "health": lambda http, _: http.get("/healthz"),
        "completion": lambda http, n: http.post("/v1/completions", json={**text, "prompt": f"Number {n} is"}),
        "typed completion": lambda http, n: http.post(
            "/v2/completions", json={**text, "prompt": f"{n} + 1 =", "output_type": {"sum": "int"}}
        ),
        "chat": lambda http, _: http.post("/inf/chat/completions", json=chat),
        "embedding": lambda http, n: http.post(
            "/v1/embedding", json={"prompt": [f"Text {n}.", "Another one."]}
        ),
        "batch of completions": lambda http, n: http.post(
            "/v1/batch_completions", json={**text, "prompt": [f"Row {n} of {row}:" for row in range(4)]}
        ),
        "batch of embeddings": lambda http, n: http.post(
            "/v1/batch_embeddings", json={"prompt": [f"Row {n} of {row}." for row in range(32)]}
        ),
        "documents": lambda http, n: http.post(
            "/alpha/memory-rag/train",
            data={"model_name": model},
            files=[("files", (f"{n}.md", page.format(*[n] * 60).encode()))],
        ),
        "list of models": lambda http, _: http.get("/v1alpha/downloaded_models"),
    }


def main() -> int:
    """Parse the command line, load the platform, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=300)
    parser.add_argument("--engine", choices=("tiny", "real"), default="tiny")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="load-") as folder,
        running(options.engine, Path(folder)) as platform,
    ):
        process = psutil.Process(platform.pid)
        load = Load(platform, time.monotonic() + options.seconds)
        threads = load.run(requests(platform.models[0]))
        memory = []
        for _ in range(SAMPLES):
            time.sleep(options.seconds / SAMPLES)
            memory.append(process.memory_info().rss // 1_000_000)
        for thread in threads:
            thread.join()
        print(f"{'request':24} {'count':>7} {'median':>8} {'95 %':>8} {'longest':>8}")
        for name, times in load.seconds.items():
            last = statistics.quantiles(times, n=20)[-1] if len(times) > 1 else times[0]
            print(
                f"{name:24} {len(times):>7} {statistics.median(times):>7.3f}s {last:>7.3f}s {max(times):>7.3f}s"
            )
        print(f"memory over time, MB: {memory}")
        print(f"errors: {len(load.errors)}", *load.errors[:5], sep="\n")
        unexpected = "failed unexpectedly" in platform.log
        print(f"unexpected errors in the log: {unexpected}")
    return 1 if load.errors or unexpected else 0


if __name__ == "__main__":
    unwind_on_sigterm()
    sys.exit(main())
