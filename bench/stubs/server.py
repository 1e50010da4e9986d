"""A platform that answers at once, in a process of its own, so that what is measured is the caller.

``python bench/stubs/server.py --seconds 5`` prints its port and serves until it is ended. It speaks the parts of two
APIs that a waiting task needs: tuning jobs and batches of completions as Lamini's platform has them, batches as
OpenAI's has them. Jobs run until ``POST /_stub/end``; submitted ones may end by themselves before. A small protocol of its
own instead of a framework: the stub must cost less than any caller.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import ssl
import time
from dataclasses import dataclass, field

STEPS = [{"loss": 1.5 / n, "learning_rate": 9e-4, "epoch": 0.1 * n, "step": n} for n in range(1, 4)]
"""What a tuning job tells of its last steps."""


@dataclass
class World:
    """What the stub knows and has seen.

    :param seconds: how long a submitted batch runs
    :param rows: rows of a batch that was not submitted here
    """

    seconds: float
    rows: int
    ended_at: float | None = None
    submitted: dict[str, tuple[float, int]] = field(default_factory=dict)
    """When each batch was submitted, and its rows."""
    listed: dict[bool, bytes] = field(default_factory=dict)
    """The body of the list, by whether the running jobs have ended."""
    requests: dict[str, int] = field(default_factory=dict)
    times: list[float] = field(default_factory=list)
    bytes_sent: int = 0
    open_now: int = 0
    open_most: int = 0

    def make_list(self, running: int, old: int) -> None:
        """Have the list of tuning jobs hold so many that run, with ids from 0, and so many that ended long ago."""
        past = [json.dumps(tuning_job(running + number, "COMPLETED", [])) for number in range(old)]
        for ended in (False, True):
            status = "COMPLETED" if ended else "TRAINING MODEL"
            now = [json.dumps(tuning_job(number, status, STEPS)) for number in range(running)]
            self.listed[ended] = f"[{','.join(now + past)}]".encode()

    def ended(self, job_id: str) -> bool:
        submitted = self.submitted.get(job_id)
        is_over = submitted is not None and time.time() >= submitted[0] + self.seconds
        return is_over or self.ended_at is not None

    def batch_result(self, job_id: str) -> object:
        rows = self.submitted[job_id][1] if job_id in self.submitted else self.rows
        reason = "stop" if self.ended(job_id) else None
        return {"outputs": ["An answer of some words."] * rows, "finish_reason": [reason] * rows}

    def answer(self, method: str, path: str, body: bytes) -> tuple[str, bytes]:  # noqa: PLR0911 - a table of paths
        """The answer to a request, and the name under which it is counted."""
        if path.startswith("/_stub/"):
            return "", json.dumps(self.control(path, json.loads(body or b"{}"))).encode()
        if path == "/v1/train/jobs":
            return "list of tuning jobs", self.listed[self.ended_at is not None]
        if found := re.fullmatch(r"/v1/train/jobs/(\d+)", path):
            status = "COMPLETED" if self.ended("") else "TRAINING MODEL"
            return "tuning job", json.dumps(tuning_job(int(found[1]), status, STEPS)).encode()
        if path == "/v1/batch_completions" and method == "POST":
            job_id = f"b{len(self.submitted)}"
            self.submitted[job_id] = time.time(), len(json.loads(body)["prompt"])
            return "submission", json.dumps({"id": job_id}).encode()
        if found := re.fullmatch(r"/v1/batch_completions/([\w-]+)/result", path):
            return "batch", json.dumps(self.batch_result(found[1])).encode()
        if path == "/v1/batches" and method == "POST":
            job_id = f"o{len(self.submitted)}"
            self.submitted[job_id] = time.time(), self.rows
            return "submission", json.dumps(self.openai_batch(job_id)).encode()
        if found := re.fullmatch(r"/v1/batches/([\w-]+)", path):
            return "OpenAI batch", json.dumps(self.openai_batch(found[1])).encode()
        return "unknown", b'{"detail": "the stub does not know this path"}'

    def openai_batch(self, job_id: str) -> object:
        state = "completed" if self.ended(job_id) else "in_progress"
        return {
            "id": job_id,
            "object": "batch",
            "endpoint": "/v1/chat/completions",
            "input_file_id": "file-1",
            "completion_window": "24h",
            "status": state,
            "output_file_id": "file-2",
            "created_at": 1700000000,
            "request_counts": {"total": self.rows, "completed": 0, "failed": 0},
        }

    def control(self, path: str, given: dict[str, int]) -> object:
        counted = self.counted()
        if path == "/_stub/jobs":
            self.make_list(given["running"], given["old"])
        elif path == "/_stub/end":
            self.ended_at = time.time()
        elif path == "/_stub/reset":
            self.requests, self.times, self.ended_at = {}, [], None
            self.open_most, self.bytes_sent = self.open_now, 0
            return counted
        return self.counted()

    def counted(self) -> object:
        return {
            "requests": self.requests,
            "times": self.times,
            "connections": self.open_most,
            "bytes": self.bytes_sent,
            "ended_at": self.ended_at,
        }


def tuning_job(number: int, status: str, history: list[dict[str, float]]) -> dict[str, object]:
    """A tuning job as the platform's list shows it."""
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


class Connection(asyncio.Protocol):
    """One connection; requests are answered in their order."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.buffer = b""
        self.counted = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self.world.open_now -= self.counted

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
        world = self.world
        name, content = world.answer(method, path, body)
        if name:
            if not self.counted:
                self.counted = True
                world.open_now += 1
                world.open_most = max(world.open_most, world.open_now)
            world.requests[name] = world.requests.get(name, 0) + 1
            world.times.append(time.time())
            world.bytes_sent += len(content)
        status = "404 Not Found" if name == "unknown" else "200 OK"
        head = (
            f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
        )
        self.transport.write(head.encode())
        self.transport.write(content)


async def serve(world: World, certificate: str | None) -> None:
    context = None
    if certificate:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate)
    server = await asyncio.get_running_loop().create_server(
        lambda: Connection(world), "127.0.0.1", 0, backlog=4096, ssl=context
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="how long a submitted batch runs")
    parser.add_argument("--rows", type=int, default=100, help="rows of a batch that was not submitted here")
    parser.add_argument("--certificate", help="speak TLS with this certificate and key")
    given = parser.parse_args()
    world = World(given.seconds, given.rows)
    world.make_list(0, 0)
    asyncio.run(serve(world, given.certificate))
