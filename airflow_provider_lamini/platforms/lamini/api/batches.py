"""Batches: prompts that the platform completes, or turns into vectors, asynchronously.

A batch has no status. Its result is ``{}`` at first, and later has a row per prompt.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Annotated, TypeVar

import msgspec
from pydantic import Field

from airflow_provider_lamini.api import schema
from airflow_provider_lamini.api.call import RESULTS, Call, Retry
from airflow_provider_lamini.api.json_counter import JsonCounter
from airflow_provider_lamini.api.output_types import OutputType
from airflow_provider_lamini.platforms.lamini.api import embeddings
from airflow_provider_lamini.platforms.lamini.api.completions import Completions, Started, read_completions

T = TypeVar("T")


class BatchCompletionsRequest(schema.Request):
    """The body of ``POST /v1/batch_completions``."""

    model_name: str = Field(min_length=1)
    prompt: Annotated[list[str], Field(min_length=1)]
    output_type: schema.BoundType | None = None
    max_new_tokens: schema.TokenBound | None = None
    max_tokens: schema.TokenBound | None = None
    reservation_id: int | None = None


class BatchEmbeddingsRequest(schema.Request):
    """The body of ``POST /v1/batch_embeddings``."""

    prompt: schema.Prompts
    model_name: str | None = None


BatchResult = Completions
"""Outputs and finish reasons in the order of the prompts; both empty before the platform has started."""


@dataclass(frozen=True, slots=True)
class BatchProgress:
    """How far a batch is.

    :param total: rows of the batch; 0 before the platform has started
    :param done: rows that have a finish reason
    """

    total: int
    done: int


class _ProgressReader:
    """Reads a large result of :func:`completions_progress` as it arrives: a trigger must not keep it in memory."""

    def __init__(self) -> None:
        self._counter = JsonCounter(("outputs", "finish_reason"))
        self.feed = self._counter.feed

    def result(self) -> BatchProgress:
        counts = self._counter.counts()
        reasons, outputs = counts.get("finish_reason"), counts.get("outputs")
        if reasons is not None and reasons.is_list:
            return BatchProgress(reasons.items, reasons.items - reasons.nulls)
        if outputs is None:
            raise ValueError("an object with outputs was expected")
        done = reasons is not None and not reasons.empty
        return BatchProgress(outputs.items, outputs.items if done else 0)


class _VectorCounter:
    """The same for :func:`embeddings_progress`."""

    def __init__(self) -> None:
        self._counter = JsonCounter(("embedding",))
        self.feed = self._counter.feed

    def result(self) -> int:
        vectors = self._counter.counts().get("embedding")
        if vectors is None:
            raise ValueError("an object with embedding was expected")
        return vectors.items if vectors.nested else min(vectors.items, 1)


class _Reasons(msgspec.Struct):
    """The part of a result that shows the progress. The outputs are skipped, not decoded."""

    finish_reason: list[str | None] | str | None = None


class _Rows(msgspec.Struct):
    """The rows of a result, counted and not decoded."""

    outputs: list[msgspec.Raw] | None = None


class _Vectors(msgspec.Struct):
    """The vectors of a result, counted and not decoded."""

    embedding: list[msgspec.Raw] | None = None


_REASONS = msgspec.json.Decoder(_Reasons)
_ROWS = msgspec.json.Decoder(_Rows)
_VECTORS = msgspec.json.Decoder(_Vectors)

_EMPTY = (b"", b"null", b"[]")
"""Responses that mean, like ``{}``, that there are no results yet."""


def start_completions(
    *,
    model_name: str,
    prompt: Sequence[str],
    output_type: OutputType | None = None,
    max_new_tokens: int | None = None,
    max_tokens: int | None = None,
    reservation_id: int | None = None,
) -> Call[str]:
    """Start a batch of completions: ``POST /v1/batch_completions``.

    :param model_name: base model or tuned model
    :param prompt: the prompts, sent as they are, without a chat template
    :param output_type: field names with ``str``, ``int``, ``float``, ``bool`` or a list of allowed values
    :param max_new_tokens: maximum tokens to generate per prompt
    :param max_tokens: maximum tokens per prompt, including the prompt
    :param reservation_id: reservation of GPUs to use
    :returns: the batch's id
    :raises ValueError: if an argument is invalid
    """
    arguments = {
        "model_name": model_name,
        "output_type": output_type,
        "max_new_tokens": max_new_tokens,
        "max_tokens": max_tokens,
        "reservation_id": reservation_id,
    }
    prompts = schema.check_texts("prompt", prompt)
    return Call(
        operation="batch_completion_v1_batch_completions_post",
        method="POST",
        path="/v1/batch_completions",
        json={**schema.body(BatchCompletionsRequest, {**arguments, "prompt": [""]}), "prompt": prompts},
        parse=lambda content: schema.parser(Started)(content).id,
        prompt_fields=("prompt",),
        retry=Retry.ONLY_IF_NOT_STARTED,
    )


def completions_result(id: str) -> Call[BatchResult]:  # noqa: A002 - the platform's name for it
    """Get the rows of a batch so far: ``GET /v1/batch_completions/{id}/result``.

    :param id: what :func:`start_completions` returned
    :returns: the rows in the order of the prompts; a row with the finish reason ``None`` is not done. Both lists are empty
        before the platform has started.
    """
    return _completions_result(id, read_completions)


def completions_progress(id: str) -> Call[BatchProgress]:  # noqa: A002 - the platform's name for it
    """Get the progress of a batch: the request of :func:`completions_result`, without decoding the outputs.

    :param id: what :func:`start_completions` returned
    :returns: counts of rows; a total of 0 before the platform has started
    """
    return replace(_completions_result(id, _read_progress), reader=_ProgressReader)


def start_embeddings(*, prompt: str | Sequence[str], model_name: str | None = None) -> Call[str]:
    """Start a batch of embeddings: ``POST /v1/batch_embeddings``.

    :param prompt: the texts
    :param model_name: embedding model; the platform's default is all-MiniLM-L6-v2
    :returns: the batch's id
    :raises ValueError: if an argument is invalid
    """
    return Call(
        operation="batch_embeddings_post",
        method="POST",
        path="/v1/batch_embeddings",
        json=schema.prompts_body(BatchEmbeddingsRequest, prompt, {"model_name": model_name}),
        parse=lambda content: schema.parser(Started)(content).id,
        prompt_fields=("prompt",),
        retry=Retry.ONLY_IF_NOT_STARTED,
    )


def embeddings_result(id: str) -> Call[list[list[float] | None] | None]:  # noqa: A002 - the platform's name for it
    """Get the vectors of a batch: ``GET /v1/batch_embeddings/{id}/result``.

    :param id: what :func:`start_embeddings` returned
    :returns: one vector per text, in order, ``None`` for one with a number that JSON does not allow; ``None`` until all
        are done
    """
    return _embeddings_result(id, _read_vectors)


def embeddings_progress(id: str) -> Call[int]:  # noqa: A002 - the platform's name for it
    """Count the vectors of a batch: the request of :func:`embeddings_result`, without decoding the numbers.

    :param id: what :func:`start_embeddings` returned
    :returns: number of vectors; 0 until all are done
    """
    return replace(_embeddings_result(id, _count_vectors), reader=_VectorCounter)


def _completions_result(batch_id: str, parse: Callable[[bytes], T]) -> Call[T]:
    return Call(
        operation="batch_completion_result_v1_batch_completions__id__result_get",
        method="GET",
        path=f"/v1/batch_completions/{schema.path_segment(batch_id)}/result",
        parse=parse,
        retry=Retry.SAFE,
        max_bytes=RESULTS,
    )


def _embeddings_result(batch_id: str, parse: Callable[[bytes], T]) -> Call[T]:
    return Call(
        operation="batch_embeddings_result_get",
        method="GET",
        path=f"/v1/batch_embeddings/{schema.path_segment(batch_id)}/result",
        parse=parse,
        retry=Retry.SAFE,
        max_bytes=RESULTS,
    )


def _read_progress(content: bytes) -> BatchProgress:
    try:
        return _decoded_progress(content)
    except ValueError:
        # A value that JSON does not allow in one of the outputs says nothing about the progress.
        if schema.is_json(content):
            raise
        schema.decode_leniently(content)
        reader = _ProgressReader()
        reader.feed(content)
        return reader.result()


def _decoded_progress(content: bytes) -> BatchProgress:
    reasons = _finish_reasons(content)
    if isinstance(reasons, list):
        return BatchProgress(len(reasons), len(reasons) - reasons.count(None))
    rows = schema.decode_as(content, _ROWS).outputs
    if rows is None:
        _check_empty(content, "outputs")
    total = len(rows or ())
    return BatchProgress(total, total if reasons else 0)


def _finish_reasons(content: bytes) -> list[str | None] | str | None:
    """The finish reasons. Where they come last, as in the platform's responses, the outputs before them are not decoded."""
    start = content.rfind(b'"finish_reason"')
    if start > 0:
        with suppress(ValueError):  # then it is the field of an output
            return schema.decode_as(b"{" + content[start:], _REASONS).finish_reason
    return schema.decode_as(content, _REASONS).finish_reason


def _read_vectors(content: bytes) -> list[list[float] | None] | None:
    return None if content.strip() in _EMPTY else embeddings.read_vectors(content)


def _count_vectors(content: bytes) -> int:
    try:
        return _decoded_count(content)
    except ValueError:
        if schema.is_json(content):
            raise
        schema.decode_leniently(content)
        reader = _VectorCounter()
        reader.feed(content)
        return reader.result()


def _decoded_count(content: bytes) -> int:
    if content.strip() in _EMPTY:
        return 0
    vectors = schema.decode_as(content, _VECTORS).embedding
    if vectors is None:
        _check_empty(content, "embedding")
        return 0
    flat = bool(vectors) and not bytes(vectors[0]).lstrip().startswith(b"[")
    return 1 if flat else len(vectors)


def _check_empty(content: bytes, name: str) -> None:
    """Refuse other objects, which would never become a result; ``{}`` means that there is no result yet."""
    found = schema.decode(content)
    if found and not (isinstance(found, dict) and name in found):
        raise ValueError(f"an object with {name} was expected, not {schema.describe_type(found)}")
