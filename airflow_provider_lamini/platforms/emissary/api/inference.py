"""Inference: requests to a deployment, or to a base model that needs none. Each request has one prompt."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import AliasChoices, Field, JsonValue, PositiveInt, model_validator

from airflow_provider_lamini.api import schema
from airflow_provider_lamini.api.call import RESULTS, Call, Retry
from airflow_provider_lamini.platforms.emissary.api.fields import ListOf, MappingOf, UnixTime

Model = Annotated[str, Field(min_length=1)]
"""A deployment's name, or a base model that supports inference without one."""


class Sampling(schema.Request):
    """How to sample tokens."""

    temperature: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    top_k: PositiveInt | None = None


class CompletionRequest(Sampling):
    """The body of ``POST /v1/completions``."""

    model: Model
    prompt: str
    max_completion_tokens: schema.TokenBound | None = None


class Message(schema.Request):
    """One message of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


class ChatRequest(Sampling):
    """The body of ``POST /v1/chat/completions``."""

    model: Model
    messages: Annotated[list[Message], Field(min_length=1)]
    max_tokens: schema.TokenBound | None = None


class EmbeddingRequest(schema.Request):
    """The body of ``POST /v1/embeddings``."""

    model: Model
    input: str
    target: str
    cosine: bool | None = None
    manhattan: bool | None = None
    euclidean: bool | None = None


class ClassificationRequest(schema.Request):
    """The body of ``POST /v1/classification``."""

    model: Model
    input: str
    data_format: Literal["logits", "probs"] | None = None


class Usage(schema.Response):
    """Tokens used by a response."""

    prompt_tokens: schema.Tokens = 0
    completion_tokens: schema.Tokens = 0
    total_tokens: schema.Tokens = 0
    prompt_tokens_details: JsonValue = Field(
        default=None, validation_alias=AliasChoices("prompt_tokens_details", "prompt_token_details")
    )
    """A text in completions, an object in chat; the classification spells the field differently."""
    completion_tokens_details: JsonValue = None


class CompletionChoice(schema.Response):
    """One output."""

    text: schema.Output | None = None
    index: int | float | None = None
    finish_reason: str | None = None
    stop_reason: str | None = None


class CompletionObject(schema.Response):
    """The outputs of a prompt."""

    choices: Annotated[list[CompletionChoice], Field(min_length=1)]
    id: str | None = None
    model: str | None = None
    created: UnixTime | None = None
    usage: Usage | None = None


class ChatMessage(schema.Response):
    """The model's message."""

    role: str | None = None
    content: schema.Output | None = None
    refusal: str | None = None
    reasoning_content: JsonValue = None
    reasoning: JsonValue = None
    tool_calls: JsonValue = None

    @property
    def thoughts(self) -> str | None:
        """What the model has thought, if the engine behind the platform reports it separately."""
        found = self.reasoning_content or self.reasoning
        return found if isinstance(found, str) else None


class ChatChoice(schema.Response):
    """One output."""

    message: ChatMessage
    index: int | float | None = None
    finish_reason: str | None = None


class ChatCompletionObject(schema.Response):
    """The outputs of a conversation."""

    choices: Annotated[list[ChatChoice], Field(min_length=1)]
    id: str | None = None
    model: str | None = None
    created: UnixTime | None = None
    usage: Usage | None = None
    service_tier: str | None = None
    system_fingerprint: str | None = None


class EmbeddingScores(schema.Response):
    """Two vectors, and how far apart they are."""

    input_embedding: ListOf[float]
    target_embedding: ListOf[float]
    cosine_score: float | None = None
    manhattan_distance: float | None = None
    euclidean_distance: float | None = None


class EmbeddingComparison(schema.Response):
    """How similar a text is to a target."""

    response: EmbeddingScores
    id: str | None = None


class LabelScores(schema.Response):
    """The scores of the labels, in one of two formats."""

    index: int | float | None = None
    logits: MappingOf[float]
    """Label to raw score."""
    probs: MappingOf[float]
    """Label to probability."""

    @model_validator(mode="after")
    def _one_format(self) -> "LabelScores":
        if not self.logits and not self.probs:
            raise ValueError("neither logits nor probs has a label")
        return self

    @property
    def scores(self) -> dict[str, float]:
        """Label to score, in the format that the platform answered with."""
        return self.probs or self.logits


class Classification(schema.Response):
    """The labels of a text."""

    data: Annotated[list[LabelScores], Field(min_length=1)]
    id: str | None = None
    model: str | None = None
    """The deployment's id."""
    usage: Usage | None = None


