"""Text and embedding engines that run llama.cpp in this process, on the CPU."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import tokenizers

from airflow_provider_lamini.local.engines.base import (
    BadGenerationRequest,
    EngineError,
    EngineUnavailable,
    GenerationResult,
    ModelNotFound,
    PromptTooLong,
)
from airflow_provider_lamini.local.engines.llama_server import GeneratedText, LlamaServer
from airflow_provider_lamini.local.engines.loaded_models import LoadedModels, ModelHandle
from airflow_provider_lamini.local.engines.structured_output import (
    Field,
    Label,
    field_prefix,
    flat_fields,
    schema_grammar,
    single_label,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from airflow_provider_lamini.api.call import Json
    from airflow_provider_lamini.local.engines.base import Adapter, GenerationRequest, OnText

PARALLEL = 8
CONTEXT = 2048
PROBE_MARK = "\x01"
"""Start of a probe answer under a schema's grammar; llama.cpp ignores an unsupported schema without an error."""
PROBE_TOKENS = 8
SAMPLING_OPTIONS = frozenset(
    {"top_p", "top_k", "min_p", "seed", "frequency_penalty", "presence_penalty", "repeat_penalty"}
)
"""Options of a request that say how a token is picked. Others of llama.cpp are not for clients."""
EMBEDDING_PARALLEL = 8
EMBEDDING_CONTEXT = 512
EMBEDDING_TOKENS = 256
"""Maximum tokens per text. The model was trained on texts up to this length; the reference truncates here too."""
EMBEDDING_BATCH = 64


