"""Several processes that do the same work at the same moment, as two live tries of one task would."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import tempfile
import threading
import time
from collections import Counter
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from fsspec.implementations.local import LocalFileSystem

from tests.support.serving import served

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

IMPORTED_ONCE = [
    "airflow_provider_lamini.operators.batch_inference",
    "airflow_provider_lamini.operators.train",
    "airflow_provider_lamini.runs.row_run",
    "tests.support.tasks",
]


class BatchPlatform:
    """Counts the prompts that it is paid for. Its batches are done at once.

    :ivar url: its base URL
    :ivar prompts: how often each prompt came
    :ivar jobs: the prompts of each job
    """

    def __init__(self) -> None:
        self.url = ""
        self.prompts: Counter[str] = Counter()
        self.jobs: list[list[str]] = []
        self._lock = threading.Lock()

    def start(self, prompts: list[str]) -> dict[str, Any]:
        """Start a batch; the answer takes a moment, in which others may come."""
        with self._lock:
            self.prompts.update(prompts)
            self.jobs.append(prompts)
            job_id = str(len(self.jobs) - 1)
        time.sleep(random.uniform(0, 0.004))
        return {"id": job_id}

    def result(self, job_id: str) -> dict[str, Any]:
        """What a batch has made of its prompts."""
        outputs = [prompt.upper() for prompt in self.jobs[int(job_id)]]
        return {"outputs": outputs, "finish_reason": ["stop"] * len(outputs)}


@contextmanager
def batch_platform() -> Iterator[BatchPlatform]:
    """Serve such a platform."""
    platform = BatchPlatform()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer(platform.result(self.path.split("/")[3]))

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self._answer(platform.start(body["prompt"]))

        def _answer(self, answer: dict[str, Any]) -> None:
            content = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """The test prints nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 64

    server = Server(("127.0.0.1", 0), Handler)
    with served(server) as address:
        platform.url = f"http://{address}"
        yield platform


class SharedBucket(LocalFileSystem):  # type: ignore[misc]
    """A store that several processes share: it has no locks, but it can put on the condition that nothing is there."""

    protocol = "shared"

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **_: Any) -> None:
        """Put an object, whole or not at all."""
        path = self._strip_protocol(path)
        os.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120 - as the class above does
        handle, temporary = tempfile.mkstemp(dir=os.path.dirname(path), prefix=".put-")  # noqa: PTH120
        with os.fdopen(handle, "wb") as file:
            file.write(value)
        if mode == "create":
            try:
                os.link(temporary, path)
            finally:
                os.unlink(temporary)  # noqa: PTH108
        else:
            os.replace(temporary, path)  # noqa: PTH105


def attach_shared() -> None:
    """Let Airflow have the store as ``memory://``, in this process."""
    try:
        from airflow.sdk.io import attach
    except ImportError:
        from airflow.io.store import attach  # type: ignore[import-not-found,no-redef]
    attach("memory", fs=SharedBucket())


def race(work: Callable[[int], str], rounds: int, processes: int, timeout: float) -> list[list[str]]:
    """Let several processes do a piece of work at the same moment, again and again.

    :param work: what each does in a round; a function of a module, told the round
    :param rounds: how often
    :param processes: how many there are
    :param timeout: seconds for everything
    :returns: what the processes came to, for each round
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTED_ONCE)
    barrier, answers = context.Barrier(processes), context.Queue()
    workers = [
        context.Process(target=_rounds, args=(work, rounds, barrier, answers, dict(os.environ)))
        for _ in range(processes)
    ]
    until = time.monotonic() + timeout
    for worker in workers:
        worker.start()
    try:
        ended: list[list[str]] = [[] for _ in range(rounds)]
        for _ in range(rounds * processes):
            number, answer = answers.get(timeout=max(0.0, until - time.monotonic()))
            ended[number].append(answer)
        return ended
    finally:
        for worker in workers:
            worker.join(5)
            if worker.is_alive():
                worker.kill()
                worker.join(5)


def _rounds(
    work: Callable[[int], str], rounds: int, barrier: Any, answers: Any, environment: dict[str, str]
) -> None:
    os.environ.update(environment)  # the server that forks has that of the first race
    attach_shared()
    for number in range(rounds):
        barrier.wait(60)
        try:
            answer = work(number)
        except Exception as error:  # noqa: BLE001 - the test judges it
            answer = f"{type(error).__name__}: {error}"
        answers.put((number, answer))
