"""OpenAI's chat API on the platform, below ``/inf``. Here the platform applies the model's chat template."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, JsonValue, NonNegativeInt

from airflow_provider_lamini.api import schema
from airflow_provider_lamini.api.call import LIST, RESULTS, Call, Json, Retry


class Message(schema.Request):
    """One message of a conversation."""

    role: str = Field(min_length=1)
    content: str


class JsonSchema(schema.Request):
    """A named JSON schema that the output must match."""

    name: str = "answer"
    schema_: dict[str, JsonValue] | None = Field(default=None, alias="schema")
    strict: bool | None = None


class ResponseFormat(schema.Request):
    """``{"type": "json_schema", "json_schema": {"name": ..., "schema": ...}}``, or a plain type."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class CacheControl(schema.Request):
    """How long a third-party model stays cached.

    :param ttl: seconds
    """

    ttl: NonNegativeInt | None = None


class ChatRequest(schema.Request):
    """The body of ``POST /inf/chat/completions``."""

    model: str = Field(min_length=1)
    messages: Annotated[list[Message], Field(min_length=1)]
    temperature: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    seed: int | None = None
    stop: str | Annotated[list[str], Field(min_length=1)] | None = None
    max_tokens: schema.TokenBound | None = None
    response_format: ResponseFormat | None = None
    cache: CacheControl | None = None


class Usage(schema.Response):
    """Tokens used by a response."""

    prompt_tokens: schema.Tokens = 0
    completion_tokens: schema.Tokens = 0
    total_tokens: schema.Tokens = 0


class _Part(schema.Response):
    text: schema.Output | None = None
    refusal: str | None = None


class _ResponseMessage(schema.Response):
    content: schema.Output | list[_Part] | None = None
    refusal: str | None = None
    reasoning_content: JsonValue = None
    reasoning: JsonValue = None
    tool_calls: JsonValue = None


class _Choice(schema.Response):
    message: _ResponseMessage
    finish_reason: str | None = None


class _ChatCompletion(schema.Response):
    choices: Annotated[list[_Choice], Field(min_length=1)]
    usage: Usage | None = None


@dataclass(frozen=True, slots=True)
class ChatResponse:
    """The model's message.

    :param content: its text; JSON text if a schema was requested
    :param finish_reason: ``stop``, ``length``, or another reason of the platform
    :param usage: tokens used, if the platform reports them
    :param refusal: why the model declined to answer, in its own words; ``None`` if it did not
    :param reasoning: what the model has thought, if the engine behind the platform reports it separately
    :param calls_tools: whether the model calls tools
    """

    content: str
    finish_reason: str | None
    usage: Usage | None
    refusal: str | None = None
    reasoning: str | None = None
    calls_tools: bool = False


def complete(
    *,
    model: str,
    messages: Sequence[Message | Mapping[str, Json]],
    temperature: float | None = None,
    top_p: float | None = None,
    seed: int | None = None,
    stop: str | Sequence[str] | None = None,
    max_tokens: int | None = None,
    response_format: Mapping[str, Json] | None = None,
    cache_ttl: int | None = None,
    extra: Mapping[str, Json] | None = None,
) -> Call[ChatResponse]:
    """Continue a conversation: ``POST /inf/chat/completions``.

    :param model: the model's name
    :param messages: the conversation so far, objects with role and content
    :param temperature: 0 for the most likely output
    :param top_p: sample from the most likely tokens that together have this probability
    :param seed: the same seed gives the same sample, as far as the platform can
    :param stop: texts at which generation ends; they are not part of the output
    :param max_tokens: maximum tokens to generate
    :param response_format: OpenAI's ``response_format``; see :func:`json_format`
    :param cache_ttl: seconds that a third-party model stays cached; the platform's default is 60
    :param extra: other fields of the body, sent as they are
    :returns: the first choice
    :raises ValueError: if an argument is invalid
    """
    named = {
        "model": model,
        "messages": [schema.set_fields(each) for each in messages],
        "temperature": temperature,
        "top_p": top_p,
        "seed": seed,
        "stop": stop,
        "max_tokens": max_tokens,
        "response_format": response_format,
        "cache": None if cache_ttl is None else {"ttl": cache_ttl},
    }
    arguments = {**(extra or {}), **{name: value for name, value in named.items() if value is not None}}
    return Call(
        operation="inf_chat_completions_post",
        method="POST",
        path="/inf/chat/completions",
        json=schema.body(ChatRequest, arguments),
        parse=_parse_response,
        prompt_fields=("messages",),
        tokens_used=schema.used_tokens,
        retry=Retry.SAFE,
        max_bytes=RESULTS,
    )


def json_format(schema: Mapping[str, Json]) -> dict[str, Json]:
    """Return the ``response_format`` for output that matches a JSON schema.

    :param schema: the schema, such as ``json_schema`` of an output type
    """
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": dict(schema), "strict": True}}


def models() -> Call[list[str]]:
    """List the chat models: ``GET /inf/models``.

    :returns: their names
    """
    return Call(
        operation="inf_models_get",
        method="GET",
        path="/inf/models",
        parse=lambda content: schema.find_names(schema.decode(content), "id", "model_name", "name", "model"),
        retry=Retry.SAFE,
        max_bytes=LIST,
    )


def _parse_response(content: bytes) -> ChatResponse:
    answered = schema.parser(_ChatCompletion)(content)
    choice = answered.choices[0]
    said, refusal = choice.message.content, choice.message.refusal
    if isinstance(said, list):
        refusal = refusal or next((part.refusal for part in said if part.refusal), None)
        said = "".join(part.text or "" for part in said)
    thoughts = choice.message.reasoning_content or choice.message.reasoning
    return ChatResponse(
        said or "",
        choice.finish_reason,
        answered.usage,
        refusal or None,
        reasoning=thoughts if isinstance(thoughts, str) else None,
        calls_tools=bool(choice.message.tool_calls),
    )
