"""A stub platform whose jobs run for a given time, and its launcher.

The stub runs in a process of its own, so that only the caller is measured: ``python bench/stubs/timed_jobs.py --seconds 5``
prints its port and serves until it is killed. It implements the parts of two APIs that a waiting task needs: Lamini's
tuning jobs and batch completions, and OpenAI's batches. Jobs run until ``POST /_stub/end``; submitted ones can finish
earlier. The stub implements the HTTP protocol itself instead of using a framework, because it must cost less than any
caller.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import ssl
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.request import Request, urlopen

if TYPE_CHECKING:
    from collections.abc import Iterator

STEPS = [{"loss": 1.5 / n, "learning_rate": 9e-4, "epoch": 0.1 * n, "step": n} for n in range(1, 4)]
"""The last training steps that a running tuning job reports."""


@dataclass(frozen=True)
class Stub:
    """A running stub.

    :param url: its address
    :param ca_file: path of the certificate authority to trust, if the stub uses TLS
    """

    url: str
    ca_file: str | None = None

    def control(self, command: str, **arguments: int) -> dict[str, Any]:
        """Send a command to the stub.

        :param command: ``jobs`` sets the listed tuning jobs, ``end`` ends all jobs, ``reset`` clears the counters,
            ``stats`` changes nothing
        :return: the stub's counters; for ``reset``, as they were before
        """
        body = json.dumps(arguments).encode()
        request = Request(f"{self.url}/_stub/{command}", data=body, method="POST")
        context = ssl.create_default_context(cafile=self.ca_file) if self.ca_file else None
        with urlopen(request, timeout=60, context=context) as response:
            counters: dict[str, Any] = json.load(response)
        return counters

    def connection(self, conn_type: str = "lamini") -> str:
        """Return an Airflow connection to the stub as JSON, for an environment variable.

        :param conn_type: the connection's type
        """
        return json.dumps({"conn_type": conn_type, "host": self.url, "password": "no-secret"})


@contextmanager
def running_stub(*, seconds: float = 5.0, rows: int = 100, tls: bool = False) -> Iterator[Stub]:
    """Run the stub in a process of its own.

    :param seconds: how long a submitted batch runs
    :param rows: rows of a batch that was not submitted to this stub
    :param tls: whether the stub uses TLS, as real platforms do
    """
    command = [sys.executable, "-I", __file__, "--seconds", str(seconds), "--rows", str(rows)]
    with tempfile.TemporaryDirectory() as folder:
        ca_file = None
        if tls:
            from tests.support.certificates import Authority

            authority = Authority(Path(folder) / "authority.pem")
            command += ["--certificate", str(authority.issue(Path(folder) / "stub.pem"))]
            ca_file = str(authority.path)
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                port = int(process.stdout.readline())
                yield Stub(f"{'https' if tls else 'http'}://127.0.0.1:{port}", ca_file)
            finally:
                process.kill()


@dataclass
class Platform:
    """The stub's jobs and its counters.

    :param seconds: how long a submitted batch runs
    :param rows: rows of a batch that was not submitted to this stub
    """

    seconds: float
    rows: int
    ended_at: float | None = None
    """When all jobs were ended, a Unix timestamp."""
    submitted: dict[str, tuple[float, int]] = field(default_factory=dict)
    """When each batch was submitted, and its number of rows."""
    job_lists: dict[bool, bytes] = field(default_factory=dict)
    """The list of tuning jobs as JSON, before (``False``) and after (``True``) the jobs were ended."""
    requests: dict[str, int] = field(default_factory=dict)
    """Number of requests by type."""
    request_times: list[float] = field(default_factory=list)
    bytes_sent: int = 0
    connections: int = 0
    max_connections: int = 0

    def set_jobs(self, running: int, old: int) -> None:
        """Set the list of tuning jobs.

        :param running: number of running jobs, with ids from 0
        :param old: number of jobs that ended long ago
        """
        old_jobs = [json.dumps(tuning_job(running + number, "COMPLETED", [])) for number in range(old)]
        for ended in (False, True):
            status = "COMPLETED" if ended else "TRAINING MODEL"
            jobs = [json.dumps(tuning_job(number, status, STEPS)) for number in range(running)]
            self.job_lists[ended] = f"[{','.join(jobs + old_jobs)}]".encode()

    def has_ended(self, job_id: str) -> bool:
        submitted = self.submitted.get(job_id)
        is_over = submitted is not None and time.time() >= submitted[0] + self.seconds
        return is_over or self.ended_at is not None

    def batch_result(self, job_id: str) -> object:
        rows = self.submitted[job_id][1] if job_id in self.submitted else self.rows
        reason = "stop" if self.has_ended(job_id) else None
        return {"outputs": ["An answer of some words."] * rows, "finish_reason": [reason] * rows}

    def respond(self, method: str, path: str, body: bytes) -> tuple[str, bytes]:  # noqa: PLR0911 - a table of paths
        """Return the request's type for the counters, and the response body."""
        if path.startswith("/_stub/"):
            return "", json.dumps(self.control(path, json.loads(body or b"{}"))).encode()
        if path == "/v1/train/jobs":
            return "list of tuning jobs", self.job_lists[self.ended_at is not None]
        if match := re.fullmatch(r"/v1/train/jobs/(\d+)", path):
            status = "COMPLETED" if self.has_ended("") else "TRAINING MODEL"
            return "tuning job", json.dumps(tuning_job(int(match[1]), status, STEPS)).encode()
        if match := re.fullmatch(r"/v1/projects/ms-(\d+)/training-jobs(?:/(\d+))?", path):
            return self.training(int(match[1]), match[2])
        if path == "/v1/batch_completions" and method == "POST":
            job_id = f"b{len(self.submitted)}"
            self.submitted[job_id] = time.time(), len(json.loads(body)["prompt"])
            return "submission", json.dumps({"id": job_id}).encode()
        if match := re.fullmatch(r"/v1/batch_completions/([\w-]+)/result", path):
            return "batch", json.dumps(self.batch_result(match[1])).encode()
        if path == "/v1/batches" and method == "POST":
            job_id = f"o{len(self.submitted)}"
            self.submitted[job_id] = time.time(), self.rows
            return "submission", json.dumps(self.openai_batch(job_id)).encode()
        if match := re.fullmatch(r"/v1/batches/([\w-]+)", path):
            return "OpenAI batch", json.dumps(self.openai_batch(match[1])).encode()
        return "unknown", b'{"detail": "the stub does not know this path"}'

    def training(self, project: int, number: str | None) -> tuple[str, bytes]:
        """Return a project's list of training jobs, 500 of them, or one job."""
        status = "Success" if self.has_ended("") else "Running"
        if number is not None:
            return "training job", json.dumps(training_job(int(number), status)).encode()
        jobs = [training_job(project + 20 * row, status) for row in range(500)]
        return "list of training jobs", json.dumps(jobs).encode()

    def openai_batch(self, job_id: str) -> object:
        return {
            "id": job_id,
            "object": "batch",
            "endpoint": "/v1/chat/completions",
            "input_file_id": "file-1",
            "completion_window": "24h",
            "status": "completed" if self.has_ended(job_id) else "in_progress",
            "output_file_id": "file-2",
            "created_at": 1700000000,
            "request_counts": {"total": self.rows, "completed": 0, "failed": 0},
        }

    def control(self, path: str, arguments: dict[str, int]) -> object:
        """Run a command of :meth:`Stub.control`."""
        counters = self.counters()
        if path == "/_stub/jobs":
            self.set_jobs(arguments["running"], arguments["old"])
        elif path == "/_stub/end":
            self.ended_at = time.time()
        elif path == "/_stub/reset":
            self.requests, self.request_times, self.ended_at = {}, [], None
            self.max_connections, self.bytes_sent = self.connections, 0
            return counters
        return self.counters()

    def counters(self) -> object:
        return {
            "requests": self.requests,
            "request_times": self.request_times,
            "connections": self.max_connections,
            "bytes": self.bytes_sent,
            "ended_at": self.ended_at,
        }