def complete(
    *,
    model: str,
    prompt: str,
    temperature: float | None = None,
    max_completion_tokens: int | None = None,
    top_p: float | None = None,
    top_k: int | None = None,
) -> Call[CompletionObject]:
    """Complete a prompt: ``POST /v1/completions``.

    :param model: a deployment's name, or a base model that supports inference without one
    :param prompt: the prompt
    :param temperature: 0 for the most likely output
    :param max_completion_tokens: maximum tokens to generate
    :param top_p: sample from the most likely tokens that have this probability together
    :param top_k: sample from this many most likely tokens
    :returns: the outputs
    :raises ValueError: if an argument is invalid
    """
    arguments = {
        "model": model,
        "prompt": prompt,
        "temperature": temperature,
        "max_completion_tokens": max_completion_tokens,
        "top_p": top_p,
        "top_k": top_k,
    }
    return Call(
        operation="getCompletionsFromDeployment",
        method="POST",
        path="/v1/completions",
        json=schema.body(CompletionRequest, arguments),
        parse=schema.parser(CompletionObject),
        prompt_fields=("prompt",),
        tokens_used=schema.used_tokens,
        retry=Retry.SAFE,
        max_bytes=RESULTS,
    )


def chat(
    *,
    model: str,
    messages: Sequence[Message | Mapping[str, str]],
    temperature: float | None = None,
    max_tokens: int | None = None,
    top_p: float | None = None,
    top_k: int | None = None,
) -> Call[ChatCompletionObject]:
    """Continue a conversation: ``POST /v1/chat/completions``.

    :param model: a deployment's name, or a base model that supports inference without one
    :param messages: the conversation so far, each with ``role`` (system, user or assistant) and ``content``
    :param temperature: 0 for the most likely output
    :param max_tokens: maximum tokens to generate
    :param top_p: sample from the most likely tokens that have this probability together
    :param top_k: sample from this many most likely tokens
    :returns: the outputs
    :raises ValueError: if an argument is invalid
    """
    arguments = {
        "model": model,
        "messages": [schema.set_fields(each) for each in messages],
        "temperature": temperature,
        "max_tokens": max_tokens,
        "top_p": top_p,
        "top_k": top_k,
    }
    return Call(
        operation="getChatCompletions",
        method="POST",
        path="/v1/chat/completions",
        json=schema.body(ChatRequest, arguments),
        parse=schema.parser(ChatCompletionObject),
        prompt_fields=("messages",),
        tokens_used=schema.used_tokens,
        retry=Retry.SAFE,
        max_bytes=RESULTS,
    )


def compare(
    *,
    model: str,
    input: str,  # noqa: A002 - the platform's name for it
    target: str,
    cosine: bool | None = None,
    manhattan: bool | None = None,
    euclidean: bool | None = None,
) -> Call[EmbeddingComparison]:
    """Embed two texts and compare them: ``POST /v1/embeddings``.

    :param model: a deployment's name, or a base model that supports inference without one
    :param input: the text
    :param target: the text to compare it with
    :param cosine: whether to return the cosine similarity
    :param manhattan: whether to return the Manhattan distance
    :param euclidean: whether to return the Euclidean distance
    :returns: both vectors, and the requested measures
    :raises ValueError: if an argument is invalid
    """
    arguments = {
        "model": model,
        "input": input,
        "target": target,
        "cosine": cosine,
        "manhattan": manhattan,
        "euclidean": euclidean,
    }
    return Call(
        operation="getEmbeddingsFromDeployment",
        method="POST",
        path="/v1/embeddings",
        json=schema.body(EmbeddingRequest, arguments),
        parse=schema.parser(EmbeddingComparison),
        prompt_fields=("input", "target"),
        retry=Retry.SAFE,
        max_bytes=RESULTS,
    )


def classify(
    *,
    model: str,
    input: str,  # noqa: A002 - the platform's name for it
    data_format: str | None = None,
) -> Call[Classification]:
    """Classify a text: ``POST /v1/classification``.

    :param model: a deployment's name
    :param input: the text
    :param data_format: ``logits`` for raw scores (the platform's default) or ``probs`` for probabilities
    :returns: the scores of the labels
    :raises ValueError: if an argument is invalid
    """
    arguments = {"model": model, "input": input, "data_format": data_format}
    return Call(
        operation="getClassificationFromDeployment",
        method="POST",
        path="/v1/classification",
        json=schema.body(ClassificationRequest, arguments),
        parse=schema.parser(Classification),
        prompt_fields=("input",),
        tokens_used=schema.used_tokens,
        retry=Retry.SAFE,
        max_bytes=RESULTS,
    )
