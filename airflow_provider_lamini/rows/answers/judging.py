"""Judging answers: which become an output, and which make their row a failed one."""

from __future__ import annotations

from dataclasses import dataclass
from operator import methodcaller
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from airflow_provider_lamini.rows.answers.lenient import THINK_TAGS, THINK_TOKEN, split_thinking
from airflow_provider_lamini.rows.answers.output_shape import MisfitError, OutputShape
from airflow_provider_lamini.rows.failures import FailureReason, RowFailure
from airflow_provider_lamini.rows.output.chunk_result import ChunkResult, RowUsage
from airflow_provider_lamini.rows.texts import any_blank, is_blank
from airflow_provider_lamini.rows.tokens import TOKENS, sum_tokens

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from airflow_provider_lamini.api.call import Json
    from airflow_provider_lamini.rows.tokens import TokenUsage

    Check = Callable[[Json], object]
    """Takes an output; ``None`` or true accepts it, false or a text that says why not makes its row a failed one."""


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
    FailureReason.UNDECODABLE: "the answer holds a value that JSON does not allow, such as half a surrogate pair or NaN",
    FailureReason.TRUNCATED: "the token limit cut the answer off; raise max_new_tokens",
}
_MAX_VERDICT = 200
_CUT_OFF = "; max_new_tokens may be too small, or the prompt too long"


MEANINGS: Mapping[str | None, FailureReason] = MappingProxyType(
    {
        None: FailureReason.NO_ANSWER,
        "error": FailureReason.PLATFORM_ERROR,
        "abort": FailureReason.PLATFORM_ERROR,
        "aborted": FailureReason.PLATFORM_ERROR,
        "cancelled": FailureReason.PLATFORM_ERROR,
        "canceled": FailureReason.PLATFORM_ERROR,
        "insufficient_system_resource": FailureReason.PLATFORM_ERROR,
        "timeout": FailureReason.TIMEOUT,
        "length": FailureReason.TRUNCATED,
        "max_tokens": FailureReason.TRUNCATED,
        "max_output_tokens": FailureReason.TRUNCATED,
        "model_length": FailureReason.TRUNCATED,
        "model_context_window_exceeded": FailureReason.TRUNCATED,
        "refusal": FailureReason.REFUSED,
        "safety": FailureReason.FILTERED,
        "content_filter": FailureReason.FILTERED,
        "content_filtered": FailureReason.FILTERED,
        "guardrail_intervened": FailureReason.FILTERED,
        "recitation": FailureReason.FILTERED,
        "blocklist": FailureReason.FILTERED,
        "prohibited_content": FailureReason.FILTERED,
        "spii": FailureReason.FILTERED,
        "tool_calls": FailureReason.TOOL_CALLS,
        "tool_use": FailureReason.TOOL_CALLS,
        "function_call": FailureReason.TOOL_CALLS,
        "malformed_function_call": FailureReason.TOOL_CALLS,
        "unexpected_tool_call": FailureReason.TOOL_CALLS,
    }
)
"""The finish reasons of OpenAI's API, and more that platforms have, after which an answer is not a complete one.

``None``: the row was not processed."""


def meaning_of(
    finish_reason: str | None, meanings: Mapping[str | None, FailureReason] = MEANINGS
) -> FailureReason | None:
    """What a finish reason says about an answer that is not a complete one, in whatever letter case a platform writes it.

    :param finish_reason: the finish reason
    :param meanings: the known ones
    :return: the reason of the failure; ``None`` if the answer is complete
    """
    if finish_reason is None or finish_reason in meanings:
        return meanings.get(finish_reason)
    return meanings.get(finish_reason.strip().lower().replace("-", "_"))


def ended_by(finish_reason: str | None, *, refused: bool, calls_tools: bool) -> FailureReason | None:
    """What a chat's answer says about its end, in its finish reason or elsewhere.

    :param finish_reason: the finish reason
    :param refused: whether the message has a refusal
    :param calls_tools: whether the message calls tools and has no text
    """
    meaning = FailureReason.REFUSED if refused else meaning_of(finish_reason)
    return FailureReason.TOOL_CALLS if meaning is None and calls_tools else meaning


