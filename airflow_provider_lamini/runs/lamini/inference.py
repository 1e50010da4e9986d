"""What a model does with each row: the arguments that inference operators share, and which endpoint takes which."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from airflow_provider_lamini.exceptions import InvalidArgumentError
from airflow_provider_lamini.platforms.lamini.endpoints import (
    BatchCompletions,
    Chat,
    DirectCompletions,
    Inference,
)
from airflow_provider_lamini.rows.answers import ACCEPTABLE, AnswerPolicy
from airflow_provider_lamini.rows.conversation import CHAT_FIELDS
from airflow_provider_lamini.rows.errors import ColumnError
from airflow_provider_lamini.rows.failures import FailureReason
from airflow_provider_lamini.rows.parameters import PARAMETERS, parameter
from airflow_provider_lamini.rows.prompt import PromptTemplate
from airflow_provider_lamini.rows.row_request import RequestTemplate
from airflow_provider_lamini.runs.arguments import (
    flag,
    imported,
    json_object,
    one_of,
    optional_name,
    shown,
    text,
    whole_number,
)
from airflow_provider_lamini.runs.output_type import parse_output_type

if TYPE_CHECKING:
    from airflow_provider_lamini.api.call import Json
    from airflow_provider_lamini.rows.answers import Check
    from airflow_provider_lamini.rows.endpoints import DirectEndpoint, JobEndpoint

PATHS = {"batch": "/v1/batch_completions", "completions": "/v2/completions", "chat": "/inf/chat/completions"}
"""The endpoints and their paths."""

_CHAT_ONLY = ("system", "temperature", "top_p", "seed", "stop", "cache_ttl")
_PER_ROW = {
    "batch": frozenset[str](),
    "completions": frozenset({"max_new_tokens", "model_name"}),
    "chat": frozenset({*PARAMETERS, "system"}),
}
"""Parameters that a column may set for one row."""
_EXTRA_FIELDS = {"batch": ("max_tokens", "reservation_id"), "completions": ("max_tokens", "reservation_id")}
"""The other fields that an endpoint takes; chat takes any."""
_OWN_FIELDS = {
    **dict.fromkeys(("model", "model_name"), "model_name"),
    **dict.fromkeys(("messages", "prompt"), "messages"),
    **dict.fromkeys(("response_format", "output_type", "out_type"), "output_type"),
    **CHAT_FIELDS,
    "max_new_tokens": "max_new_tokens",
    "cache": "cache_ttl",
}
"""Fields of a body that operators have arguments for."""
_UNREADABLE = ("stream", "stream_options", "n")
"""Fields after which an answer is more than one row's output."""


def parse_inference(
    endpoint: str,
    *,
    model_name: object,
    output_type: object = None,
    strict_output: object = False,
    check: object = None,
    fail_on_length: object = False,
    accept_answers: object = (),
    max_new_tokens: object = None,
    extra_body: object = None,
    **chat_only: object,
) -> Inference:
    """Validate the arguments that say what a model does with each row.

    :param endpoint: ``batch``, ``completions`` or ``chat``
    :param model_name: base model or tuned model
    :param output_type: the shape of each output; ``None`` for plain text
    :param strict_output: whether an output must be the object's JSON and nothing else
    :param check: judges each output
    :param fail_on_length: whether a row fails whose output was cut at the token limit
    :param accept_answers: reasons for which a row does not fail
    :param max_new_tokens: maximum number of generated tokens per row; ``None`` for the platform's default
    :param extra_body: other fields of the request's body
    :param chat_only: arguments that only a chat takes: ``system``, ``temperature``, ``top_p``, ``seed``, ``stop``,
        ``cache_ttl``; ``None`` for the platform's default
    :raises InvalidArgumentError: if one is wrong, or the endpoint does not take it
    """
    for name in _CHAT_ONLY:
        if endpoint != "chat" and chat_only.get(name) is not None:
            raise InvalidArgumentError(f"{name} needs a chat endpoint: {PATHS[endpoint]} takes no {name}.")
    policy = parse_answer_policy(
        output_type,
        strict_output,
        check,
        fail_on_length,
        accept_answers,
        flat_only=None if endpoint == "chat" else PATHS[endpoint],
    )
    ttl = chat_only.get("cache_ttl")
    parameters = {
        name: _argument(name, chat_only.get(name)) for name in ("temperature", "top_p", "seed", "stop")
    }
    found_name = _argument("model_name", model_name)
    tokens = _argument("max_new_tokens", max_new_tokens)
    return Inference(
        model_name=str(found_name),
        answers=policy,
        max_new_tokens=tokens if isinstance(tokens, int) else None,
        system=_constant_system(chat_only.get("system")),
        parameters={name: value for name, value in parameters.items() if value is not None},
        cache_ttl=None if ttl is None else whole_number("cache_ttl", ttl, minimum=0),
        extra_body=_extra_body(endpoint, extra_body),
    )


