"""Emissary's endpoints for rows: each row is one request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_lamini.platforms.emissary.api import inference
from airflow_provider_lamini.rows.answers import (
    MEANINGS,
    Answer,
    AnswerPolicy,
    RowResult,
    judge,
    ranked_classes,
)
from airflow_provider_lamini.rows.failures import FailureReason
from airflow_provider_lamini.rows.text_pair import decode_pair

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_lamini.api.call import Call, Json
    from airflow_provider_lamini.platforms.emissary.api.inference import (
        ChatCompletionObject,
        Classification,
        CompletionObject,
        EmbeddingComparison,
        Usage,
    )

_POLICY = AnswerPolicy()


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """The options of a completion or a chat, the same for every row. ``None`` leaves one to the platform.

    :param model_name: a deployment's name, or a base model that supports inference without one
    :param max_new_tokens: maximum tokens to generate per row
    :param temperature: 0 for the most likely output
    :param top_p: sample from the most likely tokens that have this probability together
    :param top_k: sample from this many most likely tokens
    """

    model_name: str
    max_new_tokens: int | None
    temperature: float | None
    top_p: float | None
    top_k: int | None


class Completions:
    """``/v1/completions``.

    :param options: the options, the same for every row
    """

    per_request = 1

    def __init__(self, options: Generation) -> None:
        self._options = options

    def ask(self, prompts: Sequence[str]) -> Call[list[RowResult]]:
        options = self._options

        def parse(response: CompletionObject) -> list[RowResult]:
            choice = response.choices[0]
            return [_result(choice.text, choice.finish_reason, response.usage)]

        return inference.complete(
            model=options.model_name,
            prompt=prompts[0],
            temperature=options.temperature,
            max_completion_tokens=options.max_new_tokens,
            top_p=options.top_p,
            top_k=options.top_k,
        ).map(parse)


class Chat:
    """``/v1/chat/completions`` with one message per row; the model's chat template is applied.

    :param options: the options, the same for every row
    :param system: the system prompt of each row; ``None`` for none
    """

    per_request = 1

    def __init__(self, options: Generation, system: str | None = None) -> None:
        self._options = options
        self._first = [] if system is None else [{"role": "system", "content": system}]

    def ask(self, prompts: Sequence[str]) -> Call[list[RowResult]]:
        options = self._options

        def parse(response: ChatCompletionObject) -> list[RowResult]:
            choice = response.choices[0]
            refused = FailureReason.REFUSED if choice.message.refusal else None
            return [_result(choice.message.content, choice.finish_reason, response.usage, refused)]

        return inference.chat(
            model=options.model_name,
            messages=[*self._first, {"role": "user", "content": prompts[0]}],
            temperature=options.temperature,
            max_tokens=options.max_new_tokens,
            top_p=options.top_p,
            top_k=options.top_k,
        ).map(parse)


class Classify:
    """``/v1/classification``.

    :param model_name: a deployment's name
    :param data_format: ``logits`` or ``probs``
    """

    per_request = 1

    def __init__(self, model_name: str, data_format: str) -> None:
        self._model_name = model_name
        self._data_format = data_format
        self._measure = "prob" if data_format == "probs" else "logit"

    def ask(self, prompts: Sequence[str]) -> Call[list[RowResult]]:
        def parse(response: Classification) -> list[RowResult]:
            output = ranked_classes(response.data[0].scores.items(), self._measure)
            return [RowResult(output, None, usages=_usages(response.usage))]

        return inference.classify(
            model=self._model_name, input=prompts[0], data_format=self._data_format
        ).map(parse)


class Compare:
    """``/v1/embeddings``: a row has two texts (`TextPairTemplate`), which are compared.

    :param model_name: a deployment's name, or a base model that supports inference without one
    :param measures: of ``cosine``, ``manhattan`` and ``euclidean``
    """

    per_request = 1

    def __init__(self, model_name: str, measures: Sequence[str]) -> None:
        self._model_name = model_name
        self._measures = tuple(measures)

    def ask(self, prompts: Sequence[str]) -> Call[list[RowResult]]:
        text, target = decode_pair(prompts[0])

        def parse(comparison: EmbeddingComparison) -> list[RowResult]:
            scores = comparison.response
            found = {
                "cosine": scores.cosine_score,
                "manhattan": scores.manhattan_distance,
                "euclidean": scores.euclidean_distance,
            }
            missing = [name for name in self._measures if found[name] is None]
            if missing:
                raise ValueError(f"the comparison has no {', '.join(missing)}")
            output: dict[str, Json] = {name: found[name] for name in self._measures}
            return [RowResult(output, None)]

        return inference.compare(
            model=self._model_name,
            input=text,
            target=target,
            cosine="cosine" in self._measures,
            manhattan="manhattan" in self._measures,
            euclidean="euclidean" in self._measures,
        ).map(parse)


def _result(
    output: str | None, finish_reason: str | None, usage: Usage | None, ended_by: FailureReason | None = None
) -> RowResult:
    """Judge one answer. The platform may omit the finish reason of a complete one."""
    reason = finish_reason or "stop"
    answer = Answer(output, reason, ended_by or MEANINGS.get(reason))
    return judge(answer, _POLICY)._replace(usages=_usages(usage))


def _usages(usage: Usage | None) -> tuple[Usage, ...]:
    return () if usage is None else (usage,)