class Answer(NamedTuple):
    """What a platform has answered for one row.

    :param output: the output; ``None`` if there is none
    :param finish_reason: why generation ended, as the platform says it
    :param ended_by: what that means, if the answer is not a complete one
    :param reasoning: what the model has thought, if the platform reports it separately from the output
    """

    output: Json
    finish_reason: str | None
    ended_by: FailureReason | None = None
    reasoning: str | None = None


class RowResult(NamedTuple):
    """The result of one row.

    :param output: the output; ``None`` if the row failed
    :param finish_reason: why generation ended, as the platform says it
    :param failure: why the row failed; ``None`` if it did not
    :param usages: tokens of each answer to the row, including those that made it fail before; ``None`` for an answer whose
        tokens the platform has not counted
    :param reasoning: what the model has thought; ``None`` if it is not to be kept
    :param model: the model that was asked, if the endpoint may report tokens; ``None`` also if the platform has not answered
    """

    output: Json
    finish_reason: str | None
    failure: RowFailure | None = None
    usages: tuple[TokenUsage | None, ...] = ()
    reasoning: str | None = None
    model: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerPolicy:
    """Which answers count as outputs.

    :param shape: the requested shape of each output; ``None`` for plain text
    :param accept: reasons for which a row does not fail
    :param check: judges each output that has the shape; ``None`` for no check
    :param keep_reasoning: whether to keep what a model has thought
    """

    shape: OutputShape | None = None
    accept: frozenset[FailureReason] = frozenset({FailureReason.TRUNCATED})
    check: Check | None = None
    keep_reasoning: bool = False

    def plain(self) -> dict[str, object]:
        """Everything that decides which answers count, as plain values, for a fingerprint. Of a check it is the name."""
        found: dict[str, object] = {"output_type": None if self.shape is None else self.shape.plain()}
        if self.accept != AnswerPolicy().accept:
            found["accept"] = sorted(self.accept)
        if self.check is not None:
            found["check"] = getattr(self.check, "__qualname__", type(self.check).__qualname__)
        if self.keep_reasoning:
            found["reasoning"] = "keep"
        return found


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
    ended_by = {reason: meaning_of(reason, meanings) for reason in set(reasons)}
    harmless = all(meaning is None or meaning in policy.accept for meaning in ended_by.values())
    if policy.shape is None and policy.check is None and harmless and _all_texts(outputs):
        # Nearly always all rows are plain texts and complete: then no row needs a check of its own.
        return ChunkResult(list(outputs), list(reasons), [None] * len(outputs))
    result = ChunkResult.pending(len(outputs))
    for offset, (output, reason) in enumerate(zip(outputs, reasons, strict=True)):
        set_result(result, offset, judge(Answer(output, reason, ended_by[reason]), policy))
    return result


def judge(answer: Answer, policy: AnswerPolicy) -> RowResult:
    """Judge the platform's answer for one row.

    :param answer: the answer
    :param policy: which answers count as outputs
    :return: the result; the row has failed if the answer is incomplete or empty, unless the policy accepts that, if it
        does not have the requested shape, or if the check does not accept it
    """
    output = answer.output
    thinking = split_thinking(output) if isinstance(output, str) and not _is_json(output) else None
    if thinking is not None and policy.shape is None:
        answer = answer._replace(output=thinking.answer)  # a shape reads the object after the thoughts itself
    result = _judged(answer, policy)
    if not policy.keep_reasoning:
        return result
    return result._replace(reasoning=answer.reasoning or (thinking.thoughts if thinking else None) or None)


def _judged(answer: Answer, policy: AnswerPolicy) -> RowResult:
    failure = _incomplete(answer, policy) or _empty(answer, policy)
    if failure is not None:
        return RowResult(None, answer.finish_reason, failure)
    if policy.shape is None or _is_empty(answer.output):
        result = RowResult("" if answer.output is None else answer.output, answer.finish_reason)
    else:
        result = _typed(answer, policy.shape)
    return result if policy.check is None or result.failure is not None else _checked(result, policy.check)


