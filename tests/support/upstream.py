"""A tiny OpenAI-compatible engine for tests. It computes texts from prompts, at a configurable speed."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

TEXT_MODEL = "test/reverser"
PARROT_MODEL = "test/parrot"
"""Repeats the prompt unchanged. Only served if a test adds it."""
EMBEDDING_MODEL = "sentence-transformers/all-MiniLM-L6-v2"
DIMENSIONS = 8


def text_for(prompt: str) -> str:
    """Return the engine's text for a prompt: its words in reverse order."""
    return " ".join(reversed(prompt.split())) or "nothing"


def vector_for(text: str) -> list[float]:
    """Return the normalized vector of a text."""
    digest = hashlib.sha256(text.encode()).digest()[:DIMENSIONS]
    numbers = [byte - 127.5 for byte in digest]
    length = sum(number * number for number in numbers) ** 0.5
    return [number / length for number in numbers]


def instance_of(schema: dict[str, Any], prompt: str, definitions: dict[str, Any] | None = None) -> Any:
    """Return a value that matches a JSON schema. The same prompt always gets the same value."""
    number = hashlib.sha256(prompt.encode()).digest()[0]
    definitions = definitions or schema.get("$defs", {})
    if "$ref" in schema:
        return instance_of(definitions[schema["$ref"].rpartition("/")[2]], prompt, definitions)
    if "enum" in schema:
        return schema["enum"][number % len(schema["enum"])]
    kind = schema.get("type", "string")
    if kind == "object":
        properties = schema.get("properties", {}).items()
        return {name: instance_of(part, prompt, definitions) for name, part in properties}
    values = {"string": text_for(prompt), "integer": number, "number": number, "boolean": number % 2 == 0}
    return [] if kind == "array" else values[kind]


def before(text: str, stop: str | list[str] | None) -> str:
    """Return the part of a text before the first stop text."""
    ends = [text.find(each) for each in ([stop] if isinstance(stop, str) else stop or []) if each in text]
    return text[: min(ends)].rstrip() if ends else text


