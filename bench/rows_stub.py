"""A platform that answers at once and with the same body: what is left is what its clients cost.

Started as a process of its own, so that its work counts for nobody: ``python bench/rows_stub.py --rows 1000``.
It prints its address. Bodies that come in are counted byte by byte and not looked at.
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
TOGETHER = 5
"""Prompts of one request of the official client."""


def output(number: int) -> str:
    """A text of about 120 characters."""
    return " ".join(random.Random(number).choices(WORDS, k=25))


def vector(number: int) -> list[float]:
    """A vector with as many digits as a platform sends."""
    chance = random.Random(number)
    return [chance.uniform(-0.2, 0.2) for _ in range(DIMENSIONS)]


def answer(value: object) -> bytes:
    """A whole HTTP answer."""
    body = json.dumps(value).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
        len(body),
        body,
    )


class Stub(asyncio.Protocol):
    """One connection. Takes requests one after another, as HTTP/1.1 clients send them.

    :param canned: what is answered, by method and the path up to an id
    """

    def __init__(self, canned: dict[bytes, Iterator[bytes]]) -> None:
        self._canned = canned
        self._head = b""
        self._left = 0
        self._reply = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if not self._left:
            self._head += data
            head, end, body = self._head.partition(b"\r\n\r\n")
            if not end:
                return
            self._head = b""
            self._left = length_of(head)
            self._reply = next(self._canned[route_of(head)])
            data = body
        self._left -= len(data)
        if self._left <= 0:
            self._left = 0
            self._transport.write(self._reply)


def length_of(head: bytes) -> int:
    """Bytes of the body that comes."""
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


def route_of(head: bytes) -> bytes:
    """Method and resource: ``GET /v1/batch_completions``."""
    method, path = head.split(b" ", 2)[:2]
    return method + b" " + b"/".join(path.split(b"/")[:3])


def canned(rows: int) -> dict[bytes, Iterator[bytes]]:
    """What is answered, each time anew because ids differ.

    :param rows: rows of each batch
    """
    started = (answer({"id": str(number)}) for number in itertools.count())
    outputs = [output(number) for number in range(rows)]
    # A few vectors, over and over: making each would take longer than what is measured.
    vectors = [vector(number) for number in range(16)]
    batch = {"outputs": outputs, "finish_reason": ["stop"] * rows}
    few = [{"output": output(number)} for number in range(TOGETHER)]
    return {
        b"POST /v1/batch_completions": started,
        b"GET /v1/batch_completions": itertools.repeat(answer(batch)),
        b"POST /v1/batch_embeddings": started,
        b"GET /v1/batch_embeddings": itertools.repeat(
            answer({"embedding": [vectors[n % 16] for n in range(min(rows, 1000))]})
        ),
        b"POST /v1/completions": itertools.repeat(answer(few)),
    }


async def serve(rows: int) -> None:
    """Serve until the process ends, or standard input does."""
    loop = asyncio.get_running_loop()
    replies = canned(rows)
    server = await loop.create_server(lambda: Stub(replies), "127.0.0.1", 0)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


@contextmanager
def stub(rows: int) -> Iterator[str]:
    """Run the platform in a process of its own.

    :param rows: rows of each batch
    :returns: its address
    """
    command = [sys.executable, __file__, "--rows", str(rows)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.stdin.close()
            process.wait(10)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, required=True)
    asyncio.run(serve(parser.parse_args().rows))
