"""An engine that forwards to any server with OpenAI's HTTP API: vLLM, llama-server, Ray Serve and others."""

from __future__ import annotations

import json
import logging
import threading
import time
from typing import TYPE_CHECKING, Any, TypeVar

import httpx
import tenacity

from airflow_provider_lamini.local.engines.base import (
    BadGenerationRequest,
    EngineUnavailable,
    FinishReason,
    GenerationResult,
    ModelNotFound,
    PromptTooLong,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_provider_lamini.api.call import Json
    from airflow_provider_lamini.local.engines.base import GenerationRequest, OnText

T = TypeVar("T")

PARALLEL = 32
TIMEOUT = 600.0
CONNECT_TIMEOUT = 10.0
ATTEMPTS = 5
MODELS_CACHE_SECONDS = 15.0
EMBEDDING_BATCH = 128
TOO_LONG_MARKERS = (
    "exceed_context_size",
    "context_length_exceeded",
    "maximum context length",
    "context size",
)

log = logging.getLogger(__name__)


class UpstreamEngine:
    """Text and embedding engine over one OpenAI-compatible server.

    Transient failures are retried. That is safe, because generation changes nothing on the server.

    :param url: base URL, with or without ``/v1``
    :param key: bearer key, if the server requires one
    :param timeout: seconds to wait for a complete answer, or for the next piece of a streamed one
    :raises ValueError: the URL is invalid
    """

    def __init__(self, url: str, key: str | None = None, *, timeout: float = TIMEOUT) -> None:
        parsed = httpx.URL(url)
        if parsed.scheme not in {"http", "https"} or not parsed.host:
            raise ValueError(f"The upstream must be a URL such as http://localhost:8000/v1, not {url!r}.")
        base = url.rstrip("/")
        self._url = base if base.endswith("/v1") else f"{base}/v1"
        self._client = httpx.Client(
            timeout=httpx.Timeout(timeout, connect=CONNECT_TIMEOUT),
            limits=httpx.Limits(max_connections=PARALLEL * 2),
            headers={"Authorization": f"Bearer {key}"} if key else {},
        )
        self._lock = threading.Lock()
        self._cached_models: tuple[float, list[str]] | None = None
        self._completions_follow_schema = True

    @property
    def parallel(self) -> int:
        """Number of requests that can usefully run in parallel."""
        return PARALLEL

    def models(self) -> list[str]:
        """Return the names that the server lists, cached for 15 seconds.

        :raises EngineUnavailable: the server could not be reached
        """
        with self._lock:
            cached = self._cached_models
        if cached is None or time.monotonic() - cached[0] > MODELS_CACHE_SECONDS:
            answer = self._retry(lambda: self._request("GET", "/models", None, ""))
            cached = (time.monotonic(), [str(model["id"]) for model in answer.get("data", [])])
            with self._lock:
                self._cached_models = cached
        return list(cached[1])

    def generate(self, request: GenerationRequest, on_text: OnText | None = None) -> GenerationResult:
        """Generate one text.

        A bare prompt goes to ``/completions``. If it has a JSON schema, ``response_format`` is added, which vLLM
        supports and other servers ignore. Once a server has ignored it, such prompts go to ``/chat/completions``.
        """
        if request.prompt is None or request.json_schema is None:
            return self._generate(request, on_text, chat=request.prompt is None)
        if self._completions_follow_schema:
            try:
                generation = self._generate(request, None, chat=False)
            except BadGenerationRequest:
                generation = None
            if generation is not None and _looks_like_json(generation.text):
                if on_text is not None:
                    on_text(generation.text)
                return generation
            self._completions_follow_schema = False
            log.warning(
                "%s does not support a JSON schema for /completions; prompts with an output type will be sent to "
                "/chat/completions, which wraps them in the chat template.",
                self._url,
            )
        return self._generate(request, on_text, chat=True)

    def embed(self, texts: list[str], model_name: str) -> list[list[float]]:
        """Return one vector per text, requested in batches."""
        vectors: list[list[float]] = []
        for start in range(0, len(texts), EMBEDDING_BATCH):
            batch = texts[start : start + EMBEDDING_BATCH]
            body = {"model": model_name, "input": batch}
            answer = self._retry(lambda body=body: self._request("POST", "/embeddings", body, model_name))  # type: ignore[misc]
            rows = sorted(answer.get("data", []), key=lambda row: int(row["index"]))
            if len(rows) != len(batch):
                raise EngineUnavailable(f"{self._url} returned {len(rows)} vectors for {len(batch)} texts.")
            vectors += [row["embedding"] for row in rows]
        return vectors

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _generate(
        self, request: GenerationRequest, on_text: OnText | None, *, chat: bool
    ) -> GenerationResult:
        body: dict[str, Json] = {
            **request.options,
            "model": request.model_name,
            "max_tokens": request.max_tokens,
            "temperature": request.temperature,
        }
        if chat:
            path = "/chat/completions"
            messages = request.messages or [{"role": "user", "content": request.prompt or ""}]
            body["messages"] = [dict(message) for message in messages]
        else:
            path = "/completions"
            body["prompt"] = request.prompt
        if request.json_schema is not None:
            schema: dict[str, Json] = {"name": "answer", "strict": True, "schema": request.json_schema}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        if on_text is not None:
            return self._stream(path, body, request.model_name, on_text)
        answer = self._retry(lambda: self._request("POST", path, body, request.model_name))
        choice = _first_choice(answer)
        return _to_generation(_choice_text(choice), choice.get("finish_reason"), answer.get("usage"))

    def _stream(self, path: str, body: dict[str, Json], model_name: str, on_text: OnText) -> GenerationResult:
        body = body | {"stream": True, "stream_options": {"include_usage": True}}
        pieces: list[str] = []
        reason: str | None = None
        usage: dict[str, int] | None = None

        def attempt() -> None:
            nonlocal reason, usage
            with self._client.stream("POST", self._url + path, json=body) as response:
                if response.is_error:
                    response.read()
                    self._raise_for_status(response, model_name)
                for event in _events(response):
                    usage = event.get("usage") or usage
                    for choice in event.get("choices", []):
                        reason = choice.get("finish_reason") or reason
                        if piece := _choice_text(choice):
                            pieces.append(piece)
                            on_text(piece)
            if reason is None:
                raise EngineUnavailable(f"{self._url} ended a streamed answer prematurely.")

        # Pieces that were passed on cannot be taken back, so there is no retry after the first one.
        self._retry(attempt, unless=lambda: bool(pieces))
        return _to_generation("".join(pieces), reason, usage)

    def _retry(self, attempt: Callable[[], T], unless: Callable[[], bool] = lambda: False) -> T:
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(lambda error: _is_transient(error) and not unless()),
            stop=tenacity.stop_after_attempt(ATTEMPTS),
            wait=tenacity.wait_random_exponential(multiplier=0.3, max=10),
            reraise=True,
        )
        try:
            return retrying(attempt)
        except httpx.HTTPError as error:
            reason = str(error).partition("] ")[2] or str(error) or type(error).__name__
            raise EngineUnavailable(f"{self._url} did not answer: {reason}. Is it running?") from error

    def _request(self, method: str, path: str, body: Json, model_name: str) -> dict[str, Any]:
        response = self._client.request(method, self._url + path, json=body)
        if response.is_error:
            self._raise_for_status(response, model_name)
        try:
            answer = response.json()
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise EngineUnavailable(
                f"{self._url}{path} did not return a JSON object. Is this the base URL of an OpenAI API?"
            )
        return answer

    def _raise_for_status(self, response: httpx.Response, model_name: str) -> None:
        status = response.status_code
        text = response.text[:2000]
        if status in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}:
            raise _PermanentError(f"{self._url} rejected the key ({status}).")
        if status == httpx.codes.NOT_FOUND:
            if model_name and "model" in text.lower():
                raise ModelNotFound(model_name, self.models())
            raise _PermanentError(
                f"{self._url} has no {response.request.url.path}. Is this the base URL of an OpenAI API?"
            )
        if status in {httpx.codes.TOO_MANY_REQUESTS, httpx.codes.REQUEST_TIMEOUT} or response.is_server_error:
            raise EngineUnavailable(f"{self._url} answered {status}.")
        if any(marker in text for marker in TOO_LONG_MARKERS):
            raise PromptTooLong(0, 0)
        raise BadGenerationRequest(f"{self._url} rejected the request ({status}).")


