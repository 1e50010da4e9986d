"""Conversations as rows send them: the chat fine-tuning format, or the bodies of an OpenAI batch file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from airflow_provider_lamini.rows.prompts.parameters import parameter
from airflow_provider_lamini.wording import short_name

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from airflow_provider_lamini.api.call import Json

Message = dict[str, "Json"]
"""One message: ``role``, ``content``, and what else the platform takes."""

CHAT_FIELDS = {
    "temperature": "temperature",
    "top_p": "top_p",
    "seed": "seed",
    "stop": "stop",
    "max_tokens": "max_new_tokens",
    "max_completion_tokens": "max_new_tokens",
}
"""Fields of OpenAI's chat API that are parameters of ours, and our names for them."""
_TRAINING_ONLY = ("weight",)
_TEXT_PARTS = ("text", "input_text", "output_text")
"""Types of the parts of a content that are texts, in OpenAI's APIs."""
_ROLES = ("system", "developer", "user", "assistant", "tool", "function")
_MEANT_ROLES = {
    **{role: role for role in _ROLES},
    "human": "user",
    **dict.fromkeys(("ai", "bot", "chatgpt", "gpt", "model"), "assistant"),
}
"""The role that is meant by what other tools write. A platform may have more roles of its own."""


@dataclass(frozen=True, slots=True)
class ChatLimits:
    """What a chat endpoint takes that does not take all of OpenAI's chat API.

    :param roles: the roles of messages, which have a content and nothing else
    :param parameters: the parameters, by our names
    """

    roles: Sequence[str]
    parameters: Collection[str]


class ConversationError(ValueError):
    """A value is not a conversation that can be sent. The message continues "the conversation ..." without its content."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """What one row sends.

    :param messages: the messages
    :param parameters: parameters of this row, by our names
    :param extra: other fields of the body
    """

    messages: list[Message]
    parameters: dict[str, Json]
    extra: dict[str, Json]


def parse_conversation(value: Json) -> Conversation:
    """Read a conversation.

    :param value: a list of messages, an object with ``messages`` and other fields of OpenAI's chat API, or the JSON text
        of either
    :raises ConversationError: if it is anything else, or asks for what a row cannot have
    """
    if isinstance(value, str):
        try:
            value = msgspec.json.decode(value)
        except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
            raise ConversationError("is a text that is not JSON; a list of messages is expected") from None
    if isinstance(value, list):
        return Conversation(_messages(value), {}, {})
    if not isinstance(value, dict):
        raise ConversationError("must be a list of messages, or an object with one under 'messages'")
    if not isinstance(value.get("messages"), list):
        raise ConversationError(f"is an object without a list of 'messages'{_hint(value)}")
    return _body(value)


def limited(found: Conversation, limits: ChatLimits) -> Conversation:
    """A conversation for an endpoint that does not take everything.

    :param found: the conversation
    :param limits: what the endpoint takes
    :raises ConversationError: if the conversation has anything else
    """
    parameters = dict(found.parameters)
    for name, value in found.extra.items():
        parameters[name] = _parameter(name, name, value) if name in limits.parameters else value
    for name in parameters:
        if name not in limits.parameters:
            raise ConversationError(f"has {short_name(name)!r}, which the endpoint does not take")
    for number, message in enumerate(found.messages):
        if message["role"] not in limits.roles:
            raise ConversationError(
                f"has a message {number} whose 'role' the endpoint does not take: only {', '.join(limits.roles)}"
            )
        others = [name for name in message if name not in ("role", "content")]
        if others:
            raise ConversationError(
                f"has a message {number} with {short_name(others[0])!r}, which the endpoint does not take"
            )
    return Conversation(found.messages, parameters, {})


def hint_for(columns: Iterable[str]) -> str:
    """What to try if a prompt names no column of rows that hold conversations; empty if they hold none.

    :param columns: the columns that exist
    """
    names = set(columns)
    if {"custom_id", "body"} <= names:
        return "They look like lines of an OpenAI batch file: pass messages='body' with endpoint='chat'. "
    if "messages" in names:
        return "If the column 'messages' holds conversations, pass messages='messages' with endpoint='chat'. "
    return ""


def _hint(value: Mapping[str, Json]) -> str:
    if isinstance(value.get("conversations"), list):
        return "; rename 'conversations', and 'from' and 'value' in it to 'role' and 'content'"
    if "input" in value:
        return ": the bodies of embeddings and responses cannot be sent to a chat endpoint"
    return ""


def _body(body: Mapping[str, Json]) -> Conversation:
    messages = body["messages"]
    assert isinstance(messages, list)  # noqa: S101 - checked by the caller
    parameters: dict[str, Json] = {}
    extra: dict[str, Json] = {}
    for name, value in body.items():
        if name in ("messages", "model") or value is None or (name == "stop" and value == []):
            continue
        if name == "stream" and value is True:
            raise ConversationError("asks for a stream ('stream': true), which a row cannot have")
        if name == "system":  # of Anthropic's API
            raise ConversationError(
                "has 'system' beside 'messages'; make it the first message, with the role 'system'"
            )
        if name == "n" and value != 1:
            raise ConversationError("asks for several answers ('n'), and a row has one")
        if name in CHAT_FIELDS:
            parameters[CHAT_FIELDS[name]] = _parameter(name, CHAT_FIELDS[name], value)
        elif name not in ("stream", "stream_options", "n"):
            extra[name] = value
    return Conversation(_messages(messages), parameters, extra)


def _parameter(field: str, name: str, value: Json) -> Json:
    try:
        return parameter(name, value)
    except ValueError as error:
        raise ConversationError(f"has {field!r}, which {error}") from None


def _messages(items: list[Json]) -> list[Message]:
    if not items:
        raise ConversationError("has no messages")
    return [_message(item, number) for number, item in enumerate(items)]


def _message(item: Json, number: int) -> Message:
    if not isinstance(item, dict):
        raise ConversationError(f"has a message {number} that is not an object with 'role' and 'content'")
    role = item.get("role")
    if not isinstance(role, str) or not role.strip() or not role.isprintable():
        renamed = (
            "; rename 'from' to 'role' and 'value' to 'content'" if "from" in item and "value" in item else ""
        )
        raise ConversationError(f"has a message {number} without a 'role'{renamed}")
    meant = _MEANT_ROLES.get(role.strip().casefold(), role)
    if meant != role:  # a model would not know who speaks, and its last answer would not be found
        raise ConversationError(f"has a message {number} whose 'role' must be {meant!r}")
    # Columns of Parquet have every key in every row.
    others = {name: value for name, value in item.items() if value is not None and name not in _TRAINING_ONLY}
    return {**others, "role": role, "content": _content(item, number)}


def _content(message: Mapping[str, Json], number: int) -> str:
    content = message.get("content")
    if isinstance(content, str):
        return content
    if content is None and ("tool_calls" in message or "function_call" in message):
        return ""
    if isinstance(content, list) and content:
        texts = [
            part.get("text") if isinstance(part, dict) and part.get("type") in _TEXT_PARTS else part
            for part in content
        ]
        if len(texts) == len(content) and all(isinstance(text, str) for text in texts):
            return "".join(map(str, texts))
        raise ConversationError(f"has a message {number} with parts that are not texts, such as an image")
    raise ConversationError(f"has a message {number} whose 'content' is not a text")
