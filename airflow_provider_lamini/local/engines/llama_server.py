"""One model loaded in llama.cpp: requests in, texts and vectors out, errors of the engine's own kind."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import xllamacpp

from airflow_provider_lamini.local.engines.base import (
    BadGenerationRequest,
    EngineError,
    EngineUnavailable,
    PromptTooLong,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from airflow_provider_lamini.api.call import Json
    from airflow_provider_lamini.local.engines.base import OnText

THREADS_LIMIT = 8
ERRORS_ONLY = 1
SILENT = 0


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
    :raises EngineUnavailable: the file cannot be loaded
    """

    def __init__(
        self, path: Path, *, parallel: int, context: int, threads: int | None = None, embedding: bool = False
    ) -> None:
        params = xllamacpp.CommonParams()
        params.model.path = str(path)
        params.verbosity = SILENT
        params.n_parallel = parallel
        params.n_ctx = context * parallel
        # The cache of prompts in memory forgets which adapter a prompt was read with.
        params.cache_ram_mib = 0
        # llama.cpp also listens on a free port of loopback: only with a key that nobody is told.
        params.api_keys = [secrets.token_urlsafe(32)]
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads or default_threads()
        if embedding:
            params.embedding = True
            params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
            params.n_batch = params.n_ubatch = context
        try:
            self._server: xllamacpp.Server | None = xllamacpp.Server(params)
        except RuntimeError:
            raise EngineUnavailable(
                f"llama.cpp cannot load {path}: it is no whole GGUF file, or memory is short."
            ) from None

    def write(self, body: dict[str, Json], on_text: OnText | None) -> Written:
        """Generate a text.

        :param body: an OpenAI-shaped request, with ``prompt`` or ``messages``
        :param on_text: takes each new piece; what it raises ends the generation and is raised here
        :raises PromptTooLong: the prompt does not fit the context
        :raises BadGenerationRequest: llama.cpp refuses the request
        :raises EngineUnavailable: it was closed
        """
        server = self._open_server()
        handle = server.handle_chat_completions if "messages" in body else server.handle_completions
        if on_text is None:
            answer = _handled(handle, body)
            _raise_error(answer)
            choice = answer["choices"][0]
            text = choice["message"]["content"] or "" if "messages" in body else choice["text"]
            usage = answer["usage"]
        else:
            stream = _Stream(on_text)
            _handled(handle, body | {"stream": True, "stream_options": {"include_usage": True}}, stream.take)
            text, choice, usage = stream.ended()
        return Written(
            text=text,
            is_cut=choice["finish_reason"] == "length",
            prompt_tokens=usage.get("prompt_tokens", 0),
            tokens=usage.get("completion_tokens", 0),
        )

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
