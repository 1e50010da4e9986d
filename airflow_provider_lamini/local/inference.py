"""From a request of the platform to text and vectors of an engine, and back to what the platform answers."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from airflow_provider_lamini.api.output_types import json_schema
from airflow_provider_lamini.local.engines.base import (
    BadGenerationRequest,
    Generation,
    GenerationRequest,
    ModelNotFound,
)
from airflow_provider_lamini.local.errors import ModelLoadingError, PlatformError

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_lamini.api.call import Json
    from airflow_provider_lamini.api.output_types import OutputType
    from airflow_provider_lamini.local.engines.base import EmbeddingEngine, OnText, TextEngine
    from airflow_provider_lamini.local.faults import Faults

DEFAULT_NEW_TOKENS: Final = 256
"""Tokens generated at most where the request sets no limit."""

CHARACTERS_PER_TOKEN: Final = 4
"""The platform's clients reckon a prompt's tokens so; only ``max_tokens``, prompt included, needs it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What to generate for each prompt of one request.

    :param model_name: the served model
    :param output_type: the shape of the answer, None for plain text
    :param max_new_tokens: most tokens to generate
    :param max_tokens: most tokens of prompt and answer together
    """

    model_name: str
    output_type: OutputType | None = None
    max_new_tokens: int | None = None
    max_tokens: int | None = None

    def room(self, prompt: str) -> int:
        """How many tokens may be generated for a prompt."""
        limits = [] if self.max_new_tokens is None else [self.max_new_tokens]
        if self.max_tokens is not None:
            limits.append(self.max_tokens - math.ceil(len(prompt) / CHARACTERS_PER_TOKEN))
        return max(1, min(limits, default=DEFAULT_NEW_TOKENS))

    def as_params(self) -> dict[str, Json]:
        """As a job keeps it."""
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


@dataclass(frozen=True, slots=True)
class Answer:
    """What is answered for one prompt.

    :param output: the text, or the object of the output type; None where the object was cut
    :param finish_reason: why the text ended
    """

    output: Json
    finish_reason: str


class Inference:
    """Text and vectors for the routes and the jobs; may be used from any thread.

    :param texts: generates text
    :param vectors: makes vectors
    :param faults: what is to go wrong on purpose
    :param arriving: whether a model that is not served is on its way
    """

    def __init__(
        self,
        texts: TextEngine,
        vectors: EmbeddingEngine,
        faults: Faults,
        arriving: Callable[[str], bool],
    ) -> None:
        self.texts = texts
        self.vectors = vectors
        self._faults = faults
        self._arriving = arriving

    def check_text_model(self, model_name: str) -> None:
        """Return if the model can be used for text now.

        :raises ModelLoadingError: it is being loaded
        :raises ModelNotFound: it is not served
        """
        self._check(model_name, self.texts.models())

    def check_embedding_model(self, model_name: str) -> None:
        """Return if the model can be used for vectors now.

        :raises ModelLoadingError: it is being loaded
        :raises ModelNotFound: it is not served
        """
        self._check(model_name, self.vectors.models())

    def _check(self, model_name: str, served: list[str]) -> None:
        if self._faults.loading(model_name):
            raise ModelLoadingError(model_name)
        if model_name not in served:
            if self._arriving(model_name):
                raise ModelLoadingError(model_name)
            raise ModelNotFound(model_name, served)

    def complete(
        self, what: Task, prompt: str, on_text: OnText | None = None, *, chat: bool = False
    ) -> Answer:
        """Generate the answer for one prompt.

        :param what: what to generate
        :param prompt: the model continues it as it is
        :param on_text: takes each new piece of the text
        :param chat: the prompt is the user's turn of a conversation instead, in the model's chat template
        :raises EngineError: it could not be generated
        """
        if self._faults.spoils(prompt):
            raise PlatformError(500, "A row fault that was asked for.")
        request = GenerationRequest(
            model_name=what.model_name,
            prompt=None if chat else prompt,
            messages=[{"role": "user", "content": prompt}] if chat else None,
            max_tokens=what.room(prompt),
            json_schema=None if what.output_type is None else json_schema(what.output_type),
        )
        generation = self.texts.generate(request, on_text)
        if what.output_type is None:
            return Answer(generation.text, generation.finish_reason)
        return Answer(_typed(generation, what.output_type), generation.finish_reason)

    def embed(self, texts: list[str], model_name: str) -> list[list[float]]:
        """One vector per text.

        :raises EngineError: they could not be made
        """
        if any(self._faults.spoils(text) for text in texts):
            raise PlatformError(500, "A row fault that was asked for.")
        return self.vectors.embed(texts, model_name)


def _typed(generation: Generation, output_type: OutputType) -> Json:
    """The object that was generated; None where it was cut before it was complete."""
    try:
        value: Json = json.loads(generation.text)
    except ValueError:
        if generation.finish_reason != "stop":
            return None
        raise BadGenerationRequest("The engine did not keep to output_type: its text is not JSON.") from None
    if not isinstance(value, dict) or set(value) != set(output_type):
        raise BadGenerationRequest("The engine did not keep to output_type: other fields came back.")
    return {name: _field(name, value[name], kind) for name, kind in output_type.items()}


def _field(name: str, value: Json, kind: str | list[str] | list[int]) -> Json:
    if isinstance(kind, list):
        good = not isinstance(value, bool) and value in kind
    elif kind == "float" and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    else:
        good = type(value).__name__ == kind
    if not good:
        raise BadGenerationRequest(
            f"The engine did not keep to output_type: field {name!r} is of another type."
        )
    return value
