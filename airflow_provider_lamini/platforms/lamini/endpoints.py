"""Lamini's endpoints for rows: how prompts become calls, and responses become the results of rows."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple, Self, cast

from airflow_provider_lamini.platforms.lamini.api import (
    batches,
    chat,
    classifiers,
    completions,
    embeddings,
    memory_rag,
)
from airflow_provider_lamini.platforms.lamini.kinds import BATCH_COMPLETIONS, BATCH_EMBEDDINGS
from airflow_provider_lamini.rows.answers.judging import (
    MEANINGS,
    Answer,
    AnswerPolicy,
    RowResult,
    ended_by,
    failure_of,
    judge,
    judge_all,
    meaning_of,
    ranked_classes,
    set_result,
)
from airflow_provider_lamini.rows.failures import FailureReason, RowFailure
from airflow_provider_lamini.rows.generation import Generation
from airflow_provider_lamini.rows.output.chunk_result import ChunkResult
from airflow_provider_lamini.rows.prompts.row_request import RowRequest, decode_request, with_system
from airflow_provider_lamini.wording import counted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_provider_lamini.api.call import Call, Json
    from airflow_provider_lamini.api.output_types import OutputType
    from airflow_provider_lamini.platforms.lamini.api.chat import ChatResponse, Usage
    from airflow_provider_lamini.platforms.lamini.api.classifiers import ClassScore
    from airflow_provider_lamini.platforms.lamini.api.completions import Completions


@dataclass(frozen=True, kw_only=True)
class Inference(Generation):
    """The options of a completion or a chat, the same for every row.

    :param cache_ttl: seconds that a third-party model stays loaded; ``None`` leaves it to the platform
    :param extra_body: other fields of the body, sent as they are
    """

    cache_ttl: int | None = None
    extra_body: Mapping[str, Json] = field(default_factory=dict)

    @property
    def output_type(self) -> OutputType | None:
        """The shape of each output as field names with types; ``None`` for plain text."""
        return None if self.answers.shape is None else self.answers.shape.flat

    def plain(self) -> dict[str, object]:
        """Everything that decides the results, as plain values, for a fingerprint."""
        others = {"cache_ttl": self.cache_ttl, "extra_body": dict(self.extra_body)}
        return super().plain() | {name: value for name, value in others.items() if value not in (None, {})}

    def for_row(self, request: RowRequest) -> Self:
        """The options of one row.

        :param request: the row's request, whose parameters and fields count more than those of all rows
        """
        return replace(super().for_row(request), extra_body={**self.extra_body, **request.extra})


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
    reports_tokens = False

    def __init__(self, inference: Inference) -> None:
        self._inference = inference

    def submit(self, prompts: Sequence[str]) -> Call[str]:
        options = self._inference
        return batches.start_completions(
            model_name=options.model_name,
            prompt=prompts,
            output_type=options.output_type,
            max_new_tokens=options.max_new_tokens,
            **limits(options.extra_body),
        )

    def results(self, job_id: str, rows: int) -> Call[ChunkResult]:

        def parse(response: Completions) -> ChunkResult:
            if len(response.outputs) != rows:
                raise ValueError(
                    f"batch {job_id} has {counted(len(response.outputs), 'output')} for {counted(rows, 'prompt')}"
                )
            result = judge_all(response.outputs, response.finish_reason, MEANINGS, self._inference.answers)
            for offset in response.undecodable:
                reason = response.finish_reason[offset]
                result.fail(offset, failure_of(FailureReason.UNDECODABLE, reason), reason)
            return result

        return batches.completions_result(job_id).map(parse)


def limits(extra: Mapping[str, Json]) -> dict[str, int | None]:
    """The other fields that completions and batches take.

    :param extra: the fields, all of them integers
    """
    return {name: int(str(value)) for name, value in extra.items()}


class DirectCompletions:
    """``/v2/completions``: a row is one request.

    :param inference: the options, the same for every row
    :param requests: whether the texts of the rows are requests (`RowRequest`) and not prompts
    """

    per_request = 1  # otherwise the slowest of several prompts would delay the others
    reports_tokens = False

    def __init__(self, inference: Inference, *, requests: bool = False) -> None:
        self._inference = inference
        self._requests = requests

    def ask(self, prompts: Sequence[str]) -> Call[list[RowResult]]:
        options, prompt = self._inference, prompts[0]
        if self._requests:
            request = decode_request(prompt)
            options, prompt = options.for_row(request), request.prompt
        call = completions.complete(
            model_name=options.model_name,
            prompt=prompt,
            output_type=options.output_type,
            max_new_tokens=options.max_new_tokens,
            **limits(options.extra_body),
        )
        return call.map(lambda response: [judge(_single_answer(response), options.answers)])


def _single_answer(response: Completions) -> Answer:
    """The answer to a single prompt, whose finish reason the platform may omit although the row is done."""
    reason = response.finish_reason[0] or "stop"
    ended_by = FailureReason.UNDECODABLE if response.undecodable else meaning_of(reason)
    return Answer(response.outputs[0], reason, ended_by)


class Chat:
    """``/inf/chat/completions``: a row is one request with a conversation; the model's chat template is applied.

    :param inference: the options, the same for every row
    :param requests: whether the texts of the rows are requests (`RowRequest`) and not the user's messages
    """

    per_request = 1
    reports_tokens = True

    def __init__(self, inference: Inference, *, requests: bool = False) -> None:
        self._inference = inference
        self._requests = requests
        shape = inference.answers.shape
        self._format = None if shape is None else chat.json_format(shape.schema)

    def ask(self, prompts: Sequence[str]) -> Call[list[RowResult]]:
        request = RowRequest([{"role": "user", "content": prompts[0]}])
        if self._requests:
            request = decode_request(prompts[0])
        return self._reply(request).map(lambda reply: [reply.row])

    def reply(self, messages: Sequence[Mapping[str, Json]]) -> Call[Reply]:
        """Continue a conversation.

        :param messages: each with ``role`` and ``content``
        """
        return self._reply(RowRequest([{**message} for message in messages]))

    def _reply(self, request: RowRequest) -> Call[Reply]:
        options = self._inference.for_row(request)
        messages = request.messages
        if options.system is not None:
            messages = with_system(messages, options.system)

        def parse(response: ChatResponse) -> Reply:
            reason = response.finish_reason or "stop"
            answer = Answer(
                response.content,
                reason,
                ended_by(
                    reason,
                    refused=bool(response.refusal),
                    calls_tools=response.calls_tools and not response.content.strip(),
                ),
                response.reasoning,
            )
            row = judge(answer, options.answers)
            return Reply(row._replace(usages=(response.usage,), model=options.model_name), response.usage)

        return chat.complete(
            model=options.model_name,
            messages=messages,
            max_tokens=options.max_new_tokens,
            response_format=self._format,
            cache_ttl=options.cache_ttl,
            extra={**options.extra_body, **options.parameters},
        ).map(parse)


class BatchEmbeddings:
    """``/v1/batch_embeddings``: a chunk of rows is one job. A job fails as a whole, never single rows of it.

    :param model_name: embedding model; ``None`` leaves it to the platform
    """

    kind = BATCH_EMBEDDINGS.name
    reports_tokens = False

    def __init__(self, model_name: str | None) -> None:
        self._model_name = model_name

    def submit(self, prompts: Sequence[str]) -> Call[str]:
        return batches.start_embeddings(prompt=prompts, model_name=self._model_name)

    def results(self, job_id: str, rows: int) -> Call[ChunkResult]:

        def parse(vectors: list[list[float] | None] | None) -> ChunkResult:
            if vectors is None or len(vectors) != rows:
                raise ValueError(
                    f"batch {job_id} has {counted(len(vectors or ()), 'vector')} for {counted(rows, 'text')}"
                )
            if None not in vectors:
                return ChunkResult(vectors, [None] * rows, [None] * rows)
            result = ChunkResult.pending(rows)
            for offset, row in enumerate(as_rows(vectors)):
                set_result(result, offset, row)
            return result

        return batches.embeddings_result(job_id).map(parse)


class DirectEmbeddings:
    """``/v1/embedding``: a request has many rows.

    :param model_name: embedding model; ``None`` leaves it to the platform
    :param per_request: texts per request
    """

    reports_tokens = False

    def __init__(self, model_name: str | None, per_request: int) -> None:
        self._model_name = model_name
        self.per_request = per_request

    def ask(self, prompts: Sequence[str]) -> Call[list[RowResult]]:
        return embeddings.embed(prompt=prompts, model_name=self._model_name, latency_sensitive=False).map(
            as_rows
        )


def as_rows(vectors: Sequence[list[float] | None]) -> list[RowResult]:
    """Turn vectors into results of rows. Embeddings have no finish reasons."""
    return [
        RowResult(None, None, NO_VECTOR) if vector is None else RowResult(cast("list[Json]", vector), None)
        for vector in vectors
    ]


NO_VECTOR = RowFailure(
    FailureReason.UNDECODABLE,
    "the vector is missing, has another length than the others, or holds a value that is not a finite number",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RagQuery:
    """The options of a completion with an index, the same for every row.

    :param index_id: the index
    :param model_name: the model; ``None`` for the one of the index
    :param rag_query_size: passages per prompt; ``None`` leaves it to the platform
    :param answers: which answers count as outputs, and the shape of each output
    :param max_new_tokens: maximum tokens to generate; ``None`` leaves it to the platform
    """

    index_id: str
    model_name: str | None
    rag_query_size: int | None
    answers: AnswerPolicy
    max_new_tokens: int | None

    def plain(self) -> dict[str, object]:
        """Everything that decides the results, as plain values, for a fingerprint."""
        return {
            "index_id": self.index_id,
            "model_name": self.model_name,
            "rag_query_size": self.rag_query_size,
            "max_new_tokens": self.max_new_tokens,
            **self.answers.plain(),
        }


class MemoryRagCompletions:
    """``/alpha/memory-rag/completions``: a row is one request.

    :param query: the options, the same for every row
    """

    per_request = 1  # otherwise the slowest of several prompts would delay the others
    reports_tokens = False

    def __init__(self, query: RagQuery) -> None:
        self._query = query

    def ask(self, prompts: Sequence[str]) -> Call[list[RowResult]]:
        options = self._query
        call = memory_rag.complete(
            prompt=prompts[0],
            job_id=options.index_id,
            model_name=options.model_name,
            rag_query_size=options.rag_query_size,
            output_type=None if options.answers.shape is None else options.answers.shape.flat,
            max_new_tokens=options.max_new_tokens,
        )
        return call.map(lambda response: [judge(_single_answer(response), options.answers)])


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
    reports_tokens = False

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
    return ranked_classes([(score.class_name, score.prob) for score in scores])
