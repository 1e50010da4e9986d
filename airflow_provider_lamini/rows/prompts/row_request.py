"""What one row sends that is more than a prompt: a conversation, a system prompt, parameters of its own, or two texts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from airflow_provider_lamini.rows.errors import BadRowError, NoPromptError
from airflow_provider_lamini.rows.failures import FailureReason
from airflow_provider_lamini.rows.prompts.conversation import (
    Conversation,
    ConversationError,
    Message,
    limited,
    parse_conversation,
)
from airflow_provider_lamini.rows.prompts.parameters import parameter
from airflow_provider_lamini.rows.prompts.screening import why_no_text
from airflow_provider_lamini.rows.prompts.template import PromptTemplate
from airflow_provider_lamini.rows.texts import is_blank
from airflow_provider_lamini.wording import short_name

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from airflow_provider_lamini.api.call import Json
    from airflow_provider_lamini.rows.batch import Batch
    from airflow_provider_lamini.rows.prompts.conversation import ChatLimits
    from airflow_provider_lamini.rows.values import Row

SYSTEM_ROLES = ("system", "developer")
ANSWER_ROLE = "assistant"


class RowRequest(msgspec.Struct, omit_defaults=True):
    """The request of one row. As JSON text it takes the place of a prompt, so that it is hashed and kept like one.

    :param messages: the conversation, for an endpoint that takes one
    :param prompt: the prompt, for an endpoint that takes a text
    :param parameters: parameters that this row sets itself, by our names
    :param extra: other fields of the request's body
    """

    messages: list[dict[str, Any]] = []
    prompt: str = ""
    parameters: dict[str, Any] = {}
    extra: dict[str, Any] = {}

    @property
    def characters(self) -> int:
        """Length of all texts that the model reads."""
        return len(self.prompt) + sum(len(str(message["content"])) for message in self.messages)


_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(RowRequest)


def with_system(messages: list[Message], system: str) -> list[Message]:
    """A conversation with a system prompt, unless it has one.

    :param messages: the conversation
    :param system: the system prompt
    """
    if any(message["role"] in SYSTEM_ROLES for message in messages):
        return messages
    return [{"role": "system", "content": system}, *messages]


def decode_request(text: str) -> RowRequest:
    """The request of a row.

    :param text: what `RequestTemplate` has rendered
    """
    return _DECODER.decode(text)


class RequestTemplate(PromptTemplate):
    """Makes the requests of rows, as JSON texts.

    :param prompt: makes the prompt, which becomes the user's message; ``None`` if the rows have conversations
    :param messages: the column with the conversation; ``None`` if the rows have prompts
    :param system: makes the system prompt of rows whose conversation has none; ``None`` for none
    :param overrides: the column of each parameter that a row may set itself. Without a value, the operator's counts.
    :param chat: whether the endpoint takes a conversation, and not a prompt
    :param drop_answer: remove a last message of the model, so that the model answers instead of continuing it
    :param typed: whether the operator has an output type, so that a row may not ask for another format
    :param limits: what a conversation may have; ``None`` for all of OpenAI's chat API
    """

    def __init__(
        self,
        *,
        prompt: PromptTemplate | None,
        messages: str | None = None,
        system: PromptTemplate | None = None,
        overrides: Mapping[str, str] | None = None,
        chat: bool,
        drop_answer: bool = True,
        typed: bool = False,
        limits: ChatLimits | None = None,
    ) -> None:
        self._prompt = prompt
        self._messages = messages
        self._system = system
        self._overrides = dict(overrides or {})
        self._chat = chat
        self._drop_answer = drop_answer
        self._typed = typed
        self._limits = limits
        columns = [] if messages is None else [messages]
        for template in (prompt, system):
            columns += () if template is None else template.columns
        settings: dict[str, Json] = {
            "prompt": None if prompt is None else prompt.text,
            "messages": messages,
            "system": None if system is None else system.text,
            "overrides": dict(self._overrides),
            "drop_answer": drop_answer,
        }
        super().__init__(_ENCODER.encode(settings).decode(), ("",) * (len(columns) + 1), columns, bare=False)
        self.may_refuse = True
        self.takes_conversations = messages is not None
        self.is_one_value = prompt is not None and prompt.is_one_value
        if messages is not None:
            self.text_columns = (messages,)
        elif prompt is not None:
            self.text_columns = prompt.columns
        self.optional_columns = tuple(dict.fromkeys(self._overrides.values()))

    @property
    def needs_columns(self) -> bool:
        return any(
            template is not None and template.needs_columns for template in (self._prompt, self._system)
        )

    def for_columns(self, columns: Collection[str]) -> RequestTemplate:
        return RequestTemplate(
            prompt=None if self._prompt is None else self._prompt.for_columns(columns),
            messages=self._messages,
            system=None if self._system is None else self._system.for_columns(columns),
            overrides=self._overrides,
            chat=self._chat,
            drop_answer=self._drop_answer,
            typed=self._typed,
            limits=self._limits,
        )

    def render(self, row: Row) -> str:
        """Make the request of one row.

        :raises BadRowError: if the row's conversation or a parameter cannot be sent
        :raises MissingColumnError: if the row has no value in one of the columns
        """
        try:
            found = self._conversation(row)
        except ConversationError as error:
            raise BadRowError(f"the conversation {error}") from None
        parameters = {**found.parameters, **self._parameters(row)}
        if self._chat:
            return _encoded(RowRequest(found.messages, "", parameters, found.extra))
        return _encoded(RowRequest([], str(found.messages[0]["content"]), parameters, found.extra))

    def render_all(self, rows: Sequence[Row]) -> list[str]:
        return list(map(self.render, rows))

    def characters(self, batch: Batch) -> int:
        return sum(self.lengths(self.render_all(batch.rows)))

    def lengths(self, prompts: Sequence[str]) -> list[int]:
        return [decode_request(text).characters for text in prompts]

    def _conversation(self, row: Row) -> Conversation:
        if self._messages is None:
            assert self._prompt is not None  # noqa: S101 - one of both is given
            found = Conversation([{"role": "user", "content": self._prompt.render(row)}], {}, {})
        else:
            found = self._whole(row, self._messages)
        system = self._system_prompt(row)
        return (
            found
            if system is None
            else Conversation(with_system(found.messages, system), found.parameters, found.extra)
        )

    def _system_prompt(self, row: Row) -> str | None:
        own = row.get(self._overrides["system"]) if "system" in self._overrides else None
        if isinstance(own, str) and not is_blank(own):
            return own
        if own is not None and not isinstance(own, str):
            raise BadRowError(
                f"column {short_name(self._overrides['system'])!r}, the row's system prompt, must be a text"
            )
        return None if self._system is None else self._system.render(row)

    def _whole(self, row: Row, column: str) -> Conversation:
        value = row.get(column)
        if value is None:
            raise self.missing("The row", column, row)
        found = parse_conversation(value)
        if self._limits is not None:
            found = limited(found, self._limits)
        if self._drop_answer and found.messages[-1]["role"] == ANSWER_ROLE:
            del found.messages[-1]
        if not found.messages:
            raise ConversationError("has only the model's answer")
        last = found.messages[-1]
        if last["role"] == "user" and is_blank(str(last["content"])):
            raise ConversationError("ends with an empty message of the user")
        if self._typed and "response_format" in found.extra:
            raise ConversationError(
                "has a 'response_format', and the operator has an output_type: remove one of them"
            )
        return found

    def _parameters(self, row: Row) -> dict[str, Json]:
        found: dict[str, Json] = {}
        for name, column in self._overrides.items():
            value = row.get(column)
            if name == "system" or value is None or value == "":
                continue
            try:
                found[name] = parameter(name, value)
            except ValueError as error:
                raise BadRowError(f"column {short_name(column)!r}, the row's {name}, {error}") from None
        return found


class ConversationText(PromptTemplate):
    """One text of a conversation with its right answer at the end: the last question, or that answer.

    :param column: the column with the conversation
    :param answer: whether the text is the answer
    """

    def __init__(self, column: str, *, answer: bool) -> None:
        super().__init__(column, ("", ""), [column], bare=True)
        self._answer = answer
        self.may_refuse = self.takes_conversations = True

    @property
    def needs_columns(self) -> bool:
        return False

    def render(self, row: Row) -> str:
        """The text of one row.

        :raises BadRowError: if the row's conversation does not end with an answer of the model
        """
        try:
            messages = parse_conversation(row.get(self.columns[0])).messages
        except ConversationError as error:
            raise BadRowError(f"the conversation {error}") from None
        if messages[-1]["role"] != ANSWER_ROLE:
            raise BadRowError(
                "the conversation does not end with the right answer, a message of the assistant"
            )
        if self._answer:
            return str(messages[-1]["content"])
        return next(
            (str(item["content"]) for item in reversed(messages[:-1]) if item["role"] != ANSWER_ROLE), ""
        )

    def render_all(self, rows: Sequence[Row]) -> list[str]:
        return list(map(self.render, rows))


def _encoded(request: RowRequest) -> str:
    try:
        return _ENCODER.encode(request).decode()
    except UnicodeEncodeError:
        raise BadRowError("a text holds half of a surrogate pair, which is not valid Unicode") from None


_PAIR_ENCODER = msgspec.json.Encoder()
_PAIR_DECODER = msgspec.json.Decoder(tuple[str, str])


def decode_pair(text: str) -> tuple[str, str]:
    """Both texts of a row.

    :param text: what `TextPairTemplate` has rendered
    """
    return _PAIR_DECODER.decode(text)


class TextPairTemplate(PromptTemplate):
    """Makes two texts of each row, as a JSON array, so that a text may contain any character.

    :param first: makes the first text
    :param second: makes the second text
    """

    def __init__(self, first: PromptTemplate, second: PromptTemplate) -> None:
        self._parts = (first, second)
        columns = (*first.placeholders, *second.placeholders)
        super().__init__(
            _encode_pair((first.text, second.text)), ("",) * (len(columns) + 1), columns, bare=False
        )
        self.may_refuse = True

    @property
    def needs_columns(self) -> bool:
        return any(part.needs_columns for part in self._parts)

    def for_columns(self, columns: Collection[str]) -> TextPairTemplate:
        first, second = (part.for_columns(columns) for part in self._parts)
        return TextPairTemplate(first, second)

    def render(self, row: Row) -> str:
        """Make both texts of one row.

        :raises MissingColumnError: if the row has no value in one of the columns
        :raises NoPromptError: if one of both is blank
        :raises BadRowError: if one of both is a conversation
        """
        first, second = (self._text(row, part) for part in self._parts)
        return _encode_pair((first, second))

    def render_all(self, rows: Sequence[Row]) -> list[str]:
        return list(map(self.render, rows))

    def _text(self, row: Row, part: PromptTemplate) -> str:
        failure = why_no_text(row, part)
        if failure is None:
            return part.render(row)
        raise (NoPromptError if failure.reason is FailureReason.NO_PROMPT else BadRowError)(failure.text)

    def characters(self, batch: Batch) -> int:
        return sum(part.characters(batch) for part in self._parts)

    def lengths(self, prompts: Sequence[str]) -> list[int]:
        return [sum(map(len, decode_pair(text))) for text in prompts]


def _encode_pair(texts: tuple[str, str]) -> str:
    return _PAIR_ENCODER.encode(texts).decode()
