"""Text and vectors from any engine that speaks OpenAI's HTTP API: vLLM, llama-server, Ray Serve and others."""

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
    Generation,
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
MODELS_SECONDS = 15.0
EMBEDDING_BATCH = 128
TOO_LONG_WORDS = ("exceed_context_size", "context_length_exceeded", "maximum context length", "context size")

log = logging.getLogger(__name__)


class UpstreamEngine:
    """Both engines over one OpenAI-compatible server.

    Passing failures are tried again; generating has no effects on the server, so trying again does no harm.

    :param url: base URL, with or without ``/v1``
    :param key: bearer key, if the server wants one
    :param parallel: requests that run at once usefully
    :param timeout: seconds to wait for a whole answer, or for the next piece of a streamed one
    :raises ValueError: the URL is none
    """

    def __init__(
        self, url: str, key: str | None = None, *, parallel: int = PARALLEL, timeout: float = TIMEOUT
    ) -> None:
        parsed = httpx.URL(url)
        if parsed.scheme not in {"http", "https"} or not parsed.host:
            raise ValueError(f"The upstream must be a URL such as http://localhost:8000/v1, not {url!r}.")
        base = url.rstrip("/")
        self._url = base if base.endswith("/v1") else f"{base}/v1"
        self._parallel = parallel
        self._client = httpx.Client(
            timeout=httpx.Timeout(timeout, connect=CONNECT_TIMEOUT),
            limits=httpx.Limits(max_connections=parallel * 2),
            headers={"Authorization": f"Bearer {key}"} if key else {},
        )
        self._lock = threading.Lock()
        self._known: tuple[float, list[str]] | None = None
        self._binds_completions = True

    @property
    def parallel(self) -> int:
        """How many requests run at once usefully."""
        return self._parallel

    def models(self) -> list[str]:
        """The names that the server lists; asked again after some seconds.

        :raises EngineUnavailable: the server could not be asked
        """
        with self._lock:
            known = self._known
        if known is None or time.monotonic() - known[0] > MODELS_SECONDS:
            answer = self._repeated(lambda: self._answer("GET", "/models", None, ""))
            known = (time.monotonic(), [str(model["id"]) for model in answer.get("data", [])])
            with self._lock:
                self._known = known
        return list(known[1])

    def generate(self, request: GenerationRequest, on_text: OnText | None = None) -> Generation:
        """Generate one text, see :class:`~airflow_provider_lamini.local.engines.base.TextEngine`.

        A bare prompt goes to ``/completions``. With a JSON schema it goes there with ``response_format``, which vLLM
        knows and others ignore; once a server has ignored it, such prompts go to ``/chat/completions`` instead.
        """
        if request.prompt is None or request.json_schema is None:
            return self._generate(request, on_text, chat=request.prompt is None)
        if self._binds_completions:
            try:
                generation = self._generate(request, None, chat=False)
            except BadGenerationRequest:
                generation = None
            if generation is not None and _begins_object(generation.text):
                if on_text is not None:
                    on_text(generation.text)
                return generation
            self._binds_completions = False
            log.warning(
                "%s does not bind /completions to a JSON schema; prompts with an output type go to "
                "/chat/completions from now on, where the chat template changes them.",
                self._url,
            )
        return self._generate(request, on_text, chat=True)

    def embed(self, texts: list[str], model_name: str) -> list[list[float]]:
        """One vector per text, see :class:`~airflow_provider_lamini.local.engines.base.EmbeddingEngine`."""
        vectors: list[list[float]] = []
        for start in range(0, len(texts), EMBEDDING_BATCH):
            part = texts[start : start + EMBEDDING_BATCH]
            body = {"model": model_name, "input": part}
            answer = self._repeated(lambda body=body: self._answer("POST", "/embeddings", body, model_name))  # type: ignore[misc]
            rows = sorted(answer.get("data", []), key=lambda row: int(row["index"]))
            if len(rows) != len(part):
                raise EngineUnavailable(f"{self._url} answered {len(rows)} vectors for {len(part)} texts.")
            vectors += [row["embedding"] for row in rows]
        return vectors

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _generate(self, request: GenerationRequest, on_text: OnText | None, *, chat: bool) -> Generation:
        body: dict[str, Json] = {
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
            return self._streamed(path, body, request.model_name, on_text)
        answer = self._repeated(lambda: self._answer("POST", path, body, request.model_name))
        choice = _choice_of(answer)
        return _generation(_text_of(choice), choice.get("finish_reason"), answer.get("usage"))

    def _streamed(self, path: str, body: dict[str, Json], model_name: str, on_text: OnText) -> Generation:
        body = body | {"stream": True, "stream_options": {"include_usage": True}}
        pieces: list[str] = []
        reason: str | None = None
        usage: dict[str, int] | None = None

        def attempt() -> None:
            nonlocal reason, usage
            with self._client.stream("POST", self._url + path, json=body) as response:
                if response.is_error:
                    response.read()
                    self._raise(response, model_name)
                for event in _events(response):
                    usage = event.get("usage") or usage
                    for choice in event.get("choices", []):
                        reason = choice.get("finish_reason") or reason
                        if piece := _text_of(choice):
                            pieces.append(piece)
                            on_text(piece)
            if reason is None:
                raise EngineUnavailable(f"{self._url} broke off a streamed answer.")

        # What was handed on cannot be taken back.
        self._repeated(attempt, unless=lambda: bool(pieces))
        return _generation("".join(pieces), reason, usage)

    def _repeated(self, attempt: Callable[[], T], unless: Callable[[], bool] = lambda: False) -> T:
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(lambda error: _is_passing(error) and not unless()),
            stop=tenacity.stop_after_attempt(ATTEMPTS),
            wait=tenacity.wait_random_exponential(multiplier=0.3, max=10),
            reraise=True,
        )
        try:
            return retrying(attempt)
        except httpx.HTTPError as error:
            raise EngineUnavailable(
                f"{self._url} does not answer: {error or type(error).__name__}. Is it running?"
            ) from error

    def _answer(self, method: str, path: str, body: Json, model_name: str) -> dict[str, Any]:
        response = self._client.request(method, self._url + path, json=body)
        if response.is_error:
            self._raise(response, model_name)
        try:
            answer = response.json()
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise EngineUnavailable(f"{self._url}{path} did not answer with a JSON object: is this its API?")
        return answer

    def _raise(self, response: httpx.Response, model_name: str) -> None:
        status = response.status_code
        said = response.text[:2000]
        if status in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}:
            raise _Refused(f"{self._url} refuses the key ({status}).")
        if status == httpx.codes.NOT_FOUND:
            if model_name and "model" in said.lower():
                raise ModelNotFound(model_name, self.models())
            raise _Refused(f"{self._url} has no {response.request.url.path}: is this the API's base URL?")
        if status in {httpx.codes.TOO_MANY_REQUESTS, httpx.codes.REQUEST_TIMEOUT} or response.is_server_error:
            raise EngineUnavailable(f"{self._url} answered {status}.")
        if any(words in said for words in TOO_LONG_WORDS):
            raise PromptTooLong(0, 0)
        raise BadGenerationRequest(f"{self._url} refuses the request ({status}).")


