"""One model loaded in llama.cpp: requests in, texts and vectors out, errors of the engine's own kind."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import httpx
import xllamacpp

from airflow_provider_lamini.local.engines.base import (
    BadGenerationRequest,
    EngineError,
    EngineUnavailable,
    PromptTooLong,
)
from airflow_provider_lamini.local.engines.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from airflow_provider_lamini.api.call import Json
    from airflow_provider_lamini.local.engines.base import OnText

THREADS_LIMIT = 8
SILENT = 0
HTTP_TIMEOUT = 60.0
SPLIT_CACHE = 4096
ALLOWED_BIAS = 200
"""Lifts a token above every other; two lifted ones keep their distance."""


@dataclass(frozen=True, slots=True)
class Written:
    """What one request to llama.cpp gave.

    :param text: the generated text
    :param is_cut: whether it ended at the limit of tokens, or of the context
    :param prompt_tokens: tokens of the prompt
    :param tokens: tokens generated
    """

    text: str
    is_cut: bool
    prompt_tokens: int
    tokens: int


def default_threads() -> int:
    """Return half of the CPUs that this process may use.

    Threads of one model wait for each other at every layer, so one that shares its CPU with another process slows
    all: on two busy CPUs one thread is ten times as fast as two.
    """
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(THREADS_LIMIT, usable // 2))


class LlamaServer:
    """A model in memory; requests from any number of threads share its batches.

    :param path: the GGUF file
    :param parallel: requests computed together
    :param context: tokens that each of them can hold, prompt and answer
    :param threads: threads to compute with; by default half of the CPUs
    :param embedding: whether it makes vectors, not text
    :param adapters: LoRA files of the model, each used by the requests that name its number
    :raises EngineUnavailable: a file cannot be loaded
    """

    def __init__(
        self,
        path: Path,
        *,
        parallel: int,
        context: int,
        threads: int | None = None,
        embedding: bool = False,
        adapters: Sequence[Path] = (),
    ) -> None:
        params = xllamacpp.CommonParams()
        params.model.path = str(path)
        params.verbosity = SILENT
        params.n_parallel = parallel
        params.n_ctx = context * parallel
        # The cache of prompts in memory forgets which adapter a prompt was read with.
        params.cache_ram_mib = 0
        # llama.cpp also listens on a free port of loopback: only with a key that nobody else is told.
        key = secrets.token_urlsafe(32)
        params.api_keys = [key]
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads or default_threads()
        params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(str(adapter), 0.0) for adapter in adapters]
        self._adapters = len(adapters)
        self._turns = Turns()
        if embedding:
            params.embedding = True
            params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
            params.n_batch = params.n_ubatch = context
        try:
            self._server: xllamacpp.Server | None = xllamacpp.Server(params)
        except RuntimeError:
            raise EngineUnavailable(
                f"llama.cpp cannot load {_listed([path, *adapters])}: no whole GGUF file, or memory is short."
            ) from None
        # Splitting texts and applying the chat template are offered there only.
        self._http = httpx.Client(
            base_url=self._server.listening_address,
            headers={"Authorization": f"Bearer {key}"},
            timeout=HTTP_TIMEOUT,
            trust_env=False,
        )
        self._split = lru_cache(SPLIT_CACHE)(self._split_now)

    def write(self, body: dict[str, Json], on_text: OnText | None, adapter: int | None = None) -> Written:
        """Generate a text.

        :param body: an OpenAI-shaped request, with ``prompt`` or ``messages``
        :param on_text: takes each new piece; what it raises ends the generation and is raised here
        :param adapter: number of the adapter to use
        :raises PromptTooLong: the prompt does not fit the context
        :raises BadGenerationRequest: llama.cpp refuses the request
        :raises EngineUnavailable: it was closed
        """
        server = self._open_server()
        handle = server.handle_chat_completions if "messages" in body else server.handle_completions
        if on_text is None:
            answer = _handled(self._in_turn, adapter, handle, body)
            _raise_error(answer)
            choice = answer["choices"][0]
            text = choice["message"]["content"] or "" if "messages" in body else choice["text"]
            usage = answer["usage"]
        else:
            stream = _Stream(on_text)
            body = body | {"stream": True, "stream_options": {"include_usage": True}}
            _handled(self._in_turn, adapter, handle, body, stream.take)
            text, choice, usage = stream.ended()
        return Written(
            text=text,
            is_cut=choice["finish_reason"] == "length",
            prompt_tokens=usage.get("prompt_tokens", 0),
            tokens=usage.get("completion_tokens", 0),
        )

    def choose(
        self, prompt: str, choices: list[str], temperature: float, adapter: int | None = None
    ) -> tuple[int, int, int]:
        """Continue a prompt with the likeliest of some texts, or at a temperature with one by its likeliness.

        Each text is taken as its own tokens, as the model has learned to read it. A grammar would not do: it lets in
        every way to spell a text, so that a likely space before something else decides for a spelling that begins
        with a space.

        :param prompt: what to continue
        :param choices: the texts, none of which begins another
        :param temperature: 0 always takes the likeliest
        :param adapter: number of the adapter to use
        :returns: the number of the chosen one, tokens of the prompt, tokens generated
        :raises PromptTooLong: the prompt does not fit the context
        :raises EngineUnavailable: it was closed
        """
        tokens = [self._tokens_after(prompt[-1:], choice) for choice in choices]
        alive = list(range(len(choices)))
        given: list[Json] = []
        prompt_tokens = generated = 0
        while len(alive) > 1:
            nexts = sorted({tokens[number][len(given)] for number in alive})
            picked = nexts[0]
            if len(nexts) > 1:
                picked, read = self._pick(prompt, given, nexts, temperature, adapter)
                prompt_tokens, generated = prompt_tokens or read, generated + 1
            alive = [number for number in alive if tokens[number][len(given)] == picked]
            given.append(picked)
        return alive[0], prompt_tokens, generated

    def prompt_of(self, messages: list[dict[str, str]]) -> str:
        """Return a conversation as the text that the model continues.

        :param messages: the conversation; where it ends with the assistant, that message is continued
        :raises BadGenerationRequest: the chat template cannot take it
        """
        return str(
            self._ask("/apply-template", {"messages": [{**message} for message in messages]})["prompt"]
        )

    def _in_turn(
        self,
        adapter: int | None,
        handle: Callable[..., Any],
        body: dict[str, Json],
        *take: Callable[..., bool],
    ) -> Any:
        # Left to itself, llama.cpp computes a request with another adapter only once no other is under way: never,
        # while a batch keeps coming.
        body = body | self._scales(adapter)
        with self._turns.of(adapter):
            return handle(body, *take)

    def _scales(self, adapter: int | None) -> dict[str, Json]:
        # llama.cpp leaves on what a request does not name, and takes an unknown number without an error.
        if adapter is not None and not 0 <= adapter < self._adapters:
            raise EngineError(f"The model was loaded without an adapter {adapter}.")
        scales: list[Json] = [
            {"id": number, "scale": 1.0 if number == adapter else 0.0} for number in range(self._adapters)
        ]
        return {"lora": scales} if scales else {}

    def _pick(
        self, prompt: str, given: list[Json], allowed: list[int], temperature: float, adapter: int | None
    ) -> tuple[int, int]:
        server = self._open_server()
        biases: dict[str, Json] = {str(token): ALLOWED_BIAS for token in allowed}
        body: dict[str, Json] = {
            "prompt": [prompt, *given] if given else prompt,
            "max_tokens": 1,
            "temperature": temperature,
            "logit_bias": biases,
            "n_probs": 1,
        }
        answer = self._in_turn(adapter, server.handle_completions, body)
        _raise_error(answer)
        picked = int(answer["choices"][0]["logprobs"]["content"][0]["id"])
        if picked not in allowed:
            raise EngineError("llama.cpp chose what was not allowed.")
        return picked, int(answer["usage"]["prompt_tokens"])

    def _tokens_after(self, before: str, text: str) -> list[int]:
        """Split a text as it is split after another."""
        head, whole = self._split(before), self._split(before + text)
        return whole[len(head) :] if whole[: len(head)] == head else self._split(text)

    def _split_now(self, text: str) -> list[int]:
        return [int(token) for token in self._ask("/tokenize", {"content": text})["tokens"]]

    def _ask(self, path: str, body: dict[str, Json]) -> dict[str, Any]:
        self._open_server()
        try:
            response = self._http.post(path, json=body)
        except (httpx.HTTPError, RuntimeError) as error:
            raise EngineUnavailable(f"llama.cpp does not answer: {type(error).__name__}.") from None
        answer: dict[str, Any] = response.json()
        if response.is_error:
            message = str(answer.get("error", {}).get("message"))[:200]
            raise BadGenerationRequest(f"llama.cpp refuses the request: {message}")
        return answer

    def vectors(self, inputs: list[list[int]]) -> list[list[float]]:
        """Return one vector per list of token ids.

        :raises EngineError: llama.cpp refuses them
        :raises EngineUnavailable: it was closed
        """
        answer = self._open_server().handle_embeddings({"input": inputs})
        _raise_error(answer)
        rows = sorted(answer["data"], key=lambda row: int(row["index"]))
        return [row["embedding"] for row in rows]

    def close(self) -> None:
        """Free the model when the last request that uses it has ended."""
        self._server = None
        self._http.close()

    def _open_server(self) -> xllamacpp.Server:
        server = self._server
        if server is None:
            raise EngineUnavailable("The engine is closed.")
        return server


class _Stream:
    """Collects the chunks of one streamed answer."""

    def __init__(self, on_text: Callable[[str], None]) -> None:
        self._on_text = on_text
        self._pieces: list[str] = []
        self._choice: dict[str, Json] = {"finish_reason": None}
        self._usage: dict[str, int] = {}
        self._failure: BaseException | None = None

    def take(self, chunk: dict[str, Json]) -> bool:
        """Take one chunk; returning true ends the generation."""
        try:
            self._read(chunk)
        except BaseException as error:  # noqa: BLE001 - llama.cpp drops what a callback raises; ended() raises it
            self._failure = error
            return True
        return False

    def _read(self, chunk: dict[str, Any]) -> None:
        _raise_error(chunk)
        self._usage = chunk.get("usage") or self._usage
        for choice in chunk["choices"]:
            piece = choice.get("text") or choice.get("delta", {}).get("content")
            if choice["finish_reason"] is not None:
                self._choice = choice
            if piece:
                self._pieces.append(piece)
                self._on_text(piece)

    def ended(self) -> tuple[str, dict[str, Any], dict[str, int]]:
        """Return the text, the last choice and the usage."""
        if self._failure is not None:
            raise self._failure
        return "".join(self._pieces), self._choice, self._usage


def _listed(paths: list[Path]) -> str:
    return str(paths[0]) if len(paths) == 1 else f"{paths[0]} with {', '.join(map(str, paths[1:]))}"


def _handled(handle: Callable[..., Any], *arguments: object) -> Any:
    try:
        return handle(*arguments)
    except (ValueError, RuntimeError, TypeError) as error:
        # What the chat template cannot take, such as a message without content.
        raise BadGenerationRequest(f"llama.cpp refuses the request: {str(error)[:200]}") from None


def _raise_error(answer: dict[str, Any]) -> None:
    error = answer.get("error")
    if error is None:
        return
    if error.get("type") == "exceed_context_size_error":
        raise PromptTooLong(int(error.get("n_prompt_tokens", 0)), int(error.get("n_ctx", 0)))
    if error.get("type") == "invalid_request_error":
        raise BadGenerationRequest(f"llama.cpp refuses the request: {str(error.get('message'))[:200]}")
    raise EngineError(f"llama.cpp failed: {str(error.get('message'))[:200]}")
