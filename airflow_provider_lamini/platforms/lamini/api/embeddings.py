"""Embeddings: texts to vectors."""

from collections.abc import Sequence

import msgspec
from pydantic import Field

from airflow_provider_lamini.api import schema
from airflow_provider_lamini.api.call import RESULTS, Call, Retry

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
) -> Call[list[list[float]]]:
    """Turn texts into vectors: ``POST /v1/embedding``.

    :param prompt: one text or a list
    :param model_name: embedding model; the platform's default is all-MiniLM-L6-v2
    :param latency_sensitive: whether low latency matters more than throughput
    :returns: one vector per text, in order; a list with one vector for one text
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
        retry=Retry.SAFE,
        max_bytes=RESULTS,
    )


def read_vectors(content: bytes) -> list[list[float]] | None:
    """Parse ``{embedding}``, a list of vectors or one flat vector.

    :returns: the vectors; ``None`` if there are none yet
    :raises ValueError: if it is neither, or vectors differ in length
    """
    try:
        vectors = schema.decode_as(content, _VECTORS).embedding
    except ValueError:
        flat = schema.decode_as(content, _VECTOR).embedding
        vectors = [flat] if flat else []
    if len({len(vector) for vector in vectors}) > 1 or [] in vectors[:1]:
        raise ValueError("all vectors must have the same length, above 0")
    return vectors or None


def _read_expected(content: bytes, expected: int) -> list[list[float]]:
    vectors = read_vectors(content) or []
    if len(vectors) != expected:
        raise ValueError(f"the response has {len(vectors)} vectors for {expected} texts")
    return vectors
