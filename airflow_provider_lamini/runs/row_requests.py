"""The arguments that say how a row becomes a request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_lamini.exceptions import InvalidArgumentError
from airflow_provider_lamini.rows.errors import ColumnError
from airflow_provider_lamini.rows.prompts.parameters import parameter
from airflow_provider_lamini.rows.prompts.row_request import RequestTemplate
from airflow_provider_lamini.rows.prompts.template import PromptTemplate, TextTemplate
from airflow_provider_lamini.runs.arguments import json_object, not_a_file, one_of, optional_name, shown, text

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from airflow_provider_lamini.api.call import Json
    from airflow_provider_lamini.rows.prompts.conversation import ChatLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestForm:
    """What a request of an endpoint may hold.

    :param path: the endpoint's path
    :param chat: whether it takes conversations, and not texts
    :param per_row: parameters that a column may set for one row
    :param limits: what a conversation may have; ``None`` for all of OpenAI's chat API
    """

    path: str
    chat: bool = False
    per_row: AbstractSet[str] = frozenset()
    limits: ChatLimits | None = None


def parse_requests(
    form: RequestForm,
    *,
    prompt: object,
    messages: object = None,
    last_answer: object = "drop",
    system: object = None,
    overrides: object = None,
    typed: bool = False,
) -> PromptTemplate:
    """Validate the arguments that say how a row becomes a request.

    :param form: what a request may hold
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
    columns = _overrides(form, overrides)
    if column is not None and not form.chat:
        raise InvalidArgumentError(
            f"messages needs endpoint='chat': {form.path} takes texts, no conversations."
        )
    try:
        template = None if column is not None and prompt is None else PromptTemplate.parse(prompt)
    except ColumnError as error:
        raise InvalidArgumentError(str(error)) from error.__cause__
    if column is not None and template is not None:
        if not template.is_one_value:
            raise InvalidArgumentError(
                "prompt and messages exclude each other: with messages, the conversation of a row is all that is sent. For an "
                "instruction before each conversation, pass system."
            )
        template = None  # the name of a column is the default
    system_template = _system(system)
    if system_template is not None and system_template.constant:  # so the endpoint adds it
        system_template = None
    if template is not None and system_template is None and not columns:
        return template
    return RequestTemplate(
        prompt=template,
        messages=column,
        system=system_template,
        overrides=columns,
        chat=form.chat,
        drop_answer=drop,
        typed=typed,
        limits=form.limits,
    )


def constant_system(value: object) -> str | None:
    """The system prompt if it is the same for every row.

    :param value: the argument ``system``
    :return: the text; ``None`` if there is none, or the columns of a row may decide it
    :raises InvalidArgumentError: if it is not a text
    """
    template = _system(value)
    return template.render({}) if template is not None and template.constant else None


def _system(value: object) -> TextTemplate | None:
    if value is None:
        return None
    try:
        return TextTemplate.parse(not_a_file("system", text("system", value)))
    except ColumnError as error:
        raise InvalidArgumentError(str(error)) from error.__cause__


def generation_parameter(name: str, value: object) -> Json:
    """Validate a parameter that an operator sets for all rows.

    :param name: one of `PARAMETERS`
    :param value: the argument; ``None``, except for the model's name, leaves it to the platform
    :raises InvalidArgumentError: if it is wrong
    """
    if value is None and name != "model_name":
        return None
    try:
        return parameter(name, value)
    except ValueError as error:
        raise InvalidArgumentError(f"{name} {error}, not {shown(value)}.") from None


def _overrides(form: RequestForm, value: object) -> dict[str, str]:
    found = json_object("overrides", value) or {}
    columns = {}
    for name, column in found.items():
        if name not in form.per_row:
            known = (
                f"only {', '.join(sorted(form.per_row))}"
                if form.per_row
                else "the rows of a job share all parameters"
            )
            raise InvalidArgumentError(
                f"overrides has {shown(name)}, which a row cannot set on {form.path}: {known}."
            )
        columns[name] = text(f"overrides: the column of {name}", column)
    return columns