def ranked_classes(scores: Iterable[tuple[str, float]], measure: str = "prob") -> dict[str, Json]:
    """The output of a row that was classified.

    :param scores: the classes with their scores
    :param measure: what a score is called
    :return: ``class`` and score of the first class, both ``None`` if there is none, and ``classes``, all of them, the
        highest score first
    """
    ordered = sorted(scores, key=lambda item: -item[1])
    classes: list[Json] = [{"class": name, measure: score} for name, score in ordered]
    name, score = ordered[0] if ordered else (None, None)
    return {"class": name, measure: score, "classes": classes}


def failure_of(reason: FailureReason, finish_reason: str | None = None) -> RowFailure:
    """The failure of a row whose answer is not a complete one.

    :param reason: why
    :param finish_reason: why generation ended, as the platform says it
    """
    return RowFailure(reason, f"{_TEXTS[reason]} (finish_reason {finish_reason or 'missing'})")


def set_result(result: ChunkResult, offset: int, row: RowResult) -> None:
    """Set the result of one row in the result of its chunk, and add what it has used to what it had used before.

    :param result: the chunk's result
    :param offset: offset of the row in the chunk
    :param row: the row's result
    """
    if row.failure is None:
        result.settle(offset, row.output, row.finish_reason)
    else:
        result.fail(offset, row.failure, row.finish_reason)
    if row.reasoning is not None:
        result.reasoning[offset] = row.reasoning
    if row.model is not None:
        sums = sum_tokens(row.usages)
        counted = any(sums.values())  # an answer without any tokens is one that nobody has counted
        used = RowUsage(row.model, *(int(sums[name]) for name in TOKENS if counted))
        earlier = result.usage.get(offset)
        result.usage[offset] = used if earlier is None else earlier + used


_MAY_THINK = methodcaller("startswith", ("<", "\n<", "\n\n<", " <"))


def _is_json(output: str) -> bool:
    """Whether an output is an object or a list, in which a tag is a value's."""
    text = output.lstrip()
    return text[:1] in ("{", "[") and not text.startswith(THINK_TOKEN)


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
    return output is None or is_blank(output)


def _all_texts(outputs: Sequence[Json]) -> bool:
    """Whether all outputs are texts that are not blank, and none may begin with what a model thinks."""
    try:
        text = "\n".join(outputs)  # type: ignore[arg-type] # see below
        if any_blank(outputs):
            return False
        if "<" not in text:
            return THINK_TOKEN not in text
        return not (any(tag in text for tag in THINK_TAGS) or any(map(_MAY_THINK, outputs)))
    except TypeError:  # an output is not a text
        return False


def _typed(answer: Answer, shape: OutputShape) -> RowResult:
    try:
        return RowResult(shape.read(answer.output), answer.finish_reason)
    except MisfitError as error:
        hint = "; max_new_tokens may be too small" if answer.ended_by is FailureReason.TRUNCATED else ""
        text = f"the output does not fit output_type: {error}{hint}"
    return RowResult(None, answer.finish_reason, RowFailure(FailureReason.INVALID_OUTPUT, text))


def _checked(result: RowResult, check: Check) -> RowResult:
    """Let a check judge an output. Its errors are the row's, so that other answers that are paid for are kept."""
    try:
        verdict = check(result.output)
    except Exception as error:  # noqa: BLE001 - it is the user's code
        verdict = f"the check raised {type(error).__name__}"
    if verdict is None or (not isinstance(verdict, str) and verdict):
        return result
    text = " ".join(verdict.split())[:_MAX_VERDICT] if isinstance(verdict, str) else ""
    failure = RowFailure(FailureReason.CHECK_FAILED, text or "the check did not accept the answer")
    return RowResult(None, result.finish_reason, failure)