class _PermanentError(EngineUnavailable):
    """The upstream is misconfigured; a retry does not help."""


def _is_transient(error: BaseException) -> bool:
    if isinstance(error, EngineUnavailable):
        return not isinstance(error, _PermanentError)
    return isinstance(error, httpx.TransportError)


def _first_choice(answer: dict[str, Any]) -> dict[str, Any]:
    choices = answer.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise EngineUnavailable("The upstream's answer has no choices.")
    return choices[0]


def _choice_text(choice: dict[str, Any]) -> str:
    if "text" in choice:
        return choice["text"] or ""
    return (choice.get("message") or choice.get("delta") or {}).get("content") or ""


def _to_generation(text: str, reason: object, usage: dict[str, int] | None) -> GenerationResult:
    finish_reason: FinishReason = "length" if reason == "length" else "stop"
    usage = usage or {}
    return GenerationResult(
        text, finish_reason, usage.get("prompt_tokens", 0), usage.get("completion_tokens", 0)
    )


def _events(response: httpx.Response) -> Iterator[dict[str, Any]]:
    for line in response.iter_lines():
        data = line.removeprefix("data:").strip()
        if line.startswith("data:") and data and data != "[DONE]":
            event = json.loads(data)
            if "error" in event:
                raise EngineUnavailable("The upstream failed in the middle of a streamed answer.")
            yield event


def _looks_like_json(text: str) -> bool:
    return text.lstrip().startswith(("{", "["))
