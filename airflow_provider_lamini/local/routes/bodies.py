"""Request bodies as this platform takes them: a little wider than documented, as clients send them."""

from typing import Annotated

from pydantic import BeforeValidator, model_validator

from airflow_provider_lamini.api import schema
from airflow_provider_lamini.platforms.lamini.api.batches import (
    BatchCompletionsRequest,
    BatchEmbeddingsRequest,
)
from airflow_provider_lamini.platforms.lamini.api.completions import StreamingCompletionsRequest
from airflow_provider_lamini.platforms.lamini.api.embeddings import EmbeddingRequest


def _listed(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _without_nulls(value: object) -> object:
    return (
        {name: item for name, item in value.items() if item is not None} if isinstance(value, dict) else value
    )


class BatchBody(BatchCompletionsRequest):
    """A batch of completions; one text is a batch of one."""

    prompt: Annotated[schema.Prompts, BeforeValidator(_listed)]  # type: ignore[assignment]


class StreamingBody(StreamingCompletionsRequest):
    """Streaming completions of one prompt or several."""

    prompt: schema.Prompts  # type: ignore[assignment]
    max_tokens: schema.TokenBound | None = None


class EmbeddingBody(EmbeddingRequest):
    """Texts to embed; null counts as left out."""

    _nulls = model_validator(mode="before")(_without_nulls)


class BatchEmbeddingsBody(BatchEmbeddingsRequest):
    """A batch of texts to embed; one text is a batch of one."""
