"""Lamini's endpoints for rows: how prompts become calls, and responses become the results of rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, cast

from airflow_provider_lamini.api.output_types import OutputType, json_schema
from airflow_provider_lamini.platforms.lamini.api import (
    batches,
    chat,
    classifiers,
    completions,
    embeddings,
    memory_rag,
)
from airflow_provider_lamini.platforms.lamini.kinds import BATCH_COMPLETIONS, BATCH_EMBEDDINGS
from airflow_provider_lamini.rows.answers import Answer, AnswerPolicy, RowResult, judge, judge_all
from airflow_provider_lamini.rows.failures import FailureReason
from airflow_provider_lamini.rows.output.chunk_result import ChunkResult

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_provider_lamini.api.call import Call, Json
    from airflow_provider_lamini.platforms.lamini.api.chat import ChatResponse, Usage
    from airflow_provider_lamini.platforms.lamini.api.classifiers import ClassScore
    from airflow_provider_lamini.platforms.lamini.api.completions import Completions


MEANINGS: Mapping[str | None, FailureReason] = {
    None: FailureReason.NO_ANSWER,
    "error": FailureReason.PLATFORM_ERROR,
    "timeout": FailureReason.TIMEOUT,
    "length": FailureReason.TRUNCATED,
    "content_filter": FailureReason.FILTERED,
    "tool_calls": FailureReason.TOOL_CALLS,
    "function_call": FailureReason.TOOL_CALLS,
}
"""The finish reasons after which an answer is not a complete one. ``None``: the row was not processed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inference:
    """The options of a completion, the same for every row.

    :param model_name: base model or tuned model
    :param output_type: the shape of each output; ``None`` for plain text
    :param max_new_tokens: maximum tokens to generate per row; ``None`` leaves it to the platform
    """

    model_name: str
    output_type: OutputType | None
    max_new_tokens: int | None


class Reply(NamedTuple):
    """The result of one conversation.

    :param row: the result as that of a row
    :param usage: tokens used, if the platform reports them
    """

    row: RowResult
    usage: Usage | None


class BatchCompletions:
    """``/v1/batch_completions``: a chunk of rows is one job.

    :param inference: the options, the same for every row
    """

    kind = BATCH_COMPLETIONS.name

    def __init__(self, inference: Inference) -> None:
        self._inference = inference

    def submit(self, prompts: Sequence[str]) -> Call[str]:
        options = self._inference
        return batches.start_completions(
            model_name=options.model_name,
            prompt=prompts,
            output_type=options.output_type,
            max_new_tokens=options.max_new_tokens,
        )

    def results(self, job_id: str, rows: int) -> Call[ChunkResult]:

        def parse(response: Completions) -> ChunkResult:
            if len(response.outputs) != rows:
                raise ValueError(f"batch {job_id} has {len(response.outputs)} outputs for {rows} prompts")
            policy = AnswerPolicy(output_type=self._inference.output_type)
            return judge_all(response.outputs, response.finish_reason, MEANINGS, policy)

        return batches.completions_result(job_id).map(parse)


class DirectCompletions:
    """``/v2/completions``: a row is one request.

    :param inference: the options, the same for every row
    """

    per_request = 1  # otherwise the slowest of several prompts would delay the others

    def __init__(self, inference: Inference) -> None:
        self._inference = inference

    def ask(self, prompts: Sequence[str]) -> Call[list[RowResult]]:
        options = self._inference
        call = completions.complete(
            model_name=options.model_name,
            prompt=prompts[0],
            output_type=options.output_type,
            max_new_tokens=options.max_new_tokens,
        )
        policy = AnswerPolicy(output_type=options.output_type)
        return call.map(lambda response: [judge(_single_answer(response), policy)])


def _single_answer(response: Completions) -> Answer:
    """The answer to a single prompt, whose finish reason the platform may omit although the row is done."""
    reason = response.finish_reason[0] or "stop"
    return Answer(response.outputs[0], reason, MEANINGS.get(reason))


class Chat:
    """``/inf/chat/completions``: a row is one request with one message; the model's chat template is applied.

    :param inference: the options, the same for every row
    :param temperature: 0 for the most likely output; ``None`` leaves it to the platform
    :param cache_ttl: seconds that a third-party model stays loaded; ``None`` leaves it to the platform
    """

    per_request = 1

    def __init__(
        self, inference: Inference, temperature: float | None = None, cache_ttl: int | None = None
    ) -> None:
        self._inference = inference
        self._temperature = temperature
        self._cache_ttl = cache_ttl
        kind = inference.output_type
        self._format = None if kind is None else chat.json_format(json_schema(kind))

    def ask(self, prompts: Sequence[str]) -> Call[list[RowResult]]:
        return self.reply([{"role": "user", "content": prompts[0]}]).map(lambda reply: [reply.row])

    def reply(self, messages: Sequence[Mapping[str, str]]) -> Call[Reply]:
        """Continue a conversation.

        :param messages: each with ``role`` and ``content``
        """
        options = self._inference

        def parse(response: ChatResponse) -> Reply:
            reason = response.finish_reason or "stop"
            answer = Answer(
                response.content, reason, FailureReason.REFUSED if response.refusal else MEANINGS.get(reason)
            )
            return Reply(judge(answer, AnswerPolicy(output_type=options.output_type)), response.usage)

        return chat.complete(
            model=options.model_name,
            messages=messages,
            temperature=self._temperature,
            max_tokens=options.max_new_tokens,
            response_format=self._format,
            cache_ttl=self._cache_ttl,
        ).map(parse)


