"""A proxy in front of an object store, in a process of its own: it counts, delays and fails requests.

``python -m tests.support.stores.proxy URL`` prints its address. Its rules and its log are under ``/-/`` there.
"""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from threading import Thread
from typing import IO, TYPE_CHECKING, Literal, NamedTuple
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.stores.emulators import RunningEmulator

ROOT = Path(__file__).resolve().parents[3]
CONTROL = "/-/"

RESTART = "restart"
Action = Literal["status", "slow", "drop before", "drop after", "restart"]


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to some requests.

    :param do: respond with ``status`` without an effect, respond late, break the connection before or after the effect, or
        restart the store and break the connection
    :param at: number of the first request that is hit, counted from 0 since the last reset
    :param times: how many requests in a row are hit
    :param status: HTTP status
    :param seconds: how late the response is
    """

    do: Action
    at: int = 0
    times: int = 1
    status: int = 503
    seconds: float = 0.3


class Logged(NamedTuple):
    """A request that the proxy has seen.

    :param method: HTTP method
    :param target: path and query
    """

    method: str
    target: str

    @property
    def kind(self) -> str:
        """What it asks of the store: ``read``, ``write``, ``delete``, ``look`` (HEAD and the like) or ``list``."""
        listing = re.search(r"list-type=2|comp=list|[?&]prefix=|/o\?(?!.*(?:name=|uploadType))", self.target)
        if self.method == "GET" and listing:
            return "list"
        if self.method == "GET":
            metadata = re.search(r"/storage/v1/b/[^/]+(?:/o/[^/?]+)?(?:\?|$)", self.target)
            return "look" if metadata and "alt=media" not in self.target else "read"
        if self.method == "DELETE" or (
            self.method == "POST" and re.search(r"\?delete|/batch|comp=batch", self.target)
        ):
            return "delete"
        return {"HEAD": "look"}.get(self.method, "write")


class State(NamedTuple):
    """What a proxy responds to its own requests.

    :param log: method and target of each request
    :param hits: how many requests the fault has hit
    """

    log: list[tuple[str, str]]
    hits: int


@dataclass(frozen=True, slots=True)
class StoreProxy:
    """A running proxy.

    :param url: its address
    """

    url: str

    def reset(self, fault: Fault | None = None, *, delay: float = 0.0) -> None:
        """Forget the requests so far.

        :param fault: what goes wrong from now on
        :param delay: seconds that each request takes from now on, at least
        """
        self._control("reset", {"fault": fault and asdict(fault), "delay": delay})

    def log(self) -> list[Logged]:
        """The requests since the last reset."""
        return [Logged(*entry) for entry in self._control("log", {}).log]

    def hits(self) -> int:
        """How many requests the fault has hit."""
        return self._control("log", {}).hits

    def _control(self, command: str, arguments: dict[str, object]) -> State:
        request = Request(f"{self.url}{CONTROL}{command}", data=json.dumps(arguments).encode(), method="POST")
        with urlopen(request, timeout=30) as response:
            return State(**json.load(response))


@contextmanager
def store_proxy(store: RunningEmulator) -> Iterator[StoreProxy]:
    """Run a proxy in a process of its own.

    :param store: the store; restarted when a fault says so
    """
    command = [sys.executable, "-m", "tests.support.stores.proxy", store.url]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        restarter = Thread(target=_restart_on_request, args=(process.stdout, store))
        restarter.start()
        try:
            yield StoreProxy(address)
        finally:
            process.stdin.close()
            process.wait(10)
            restarter.join()


def _restart_on_request(lines: IO[str], store: RunningEmulator) -> None:
    for line in lines:
        assert line.strip() == RESTART, line
        store.restart()


@dataclass(slots=True)
class Message:
    """An HTTP message.

    :param head: its first line and headers, without the empty line
    :param body: its body, as it was transferred
    """

    head: bytes
    body: bytes

    @property
    def content(self) -> bytes:
        """The whole message."""
        return self.head + b"\r\n\r\n" + self.body


def header(head: bytes, name: bytes) -> bytes:
    """A header's value; empty if there is none."""
    found = re.search(rb"(?im)^" + name + rb":[ \t]*([^\r\n]*)", head)
    return found[1].strip() if found else b""


