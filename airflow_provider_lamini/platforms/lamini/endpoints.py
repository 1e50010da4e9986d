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
from airflow_provider_lamini.rows.endpoints import RowResult, outcome, outcomes
from airflow_provider_lamini.rows.output.chunk_result import ChunkResult

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_provider_lamini.api.call import Call, Json
    from airflow_provider_lamini.platforms.lamini.api.chat import ChatAnswer, Usage
    from airflow_provider_lamini.platforms.lamini.api.classifiers import ClassScore
    from airflow_provider_lamini.platforms.lamini.api.completions import Completions


@dataclass(frozen=True, slots=True, kw_only=True)
class Inference:
    """What is asked of the model for every row.

    :param model_name: base model or tuned model
    :param output_type: the shape of each output; ``None`` for plain text
    :param max_new_tokens: tokens generated at most per row; ``None`` leaves it to the platform
    """

    model_name: str
    output_type: OutputType | None
    max_new_tokens: int | None


class Reply(NamedTuple):
    """What the platform made of one conversation.

    :param row: the outcome
    :param usage: tokens that it took, where the platform tells
    """

    row: RowResult
    usage: Usage | None


class BatchCompletions:
    """``/v1/batch_completions``: a chunk of rows is one job.

    :param inference: what is asked for every row
    """

    kind = BATCH_COMPLETIONS.name

    def __init__(self, inference: Inference) -> None:
        self._inference = inference

    def submit(self, prompts: Sequence[str]) -> Call[str]:
        asked = self._inference
        return batches.start_completions(
            model_name=asked.model_name,
            prompt=prompts,
            output_type=asked.output_type,
            max_new_tokens=asked.max_new_tokens,
        )

    def results(self, job_id: str, rows: int) -> Call[ChunkResult]:

        def read(answer: Completions) -> ChunkResult:
            if len(answer.outputs) != rows:
                raise ValueError(f"batch {job_id} answered {len(answer.outputs)} rows for {rows} prompts")
            return outcomes(answer.outputs, answer.finish_reason, self._inference.output_type)

        return batches.completions_result(job_id).map(read)


class DirectCompletions:
    """``/v2/completions``: a row is one request.

    :param inference: what is asked for every row
    """

    per_request = 1  # else the slowest of several prompts would hold up the answers to the others

    def __init__(self, inference: Inference) -> None:
        self._inference = inference

    def ask(self, prompts: Sequence[str]) -> Call[list[RowResult]]:
        asked = self._inference
        call = completions.complete(
            model_name=asked.model_name,
            prompt=prompts[0],
            output_type=asked.output_type,
            max_new_tokens=asked.max_new_tokens,
        )
        # This endpoint may leave the reason out for a single prompt; it has answered, so the row is done.
        return call.map(
            lambda answer: [outcome(answer.outputs[0], answer.finish_reason[0] or "stop", asked.output_type)]
        )


class Chat:
    """``/inf/chat/completions``: a row is one request with one message; the model's chat template is applied.

    :param inference: what is asked for every row
    :param temperature: 0 gives the likeliest answer; ``None`` leaves it to the platform
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
        """Answer a conversation.

        :param messages: each with ``role`` and ``content``
        """
        asked = self._inference

        def read(answer: ChatAnswer) -> Reply:
            row = outcome(answer.content, answer.finish_reason or "stop", asked.output_type)
            return Reply(row, answer.usage)

        return chat.complete(
            model=asked.model_name,
            messages=messages,
            temperature=self._temperature,
            max_tokens=asked.max_new_tokens,
            response_format=self._format,
            cache_ttl=self._cache_ttl,
        ).map(read)


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

        def read(vectors: list[list[float]] | None) -> ChunkResult:
            if vectors is None or len(vectors) != rows:
                raise ValueError(f"batch {job_id} answered {len(vectors or ())} vectors for {rows} texts")
            return ChunkResult(vectors, [None] * rows, [None] * rows)

        return batches.embeddings_result(job_id).map(read)


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
    """The outcomes of rows whose vectors these are. The platform gives no reasons: there is only one way to end."""
    return [RowResult(cast("list[Json]", vector), None) for vector in vectors]


@dataclass(frozen=True, slots=True, kw_only=True)
class RagQuery:
    """What is asked of an index for every row.

    :param index_id: the index
    :param model_name: the model that answers; ``None`` for the index's own
    :param rag_query_size: passages looked up; ``None`` leaves it to the platform
    :param output_type: the shape of each output; ``None`` for plain text
    :param max_new_tokens: tokens generated at most; ``None`` leaves it to the platform
    """

    index_id: str
    model_name: str | None
    rag_query_size: int | None
    output_type: OutputType | None
    max_new_tokens: int | None


class MemoryRagCompletions:
    """``/alpha/memory-rag/completions``: a row is one request.

    :param lookup: what is asked for every row
    """

    per_request = 1  # else the slowest of several prompts would hold up the answers to the others

    def __init__(self, lookup: RagQuery) -> None:
        self._lookup = lookup

    def ask(self, prompts: Sequence[str]) -> Call[list[RowResult]]:
        asked = self._lookup
        call = memory_rag.complete(
            prompt=prompts[0],
            job_id=asked.index_id,
            model_name=asked.model_name,
            rag_query_size=asked.rag_query_size,
            output_type=asked.output_type,
            max_new_tokens=asked.max_new_tokens,
        )
        # This endpoint may leave the reason out for a single prompt; it has answered, so the row is done.
        return call.map(
            lambda answer: [outcome(answer.outputs[0], answer.finish_reason[0] or "stop", asked.output_type)]
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassifyOptions:
    """What is asked of a classifier for every row.

    :param model_id: the classifier
    :param top_n: classes answered at most; ``None`` for all
    :param threshold: classes that are less likely are left out; ``None`` for none
    """

    model_id: str
    top_n: int | None
    threshold: float | None


class Classify:
    """``/v2/classifier/{model_id}/classify``: a request has many rows.

    :param sorting: what is asked for every row
    """

    per_request = 32  # it is quick, and the way there and back costs more than a text

    def __init__(self, sorting: ClassifyOptions) -> None:
        self._sorting = sorting

    def ask(self, prompts: Sequence[str]) -> Call[list[RowResult]]:
        """See `DirectEndpoint.ask`. The output of a row is what :func:`classified` makes of its classes."""
        asked = self._sorting
        call = classifiers.classify(
            model_id=asked.model_id, prompt=prompts, top_n=asked.top_n, threshold=asked.threshold
        )
        return call.map(lambda answer: [RowResult(classified(scores), None) for scores in answer])


def classified(scores: Sequence[ClassScore]) -> dict[str, Json]:
    """A row's classes.

    :param scores: as the platform answers them
    :return: ``class`` and ``prob`` of the likeliest, both ``None`` where no class reaches the threshold, and
        ``classes``, all that were answered, the likeliest first
    """
    ordered = sorted(scores, key=lambda score: -score.prob)
    classes: list[Json] = [{"class": score.class_name, "prob": score.prob} for score in ordered]
    first = ordered[0] if ordered else None
    return {
        "class": first.class_name if first else None,
        "prob": first.prob if first else None,
        "classes": classes,
    }
