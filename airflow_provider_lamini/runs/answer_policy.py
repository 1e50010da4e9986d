"""The arguments that say which answers of a model count as outputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from airflow_provider_lamini.exceptions import InvalidArgumentError
from airflow_provider_lamini.rows.answers import ACCEPTABLE, AnswerPolicy
from airflow_provider_lamini.rows.failures import FailureReason
from airflow_provider_lamini.runs.arguments import flag, imported, one_of, shown
from airflow_provider_lamini.runs.output_type import parse_output_type

if TYPE_CHECKING:
    from airflow_provider_lamini.rows.answers import Check


def parse_answer_policy(
    output_type: object,
    strict: object,
    check: object,
    fail_on_length: object,
    accept_answers: object,
    *,
    flat_only: str | None,
    reasoning: object = "drop",
) -> AnswerPolicy:
    """Validate the arguments that say which answers count as outputs.

    :param output_type: the shape of each output; ``None`` for plain text
    :param strict: whether an output must be the object's JSON and nothing else
    :param check: judges each output
    :param fail_on_length: whether a row fails whose output was cut at the token limit
    :param accept_answers: reasons for which a row does not fail
    :param flat_only: path of the endpoint, if it decodes no JSON Schema
    :param reasoning: ``keep`` or ``drop`` what a model has thought
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
    return AnswerPolicy(
        shape=shape,
        accept=accept,
        check=cast("Check | None", check),
        keep_reasoning=one_of("reasoning", reasoning, ("drop", "keep")) == "keep",
    )


def _accepted(value: object) -> frozenset[FailureReason]:
    allowed = tuple(sorted(reason.value for reason in ACCEPTABLE - {FailureReason.TRUNCATED}))
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, list | tuple | set | frozenset):
        raise InvalidArgumentError(
            f"accept_answers must be a list of {', '.join(allowed)}, not {shown(value)}."
        )
    return frozenset(FailureReason(one_of("accept_answers", item, allowed)) for item in items)
