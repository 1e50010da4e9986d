"""Judging answers: which become an output, and which make their row a failed one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from airflow_provider_lamini.rows.failures import FailureReason, RowFailure
from airflow_provider_lamini.rows.output.chunk_result import ChunkResult

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_provider_lamini.api.call import Json
    from airflow_provider_lamini.api.output_types import OutputType


ACCEPTABLE = frozenset(
    {
        FailureReason.EMPTY,
        FailureReason.REFUSED,
        FailureReason.FILTERED,
        FailureReason.TOOL_CALLS,
        FailureReason.TRUNCATED,
    }
)
"""Reasons that a policy may accept: the platform did answer."""

_TEXTS = {
    FailureReason.PLATFORM_ERROR: "the platform gave no output",
    FailureReason.TIMEOUT: "the platform's time limit cut the output off",
    FailureReason.NO_ANSWER: "the platform gave no output",
    FailureReason.EMPTY: "the answer is empty",
    FailureReason.REFUSED: "the model declined to answer",
    FailureReason.FILTERED: "the platform's content filter stopped the answer",
    FailureReason.TOOL_CALLS: "the model called a tool instead of answering",
    FailureReason.TRUNCATED: "the token limit cut the answer off; raise max_new_tokens",
}
_CUT_OFF = "; max_new_tokens may be too small, or the prompt too long"


class Answer(NamedTuple):
    """What a platform has answered for one row.

    :param output: the output; ``None`` if there is none
    :param finish_reason: why generation ended, as the platform says it
    :param ended_by: what that means, if the answer is not a complete one
    """

    output: Json
    finish_reason: str | None
    ended_by: FailureReason | None = None


class RowResult(NamedTuple):
    """The result of one row.

    :param output: the output; ``None`` if the row failed
    :param finish_reason: why generation ended, as the platform says it
    :param failure: why the row failed; ``None`` if it did not
    """

    output: Json
    finish_reason: str | None
    failure: RowFailure | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerPolicy:
    """Which answers count as outputs.

    :param output_type: the requested shape of each output; ``None`` for plain text
    :param accept: reasons for which a row does not fail
    """

    output_type: OutputType | None = None
    accept: frozenset[FailureReason] = frozenset({FailureReason.TRUNCATED})


def judge_all(
    outputs: Sequence[Json],
    reasons: Sequence[str | None],
    meanings: Mapping[str | None, FailureReason],
    policy: AnswerPolicy,
) -> ChunkResult:
    """Judge the platform's answers for many rows, each as `judge` does.

    :param outputs: the outputs in the answer
    :param reasons: the finish reasons in the answer, one per output
    :param meanings: finish reasons of the platform after which an answer is not a complete one
    :param policy: which answers count as outputs
    """
    harmful = {word for word, reason in meanings.items() if reason not in policy.accept}
    if policy.output_type is None and not harmful & set(reasons) and _all_texts(outputs):
        # Nearly always all rows are plain texts and complete: then no row needs a check of its own.
        return ChunkResult(list(outputs), list(reasons), [None] * len(outputs))
    result = ChunkResult.pending(len(outputs))
    for offset, (output, reason) in enumerate(zip(outputs, reasons, strict=True)):
        set_result(result, offset, judge(Answer(output, reason, meanings.get(reason)), policy))
    return result


def judge(answer: Answer, policy: AnswerPolicy) -> RowResult:
    """Judge the platform's answer for one row.

    :param answer: the answer
    :param policy: which answers count as outputs
    :return: the result; the row has failed if the answer is incomplete or empty, unless the policy accepts that, or if
        it does not have the requested shape
    """
    failure = _incomplete(answer, policy) or _empty(answer, policy)
    if failure is not None:
        return RowResult(None, answer.finish_reason, failure)
    if policy.output_type is None or _is_empty(answer.output):
        return RowResult("" if answer.output is None else answer.output, answer.finish_reason)
    return _typed(answer, policy.output_type)


def failure_of(reason: FailureReason, finish_reason: str | None = None) -> RowFailure:
    """The failure of a row whose answer is not a complete one.

    :param reason: why
    :param finish_reason: why generation ended, as the platform says it
    """
    return RowFailure(reason, f"{_TEXTS[reason]} (finish_reason {finish_reason or 'missing'})")


def set_result(result: ChunkResult, offset: int, row: RowResult) -> None:
    """Set the result of one row in the result of its chunk.

    :param result: the chunk's result
    :param offset: offset of the row in the chunk
    :param row: the row's result
    """
    if row.failure is None:
        result.settle(offset, row.output, row.finish_reason)
    else:
        result.fail(offset, row.failure, row.finish_reason)


def _incomplete(answer: Answer, policy: AnswerPolicy) -> RowFailure | None:
    reason = answer.ended_by
    return None if reason is None or reason in policy.accept else failure_of(reason, answer.finish_reason)


def _empty(answer: Answer, policy: AnswerPolicy) -> RowFailure | None:
    # An answer that ended for an accepted reason may be empty, except that a cut says nothing about emptiness.
    accepted = answer.ended_by not in (None, FailureReason.TRUNCATED)
    if accepted or FailureReason.EMPTY in policy.accept or not _is_empty(answer.output):
        return None
    failure = failure_of(FailureReason.EMPTY, answer.finish_reason)
    cut = answer.ended_by is FailureReason.TRUNCATED
    return failure._replace(text=failure.text + _CUT_OFF) if cut else failure


def _is_empty(output: Json) -> bool:
    return output is None or (isinstance(output, str) and not output.strip())


def _all_texts(outputs: Sequence[Json]) -> bool:
    """Whether all outputs are texts that are not blank."""
    try:
        return "" not in outputs and not any(map(str.isspace, outputs))  # type: ignore[arg-type] # see below
    except TypeError:  # an output is not a text
        return False


def _typed(answer: Answer, output_type: OutputType) -> RowResult:
    shaped = _decoded(answer.output)
    wrong = _misfit(shaped, output_type)
    if wrong is None:
        return RowResult(shaped, answer.finish_reason)
    hint = "; max_new_tokens may be too small" if answer.ended_by is FailureReason.TRUNCATED else ""
    text = f"the output does not fit output_type: {wrong}{hint}"
    return RowResult(None, answer.finish_reason, RowFailure(FailureReason.INVALID_OUTPUT, text))


def _decoded(output: Json) -> Json:
    """Decode an output: platforms return objects as such, or as text."""
    if not isinstance(output, str):
        return output
    try:
        decoded: Json = msgspec.json.decode(output)
    except msgspec.DecodeError:
        return output
    return decoded


_TYPES: Mapping[str, type | tuple[type, ...]] = {"str": str, "int": int, "float": (int, float), "bool": bool}


def _misfit(output: Json, output_type: OutputType) -> str | None:
    """What is wrong with an output, briefly and without its content; ``None`` if nothing is."""
    if not isinstance(output, dict):
        return "it is not an object"
    for name, kind in output_type.items():
        if name not in output:
            return f"field {name!r} is missing"
        value = output[name]
        if isinstance(kind, list):
            # Compare types too: in Python, True == 1 and 1.0 == 1.
            if not any(value == allowed and type(value) is type(allowed) for allowed in kind):
                return f"field {name!r} is not one of the allowed values"
        elif not isinstance(value, _TYPES[kind]) or (isinstance(value, bool) and kind != "bool"):
            return f"field {name!r} is not of type {kind}"
    return None
