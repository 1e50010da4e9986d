"""Memory RAG: an index over documents, and completions with passages from it."""

import re
from collections.abc import Iterable, Sequence

from pydantic import Field, PositiveInt

from airflow_provider_lamini.api import schema
from airflow_provider_lamini.api.call import LIST, RESULTS, Call, FilePart, Multipart, Retry
from airflow_provider_lamini.api.output_types import OutputType
from airflow_provider_lamini.platforms.lamini.api import job_responses
from airflow_provider_lamini.platforms.lamini.api.completions import Completions, read_completions

_NUMBER = re.compile(r"(?:question|answer)\b[ _]*(\d*)", re.IGNORECASE)


class MemoryRagCompletionsRequest(schema.Request):
    """The body of ``POST /alpha/memory-rag/completions``."""

    prompt: schema.Prompts
    job_id: schema.Id
    model_name: str | None = None
    rag_query_size: PositiveInt | None = None
    output_type: schema.BoundType | None = None
    max_tokens: schema.TokenBound | None = None
    max_new_tokens: schema.TokenBound | None = None


class MemoryRagAddIndexRequest(schema.Request):
    """The body of ``POST /alpha/memory-rag/add-index``."""

    prompt: str
    job_id: schema.Id


class MemoryRagJobRequest(schema.Request):
    """The body of requests that contain only an index."""

    job_id: schema.Id


class MemoryRagTrainRequest(schema.Request):
    """The form fields of ``POST /alpha/memory-rag/train`` besides the files."""

    model_name: str = Field(min_length=1)


class Suggestion(schema.Response):
    """A question that the index can answer."""

    question: str
    answer: str | None = None


def train(*, model_name: str, files: Iterable[FilePart]) -> Call[job_responses.StartedJob]:
    """Build an index of documents: ``POST /alpha/memory-rag/train``, a form with files.

    :param model_name: the model for completions
    :param files: the documents; each is opened when it is sent, and read in blocks
    :returns: the job's id, which is also the index's id
    :raises ValueError: if an argument is invalid or there is no file
    """
    schema.body(MemoryRagTrainRequest, {"model_name": model_name})
    parts = tuple(files)
    if not parts:
        raise ValueError("files is empty: there is nothing to index")
    return Call(
        operation="memory_rag_train_post",
        method="POST",
        path="/alpha/memory-rag/train",
        multipart=Multipart({"model_name": model_name}, parts),
        parse=schema.parser(job_responses.StartedJob),
        retry=Retry.ONLY_IF_NOT_STARTED,
    )


def status(job_id: str | int) -> Call[str]:
    """Get the status of an index, as the official client does: ``POST /alpha/memory-rag/status``.

    :param job_id: the index
    :returns: the platform's status word
    """
    return job(job_id).map(lambda answer: answer.status)


def job(job_id: str | int) -> Call[job_responses.StatusResponse]:
    """Get the status of an index, and why it failed: ``POST /alpha/memory-rag/status``.

    :param job_id: the index
    :returns: the platform's status word, and its reason if it gives one
    """
    return Call(
        operation="memory_rag_status_post",
        method="POST",
        path="/alpha/memory-rag/status",
        json=schema.body(MemoryRagJobRequest, {"job_id": job_id}),
        parse=schema.parser(job_responses.StatusResponse),
        retry=Retry.SAFE,
    )


def status_by_query(job_id: str | int) -> Call[str]:
    """Get the status of an index, as the platform's documentation describes: ``GET /alpha/memory-rag/status``.

    :param job_id: the index
    :returns: the platform's status word
    """
    schema.path_segment(job_id, "job_id")
    return Call(
        operation="memory_rag_job_status",
        method="GET",
        path="/alpha/memory-rag/status",
        params={"job_id": str(job_id)},
        parse=job_responses.parse_status,
        retry=Retry.SAFE,
    )


