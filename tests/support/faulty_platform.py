"""A fake platform on loopback for every operator, with faults that a test injects. Runs in the test's process."""

from __future__ import annotations

import json
import re
import ssl
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from tests.support.knowledge_platform import KnowledgePlatform
from tests.support.scripted_platform import Refusal
from tests.support.serving import served
from tests.support.upstream import text_for, vector_for

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator
    from pathlib import Path

MODEL = "test/reverser"


@dataclass(frozen=True)
class Fault:
    """A fault in a response.

    :param times: number of responses to affect; ``None`` for all
    :param after: whether the request is processed before the fault
    :param status: status of the response
    :param headers: more headers of the response
    :param body: body of the response; ``None`` for the correct one
    :param change: computes the response from the correct one and the number of times the fault has occurred before
    :param echo: computes the body from the whole request: URL, headers and body; a header repeats the request too
    :param part: share of the correct body to send, with a matching Content-Length
    :param cut: whether to close the connection before the end of the body
    :param drop: whether to close the connection without a response
    :param silence: seconds to wait before the response
    :param trickle: seconds between two bytes of the body
    :param certificate: PEM file of the certificate to present; the server uses TLS
    :param min_started: number of jobs and datasets that must exist before the certificate is presented
    """

    times: int | None = 1
    after: bool = False
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: str | None = None
    change: Callable[[Any, int], Any] | None = None
    echo: Callable[[str], str] | None = None
    part: float = 1.0
    cut: bool = False
    drop: bool = False
    silence: float = 0.0
    trickle: float = 0.0
    certificate: Path | None = None
    min_started: int = 0


class FaultyPlatform(KnowledgePlatform):
    """A fake platform that also serves batches, completions, chat and embeddings. :meth:`inject` adds faults.

    :ivar batches: prompts by batch id
    :ivar polls_needed: number of polls after which a batch is complete
    :ivar forgets_jobs: whether every job counts as not found
    :ivar certificate: PEM file of the certificate to present while no fault names one; ``None`` for no TLS
    """

    def __init__(self) -> None:
        super().__init__()
        self.batches: dict[str, list[str]] = {}
        self.polls_needed = 2
        self.forgets_jobs = False
        self.certificate: Path | None = None
        self._poll_counts: dict[str, int] = {}
        self._faults: list[tuple[str, Fault, list[int]]] = []

    def inject(self, path: str, fault: Fault) -> None:
        """Inject a fault from now on.

        :param path: regular expression that matches method and path, such as ``"POST /v1/train"``
        :param fault: the fault
        """
        self._faults.append((path, fault, [0]))

    def clear_faults(self) -> None:
        """Remove all faults."""
        self._faults.clear()
        self.forgets_jobs = False

    @property
    def started(self) -> int:
        """Number of jobs and datasets that were created."""
        jobs = len(self.jobs) + len(self.indexes) + len(self.trainings) + len(self.batches)
        return jobs + len(self.datasets)

    def fault(self, request: str) -> tuple[Fault, int] | None:
        """Return the fault for a request and how often it has occurred before, and count this occurrence."""
        with self._lock:
            for path, fault, count in self._faults:
                if re.fullmatch(path, request.partition("?")[0]) and (
                    fault.times is None or count[0] < fault.times
                ):
                    count[0] += 1
                    return fault, count[0] - 1
        return None

    def current_certificate(self) -> Path | None:
        """Return the certificate for the next connection."""
        with self._lock:
            for _, fault, count in self._faults:
                if (
                    fault.certificate
                    and self.started >= fault.min_started
                    and (fault.times is None or count[0] < fault.times)
                ):
                    count[0] += 1
                    return fault.certificate
        return self.certificate

    def respond(self, method: str, path: str, key: str, content: bytes) -> Any:
        """Process one request, or say that the job does not exist if ``forgets_jobs`` is set."""
        if self.forgets_jobs and re.search(r"/status$|/jobs/\w+$|/result$", path):
            raise Refusal(498, "no such job")
        return super().respond(method, path, key, content)

    def _routes(self, method: str) -> list[tuple[str, Callable[..., Any]]]:
        if method == "GET":
            routes: list[tuple[str, Callable[..., Any]]] = [
                (r"/v1/batch_completions/(\w+)/result", self._batch_rows),
                (r"/v1/batch_embeddings/(\w+)/result", self._batch_vectors),
            ]
        else:
            routes = [
                ("/v1/batch_completions", self._batch),
                ("/v1/batch_embeddings", self._batch),
                ("/v2/completions", self._complete),
                (
                    "/v1/embedding",
                    lambda body: {"embedding": [vector_for(prompt) for prompt in _prompts(body)]},
                ),
                ("/inf/chat/completions", self._chat),
            ]
        return routes + super()._routes(method)

    def _batch(self, body: dict[str, Any]) -> dict[str, str]:
        batch_id = f"b{len(self.batches) + 1}"
        self.batches[batch_id] = body["prompt"]
        return {"id": batch_id}

    def _is_done(self, batch_id: str) -> bool:
        if batch_id not in self.batches:
            raise Refusal(498, "no such job")
        self._poll_counts[batch_id] = self._poll_counts.get(batch_id, 0) + 1
        return self._poll_counts[batch_id] >= self.polls_needed

    def _batch_rows(self, _: dict[str, Any], batch_id: str) -> dict[str, Any]:
        if not self._is_done(batch_id):
            return {}
        outputs = [text_for(prompt) for prompt in self.batches[batch_id]]
        return {"outputs": outputs, "finish_reason": ["stop"] * len(outputs)}

    def _batch_vectors(self, _: dict[str, Any], batch_id: str) -> dict[str, Any]:
        if not self._is_done(batch_id):
            return {}
        return {"embedding": [vector_for(prompt) for prompt in self.batches[batch_id]]}

    @staticmethod
    def _complete(body: dict[str, Any]) -> dict[str, Any]:
        outputs = [text_for(prompt) for prompt in _prompts(body)]
        single = isinstance(body["prompt"], str)
        reasons = ["stop"] * len(outputs)
        return {
            "outputs": outputs[0] if single else outputs,
            "finish_reason": reasons[0] if single else reasons,
        }

    @staticmethod
    def _chat(body: dict[str, Any]) -> dict[str, Any]:
        message = {"role": "assistant", "content": text_for(body["messages"][-1]["content"])}
        return {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}