def tuning_job(number: int, status: str, history: list[dict[str, float]]) -> dict[str, object]:
    """Return a tuning job as it appears in the platform's list."""
    return {
        "job_id": number,
        "status": status,
        "dataset_id": f"{number:032x}",
        "model_name": f"{number:064x}" if status == "COMPLETED" else None,
        "custom_model_name": f"nightly-{number}",
        "start_time": "2026-01-01T00:00:00",
        "is_public": False,
        "resume_count": 0,
        "resume_limit": 10,
        "history": json.dumps(history),
    }


def training_job(number: int, status: str) -> dict[str, object]:
    """Return a training job as it appears in a project's list."""
    return {
        "id": str(number),
        "name": f"nightly-{number}",
        "training_technique": "SFT",
        "task_type": "text-generation",
        "base_model": "base",
        "train_dataset_name": f"rows-{number}",
        "test_functions": ["accuracy"],
        "status": status,
        "progress": 75,
        "created_at": 1_700_000_000,
        "updated_at": 1_700_000_100,
    }


class Connection(asyncio.Protocol):
    """One HTTP/1.1 connection; requests are answered in order."""

    def __init__(self, platform: Platform) -> None:
        self.platform = platform
        self.buffer = b""
        self.is_counted = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self.platform.connections -= self.is_counted

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while b"\r\n\r\n" in self.buffer:
            head, _, rest = self.buffer.partition(b"\r\n\r\n")
            length = re.search(rb"(?i)content-length: *(\d+)", head)
            size = int(length[1]) if length else 0
            if len(rest) < size:
                return
            self.buffer = rest[size:]
            method, target, _ = head.decode("latin-1").split(" ", 2)
            self.respond(method, target.split("?")[0], rest[:size])

    def respond(self, method: str, path: str, body: bytes) -> None:
        request_type, content = self.platform.respond(method, path, body)
        if request_type:  # commands to the stub are not counted
            self.count(request_type, len(content))
        status = "404 Not Found" if request_type == "unknown" else "200 OK"
        head = (
            f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
        )
        self.transport.write(head.encode())
        self.transport.write(content)

    def count(self, request_type: str, size: int) -> None:
        platform = self.platform
        if not self.is_counted:
            self.is_counted = True
            platform.connections += 1
            platform.max_connections = max(platform.max_connections, platform.connections)
        platform.requests[request_type] = platform.requests.get(request_type, 0) + 1
        platform.request_times.append(time.time())
        platform.bytes_sent += size


async def serve(platform: Platform, certificate: str | None) -> None:
    context = None
    if certificate:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate)
    server = await asyncio.get_running_loop().create_server(
        lambda: Connection(platform), "127.0.0.1", 0, backlog=4096, ssl=context
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=5.0, help="how long a submitted batch runs")
    parser.add_argument(
        "--rows", type=int, default=100, help="rows of a batch that was not submitted to this stub"
    )
    parser.add_argument("--certificate", help="use TLS with the certificate and key in this file")
    options = parser.parse_args()
    platform = Platform(options.seconds, options.rows)
    platform.set_jobs(running=0, old=0)
    asyncio.run(serve(platform, options.certificate))


if __name__ == "__main__":
    main()
