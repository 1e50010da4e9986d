"""A stub platform that finishes every job at once, and its launcher; only the cost of its clients remains.

The stub runs in a process of its own, so that its cost is not counted: ``python bench/stubs/instant_jobs.py --rows 1000``
prints its address. It skips request bodies without parsing them and always returns the same rows.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import random
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

WORDS = ["order", "arrived", "late", "but", "whole", "customer", "asks", "refund", "courier", "parcel"]
DIMENSIONS = 384
CLIENT_BATCH_SIZE = 5
"""Prompts per request of the official client."""


@contextmanager
def running_stub(rows: int, port: int = 0) -> Iterator[str]:
    """Run the stub in a process of its own.

    :param rows: rows of each batch
    :param port: its port; 0 for any free one
    :return: its address
    """
    command = [sys.executable, __file__, "--rows", str(rows), "--port", str(port)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.stdin.close()
            process.wait(10)


class Connection(asyncio.Protocol):
    """One HTTP/1.1 connection; requests are answered in order.

    :param responses: the responses to each route of :func:`route`
    """

    def __init__(self, responses: dict[bytes, Iterator[bytes]]) -> None:
        self._responses = responses
        self._head = b""
        self._bytes_left = 0
        self._response = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if not self._bytes_left:
            self._head += data
            head, separator, body = self._head.partition(b"\r\n\r\n")
            if not separator:
                return
            self._head = b""
            self._bytes_left = content_length(head)
            self._response = next(self._responses[route(head)])
            data = body
        self._bytes_left -= len(data)
        if self._bytes_left <= 0:
            self._bytes_left = 0
            self._transport.write(self._response)


def content_length(head: bytes) -> int:
    """Return the size of the request body in bytes."""
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


def route(head: bytes) -> bytes:
    """Return the method and the path up to an id, for example ``GET /v1/batch_completions``."""
    method, path = head.split(b" ", 2)[:2]
    return method + b" " + b"/".join(path.split(b"/")[:3])


def make_responses(rows: int) -> dict[bytes, Iterator[bytes]]:
    """Return the responses to each route. A submission returns a new id each time.

    :param rows: rows of each batch
    """
    submissions = (http_response({"id": str(number)}) for number in itertools.count())
    outputs = [make_text(number) for number in range(rows)]
    # A few vectors repeat: making one per row would take longer than the measurement.
    vectors = [make_vector(number) for number in range(16)]
    completions = {"outputs": outputs, "finish_reason": ["stop"] * rows}
    embeddings = {"embedding": [vectors[number % 16] for number in range(min(rows, 1000))]}
    client_batch = [{"output": make_text(number)} for number in range(CLIENT_BATCH_SIZE)]
    return {
        b"POST /v1/batch_completions": submissions,
        b"GET /v1/batch_completions": itertools.repeat(http_response(completions)),
        b"POST /v1/batch_embeddings": submissions,
        b"GET /v1/batch_embeddings": itertools.repeat(http_response(embeddings)),
        b"POST /v1/completions": itertools.repeat(http_response(client_batch)),
    }


def make_text(number: int) -> str:
    """Return a text of about 120 characters."""
    return " ".join(random.Random(number).choices(WORDS, k=25))


def make_vector(number: int) -> list[float]:
    """Return a vector with as many digits as a platform sends."""
    rng = random.Random(number)
    return [rng.uniform(-0.2, 0.2) for _ in range(DIMENSIONS)]


def http_response(value: object) -> bytes:
    """Return a complete HTTP response with ``value`` as JSON."""
    body = json.dumps(value).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
        len(body),
        body,
    )


async def serve(rows: int, port: int) -> None:
    """Serve until standard input is closed."""
    loop = asyncio.get_running_loop()
    responses = make_responses(rows)
    server = await loop.create_server(lambda: Connection(responses), "127.0.0.1", port)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=int, required=True, help="rows of each batch")
    parser.add_argument("--port", type=int, default=0, help="default: any free one")
    options = parser.parse_args()
    asyncio.run(serve(options.rows, options.port))
