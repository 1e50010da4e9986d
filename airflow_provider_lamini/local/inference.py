"""Inference for endpoints and jobs: turns a platform request into engine calls, and checks typed output."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from airflow_provider_lamini.api.output_types import check_output_type, json_schema
from airflow_provider_lamini.local.engines.base import (
    BadGenerationRequest,
    GenerationRequest,
    GenerationResult,
    ModelNotFound,
)
from airflow_provider_lamini.local.errors import ApiError, StillLoadingError

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_lamini.api.call import Json
    from airflow_provider_lamini.api.output_types import OutputType
    from airflow_provider_lamini.local.engines.base import EmbeddingEngine, OnText, TextEngine
    from airflow_provider_lamini.local.faults import Faults

DEFAULT_NEW_TOKENS: Final = 256
"""Maximum number of tokens to generate if the request sets no limit."""

CHARACTERS_PER_TOKEN: Final = 4
"""How the platform's clients estimate a prompt's tokens; ``max_tokens``, which includes the prompt, needs it."""

EMBEDDING_BATCH_SIZE: Final = 16
"""Texts per request to the embedding engine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletionSettings:
    """How to complete each prompt of a request.

    :param model_name: served name of the model
    :param output_type: the typed output's fields; None generates plain text
    :param max_new_tokens: maximum number of tokens to generate
    :param max_tokens: maximum number of tokens of prompt and completion together
    """

    model_name: str
    output_type: OutputType | None = None
    max_new_tokens: int | None = None
    max_tokens: int | None = None

    @classmethod
    def from_params(cls, params: dict[str, Json]) -> Self:
        """Restore the settings from a job's parameters."""
        output_type, *limits = (params[name] for name in ("output_type", "max_new_tokens", "max_tokens"))
        max_new_tokens, max_tokens = (limit if isinstance(limit, int) else None for limit in limits)
        return cls(
            model_name=str(params["model_name"]),
            output_type=None if output_type is None else check_output_type(output_type),
            max_new_tokens=max_new_tokens,
            max_tokens=max_tokens,
        )

    def to_params(self) -> dict[str, Json]:
        """Job parameters that :meth:`from_params` reads."""
        output_type: dict[str, Json] | None = None
        if self.output_type is not None:
            output_type = {
                name: [*kind] if isinstance(kind, list) else kind for name, kind in self.output_type.items()
            }
        return {
            "model_name": self.model_name,
            "output_type": output_type,
            "max_new_tokens": self.max_new_tokens,
            "max_tokens": self.max_tokens,
        }

    def token_limit(self, prompt: str) -> int:
        """Maximum number of tokens to generate for a prompt."""
        limits = [] if self.max_new_tokens is None else [self.max_new_tokens]
        if self.max_tokens is not None:
            limits.append(self.max_tokens - math.ceil(len(prompt) / CHARACTERS_PER_TOKEN))
        return max(1, min(limits, default=DEFAULT_NEW_TOKENS))


@dataclass(frozen=True, slots=True)
class Completion:
    """The completion of one prompt.

    :param output: the text, or the object with typed output; None if the object was cut off
    :param finish_reason: why the text ended
    """

    output: Json
    finish_reason: str


class InferenceService:
    """Completions and embeddings for endpoints and jobs. Any thread may use it.

    :param texts: the text engine
    :param vectors: the embedding engine
    :param faults: faults to inject
    :param is_downloading: whether a model that is not served yet is being downloaded
    """

    def __init__(
        self,
        texts: TextEngine,
        vectors: EmbeddingEngine,
        faults: Faults,
        is_downloading: Callable[[str], bool],
    ) -> None:
        self.texts = texts
        self.vectors = vectors
        self._faults = faults
        self._is_downloading = is_downloading

    def check_text_model(self, model_name: str) -> None:
        """Check that a model can generate text now.

        :raises StillLoadingError: the model is being downloaded or loaded
        :raises ModelNotFound: the model is not served
        """
        self._check(model_name, self.texts.models())

    def check_embedding_model(self, model_name: str) -> None:
        """Check that a model can embed texts now.

        :raises StillLoadingError: the model is being downloaded or loaded
        :raises ModelNotFound: the model is not served
        """
        self._check(model_name, self.vectors.models())

    def _check(self, model_name: str, served: list[str]) -> None:
        if self._faults.is_loading(model_name):
            raise StillLoadingError(model_name)
        if model_name not in served:
            if self._is_downloading(model_name):
                raise StillLoadingError(model_name)
            raise ModelNotFound(model_name, served)

    def complete(
        self, settings: CompletionSettings, prompt: str, on_text: OnText | None = None, *, chat: bool = False
    ) -> Completion:
        """Complete one prompt.

        :param settings: how to complete it
        :param prompt: the prompt
        :param on_text: called with each new piece of the text
        :param chat: apply the model's chat template, with the prompt as the user's message
        :raises EngineError: the engine could not generate the text
        """
        request = GenerationRequest(
            model_name=settings.model_name,
            prompt=None if chat else prompt,
            messages=[{"role": "user", "content": prompt}] if chat else None,
            max_tokens=settings.token_limit(prompt),
            json_schema=None if settings.output_type is None else json_schema(settings.output_type),
        )
        generation = self.generate(request, on_text)
        if settings.output_type is None:
            return Completion(generation.text, generation.finish_reason)
        return Completion(_typed_output(generation, settings.output_type), generation.finish_reason)

    def generate(self, request: GenerationRequest, on_text: OnText | None = None) -> GenerationResult:
        """Generate one text.

        :param request: what to generate
        :param on_text: called with each new piece of the text
        :raises EngineError: the engine could not generate the text
        """
        prompt = request.prompt if request.messages is None else request.messages[-1]["content"]
        if self._faults.row_fails(str(prompt or "")):
            raise ApiError(500, "An injected row fault.")
        return self.texts.generate(request, on_text)

    def embed(self, texts: list[str], model_name: str) -> list[list[float]]:
        """Return one vector per text.

        :raises EngineError: the engine could not embed the texts
        """
        if any(self._faults.row_fails(text) for text in texts):
            raise ApiError(500, "An injected row fault.")
        return self.vectors.embed(texts, model_name)


def _typed_output(generation: GenerationResult, output_type: OutputType) -> Json:
    """Parse and check the generated object; None if it was cut off."""
    try:
        value: Json = json.loads(generation.text)
    except ValueError:
        if generation.finish_reason != "stop":
            return None
        raise BadGenerationRequest("The engine ignored output_type: its output is not JSON.") from None
    if not isinstance(value, dict) or set(value) != set(output_type):
        raise BadGenerationRequest("The engine ignored output_type: its output has other fields.")
    return {name: _typed_field(name, value[name], kind) for name, kind in output_type.items()}


def _typed_field(name: str, value: Json, kind: str | list[str] | list[int]) -> Json:
    if isinstance(kind, list):
        valid = not isinstance(value, bool) and value in kind
    elif kind == "float" and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    else:
        valid = type(value).__name__ == kind
    if not valid:
        raise BadGenerationRequest(f"The engine ignored output_type: field {name!r} has another type.")
    return value
