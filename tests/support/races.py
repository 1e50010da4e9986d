"""Run the same try of a task in several processes at the same time, like two live tries."""

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
from tests.support.tasks import TI, begin, execute

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PRELOAD = [
    "airflow_provider_lamini.operators.batch_inference",
    "airflow_provider_lamini.operators.train",
    "tests.support.races",
]
"""Modules that the fork server imports once."""
ROWS = 6
CHUNK = 2


class BatchPlatform:
    """A platform that counts submitted prompts. Its batch jobs complete at once.

    :ivar url: base URL
    :ivar prompts: how often each prompt was submitted
    :ivar jobs: the prompts of each job
    """

    def __init__(self) -> None:
        self.url = ""
        self.prompts: Counter[str] = Counter()
        self.jobs: list[list[str]] = []
        self._lock = threading.Lock()

    def start(self, prompts: list[str]) -> dict[str, Any]:
        """Start a batch job. The response takes a moment, so that other requests overlap with it."""
        with self._lock:
            self.prompts.update(prompts)
            self.jobs.append(prompts)
            job_id = str(len(self.jobs) - 1)
        time.sleep(random.uniform(0, 0.004))
        return {"id": job_id}

    def result(self, job_id: str) -> dict[str, Any]:
        """Return the results of a batch job."""
        outputs = [prompt.upper() for prompt in self.jobs[int(job_id)]]
        return {"outputs": outputs, "finish_reason": ["stop"] * len(outputs)}


@contextmanager
def batch_platform() -> Iterator[BatchPlatform]:
    """Run such a platform on loopback."""
    platform = BatchPlatform()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            self._respond(platform.result(self.path.split("/")[3]))

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self._respond(platform.start(body["prompt"]))

        def _respond(self, response: dict[str, Any]) -> None:
            content = json.dumps(response).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 64

    server = Server(("127.0.0.1", 0), Handler)
    with served(server) as address:
        platform.url = f"http://{address}"
        yield platform


class SharedBucket(LocalFileSystem):  # type: ignore[misc]
    """An object store that processes share. It has no locks, but it can create an object only if it does not exist."""

    protocol = "shared"

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **_: Any) -> None:
        """Write an object atomically."""
        path = self._strip_protocol(path)
        os.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120 - as in the base class
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
    """Register the store with Airflow as ``memory://`` in this process."""
    try:
        from airflow.sdk.io import attach
    except ImportError:
        from airflow.io.store import attach  # type: ignore[import-not-found,no-redef]
    attach("memory", fs=SharedBucket())


def race(work: Callable[[int], str], rounds: int, processes: int, timeout: float) -> list[list[str]]:
    """Let several processes do the same work at the same moment, round after round.

    :param work: module-level function that gets the number of the round
    :param rounds: number of rounds
    :param processes: number of processes
    :param timeout: seconds for all rounds
    :return: for each round, what the processes returned
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    barrier, results = context.Barrier(processes), context.Queue()
    workers = [
        context.Process(target=_run_rounds, args=(work, rounds, barrier, results, dict(os.environ)))
        for _ in range(processes)
    ]
    deadline = time.monotonic() + timeout
    for worker in workers:
        worker.start()
    try:
        by_round: list[list[str]] = [[] for _ in range(rounds)]
        for _ in range(rounds * processes):
            number, result = results.get(timeout=max(0.0, deadline - time.monotonic()))
            by_round[number].append(result)
        return by_round
    finally:
        for worker in workers:
            worker.join(5)
            if worker.is_alive():
                worker.kill()
                worker.join(5)


def _run_rounds(
    work: Callable[[int], str], rounds: int, barrier: Any, results: Any, env: dict[str, str]
) -> None:
    os.environ.update(env)  # the fork server has the environment of the first race
    attach_shared()
    for number in range(rounds):
        barrier.wait(60)
        try:
            result = work(number)
        except Exception as error:  # noqa: BLE001 - the test compares it
            result = f"{type(error).__name__}: {error}"
        results.put((number, result))


def infer(number: int) -> str:
    """Run a try of a batch inference until it ends or another process takes over."""
    from airflow.providers.common.compat.sdk import TaskDeferred

    from airflow_provider_lamini.operators.batch_inference import LaminiBatchInferenceOperator
    from airflow_provider_lamini.rows.errors import LedgerLostError

    def operator() -> Any:
        return LaminiBatchInferenceOperator(
            task_id="infer",
            input=[f"round {number} row {row}" for row in range(ROWS)],
            model_name="m",
            output=f"{os.environ['RACE_FOLDER']}/{number}",
            chunk_size=CHUNK,
            max_in_flight=2,
            deferrable=True,
        )

    event = None
    while True:
        try:
            if event is None:
                return f"{execute(operator())['counts']['ok']} ok"
            return f"{operator().execute_complete({'ti': TI}, event=event)['counts']['ok']} ok"
        except TaskDeferred as deferred:
            event = _all_done(deferred.trigger)
        except LedgerLostError:
            return "taken over"


def _all_done(trigger: Any) -> dict[str, Any]:
    """Build the event of a trigger whose jobs all succeeded."""
    from airflow_provider_lamini.jobs.event import EndedJob, JobEvent
    from airflow_provider_lamini.jobs.state import JobState

    ended = {job_id: EndedJob(JobState.SUCCEEDED, "done") for job_id in trigger.job_ids}
    return JobEvent(ended=ended, deadline=trigger.deadline).payload()


def tune(number: int) -> str:
    """Start a try of a tuning task; return the job that it waits for."""
    from airflow_provider_lamini.operators.train import LaminiTrainOperator
    from tests.support.tuning_platform import LinkedTask

    def operator() -> Any:
        return LaminiTrainOperator(
            task_id="train",
            model_name="base-model",
            dataset_id="given",
            state_path=os.environ["RACE_FOLDER"],
            deferrable=True,
        )

    ti = LinkedTask(run_id=f"run-{number}")
    return f"job {begin(operator, ti).trigger['job_ids'][0]}"
