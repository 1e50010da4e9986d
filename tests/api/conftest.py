"""Clients of both kinds, a clock that needs no waiting, and a server that misbehaves on request."""

from __future__ import annotations

import asyncio
import contextlib
import socketserver
import threading
import time
from dataclasses import dataclass, field

import httpx
import pytest

from airflow_provider_lamini.api.client import AsyncClient, Client
from airflow_provider_lamini.api.settings import ClientSettings
from airflow_provider_lamini.platforms.lamini.platform import LAMINI_DIALECT


@dataclass
class FakeTime:
    """A clock that moves only when somebody sleeps, or when a test moves it."""

    now: float = 1000.0
    slept: list[float] = field(default_factory=list)

    def clock(self):
        return self.now

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds

    async def asleep(self, seconds):
        self.sleep(seconds)


class Driver:
    """Runs a client of one kind; the tests do not know which.

    ``fast`` is the asynchronous one as triggers use it, which sends in a cheaper way what only reads.
    """

    def __init__(self, kind, fake):
        self.kind = kind
        self.time = fake
        self.clock = fake.clock

    def send(self, settings, *calls, app=None):
        """Send calls one after the other with one client; return the last one's result."""
        return self._run(settings, app, [("send", call) for call in calls])

    def download(self, settings, call, to, app=None):
        return self._run(settings, app, [("download", call, to)])

    def _run(self, settings, app, steps):
        transport = app and httpx.MockTransport(app)
        if self.kind == "sync":
            with Client(settings, transport=transport, sleep=self.time.sleep, clock=self.clock) as client:
                for name, *arguments in steps:
                    result = getattr(client, name)(*arguments)
            return result

        async def run():
            async with AsyncClient(
                settings,
                transport=transport,
                fast=self.kind == "fast",
                sleep=self.time.asleep,
                clock=self.clock,
            ) as client:
                for name, *arguments in steps:
                    result = await getattr(client, name)(*arguments)
            if self.kind == "fast" and settings.base_url.startswith("https:"):
                await asyncio.sleep(0.05)  # aiohttp does not wait for TLS connections that the server closes
            return result

        return asyncio.run(run())


@pytest.fixture
def fake_time():
    return FakeTime()


@pytest.fixture(params=["sync", "async"])
def driver(request, fake_time):
    return Driver(request.param, fake_time)


@pytest.fixture(params=["sync", "async", "fast"])
def poller(request, fake_time):
    """A client that only reads, from a real socket."""
    driver = Driver(request.param, fake_time)
    driver.clock = time.monotonic
    return driver


@pytest.fixture
def settings():
    def make(base_url="http://platform.test", **arguments):
        return ClientSettings(
            base_url=base_url, **{"key": "secret-key-123", "dialect": LAMINI_DIALECT, **arguments}
        )

    return make


class Responses:
    """A small platform: answers each request with the next of some responses, the last one for ever."""

    def __init__(self, *responses):
        self.remaining = list(responses)
        self.requests = []

    def __call__(self, request):
        self.requests.append(request)
        response = self.remaining.pop(0) if len(self.remaining) > 1 else self.remaining[0]
        if isinstance(response, Exception):
            raise response
        if callable(response):
            return response(request)
        # A response can be read once only, and the last one is sent again and again.
        return httpx.Response(response.status_code, headers=response.headers, content=response.content)


@pytest.fixture
def responses():
    return Responses


class _Handler(socketserver.BaseRequestHandler):
    def handle(self):
        self.request.settimeout(10)
        with contextlib.suppress(OSError):
            self.server.owner.serve(self.request)


class _Tcp(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True


class RawServer:
    """A server on loopback that follows a script, one entry per request: a function of the connection."""

    def __init__(self, *script):
        self.script = list(script)
        self.requests = []
        self._lock = threading.Lock()
        self._tcp = _Tcp(("127.0.0.1", 0), _Handler)
        self._tcp.owner = self
        self.url = f"http://127.0.0.1:{self._tcp.server_address[1]}"
        self._thread = threading.Thread(target=self._tcp.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def serve(self, connection):
        head, rest = self._head(connection)
        if head is None:
            return
        with self._lock:
            self.requests.append((head, len(rest)))
            place = len(self.requests) - 1
            act = self.script[min(place, len(self.script) - 1)]
        seen = self._drain(connection, head, len(rest))
        with self._lock:
            self.requests[place] = (head, seen)
        act(connection)

    def _head(self, connection):
        data = b""
        while b"\r\n\r\n" not in data:
            block = connection.recv(65536)
            if not block:
                return None, b""
            data += block
        head, _, rest = data.partition(b"\r\n\r\n")
        return head.decode("latin-1"), rest

    def _drain(self, connection, head, seen):
        length = next(
            (
                int(line.split(":")[1])
                for line in head.split("\r\n")
                if line.lower().startswith("content-length")
            ),
            0,
        )
        while seen < length:
            block = connection.recv(1 << 20)
            if not block:
                break
            seen += len(block)
        return seen

    def close(self):
        self._tcp.shutdown()
        self._tcp.server_close()
        self._thread.join(5)


def reply(body=b"{}", status="200 OK", headers=()):
    """A whole response."""
    lines = [f"HTTP/1.1 {status}", "Connection: close", f"Content-Length: {len(body)}", *headers]
    return lambda connection: connection.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + body)


def drop(connection):
    """No response: the connection is closed."""
    connection.close()


def cut(body=b'{"server": "1"}'):
    """The head, half of the body, then the connection is closed."""

    def act(connection):
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body[: len(body) // 2])
        connection.close()

    return act


def late(seconds, then):
    """A response after some time."""

    def act(connection):
        time.sleep(seconds)
        then(connection)

    return act


@pytest.fixture
def raw():
    """The behaviours of a raw server."""

    class Behaviours:
        pass

    behaviours = Behaviours()
    behaviours.reply, behaviours.drop, behaviours.cut, behaviours.late = reply, drop, cut, late
    return behaviours


@pytest.fixture
def raw_server():
    servers = []

    def start(*script):
        servers.append(RawServer(*script))
        return servers[-1]

    yield start
    for server in servers:
        server.close()
