"""Embeddings: texts to vectors."""

import math
from collections import Counter
from collections.abc import Sequence

import msgspec
from pydantic import Field

from airflow_provider_lamini.api import schema
from airflow_provider_lamini.api.call import RESULTS, Call, Json, Retry
from airflow_provider_lamini.wording import counted

DEFAULT_MODEL = "sentence-transformers/all-MiniLM-L6-v2"
"""The platform's default; 384 numbers per vector."""


class EmbeddingRequest(schema.Request):
    """The body of ``POST /v1/embedding``."""

    prompt: schema.Prompts
    model_name: str = Field(default=DEFAULT_MODEL, min_length=1)
    latency_sensitive: bool = True


class _Vectors(msgspec.Struct):
    embedding: list[list[float]] = msgspec.field(default_factory=list)


class _Vector(msgspec.Struct):
    embedding: list[float] | None = None


_VECTORS, _VECTOR = msgspec.json.Decoder(_Vectors), msgspec.json.Decoder(_Vector)


def embed(
    *, prompt: str | Sequence[str], model_name: str | None = None, latency_sensitive: bool | None = None
) -> Call[list[list[float] | None]]:
    """Turn texts into vectors: ``POST /v1/embedding``.

    :param prompt: one text or a list
    :param model_name: embedding model; the platform's default is all-MiniLM-L6-v2
    :param latency_sensitive: whether low latency matters more than throughput
    :returns: one vector per text, in order, ``None`` for one with a number that JSON does not allow; a list with one
        vector for one text
    :raises ValueError: if an argument is invalid
    """
    arguments = {"model_name": model_name, "latency_sensitive": latency_sensitive}
    body = schema.prompts_body(EmbeddingRequest, prompt, arguments)
    expected = 1 if isinstance(prompt, str) else len(prompt)
    return Call(
        operation="embedding_v1_embedding_post",
        method="POST",
        path="/v1/embedding",
        json=body,
        parse=lambda content: _read_expected(content, expected),
        prompt_fields=("prompt",),
        retry=Retry.SAFE,
        max_bytes=RESULTS,
    )


def read_vectors(content: bytes) -> list[list[float] | None] | None:
    """Parse ``{embedding}``, a list of vectors or one flat vector.

    :returns: the vectors, ``None`` for one that is missing, is shorter or longer than most, or has a number that JSON does not
        allow; ``None`` if there are none yet
    :raises ValueError: if it is neither, or no length is that of most vectors
    """
    vectors: list[list[float] | None]
    try:
        vectors = [*schema.decode_as(content, _VECTORS).embedding]
    except ValueError:
        vectors = _single_or_damaged(content)
    sizes = Counter(len(vector or ()) for vector in vectors)
    if len(sizes) <= 1 and 0 not in sizes:
        return vectors or None
    del sizes[0]
    size, count = next(iter(sizes.most_common(1)), (0, 0))
    if 2 * count <= sizes.total():
        raise ValueError("all vectors must have the same length, above 0")
    return [vector if vector and len(vector) == size else None for vector in vectors]


def _single_or_damaged(content: bytes) -> list[list[float] | None]:
    """A flat vector, or vectors of which some hold null, NaN or another value that is not a finite number."""
    try:
        flat = schema.decode_as(content, _VECTOR).embedding
    except ValueError:
        found = schema.decode_leniently(content)
        items = found.get("embedding") if isinstance(found, dict) else None
        if (
            not isinstance(items, list)
            or not items
            or not all(item is None or isinstance(item, list) for item in items)
        ):
            raise
        vectors = [_finite(item) if isinstance(item, list) else None for item in items]
        if not any(vectors):
            raise
        return vectors
    return [flat] if flat else []


def _finite(numbers: list[Json]) -> list[float] | None:
    found = [
        float(number)
        for number in numbers
        if isinstance(number, int | float) and not isinstance(number, bool)
    ]
    return found if len(found) == len(numbers) and all(map(math.isfinite, found)) else None


def _read_expected(content: bytes, expected: int) -> list[list[float] | None]:
    vectors = read_vectors(content) or []
    if len(vectors) != expected:
        raise ValueError(f"it has {counted(len(vectors), 'vector')} for {counted(expected, 'text')}")
    return vectors