class Upstream:
    """The running engine.

    :ivar url: its base URL, ending in ``/v1``
    :ivar prompts: all prompts and texts it received, in order
    :ivar bodies: all request bodies it received, in order
    :ivar tokens_per_second: speed of each request; a word is a token
    :ivar open: while this event is not set, requests wait
    :ivar most_at_once: maximum number of parallel requests so far
    """

    def __init__(self, tokens_per_second: float, more_models: tuple[str, ...] = ()) -> None:
        self.models = (TEXT_MODEL, EMBEDDING_MODEL, *more_models)
        self.tokens_per_second = tokens_per_second
        self.prompts: list[str] = []
        self.bodies: list[dict[str, Any]] = []
        self.open = threading.Event()
        self.open.set()
        self._lock = threading.Lock()
        self._failures: list[tuple[int, str]] = []
        self._running = 0
        self.most_at_once = 0
        self.broken: str | None = None
        """Requests that contain this text always fail."""
        self.refused: str | None = None
        """Requests that contain this text are always refused."""
        self._server = _Server(self)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def fail(self, status: int, body: str = '{"error": {"message": "injected"}}', times: int = 1) -> None:
        """Return an error to the next ``times`` requests."""
        with self._lock:
            self._failures += [(status, body)] * times

    def start(self) -> None:
        """Start to serve in a thread."""
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        ).start()

    def stop(self) -> None:
        """Stop serving."""
        self.open.set()
        self._server.shutdown()
        self._server.server_close()

    def start_request(self, body: dict[str, Any]) -> tuple[int, str] | None:
        """Record the start of a request.

        :return: status and body of the error to return, if any
        """
        with self._lock:
            self._running += 1
            self.most_at_once = max(self.most_at_once, self._running)
            self.bodies.append(body)
            if self.broken is not None and self.broken in json.dumps(body):
                return 500, '{"error": {"message": "injected"}}'
            if self.refused is not None and self.refused in json.dumps(body):
                return 400, '{"error": {"message": "injected"}}'
            return self._failures.pop(0) if self._failures else None

    def record_prompts(self, texts: list[str]) -> None:
        """Record the prompts of a request, and wait until the engine is open."""
        with self._lock:
            self.prompts += texts
        self.open.wait(60)

    def end_request(self) -> None:
        """Record the end of a request."""
        with self._lock:
            self._running -= 1


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, engine: Upstream) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.engine = engine

    def handle_error(self, *_: object) -> None:
        """Print nothing: the client was killed by a test."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, *_: object) -> None:
        """Print nothing."""

    def do_GET(self) -> None:
        models = [{"id": name, "object": "model"} for name in self.server.engine.models]
        self._respond(200, json.dumps({"object": "list", "data": models}))

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        failure = self.server.engine.start_request(body)
        try:
            if failure is not None:
                self._respond(*failure)
            elif self.path.endswith("/embeddings"):
                self._embed(body)
            else:
                self._generate(body, is_chat=self.path.endswith("/chat/completions"))
        finally:
            self.server.engine.end_request()

    def _embed(self, body: dict[str, Any]) -> None:
        texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
        self.server.engine.record_prompts(texts)
        data = [{"index": index, "embedding": vector_for(text)} for index, text in enumerate(texts)]
        self._respond(200, json.dumps({"data": data, "model": body["model"]}))

    def _generate(self, body: dict[str, Any], *, is_chat: bool) -> None:
        prompt = body["messages"][-1]["content"] if is_chat else body["prompt"]
        self.server.engine.record_prompts([prompt])
        schema = schema_of(body)
        text = prompt if body["model"] == PARROT_MODEL else text_for(prompt)
        complete = (
            before(text, body.get("stop")) if schema is None else json.dumps(instance_of(schema, prompt))
        )
        words = complete.split(" ")
        generated = words[: body.get("max_tokens") or len(words)]
        reason = "stop" if len(generated) == len(words) else "length"
        pieces = [word if index == 0 else f" {word}" for index, word in enumerate(generated)]
        if body.get("stream"):
            self._stream(pieces, reason, is_chat=is_chat)
            return
        time.sleep(len(generated) / self.server.engine.tokens_per_second)
        text = "".join(pieces)
        output = {"message": {"role": "assistant", "content": text}} if is_chat else {"text": text}
        usage = {"prompt_tokens": len(prompt.split()), "completion_tokens": len(generated)}
        choices = [{"index": 0, **output, "finish_reason": reason}]
        self._respond(200, json.dumps({"choices": choices, "usage": usage, "model": body["model"]}))

    def _stream(self, pieces: list[str], reason: str, *, is_chat: bool) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        for piece in pieces:
            time.sleep(1 / self.server.engine.tokens_per_second)
            self._event({"delta": {"content": piece}} if is_chat else {"text": piece}, None)
        self._event({"delta": {}} if is_chat else {"text": ""}, reason)
        self.wfile.write(b"data: [DONE]\n\n")
        self.close_connection = True

    def _event(self, output: dict[str, Any], reason: str | None) -> None:
        choices = [{"index": 0, **output, "finish_reason": reason}]
        self.wfile.write(b"data: " + json.dumps({"choices": choices}).encode() + b"\n\n")
        self.wfile.flush()

    def _respond(self, status: int, body: str) -> None:
        content = body.encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def schema_of(body: dict[str, Any]) -> dict[str, Any] | None:
    """Return the JSON schema of a request, in whichever field it was sent."""
    response_format = body.get("response_format") or {}
    if response_format.get("type") == "json_schema":
        schema: dict[str, Any] = response_format["json_schema"]["schema"]
        return schema
    if response_format.get("type") == "json_object":
        return response_format.get("schema") or {"type": "object"}
    for name in ("guided_json", "json_schema"):
        if body.get(name):
            found: dict[str, Any] = body[name]
            return found
    return (body.get("structured_outputs") or {}).get("json")


@contextmanager
def upstream(tokens_per_second: float = 100_000, more_models: tuple[str, ...] = ()) -> Iterator[Upstream]:
    """Run the engine on a free port of loopback during the block.

    :param tokens_per_second: speed of each request; a word is a token
    :param more_models: additional models to serve
    """
    engine = Upstream(tokens_per_second, more_models)
    engine.start()
    try:
        yield engine
    finally:
        engine.stop()
