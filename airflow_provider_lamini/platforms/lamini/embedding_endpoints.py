"""The platform's endpoints for vectors. For tasks that run; imported by none that is parsed."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from airflow_provider_lamini.platforms.lamini.api import batches, embeddings
from airflow_provider_lamini.platforms.lamini.kinds import BATCH_EMBEDDINGS
from airflow_provider_lamini.rows.endpoints import RowResult
from airflow_provider_lamini.rows.output.chunk_result import ChunkResult

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_lamini.api.call import Call, Json


class BatchEmbeddings:
    """``/v1/batch_embeddings``: a chunk of rows is one job. A job fails as a whole, never single rows of it.

    :param model_name: embedding model; ``None`` leaves it to the platform
    """

    kind = BATCH_EMBEDDINGS.name

    def __init__(self, model_name: str | None) -> None:
        self._model_name = model_name

    def submit(self, prompts: Sequence[str]) -> Call[str]:
        """See `JobEndpoint.submit`."""
        return batches.start_embeddings(prompt=prompts, model_name=self._model_name)

    def results(self, job_id: str, rows: int) -> Call[ChunkResult]:
        """See `JobEndpoint.results`."""

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
        """See `DirectEndpoint.ask`."""
        return embeddings.embed(prompt=prompts, model_name=self._model_name, latency_sensitive=False).map(
            as_rows
        )


def as_rows(vectors: list[list[float]]) -> list[RowResult]:
    """The outcomes of rows whose vectors these are. The platform gives no reasons: there is only one way to end."""
    return [RowResult(cast("list[Json]", vector), None) for vector in vectors]
