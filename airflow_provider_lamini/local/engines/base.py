"""The engine interfaces, their requests and results, and the errors that engines raise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_provider_lamini.api.call import Json

FinishReason = Literal["stop", "length", "timeout"]
"""Why generation ended: the text was complete, ``max_tokens`` was reached, or the time limit was."""


class EngineError(Exception):
    """Base class of all engine errors. The message may be shown to users; it never contains a prompt."""


class ModelNotFound(EngineError):  # noqa: N818 - the platform's own word for it
    """The requested model is not served. A retry does not help.

    :param model_name: the requested name
    :param served: all served names
    """

    def __init__(self, model_name: str, served: list[str]) -> None:
        super().__init__(
            f"Model {model_name!r} is not served; available models: {', '.join(served) or 'none'}."
        )
        self.model_name = model_name
        self.served = served

    def __reduce__(self) -> tuple[type[ModelNotFound], tuple[str, list[str]]]:
        return type(self), (self.model_name, self.served)


class PromptTooLong(EngineError):  # noqa: N818 - says what happened
    """The prompt alone exceeds the model's context. A retry does not help; shorten the prompt.

    :param tokens: tokens in the prompt; 0 if unknown
    :param limit: size of the context in tokens; 0 if unknown
    """

    def __init__(self, tokens: int, limit: int) -> None:
        size = f" of {tokens} tokens" if tokens else ""
        context = f" of {limit} tokens" if limit else ""
        super().__init__(f"The prompt{size} does not fit the model's context{context}; shorten the prompt.")
        self.tokens = tokens
        self.limit = limit

    def __reduce__(self) -> tuple[type[PromptTooLong], tuple[int, int]]:
        return type(self), (self.tokens, self.limit)


class BadGenerationRequest(EngineError):  # noqa: N818 - says what happened
    """The engine cannot process this request, e.g. its JSON schema is unsupported. A retry does not help."""


class EngineUnavailable(EngineError):  # noqa: N818 - says what happened
    """The engine cannot answer now: it is closed, or the upstream is down. A later retry may help."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRequest:
    """Request to generate one text, from either a bare prompt or a conversation.

    :param model_name: served name of the model
    :param prompt: text that the model continues, without a chat template
    :param messages: a conversation to apply the chat template to; each message has ``role`` and ``content``, and what else
        the template knows
    :param max_tokens: maximum tokens to generate, 1 or more
    :param temperature: sampling temperature; 0 always picks the most likely token
    :param json_schema: constrains the text to JSON of this schema; only ``max_tokens`` can truncate it
    :param options: other fields of OpenAI's API, such as ``top_p``, ``seed`` and ``stop``; an engine ignores those that
        it does not know
    :raises ValueError: not exactly one of prompt and messages is given, or a number is out of range
    """

    model_name: str
    prompt: str | None = None
    messages: list[dict[str, Json]] | None = None
    max_tokens: int
    temperature: float = 0.0
    json_schema: dict[str, Json] | None = None
    options: Mapping[str, Json] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("Give exactly one of prompt and messages.")
        if self.max_tokens < 1:
            raise ValueError(f"max_tokens must be 1 or more, got {self.max_tokens}.")
        if not 0 <= self.temperature <= 2:  # noqa: PLR2004 - the range every engine agrees on
            raise ValueError(f"temperature must be between 0 and 2, got {self.temperature}.")


@dataclass(frozen=True, slots=True)
class GenerationResult:
    """A generated text.

    :param text: the generated text, without the prompt
    :param finish_reason: why generation ended
    :param prompt_tokens: tokens in the prompt; 0 if unknown
    :param generated_tokens: tokens generated; 0 if unknown
    """

    text: str
    finish_reason: FinishReason
    prompt_tokens: int
    generated_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """A LoRA adapter, served under its own model name beside its base model.

    :param name: served name of the tuned model
    :param base: served name of the base model
    :param path: the adapter's GGUF file
    """

    name: str
    base: str
    path: Path


OnText = Callable[[str], None]
"""Called with each piece of text as it is generated. An exception it raises stops the generation and propagates."""


class TextEngine(Protocol):
    """Generates text. Every method is thread-safe."""

    @property
    def parallel(self) -> int:
        """Number of requests that can usefully run in parallel; others wait inside ``generate``."""

    def models(self) -> list[str]:
        """Return the served names, aliases last.

        :raises EngineUnavailable: the upstream could not be reached
        """

    def generate(self, request: GenerationRequest, on_text: OnText | None = None) -> GenerationResult:
        """Generate one text and return it when it is complete.

        :param request: what to generate
        :param on_text: called with each new piece; joined, the pieces are the returned text
        :raises ModelNotFound: the model is not served
        :raises PromptTooLong: the prompt exceeds the context
        :raises BadGenerationRequest: the engine cannot process the request
        :raises EngineUnavailable: the engine cannot answer now
        """

    def close(self) -> None:
        """Release the engine's resources; a second call has no effect."""


@runtime_checkable
class SupportsAdapters(Protocol):
    """A text engine that can also serve LoRA adapters. Every method is thread-safe."""

    def model_file(self, model_name: str) -> Path:
        """Return the GGUF file of a base model, to train on.

        :raises ModelNotFound: the model is not served
        :raises EngineUnavailable: the model is itself an adapter
        """

    def add_adapters(self, adapters: list[Adapter]) -> dict[str, EngineError]:
        """Start to serve adapters; loading several at once costs no more than loading one.

        :param adapters: the adapters; one with the name of a served adapter replaces it
        :return: errors by adapter name; all other adapters are served
        """

    def remove_adapter(self, name: str) -> None:
        """Stop serving an adapter.

        :raises ModelNotFound: there is no such adapter
        """


class EmbeddingEngine(Protocol):
    """Computes embedding vectors. Every method is thread-safe."""

    def models(self) -> list[str]:
        """Return the served names, aliases last.

        :raises EngineUnavailable: the upstream could not be reached
        """

    def embed(self, texts: list[str], model_name: str) -> list[list[float]]:
        """Return one vector per text, in order, with norm 1 if the model normalises its vectors.

        Texts beyond the model's maximum length are truncated. An empty text has a vector too.

        :param texts: the texts; may be empty
        :param model_name: served name of the model
        :raises ModelNotFound: the model is not served
        :raises EngineUnavailable: the engine cannot answer now
        """

    def close(self) -> None:
        """Release the engine's resources; a second call has no effect."""
