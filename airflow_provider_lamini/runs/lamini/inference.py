"""What a model does with each row: the arguments that inference operators share, and which endpoint takes which."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_lamini.exceptions import InvalidArgumentError
from airflow_provider_lamini.platforms.lamini.endpoints import (
    BatchCompletions,
    Chat,
    DirectCompletions,
    Inference,
)
from airflow_provider_lamini.rows.prompts.conversation import CHAT_FIELDS
from airflow_provider_lamini.rows.prompts.row_request import RequestTemplate
from airflow_provider_lamini.runs.answer_policy import parse_answer_policy
from airflow_provider_lamini.runs.arguments import json_object, shown, whole_number
from airflow_provider_lamini.runs.row_requests import RequestForm, constant_system, generation_parameter

if TYPE_CHECKING:
    from airflow_provider_lamini.api.call import Json
    from airflow_provider_lamini.rows.endpoints import DirectEndpoint, JobEndpoint
    from airflow_provider_lamini.rows.prompts.template import PromptTemplate

PATHS = {"batch": "/v1/batch_completions", "completions": "/v2/completions", "chat": "/inf/chat/completions"}
"""The endpoints and their paths."""

_CHAT_ONLY = ("system", "temperature", "top_p", "seed", "stop", "cache_ttl")
FORMS = {
    "batch": RequestForm(path=PATHS["batch"]),
    "completions": RequestForm(
        path=PATHS["completions"], per_row=frozenset({"max_new_tokens", "model_name"})
    ),
    "chat": RequestForm(
        path=PATHS["chat"],
        chat=True,
        per_row=frozenset({"system", "temperature", "top_p", "seed", "stop", "max_new_tokens", "model_name"}),
    ),
}
"""What a request of each endpoint may hold."""
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
    reasoning: object = "drop",
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
    :param reasoning: ``keep`` or ``drop`` what a model has thought
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
        reasoning=reasoning,
    )
    ttl = chat_only.get("cache_ttl")
    parameters = {
        name: generation_parameter(name, chat_only.get(name))
        for name in ("temperature", "top_p", "seed", "stop")
    }
    found_name = generation_parameter("model_name", model_name)
    tokens = generation_parameter("max_new_tokens", max_new_tokens)
    return Inference(
        model_name=str(found_name),
        answers=policy,
        max_new_tokens=tokens if isinstance(tokens, int) else None,
        system=constant_system(chat_only.get("system")),
        parameters={name: value for name, value in parameters.items() if value is not None},
        cache_ttl=None if ttl is None else whole_number("cache_ttl", ttl, minimum=0),
        extra_body=_extra_body(endpoint, extra_body),
    )


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