class BatchEmbeddings:
    """``/v1/batch_embeddings``: a chunk of rows is one job. A job fails as a whole, never single rows of it.

    :param model_name: embedding model; ``None`` leaves it to the platform
    """

    kind = BATCH_EMBEDDINGS.name

    def __init__(self, model_name: str | None) -> None:
        self._model_name = model_name

    def submit(self, prompts: Sequence[str]) -> Call[str]:
        return batches.start_embeddings(prompt=prompts, model_name=self._model_name)

    def results(self, job_id: str, rows: int) -> Call[ChunkResult]:

        def parse(vectors: list[list[float]] | None) -> ChunkResult:
            if vectors is None or len(vectors) != rows:
                raise ValueError(f"batch {job_id} has {len(vectors or ())} vectors for {rows} texts")
            return ChunkResult(vectors, [None] * rows, [None] * rows)

        return batches.embeddings_result(job_id).map(parse)


class DirectEmbeddings:
    """``/v1/embedding``: a request has many rows.

    :param model_name: embedding model; ``None`` leaves it to the platform
    :param per_request: texts per request
    """

    def __init__(self, model_name: str | None, per_request: int) -> None:
        self._model_name = model_name
        self.per_request = per_request

    def ask(self, prompts: Sequence[str]) -> Call[list[RowResult]]:
        return embeddings.embed(prompt=prompts, model_name=self._model_name, latency_sensitive=False).map(
            as_rows
        )


def as_rows(vectors: list[list[float]]) -> list[RowResult]:
    """Turn vectors into results of rows. Embeddings have no finish reasons."""
    return [RowResult(cast("list[Json]", vector), None) for vector in vectors]


@dataclass(frozen=True, slots=True, kw_only=True)
class RagQuery:
    """The options of a completion with an index, the same for every row.

    :param index_id: the index
    :param model_name: the model; ``None`` for the one of the index
    :param rag_query_size: passages per prompt; ``None`` leaves it to the platform
    :param output_type: the shape of each output; ``None`` for plain text
    :param max_new_tokens: maximum tokens to generate; ``None`` leaves it to the platform
    """

    index_id: str
    model_name: str | None
    rag_query_size: int | None
    output_type: OutputType | None
    max_new_tokens: int | None


class MemoryRagCompletions:
    """``/alpha/memory-rag/completions``: a row is one request.

    :param query: the options, the same for every row
    """

    per_request = 1  # otherwise the slowest of several prompts would delay the others

    def __init__(self, query: RagQuery) -> None:
        self._query = query

    def ask(self, prompts: Sequence[str]) -> Call[list[RowResult]]:
        options = self._query
        call = memory_rag.complete(
            prompt=prompts[0],
            job_id=options.index_id,
            model_name=options.model_name,
            rag_query_size=options.rag_query_size,
            output_type=options.output_type,
            max_new_tokens=options.max_new_tokens,
        )
        policy = AnswerPolicy(output_type=options.output_type)
        return call.map(lambda response: [judge(_single_answer(response), policy)])


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassifyOptions:
    """The options of a classification, the same for every row.

    :param model_id: the classifier
    :param top_n: maximum classes per row; ``None`` for all
    :param threshold: minimum probability of a class; ``None`` for no minimum
    """

    model_id: str
    top_n: int | None
    threshold: float | None


class Classify:
    """``/v2/classifier/{model_id}/classify``: a request has many rows.

    :param options: the options, the same for every row
    """

    per_request = 32  # a text costs less than a round trip

    def __init__(self, options: ClassifyOptions) -> None:
        self._options = options

    def ask(self, prompts: Sequence[str]) -> Call[list[RowResult]]:
        options = self._options
        call = classifiers.classify(
            model_id=options.model_id, prompt=prompts, top_n=options.top_n, threshold=options.threshold
        )
        return call.map(lambda rows: [RowResult(classified(scores), None) for scores in rows])


def classified(scores: Sequence[ClassScore]) -> dict[str, Json]:
    """Return the output of a row.

    :param scores: the row's classes
    :return: ``class`` and ``prob`` of the most likely class, both ``None`` if no class reaches the threshold, and
        ``classes``, all classes of the response, the most likely first
    """
    ordered = sorted(scores, key=lambda score: -score.prob)
    classes: list[Json] = [{"class": score.class_name, "prob": score.prob} for score in ordered]
    first = ordered[0] if ordered else None
    return {
        "class": first.class_name if first else None,
        "prob": first.prob if first else None,
        "classes": classes,
    }