def complete(
    *,
    prompt: str | Sequence[str],
    job_id: str | int,
    model_name: str | None = None,
    rag_query_size: int | None = None,
    output_type: OutputType | None = None,
    max_new_tokens: int | None = None,
    max_tokens: int | None = None,
) -> Call[Completions]:
    """Complete prompts with passages from an index: ``POST /alpha/memory-rag/completions``.

    :param prompt: one prompt or a list
    :param job_id: the index
    :param model_name: model for the completions, if not the one of the index
    :param rag_query_size: passages per prompt; the platform's default is 3
    :param output_type: field names with ``str``, ``int``, ``float``, ``bool`` or a list of allowed values
    :param max_new_tokens: maximum tokens to generate
    :param max_tokens: maximum tokens, including the prompt
    :returns: one output and one finish reason per prompt
    :raises ValueError: if an argument is invalid
    """
    arguments = {
        "job_id": job_id,
        "model_name": model_name,
        "rag_query_size": rag_query_size,
        "output_type": output_type,
        "max_new_tokens": max_new_tokens,
        "max_tokens": max_tokens,
    }
    body = schema.prompts_body(MemoryRagCompletionsRequest, prompt, arguments)
    expected = 1 if isinstance(prompt, str) else len(prompt)
    return Call(
        operation="memory_rag_completions_post",
        method="POST",
        path="/alpha/memory-rag/completions",
        json=body,
        parse=lambda content: read_completions(content, expected),
        prompt_fields=("prompt",),
        retry=Retry.SAFE,
        max_bytes=RESULTS,
    )


def add_index(*, prompt: str, job_id: str | int) -> Call[job_responses.StartedJob]:
    """Add a text to an index: ``POST /alpha/memory-rag/add-index``.

    :param prompt: the text
    :param job_id: the index
    """
    return Call(
        operation="memory_rag_add_index_post",
        method="POST",
        path="/alpha/memory-rag/add-index",
        json=schema.body(MemoryRagAddIndexRequest, {"prompt": prompt, "job_id": job_id}),
        parse=schema.parser(job_responses.StartedJob),
        prompt_fields=("prompt",),
        retry=Retry.ONLY_IF_NOT_STARTED,
    )


def suggestions(job_id: str | int) -> Call[list[Suggestion]]:
    """Get questions that an index can answer: ``POST /alpha/memory-rag/suggestions``.

    :param job_id: the index
    """
    return Call(
        operation="memory_rag_suggestions_post",
        method="POST",
        path="/alpha/memory-rag/suggestions",
        json=schema.body(MemoryRagJobRequest, {"job_id": job_id}),
        parse=_read_suggestions,
        retry=Retry.SAFE,
        max_bytes=LIST,
    )


def training_log(job_id: str | int) -> Call[list[str]]:
    """Get the log of building an index: ``GET /alpha/memory-rag/training_log/{job_id}``.

    :param job_id: the index
    """
    return Call(
        operation="memory_rag_training_log_get",
        method="GET",
        path=f"/alpha/memory-rag/training_log/{schema.path_segment(job_id, 'job_id')}",
        parse=lambda content: schema.find_names(schema.decode(content), "log", "training_log", "message"),
        retry=Retry.SAFE,
        max_bytes=LIST,
    )


def _read_suggestions(content: bytes) -> list[Suggestion]:
    """Parse ``[{"Question 1": ..., "Answer 1": ...}, ...]``, the numbers optional."""
    found: list[Suggestion] = []
    for item in schema.find_items(schema.decode(content), "suggestions", "outputs", "data"):
        if not isinstance(item, dict):
            raise ValueError(f"objects with a question were expected, not {schema.describe_type(item)}")  # noqa: TRY004 - one kind of error for all responses
        pairs: dict[str, dict[str, str]] = {}
        for name, value in item.items():
            match = _NUMBER.fullmatch(name)
            if match and isinstance(value, str):
                pairs.setdefault(match[1], {})[name[0].lower()] = value
        found += [
            Suggestion(question=pair["q"], answer=pair.get("a")) for pair in pairs.values() if "q" in pair
        ]
    return found