class _Refused(EngineUnavailable):
    """The upstream will not answer until somebody changes something; trying again does not help."""


def _is_passing(error: BaseException) -> bool:
    if isinstance(error, EngineUnavailable):
        return not isinstance(error, _Refused)
    return isinstance(error, httpx.TransportError)


def _choice_of(answer: dict[str, Any]) -> dict[str, Any]:
    choices = answer.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise EngineUnavailable("The upstream's answer holds no choice.")
    return choices[0]


def _text_of(choice: dict[str, Any]) -> str:
    if "text" in choice:
        return choice["text"] or ""
    return (choice.get("message") or choice.get("delta") or {}).get("content") or ""


def _generation(text: str, reason: object, usage: dict[str, int] | None) -> Generation:
    finish: FinishReason = "length" if reason == "length" else "stop"
    counts = usage or {}
    return Generation(text, finish, counts.get("prompt_tokens", 0), counts.get("completion_tokens", 0))


def _events(response: httpx.Response) -> Iterator[dict[str, Any]]:
    for line in response.iter_lines():
        data = line.removeprefix("data:").strip()
        if line.startswith("data:") and data and data != "[DONE]":
            event = json.loads(data)
            if "error" in event:
                raise EngineUnavailable("The upstream failed in the middle of a streamed answer.")
            yield event


def _begins_object(text: str) -> bool:
    return text.lstrip().startswith(("{", "["))