def _prompts(body: dict[str, Any]) -> list[str]:
    return [body["prompt"]] if isinstance(body["prompt"], str) else body["prompt"]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, platform: FaultyPlatform) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.platform = platform

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a connection, with TLS if a certificate is due. The handshake happens on the first read."""
        connection, address = super().get_request()
        certificate = self.platform.current_certificate()
        if certificate is None:
            return connection, address
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        tls_connection = context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return tls_connection, address

    def handle_error(self, *_: object) -> None:
        """Ignore errors of connections that were closed on purpose."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def setup(self) -> None:
        if isinstance(self.request, ssl.SSLSocket):
            # One request per connection, so that the next request gets the next certificate.
            self.protocol_version = "HTTP/1.0"
        super().setup()

    def log_message(self, *_: object) -> None:
        """Log nothing."""

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_PUT(self) -> None:
        self._serve()

    def _serve(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"] or 0))
        if self.path.startswith("http"):  # a proxy request, for any host
            self.path = "/" + self.path.split("/", 3)[3]
        fault, occurrences = self.server.platform.fault(f"{self.command} {self.path}") or (None, 0)
        if fault is None:
            self._respond(*self._process(content))
        else:
            self._respond_with_fault(fault, occurrences, content)

    def _process(self, content: bytes) -> tuple[int, Any]:
        platform = self.server.platform
        if self.command == "PUT" and platform.blobs is not None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            return platform.blobs.put(self.path, headers, content), {}
        try:
            return 200, platform.respond(
                self.command, self.path, self.headers.get("Authorization", ""), content
            )
        except Refusal as refusal:
            return refusal.status, {"detail": refusal.detail}

    def _respond_with_fault(self, fault: Fault, occurrences: int, content: bytes) -> None:
        status, result = fault.status, None
        if fault.after or (fault.body is None and fault.status == 200 and not (fault.drop or fault.echo)):
            status, result = self._process(content)
        time.sleep(fault.silence)
        if fault.drop:
            self.close_connection = True
            with suppress(OSError):
                self.connection.shutdown(2)
            return
        if fault.change is not None:
            result = fault.change(result, occurrences)
        status = fault.status if fault.status != 200 else status
        body = json.dumps(result).encode() if fault.body is None else fault.body.encode()
        if fault.echo is not None:
            request = f"{self.path} {dict(self.headers)} {content.decode()}"
            body = fault.echo(request).encode()
            fault = replace(fault, headers=fault.headers | {"X-Warning": json.dumps(request)[:4000]})
        self._send(fault, status, body)

    def _send(self, fault: Fault, status: int, body: bytes) -> None:
        sent = body[: int(len(body) * fault.part)]
        self.send_response(status)
        self.send_header("Content-Length", str(len(sent) + 10 * fault.cut))
        for name, value in ({"Content-Type": "application/json"} | fault.headers).items():
            self.send_header(name, value)
        self.end_headers()
        pieces = [sent[index : index + 1] for index in range(len(sent))] if fault.trickle else [sent]
        for piece in pieces:
            self.wfile.write(piece)
            time.sleep(fault.trickle)
        self.close_connection = fault.cut

    def _respond(self, status: int, result: Any) -> None:
        self._send(Fault(), status, json.dumps(result).encode())


@contextmanager
def faulty_platform(certificate: Path | None = None) -> Iterator[FaultyPlatform]:
    """Serve a platform during the block.

    :param certificate: PEM file with certificate and key; ``None`` serves without TLS
    """
    platform = FaultyPlatform()
    platform.certificate = certificate
    server = _Server(platform)
    scheme = "https" if certificate else "http"
    with served(server) as address:
        platform.url = f"{scheme}://{address}"
        yield platform