def parse_answer_policy(
    output_type: object,
    strict: object,
    check: object,
    fail_on_length: object,
    accept_answers: object,
    *,
    flat_only: str | None,
) -> AnswerPolicy:
    """Validate the arguments that say which answers count as outputs.

    :param output_type: the shape of each output; ``None`` for plain text
    :param strict: whether an output must be the object's JSON and nothing else
    :param check: judges each output
    :param fail_on_length: whether a row fails whose output was cut at the token limit
    :param accept_answers: reasons for which a row does not fail
    :param flat_only: path of the endpoint, if it decodes no JSON Schema
    :raises InvalidArgumentError: if one is wrong
    """
    accept = AnswerPolicy().accept | _accepted(accept_answers)
    if flag("fail_on_length", fail_on_length):
        accept -= {FailureReason.TRUNCATED}
    if isinstance(check, str):
        check = imported("check", check)
    if check is not None and not callable(check):
        raise InvalidArgumentError(
            f"check must be a callable, which takes an output, or its dotted path, not {shown(check)}."
        )
    shape = parse_output_type(output_type, strict=strict)
    if shape is not None and flat_only is not None and shape.flat is None:
        raise InvalidArgumentError(
            f"output_type needs a chat endpoint: {flat_only} decodes only fields of the types str, int, float and bool, and "
            "allowed values; no lists, nested objects, optional fields or limits."
        )
    return AnswerPolicy(shape=shape, accept=accept, check=cast("Check | None", check))


def _accepted(value: object) -> frozenset[FailureReason]:
    allowed = tuple(sorted(reason.value for reason in ACCEPTABLE - {FailureReason.TRUNCATED}))
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, list | tuple | set | frozenset):
        raise InvalidArgumentError(
            f"accept_answers must be a list of {', '.join(allowed)}, not {shown(value)}."
        )
    return frozenset(FailureReason(one_of("accept_answers", item, allowed)) for item in items)


def choose_endpoint(
    name: str, inference: Inference, template: PromptTemplate
) -> JobEndpoint | DirectEndpoint:
    """The endpoint with a name.

    :param name: ``batch``, ``completions`` or ``chat``
    :param inference: what the model does with each row
    :param template: makes the prompts or requests of rows
    """
    if name == "batch":
        return BatchCompletions(inference)
    requests = isinstance(template, RequestTemplate)
    if name == "chat":
        return Chat(inference, requests=requests)
    return DirectCompletions(inference, requests=requests)


def parse_requests(
    endpoint: str,
    *,
    prompt: object,
    messages: object = None,
    last_answer: object = "drop",
    system: object = None,
    overrides: object = None,
    typed: bool = False,
) -> PromptTemplate:
    """Validate the arguments that say how a row becomes a request.

    :param endpoint: ``batch``, ``completions`` or ``chat``
    :param prompt: a template over a row's columns, or the name of a column
    :param messages: the column with the conversation; ``None`` if the rows have prompts
    :param last_answer: ``drop`` or ``send``
    :param system: the system prompt, which may have columns in braces
    :param overrides: the column of each parameter that a row may set itself
    :param typed: whether the operator has an output type
    :return: makes prompts, or requests if a row is more than a prompt
    :raises InvalidArgumentError: if one is wrong, or the endpoint does not take it
    """
    column = optional_name("messages", messages)
    drop = one_of("last_answer", last_answer, ("drop", "send")) == "drop"
    columns = _overrides(endpoint, overrides)
    if column is not None and endpoint != "chat":
        raise InvalidArgumentError(
            f"messages needs endpoint='chat': {PATHS[endpoint]} takes texts, no conversations."
        )
    try:
        template = None if column is not None else PromptTemplate.parse(prompt)
        system_template = None if system is None else PromptTemplate.parse(system)
    except ColumnError as error:
        raise InvalidArgumentError(str(error)) from error.__cause__
    if (
        system_template is not None and system_template.bare
    ):  # the same for every row, so the endpoint adds it
        system_template = None
    if template is not None and system_template is None and not columns:
        return template
    return RequestTemplate(
        prompt=template,
        messages=column,
        system=system_template,
        overrides=columns,
        chat=endpoint == "chat",
        drop_answer=drop,
        typed=typed,
    )


def _constant_system(value: object) -> str | None:
    """The system prompt if it is the same for every row."""
    if value is None:
        return None
    template = PromptTemplate.parse(text("system", value))
    return template.text.replace("\\{", "{").replace("\\}", "}") if template.bare else None


def _argument(name: str, value: object) -> Json:
    """A parameter of the operator; ``None`` leaves it to the platform."""
    if value is None and name != "model_name":
        return None
    try:
        return parameter(name, value)
    except ValueError as error:
        raise InvalidArgumentError(f"{name} {error}, not {shown(value)}.") from None


def _extra_body(endpoint: str, value: object) -> dict[str, Json]:
    found = json_object("extra_body", value) or {}
    for name in found:
        if name in _UNREADABLE:
            raise InvalidArgumentError(f"extra_body must not have {name!r}: a row has one whole answer.")
        allowed = _EXTRA_FIELDS.get(endpoint)
        if name in _OWN_FIELDS and name not in (allowed or ()):
            raise InvalidArgumentError(
                f"extra_body has {name!r}: pass the argument {_OWN_FIELDS[name]} instead."
            )
        if allowed is not None and name not in allowed:
            raise InvalidArgumentError(
                f"extra_body has {shown(name)}, which {PATHS[endpoint]} does not take: only {', '.join(allowed)}. A chat "
                "endpoint takes other fields."
            )
        if allowed is not None:
            whole_number(f"extra_body: {name}", found[name], minimum=1)
    return found


def _overrides(endpoint: str, value: object) -> dict[str, str]:
    found = json_object("overrides", value) or {}
    allowed = _PER_ROW[endpoint]
    columns = {}
    for name, column in found.items():
        if name not in allowed:
            known = (
                f"only {', '.join(sorted(allowed))}" if allowed else "the rows of a job share all parameters"
            )
            raise InvalidArgumentError(
                f"overrides has {shown(name)}, which a row cannot set on {PATHS[endpoint]}: {known}."
            )
        columns[name] = text(f"overrides: the column of {name}", column)
    return columns