class LlamaTextEngine:
    """Generates text with GGUF models. Loads the first model at once, and each other model on first use.

    :param models: served name to GGUF file
    :param aliases: alias to served name
    :param parallel: requests computed together, per model
    :param context: tokens per request, prompt and answer together
    :param threads: compute threads per model; defaults to half the CPUs
    :raises EngineUnavailable: the first file cannot be loaded
    """

    def __init__(
        self,
        models: Mapping[str, Path],
        aliases: Mapping[str, str] | None = None,
        *,
        parallel: int = PARALLEL,
        context: int = CONTEXT,
        threads: int | None = None,
    ) -> None:
        self._parallel = parallel
        self._context = context
        self._threads = threads
        self._models = LoadedModels(models, self._load)
        self._aliases = {alias: name for alias, name in (aliases or {}).items() if alias not in models}
        self._supported_schemas: set[str] = set()
        self._lock = threading.Lock()
        for name in list(models)[:1]:
            self._models.load(name)

    @property
    def parallel(self) -> int:
        """Number of requests that can usefully run in parallel."""
        return self._parallel

    def models(self) -> list[str]:
        """Return the served names, aliases last."""
        return [*self._models.names(), *self._aliases]

    def generate(self, request: GenerationRequest, on_text: OnText | None = None) -> GenerationResult:
        """Generate one text, constrained by the request's JSON schema if it has one."""
        name = self._aliases.get(request.model_name, request.model_name)
        if name not in self._models.names():
            raise ModelNotFound(request.model_name, self.models())
        with self._models.use(name) as model:
            return self._generate(model, request, on_text)

    def model_file(self, model_name: str) -> Path:
        """Return the GGUF file of a base model or its alias."""
        name = self._aliases.get(model_name, model_name)
        path = self._models.path(name)
        if path is not None:
            return path
        if name in self._models.names():
            raise EngineUnavailable(f"{model_name!r} is itself a tuned model: tune its base model instead.")
        raise ModelNotFound(model_name, self.models())

    def add_adapters(self, adapters: list[Adapter]) -> dict[str, EngineError]:
        """Start to serve adapters; a base model may be named by its alias."""
        errors = {
            adapter.name: EngineError(f"{adapter.name!r} is the name of another model.")
            for adapter in adapters
            if adapter.name in self._aliases
        }
        resolved = [
            replace(adapter, base=self._aliases.get(adapter.base, adapter.base))
            for adapter in adapters
            if adapter.name not in errors
        ]
        return errors | self._models.add_adapters(resolved)

    def remove_adapter(self, name: str) -> None:
        """Stop serving an adapter."""
        self._models.remove_adapter(name)

    def close(self) -> None:
        """Free the models."""
        self._models.close()

    def _load(self, path: Path, adapters: list[Path]) -> LlamaServer:
        return LlamaServer(
            path, parallel=self._parallel, context=self._context, threads=self._threads, adapters=adapters
        )

    def _generate(
        self, model: ModelHandle, request: GenerationRequest, on_text: OnText | None
    ) -> GenerationResult:
        if request.json_schema is None:
            return self._generate_text(model, request, on_text)
        fields = flat_fields(request.json_schema)
        if fields is None:
            return self._generate_json(model, request, request.json_schema, on_text)
        label = single_label(fields)
        if label is not None:
            return self._generate_label(model, request, label, on_text)
        if model.is_tuned and [field.kind for field in fields] == ["string"]:
            return self._generate_single_string(model, request, fields[0], on_text)
        return self._generate_object(model, request, fields, on_text)

    def _generate_text(
        self, model: ModelHandle, request: GenerationRequest, on_text: OnText | None
    ) -> GenerationResult:
        body, echo = _request_body(request)
        prompt = (request.prompt or "").rstrip(" ")
        if model.is_tuned and prompt and prompt != request.prompt:
            # In training, the space after the prompt was part of the first token of the answer.
            body["prompt"], echo = prompt, " "
            on_text = on_text and _without_leading_space(on_text)
        return _to_generation(model.complete(body, on_text), echo)

    def _generate_label(
        self, model: ModelHandle, request: GenerationRequest, label: Label, on_text: OnText | None
    ) -> GenerationResult:
        """Continue the prompt with one of the bare labels, and return it as an object."""
        text = _prompt_text(model, request)
        # A space between the prompt and the label belongs to the token of the label.
        prompt = text.rstrip(" ")
        space = " " if text and not prompt.endswith(("\n", "\t")) else ""
        index, prompt_tokens, tokens = model.choose(prompt, label.choices(space), _sampling(request))
        answer = label.to_json(index)
        (on_text or _ignore)(answer)
        return GenerationResult(answer, "stop", prompt_tokens, tokens)

    def _generate_single_string(
        self, model: ModelHandle, request: GenerationRequest, field: Field, on_text: OnText | None
    ) -> GenerationResult:
        """Let a tuned model write the only string of an object as it was trained to: as plain text after the prompt."""
        prompt = _prompt_text(model, request).rstrip(" ")
        body: dict[str, Json] = {"prompt": prompt, "max_tokens": request.max_tokens, **_sampling(request)}
        completion = model.complete(body, None)
        answer = field.wrap_text(completion.text)
        (on_text or _ignore)(answer)
        return _to_generation(replace(completion, text=answer), "")

    def _generate_object(
        self, model: ModelHandle, request: GenerationRequest, fields: list[Field], on_text: OnText | None
    ) -> GenerationResult:
        """Generate a flat object: the engine writes the JSON, the model only the values."""
        emit = on_text or _ignore
        prompt = _prompt_text(model, request)
        if prompt and not prompt[-1].isspace():
            prompt += " "
        text, prompt_tokens, tokens, truncated = "", 0, 0, False
        tokens_left, strings_left = request.max_tokens, sum(field.kind == "string" for field in fields)
        for field in fields:
            prefix = field_prefix(field, first=not text)
            emit(prefix + " ")
            text += prefix
            choices = field.choices(last=field is fields[-1])
            if choices is not None:
                index, read, written = model.choose(prompt + text, choices, _sampling(request))
                value = field.choice_json(index)
            else:
                # The strings share max_tokens; numbers are short and always complete.
                limit = field.max_tokens() or max(1, tokens_left // strings_left)
                body: dict[str, Json] = {"prompt": prompt + text, "max_tokens": limit}
                body |= _sampling(request) | {"grammar": field.grammar()}
                done = model.complete(body, None)
                if done.truncated and field.kind != "string":
                    raise PromptTooLong(done.prompt_tokens, self._context)
                if field.kind == "string":
                    tokens_left, strings_left = tokens_left - done.tokens, strings_left - 1
                    truncated = truncated or done.truncated
                value = field.parse_value(done.text, truncated=done.truncated)
                read, written = done.prompt_tokens, done.tokens
            emit(value)
            text += f" {value}"
            prompt_tokens, tokens = prompt_tokens or read, tokens + written
        emit("}")
        return GenerationResult(text + "}", "length" if truncated else "stop", prompt_tokens, tokens)

    def _generate_json(
        self,
        model: ModelHandle,
        request: GenerationRequest,
        schema: dict[str, Json],
        on_text: OnText | None,
    ) -> GenerationResult:
        """Generate JSON under a grammar for schemas that are not flat objects."""
        self._check_supported(model, request.temperature, schema)
        body, echo = _request_body(request)
        body["grammar"] = schema_grammar(schema, "")
        generation = _to_generation(model.complete(body, on_text), echo)
        if generation.finish_reason == "stop":
            try:
                json.loads(generation.text)
            except ValueError:
                raise EngineError("The engine did not follow the JSON schema.") from None
        return generation

    def _check_supported(self, model: ModelHandle, temperature: float, schema: dict[str, Json]) -> None:
        """Probe each schema once with a short text: if llama.cpp ignores it, the answer lacks the mark."""
        key = json.dumps(schema, sort_keys=True)
        with self._lock:
            if key in self._supported_schemas:
                return
        grammar = schema_grammar(schema, PROBE_MARK)
        body: dict[str, Json] = {"prompt": "x", "max_tokens": PROBE_TOKENS, "temperature": temperature}
        if not model.complete(body | {"grammar": grammar}, None).text.startswith(PROBE_MARK):
            raise BadGenerationRequest("llama.cpp does not support this JSON schema; use a simpler one.")
        with self._lock:
            self._supported_schemas.add(key)


class LlamaEmbeddingEngine:
    """Computes embedding vectors with one sentence transformer.

    :param name: served name
    :param path: the GGUF file
    :param tokenizer: the model's ``tokenizer.json``
    :param aliases: other served names
    :raises EngineUnavailable: the file cannot be loaded
    """

    def __init__(
        self,
        name: str,
        path: Path,
        tokenizer: Path,
        aliases: tuple[str, ...] = (),
    ) -> None:
        self._names = [name, *aliases]
        self._tokenizer = tokenizers.Tokenizer.from_file(str(tokenizer))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(EMBEDDING_TOKENS)
        self._server = LlamaServer(
            path, parallel=EMBEDDING_PARALLEL, context=EMBEDDING_CONTEXT, embedding=True
        )

    def models(self) -> list[str]:
        """Return the served names, aliases last."""
        return list(self._names)

    def embed(self, texts: list[str], model_name: str) -> list[list[float]]:
        """Return one vector per text; texts are truncated at 256 tokens."""
        if model_name not in self._names:
            raise ModelNotFound(model_name, self.models())
        vectors: list[list[float]] = []
        for start in range(0, len(texts), EMBEDDING_BATCH):
            encoded = self._tokenizer.encode_batch(texts[start : start + EMBEDDING_BATCH])
            vectors += self._server.embed([encoding.ids for encoding in encoded])
        return vectors

    def close(self) -> None:
        """Free the model."""
        self._server.close()


def _request_body(request: GenerationRequest) -> tuple[dict[str, Json], str]:
    """Return the request to llama.cpp, and the text that its non-streamed answer repeats before the new text."""
    body: dict[str, Json] = {"max_tokens": request.max_tokens, **_sampling(request)}
    if request.json_schema is None and "stop" in request.options:
        body["stop"] = request.options["stop"]  # inside an object it would leave half of it
    if request.messages is None:
        return body | {"prompt": request.prompt}, ""
    last = request.messages[-1] if request.messages else {}
    echo = str(last.get("content", "")) if last.get("role") == "assistant" else ""
    return body | {"messages": [{**message} for message in request.messages]}, echo


def _sampling(request: GenerationRequest) -> dict[str, Json]:
    """Return how tokens are picked."""
    known = {name: value for name, value in request.options.items() if name in SAMPLING_OPTIONS}
    return {**known, "temperature": request.temperature}


def _prompt_text(model: ModelHandle, request: GenerationRequest) -> str:
    """Return the text that the model continues."""
    if request.messages is None:
        return request.prompt or ""
    return model.apply_template(request.messages)


def _to_generation(generated: GeneratedText, echo: str) -> GenerationResult:
    return GenerationResult(
        generated.text.removeprefix(echo),
        "length" if generated.truncated else "stop",
        generated.prompt_tokens,
        generated.tokens,
    )


def _ignore(_: str) -> None:
    """Discard a piece of text."""


def _without_leading_space(on_text: OnText) -> OnText:
    """Pass on the pieces of a text without its leading space."""
    started = False

    def pass_on(piece: str) -> None:
        nonlocal started
        if not started:
            started, piece = True, piece.removeprefix(" ")
        if piece:
            on_text(piece)

    return pass_on
