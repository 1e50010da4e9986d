"""What an engine is: the interface between the local platform's routes and what computes text and vectors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_provider_lamini.api.call import Json

FinishReason = Literal["stop", "length", "timeout"]
"""Why a text ended: by itself (or because its constraint was complete), at ``max_tokens``, or out of time."""


class EngineError(Exception):
    """The root of what an engine raises. Its message may be shown to a user; it never holds a prompt."""


class ModelNotFound(EngineError):  # noqa: N818 - the platform's own word for it
    """No such model is served. Retrying does not help.

    :param model_name: the name that was asked for
    :param served: the names that are served
    """

    def __init__(self, model_name: str, served: list[str]) -> None:
        super().__init__(f"Model {model_name!r} is not served here; served: {', '.join(served) or 'none'}.")
        self.model_name = model_name
        self.served = served

    def __reduce__(self) -> tuple[type[ModelNotFound], tuple[str, list[str]]]:
        return type(self), (self.model_name, self.served)


class PromptTooLong(EngineError):  # noqa: N818 - says what happened
    """The prompt alone does not fit the model's context. Retrying does not help; shorten it.

    :param tokens: tokens in the prompt; 0 where the engine does not tell
    :param limit: tokens that the context holds; 0 where the engine does not tell
    """

    def __init__(self, tokens: int, limit: int) -> None:
        size = f" of {tokens} tokens" if tokens else ""
        room = f" of {limit} tokens" if limit else ""
        super().__init__(f"The prompt{size} does not fit the model's context{room}; shorten the prompt.")
        self.tokens = tokens
        self.limit = limit

    def __reduce__(self) -> tuple[type[PromptTooLong], tuple[int, int]]:
        return type(self), (self.tokens, self.limit)


class BadGenerationRequest(EngineError):  # noqa: N818 - says what happened
    """The engine cannot do this request, such as a JSON schema it cannot follow. Retrying does not help."""


class EngineUnavailable(EngineError):  # noqa: N818 - says what happened
    """The engine cannot answer now: it is closed, or the upstream is down. Retrying later may help."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRequest:
    """One text to generate, from exactly one of a bare prompt and a conversation.

    :param model_name: the served name of the model
    :param prompt: a bare completion: the model continues this text, no template is added
    :param messages: a conversation, each message with ``role`` and ``content``; the chat template is applied
    :param max_tokens: most tokens to generate, 1 or more
    :param temperature: 0 always takes the likeliest token
    :param json_schema: the text is a JSON value that fits this schema, cut only by ``max_tokens``
    :raises ValueError: where both or none of prompt and messages are given, or a number is out of range
    """

    model_name: str
    prompt: str | None = None
    messages: list[dict[str, str]] | None = None
    max_tokens: int
    temperature: float = 0.0
    json_schema: dict[str, Json] | None = None

    def __post_init__(self) -> None:
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("Give exactly one of prompt and messages.")
        if self.max_tokens < 1:
            raise ValueError(f"max_tokens must be 1 or more, got {self.max_tokens}.")
        if not 0 <= self.temperature <= 2:  # noqa: PLR2004 - the range every engine agrees on
            raise ValueError(f"temperature must be between 0 and 2, got {self.temperature}.")


@dataclass(frozen=True, slots=True)
class Generation:
    """A generated text.

    :param text: what was generated, without the prompt
    :param finish_reason: why it ended
    :param prompt_tokens: tokens read; 0 where the engine does not tell
    :param generated_tokens: tokens generated; 0 where the engine does not tell
    """

    text: str
    finish_reason: FinishReason
    prompt_tokens: int
    generated_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """A LoRA that is served as a model of its own, next to the model that it was trained on.

    :param name: the name to serve it under
    :param base: the served name of its model
    :param path: its GGUF file
    """

    name: str
    base: str
    path: Path


OnText = Callable[[str], None]
"""Takes each new piece of text as it is generated. What it raises ends the generation and comes out of it."""


class TextEngine(Protocol):
    """Generates text. Every method may be called from many threads at once."""

    @property
    def parallel(self) -> int:
        """How many requests run at once usefully; more wait inside ``generate``."""

    def models(self) -> list[str]:
        """The names that are served, aliases last.

        :raises EngineUnavailable: the upstream could not be asked
        """

    def generate(self, request: GenerationRequest, on_text: OnText | None = None) -> Generation:
        """Generate one text and return when it is complete.

        :param request: what to generate
        :param on_text: takes each new piece; the pieces together are the text that is returned
        :raises ModelNotFound: the model is not served
        :raises PromptTooLong: the prompt does not fit the context
        :raises BadGenerationRequest: the engine cannot do what is asked
        :raises EngineUnavailable: the engine cannot answer now
        """

    def close(self) -> None:
        """Free what the engine holds; calling it again does nothing."""


@runtime_checkable
class AdaptingEngine(Protocol):
    """What a text engine can do besides, where it serves adapters. Every method may be called from many threads."""

    def weights(self, model_name: str) -> Path:
        """The GGUF file of a model that can be trained on.

        :raises ModelNotFound: the model is not served
        :raises EngineUnavailable: the model is itself an adapter
        """

    def adapt_all(self, adapters: list[Adapter]) -> dict[str, EngineError]:
        """Serve adapters, each under its own name; loading several at once costs no more than one.

        :param adapters: what to serve; one of a name that is served already replaces it
        :returns: what went wrong, by the adapter's name; the others are served
        """

    def forget(self, name: str) -> None:
        """Serve an adapter no longer.

        :raises ModelNotFound: there is no such adapter
        """


class EmbeddingEngine(Protocol):
    """Turns texts into vectors. Every method may be called from many threads at once."""

    def models(self) -> list[str]:
        """The names that are served, aliases last.

        :raises EngineUnavailable: the upstream could not be asked
        """

    def embed(self, texts: list[str], model_name: str) -> list[list[float]]:
        """One vector per text, in order, of length 1 where the model's vectors are normalised.

        A text longer than the model reads is cut; an empty text has a vector too.

        :param texts: the texts; none gives no vectors
        :param model_name: the served name of the model
        :raises ModelNotFound: the model is not served
        :raises EngineUnavailable: the engine cannot answer now
        """

    def close(self) -> None:
        """Free what the engine holds; calling it again does nothing."""