async def read_message(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter | None = None, *, has_body: bool = True
) -> Message | None:
    """Read a message; ``None`` if the connection was closed before.

    :param reader: the connection
    :param writer: where to say that the body may be sent
    :param has_body: whether the headers say what body follows; the response to HEAD has none
    """
    try:
        head = (await reader.readuntil(b"\r\n\r\n"))[:-4]
    except asyncio.IncompleteReadError:
        return None
    if writer is not None and header(head, b"expect"):
        head = re.sub(rb"(?im)^expect:[^\r\n]*\r\n", b"", head + b"\r\n")[:-2]
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    if not has_body or re.match(rb"HTTP/1\.1 (?:204|304)", head):
        return Message(head, b"")
    if header(head, b"transfer-encoding").lower() == b"chunked":
        body = b""
        while True:
            size = await reader.readuntil(b"\r\n")
            rest = int(size.split(b";")[0], 16)
            body += size + await reader.readexactly(rest + 2)
            if not rest:
                return Message(head, body)
    if length := header(head, b"content-length"):
        return Message(head, await reader.readexactly(int(length)))
    if head.startswith(b"HTTP/1.0") or (
        head.startswith(b"HTTP/") and header(head, b"connection").lower() == b"close"
    ):
        body = await reader.read(-1)
        return Message(head + b"\r\nContent-Length: %d" % len(body), body)
    return Message(head, b"")


@dataclass(slots=True)
class Proxy:
    """The proxy's state.

    :param store: address of the store
    """

    store: str
    delay: float = 0.0
    fault: Fault | None = None
    log: list[Logged] = field(default_factory=list)
    hits: int = 0

    async def serve(self) -> None:
        """Serve until standard input is closed."""
        server = await asyncio.start_server(self._client, "127.0.0.1", 0, limit=2**20)
        print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection, with a connection of its own to the store."""
        parts, streams = urlsplit(self.store), [writer]
        try:
            store = await asyncio.open_connection(parts.hostname, parts.port, limit=2**20)
            streams.append(store[1])
            while (request := await read_message(reader, writer)) is not None:
                response = await self._respond(request, *store)
                if response is None:
                    break
                writer.write(response)
                if header(response, b"connection").lower() == b"close" or response.startswith(b"HTTP/1.0"):
                    break
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the store or the proxy ends: Python 3.11 would print a traceback for each cancelled connection
        finally:
            for each in streams:
                with suppress(ConnectionError):
                    each.close()

    async def _respond(
        self, request: Message, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bytes | None:
        """The response to a request; ``None`` to break the connection."""
        method, target = request.head.split(b" ", 2)[:2]
        if target.startswith(CONTROL.encode()):
            return self._control(target.decode(), request.body)
        fault = self._next(method.decode(), target.decode())
        do = fault and fault.do
        await asyncio.sleep(self.delay)
        if do == RESTART:
            print(RESTART, flush=True)
        if do in ("drop before", RESTART):
            return None
        if fault is not None and do == "status":
            return refusal(fault.status, method)
        writer.write(request.content)
        response = await read_message(reader, has_body=method != b"HEAD")
        if fault is not None and do == "slow":
            await asyncio.sleep(fault.seconds)
        return None if response is None or do == "drop after" else response.content

    def _next(self, method: str, target: str) -> Fault | None:
        number = len(self.log)
        self.log.append(Logged(method, target))
        fault = self.fault
        if fault is None or not fault.at <= number < fault.at + fault.times:
            return None
        self.hits += 1
        return fault

    def _control(self, target: str, body: bytes) -> bytes:
        arguments = json.loads(body)
        if target == f"{CONTROL}reset":
            self.log.clear()
            self.hits, self.delay = 0, arguments["delay"]
            self.fault = Fault(**arguments["fault"]) if arguments["fault"] else None
        response = json.dumps({"log": self.log, "hits": self.hits}).encode()
        return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(response), response)


REASONS = {403: "AccessDenied", 404: "NoSuchKey", 503: "SlowDown"}


def refusal(status: int, method: bytes) -> bytes:
    """A response with an error, which the clients of all stores understand.

    :param status: HTTP status
    :param method: HTTP method of the request
    """
    code = REASONS[status]
    body = f"<?xml version='1.0' encoding='UTF-8'?><Error><Code>{code}</Code><Message>{code}</Message></Error>".encode()
    head = (
        f"HTTP/1.1 {status} {code}\r\nContent-Type: application/xml\r\nx-ms-error-code: {code}\r\n"
        f"Content-Length: {0 if method == b'HEAD' else len(body)}\r\n\r\n"
    )
    return head.encode() + (b"" if method == b"HEAD" else body)


if __name__ == "__main__":
    asyncio.run(Proxy(sys.argv[1]).serve())
