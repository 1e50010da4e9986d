"""Text and vectors from llama.cpp inside this process, on the CPU."""

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
    Generation,
    ModelNotFound,
    PromptTooLong,
)
from airflow_provider_lamini.local.engines.llama_server import LlamaServer, Written
from airflow_provider_lamini.local.engines.loaded import LoadedModels, Voice
from airflow_provider_lamini.local.engines.structured import (
    Field,
    Label,
    flat_fields,
    opening,
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
MARK = "\x01"
"""Stands before a JSON value of any schema; llama.cpp drops a schema that it cannot follow without an error."""
MARK_TOKENS = 8
EMBEDDING_PARALLEL = 8
EMBEDDING_CONTEXT = 512
EMBEDDING_TOKENS = 256
"""The model was trained on texts up to here; the reference implementation cuts here too."""
EMBEDDING_BATCH = 64


class LlamaTextEngine:
    """Generates text with GGUF models. The first is loaded at once, each other when it is first asked for.

    :param models: served name to GGUF file
    :param aliases: other name to served name
    :param parallel: requests computed together, per model
    :param context: tokens that each request can hold, prompt and answer
    :param threads: threads per model; by default half of the CPUs
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
        self._followed: set[str] = set()
        self._lock = threading.Lock()
        for name in list(models)[:1]:
            self._models.load(name)

    @property
    def parallel(self) -> int:
        """How many requests run at once usefully."""
        return self._parallel

    def models(self) -> list[str]:
        """The names that are served, aliases last."""
        return [*self._models.names(), *self._aliases]

    def generate(self, request: GenerationRequest, on_text: OnText | None = None) -> Generation:
        """Generate one text, see :class:`~airflow_provider_lamini.local.engines.base.TextEngine`."""
        name = self._aliases.get(request.model_name, request.model_name)
        if name not in self._models.names():
            raise ModelNotFound(request.model_name, self.models())
        with self._models.voice(name) as voice:
            return self._generate(voice, request, on_text)

    def weights(self, model_name: str) -> Path:
        """The file of a model, see :class:`~airflow_provider_lamini.local.engines.base.AdaptingEngine`."""
        name = self._aliases.get(model_name, model_name)
        path = self._models.file_of(name)
        if path is not None:
            return path
        if name in self._models.names():
            raise EngineUnavailable(
                f"{model_name!r} is itself a tuned model: tune the model that it is based on."
            )
        raise ModelNotFound(model_name, self.models())

    def adapt_all(self, adapters: list[Adapter]) -> dict[str, EngineError]:
        """Serve adapters, see :class:`~airflow_provider_lamini.local.engines.base.AdaptingEngine`."""
        taken = {
            adapter.name: EngineError(f"{adapter.name!r} is the name of another model.")
            for adapter in adapters
            if adapter.name in self._aliases
        }
        known = [replace(adapter, base=self._aliases.get(adapter.base, adapter.base)) for adapter in adapters]
        return taken | self._models.adapt([adapter for adapter in known if adapter.name not in taken])

    def forget(self, name: str) -> None:
        """Serve an adapter no longer, see :class:`~airflow_provider_lamini.local.engines.base.AdaptingEngine`."""
        self._models.forget(name)

    def close(self) -> None:
        """Free the models."""
        self._models.close()

    def _load(self, path: Path, adapters: list[Path]) -> LlamaServer:
        return LlamaServer(
            path, parallel=self._parallel, context=self._context, threads=self._threads, adapters=adapters
        )

    def _generate(self, voice: Voice, request: GenerationRequest, on_text: OnText | None) -> Generation:
        if request.json_schema is None:
            return self._free(voice, request, on_text)
        fields = flat_fields(request.json_schema)
        if fields is None:
            return self._any_schema(voice, request, request.json_schema, on_text)
        label = single_label(fields)
        if label is not None:
            return self._label(voice, request, label, on_text)
        if voice.is_tuned and [field.kind for field in fields] == ["string"]:
            return self._answer(voice, request, fields[0], on_text)
        return self._object(voice, request, fields, on_text)

    def _free(self, voice: Voice, request: GenerationRequest, on_text: OnText | None) -> Generation:
        body, given = _body(request)
        begun = (request.prompt or "").rstrip(" ")
        if voice.is_tuned and begun and begun != request.prompt:
            # It was trained on the prompt without the space, which belongs to the token of the word after it.
            body["prompt"], given = begun, " "
            on_text = on_text and _without_gap(on_text)
        return _generation(voice.write(body, on_text), given)

    def _label(
        self, voice: Voice, request: GenerationRequest, label: Label, on_text: OnText | None
    ) -> Generation:
        prompt = _text_of(voice, request)
        # A space at the end of a prompt belongs to the token of the word after it.
        begun = prompt.rstrip(" ")
        gap = " " if prompt and not begun.endswith(("\n", "\t")) else ""
        number, read, written = voice.choose(begun, label.choices(gap), request.temperature)
        text = label.chosen(number)
        (on_text or _nobody)(text)
        return Generation(text, "stop", read, written)

    def _answer(
        self, voice: Voice, request: GenerationRequest, field: Field, on_text: OnText | None
    ) -> Generation:
        """Write an object's only text as a tuned model has learned to: after the prompt, without JSON, to its end."""
        prompt = _text_of(voice, request).rstrip(" ")
        body: dict[str, Json] = {"prompt": prompt, "max_tokens": request.max_tokens}
        written = voice.write(body | {"temperature": request.temperature}, None)
        text = field.object_of(written.text)
        (on_text or _nobody)(text)
        return _generation(replace(written, text=text), "")

    def _object(
        self, voice: Voice, request: GenerationRequest, fields: list[Field], on_text: OnText | None
    ) -> Generation:
        emit = on_text or _nobody
        prompt = _text_of(voice, request)
        if prompt and not prompt[-1].isspace():
            prompt += " "
        text, prompt_tokens, tokens, is_cut = "", 0, 0, False
        room, texts = request.max_tokens, sum(field.kind == "string" for field in fields)
        for field in fields:
            before = opening(field, first=not text)
            emit(before + " ")
            text += before
            choices = field.choices(last=field is fields[-1])
            if choices is not None:
                number, read, written = voice.choose(prompt + text, choices, request.temperature)
                value = field.chosen(number)
            else:
                # The texts share max_tokens; numbers are short by themselves and always whole.
                limit = field.most_tokens() or max(1, room // texts)
                body: dict[str, Json] = {"prompt": prompt + text, "max_tokens": limit}
                body |= {"temperature": request.temperature, "grammar": field.grammar()}
                done = voice.write(body, None)
                if done.is_cut and field.kind != "string":
                    raise PromptTooLong(done.prompt_tokens, self._context)
                if field.kind == "string":
                    room, texts, is_cut = room - done.tokens, texts - 1, is_cut or done.is_cut
                value = field.value_of(done.text, cut=done.is_cut)
                read, written = done.prompt_tokens, done.tokens
            emit(value)
            text += f" {value}"
            prompt_tokens, tokens = prompt_tokens or read, tokens + written
        emit("}")
        return Generation(text + "}", "length" if is_cut else "stop", prompt_tokens, tokens)

    def _any_schema(
        self,
        voice: Voice,
        request: GenerationRequest,
        schema: dict[str, Json],
        on_text: OnText | None,
    ) -> Generation:
        self._check_followed(voice, request.temperature, schema)
        body, given = _body(request)
        generation = _generation(voice.write(body | {"grammar": schema_grammar(schema, "")}, on_text), given)
        if generation.finish_reason == "stop":
            try:
                json.loads(generation.text)
            except ValueError:
                raise EngineError("The engine did not keep to the JSON schema.") from None
        return generation

    def _check_followed(self, voice: Voice, temperature: float, schema: dict[str, Json]) -> None:
        """Try each schema once on a short text: one that llama.cpp cannot follow does not force the mark."""
        key = json.dumps(schema, sort_keys=True)
        with self._lock:
            if key in self._followed:
                return
        grammar = schema_grammar(schema, MARK)
        body: dict[str, Json] = {"prompt": "x", "max_tokens": MARK_TOKENS, "temperature": temperature}
        if not voice.write(body | {"grammar": grammar}, None).text.startswith(MARK):
            raise BadGenerationRequest("llama.cpp cannot follow this JSON schema; use a simpler one.")
        with self._lock:
            self._followed.add(key)


class LlamaEmbeddingEngine:
    """Makes vectors with one sentence transformer.

    :param name: served name
    :param path: the GGUF file
    :param tokenizer: its ``tokenizer.json``
    :param aliases: other names that it answers to
    :param threads: threads to compute with; by default half of the CPUs
    :raises EngineUnavailable: the file cannot be loaded
    """

    def __init__(
        self,
        name: str,
        path: Path,
        tokenizer: Path,
        aliases: tuple[str, ...] = (),
        *,
        threads: int | None = None,
    ) -> None:
        self._names = [name, *aliases]
        self._tokenizer = tokenizers.Tokenizer.from_file(str(tokenizer))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(EMBEDDING_TOKENS)
        self._server = LlamaServer(
            path, parallel=EMBEDDING_PARALLEL, context=EMBEDDING_CONTEXT, threads=threads, embedding=True
        )

    def models(self) -> list[str]:
        """The names that are served, aliases last."""
        return list(self._names)

    def embed(self, texts: list[str], model_name: str) -> list[list[float]]:
        """One vector per text, see :class:`~airflow_provider_lamini.local.engines.base.EmbeddingEngine`."""
        if model_name not in self._names:
            raise ModelNotFound(model_name, self.models())
        vectors: list[list[float]] = []
        for start in range(0, len(texts), EMBEDDING_BATCH):
            encoded = self._tokenizer.encode_batch(texts[start : start + EMBEDDING_BATCH])
            vectors += self._server.vectors([encoding.ids for encoding in encoded])
        return vectors

    def close(self) -> None:
        """Free the model."""
        self._server.close()


def _body(request: GenerationRequest) -> tuple[dict[str, Json], str]:
    """Return the request to llama.cpp, and what its unstreamed answer begins with before the new text."""
    body: dict[str, Json] = {"max_tokens": request.max_tokens, "temperature": request.temperature}
    if request.messages is None:
        return body | {"prompt": request.prompt}, ""
    last = request.messages[-1] if request.messages else {}
    given = last.get("content", "") if last.get("role") == "assistant" else ""
    return body | {"messages": [{**message} for message in request.messages]}, given


def _text_of(voice: Voice, request: GenerationRequest) -> str:
    """Return the text that the model continues."""
    if request.messages is None:
        return request.prompt or ""
    return voice.prompt_of(request.messages)


def _generation(written: Written, given: str) -> Generation:
    text = written.text.removeprefix(given)
    return Generation(text, "length" if written.is_cut else "stop", written.prompt_tokens, written.tokens)


def _nobody(_: str) -> None:
    """Take a piece that nobody waits for."""


def _without_gap(on_text: OnText) -> OnText:
    """Hand on the pieces of a text without the space that it begins with."""
    begun = False

    def take(piece: str) -> None:
        nonlocal begun
        if not begun:
            begun, piece = True, piece.removeprefix(" ")
        if piece:
            on_text(piece)

    return take
