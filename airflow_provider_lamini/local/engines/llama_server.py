"""One model loaded in llama.cpp: generates texts and vectors, and maps llama.cpp's errors to engine errors."""

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
from airflow_provider_lamini.local.engines.group_lock import GroupLock

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from airflow_provider_lamini.api.call import Json
    from airflow_provider_lamini.local.engines.base import OnText

THREADS_LIMIT = 8
SILENT = 0
HTTP_TIMEOUT = 60.0
TOKENIZE_CACHE = 4096
ALLOWED_BIAS = 200
"""Added to the logits of the allowed tokens, so that only they can be picked; their order is unchanged."""


@dataclass(frozen=True, slots=True)
class GeneratedText:
    """Result of one request to llama.cpp.

    :param text: the generated text
    :param truncated: whether it reached the token limit or the end of the context
    :param prompt_tokens: tokens in the prompt
    :param tokens: tokens generated
    """

    text: str
    truncated: bool
    prompt_tokens: int
    tokens: int


def default_threads() -> int:
    """Return half the number of CPUs that this process may use.

    The threads of a model synchronise at every layer, so one thread that shares its CPU with another process slows
    down all of them: on two busy CPUs, one thread is ten times as fast as two.
    """
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(THREADS_LIMIT, usable // 2))


class LlamaServer:
    """A model in memory. Requests from any number of threads are computed in shared batches.

    :param path: the GGUF file
    :param parallel: maximum requests per batch
    :param context: tokens per request, prompt and answer together
    :param threads: compute threads; defaults to half the CPUs
    :param embedding: load the model for vectors instead of text
    :param adapters: LoRA files of the model; a request selects one by its index
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
        # The prompt cache in RAM does not track which adapter a prompt was computed with.
        params.cache_ram_mib = 0
        # llama.cpp also listens on a free loopback port; a random key keeps other processes out.
        key = secrets.token_urlsafe(32)
        params.api_keys = [key]
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads or default_threads()
        params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(str(adapter), 0.0) for adapter in adapters]
        self._adapter_count = len(adapters)
        self._adapter_lock = GroupLock()
        if embedding:
            params.embedding = True
            params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
            params.n_batch = params.n_ubatch = context
        try:
            self._server: xllamacpp.Server | None = xllamacpp.Server(params)
        except RuntimeError:
            raise EngineUnavailable(
                f"llama.cpp cannot load {_describe_files([path, *adapters])}: "
                "not a complete GGUF file, or out of memory."
            ) from None
        # llama.cpp offers tokenization and the chat template only over HTTP.
        self._http = httpx.Client(
            base_url=self._server.listening_address,
            headers={"Authorization": f"Bearer {key}"},
            timeout=HTTP_TIMEOUT,
            trust_env=False,
        )
        self._tokenize = lru_cache(TOKENIZE_CACHE)(self._tokenize_uncached)

    def complete(
        self, body: dict[str, Json], on_text: OnText | None, adapter: int | None = None
    ) -> GeneratedText:
        """Generate a text.

        :param body: an OpenAI-style request, with ``prompt`` or ``messages``
        :param on_text: called with each new piece; an exception it raises stops the generation and propagates
        :param adapter: index of the adapter to use; ``None`` for the base model
        :raises PromptTooLong: the prompt exceeds the context
        :raises BadGenerationRequest: llama.cpp rejects the request
        :raises EngineUnavailable: the model was closed
        """
        server = self._require_server()
        handle = server.handle_chat_completions if "messages" in body else server.handle_completions
        if on_text is None:
            answer = _call(self._with_adapter, adapter, handle, body)
            _raise_for_error(answer)
            choice = answer["choices"][0]
            text = choice["message"]["content"] or "" if "messages" in body else choice["text"]
            usage = answer["usage"]
        else:
            stream = _Stream(on_text)
            body = body | {"stream": True, "stream_options": {"include_usage": True}}
            _call(self._with_adapter, adapter, handle, body, stream.add_chunk)
            text, choice, usage = stream.result()
        return GeneratedText(
            text=text,
            truncated=choice["finish_reason"] == "length",
            prompt_tokens=usage.get("prompt_tokens", 0),
            tokens=usage.get("completion_tokens", 0),
        )

    def choose(
        self, prompt: str, choices: list[str], sampling: dict[str, Json], adapter: int | None = None
    ) -> tuple[int, int, int]:
        """Continue a prompt with one of several texts: the most likely one, or a sample at a temperature above 0.

        Every text is represented by its canonical tokens, as in training. A grammar would be worse: it admits every
        tokenization of a text, so a space token that is likely for some other reason would decide the choice.

        :param prompt: the text to continue
        :param choices: the texts; none may be a prefix of another
        :param sampling: how to pick a token, such as ``temperature``; 0 always picks the most likely one
        :param adapter: index of the adapter to use; ``None`` for the base model
        :return: index of the chosen text, tokens in the prompt, tokens generated
        :raises PromptTooLong: the prompt exceeds the context
        :raises EngineUnavailable: the model was closed
        """
        tokens = [self._tokens_after(prompt[-1:], choice) for choice in choices]
        candidates = list(range(len(choices)))
        prefix: list[Json] = []
        prompt_tokens = generated = 0
        while len(candidates) > 1:
            next_tokens = sorted({tokens[index][len(prefix)] for index in candidates})
            picked = next_tokens[0]
            if len(next_tokens) > 1:
                picked, read = self._pick(prompt, prefix, next_tokens, sampling, adapter)
                prompt_tokens, generated = prompt_tokens or read, generated + 1
            candidates = [index for index in candidates if tokens[index][len(prefix)] == picked]
            prefix.append(picked)
        return candidates[0], prompt_tokens, generated

    def apply_template(self, messages: list[dict[str, Json]]) -> str:
        """Render a conversation with the model's chat template.

        :param messages: the conversation; if the last message is the assistant's, the model continues it
        :raises BadGenerationRequest: the chat template rejects the conversation
        """
        return str(
            self._post("/apply-template", {"messages": [{**message} for message in messages]})["prompt"]
        )

    def _with_adapter(
        self,
        adapter: int | None,
        handle: Callable[..., Any],
        body: dict[str, Json],
        *callback: Callable[..., bool],
    ) -> Any:
        # llama.cpp alone starts a request with another adapter only when no request is running. A steady stream of
        # requests for one adapter would starve all others.
        body = body | self._adapter_scales(adapter)
        with self._adapter_lock.hold(adapter):
            return handle(body, *callback)

    def _adapter_scales(self, adapter: int | None) -> dict[str, Json]:
        # llama.cpp keeps adapters enabled that a request does not mention, and ignores unknown ids.
        if adapter is not None and not 0 <= adapter < self._adapter_count:
            raise EngineError(f"The model was loaded without adapter {adapter}.")
        scales: list[Json] = [
            {"id": index, "scale": 1.0 if index == adapter else 0.0} for index in range(self._adapter_count)
        ]
        return {"lora": scales} if scales else {}

    def _pick(
        self,
        prompt: str,
        prefix: list[Json],
        allowed: list[int],
        sampling: dict[str, Json],
        adapter: int | None,
    ) -> tuple[int, int]:
        """Pick one of the allowed tokens; return it and the number of tokens in the prompt."""
        server = self._require_server()
        biases: dict[str, Json] = {str(token): ALLOWED_BIAS for token in allowed}
        body: dict[str, Json] = {
            **sampling,
            "prompt": [prompt, *prefix] if prefix else prompt,
            "max_tokens": 1,
            "logit_bias": biases,
            "n_probs": 1,
        }
        answer = self._with_adapter(adapter, server.handle_completions, body)
        _raise_for_error(answer)
        picked = int(answer["choices"][0]["logprobs"]["content"][0]["id"])
        if picked not in allowed:
            raise EngineError("llama.cpp picked a token that was not allowed.")
        return picked, int(answer["usage"]["prompt_tokens"])

    def _tokens_after(self, before: str, text: str) -> list[int]:
        """Tokenize a text as it is tokenized after another text."""
        head, whole = self._tokenize(before), self._tokenize(before + text)
        return whole[len(head) :] if whole[: len(head)] == head else self._tokenize(text)

    def _tokenize_uncached(self, text: str) -> list[int]:
        return [int(token) for token in self._post("/tokenize", {"content": text})["tokens"]]

    def _post(self, path: str, body: dict[str, Json]) -> dict[str, Any]:
        self._require_server()
        try:
            response = self._http.post(path, json=body)
        except (httpx.HTTPError, RuntimeError) as error:
            raise EngineUnavailable(f"llama.cpp did not answer: {type(error).__name__}.") from None
        answer: dict[str, Any] = response.json()
        if response.is_error:
            message = str(answer.get("error", {}).get("message"))[:200]
            raise BadGenerationRequest(f"llama.cpp rejected the request: {message}")
        return answer

    def embed(self, inputs: list[list[int]]) -> list[list[float]]:
        """Return one vector per list of token ids.

        :raises EngineError: llama.cpp rejects the input
        :raises EngineUnavailable: the model was closed
        """
        answer = self._require_server().handle_embeddings({"input": inputs})
        _raise_for_error(answer)
        rows = sorted(answer["data"], key=lambda row: int(row["index"]))
        return [row["embedding"] for row in rows]

    def close(self) -> None:
        """Free the model once its last request has ended."""
        self._server = None
        self._http.close()

    def _require_server(self) -> xllamacpp.Server:
        server = self._server
        if server is None:
            raise EngineUnavailable("The engine is closed.")
        return server


class _Stream:
    """Collects the chunks of a streamed answer."""

    def __init__(self, on_text: Callable[[str], None]) -> None:
        self._on_text = on_text
        self._pieces: list[str] = []
        self._choice: dict[str, Json] = {"finish_reason": None}
        self._usage: dict[str, int] = {}
        self._failure: BaseException | None = None

    def add_chunk(self, chunk: dict[str, Json]) -> bool:
        """Add a chunk; return true to stop the generation."""
        try:
            self._read(chunk)
        except BaseException as error:  # noqa: BLE001 - llama.cpp swallows exceptions of a callback; result() raises it
            self._failure = error
            return True
        return False

    def _read(self, chunk: dict[str, Any]) -> None:
        _raise_for_error(chunk)
        self._usage = chunk.get("usage") or self._usage
        for choice in chunk["choices"]:
            piece = choice.get("text") or choice.get("delta", {}).get("content")
            if choice["finish_reason"] is not None:
                self._choice = choice
            if piece:
                self._pieces.append(piece)
                self._on_text(piece)

    def result(self) -> tuple[str, dict[str, Any], dict[str, int]]:
        """Return the text, the last choice and the usage, or raise the error that stopped the stream."""
        if self._failure is not None:
            raise self._failure
        return "".join(self._pieces), self._choice, self._usage


def _describe_files(paths: list[Path]) -> str:
    return str(paths[0]) if len(paths) == 1 else f"{paths[0]} with {', '.join(map(str, paths[1:]))}"


def _call(handle: Callable[..., Any], *arguments: object) -> Any:
    try:
        return handle(*arguments)
    except (ValueError, RuntimeError, TypeError) as error:
        # The chat template rejects some messages, such as one without content.
        raise BadGenerationRequest(f"llama.cpp rejected the request: {str(error)[:200]}") from None


def _raise_for_error(answer: dict[str, Any]) -> None:
    error = answer.get("error")
    if error is None:
        return
    if error.get("type") == "exceed_context_size_error":
        raise PromptTooLong(int(error.get("n_prompt_tokens", 0)), int(error.get("n_ctx", 0)))
    if error.get("type") == "invalid_request_error":
        raise BadGenerationRequest(f"llama.cpp rejected the request: {str(error.get('message'))[:200]}")
    raise EngineError(f"llama.cpp failed: {str(error.get('message'))[:200]}")
