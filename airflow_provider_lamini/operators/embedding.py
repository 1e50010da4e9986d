"""Embeddings: texts in, a vector for each of them out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_lamini.exceptions import InvalidArgumentError
from airflow_provider_lamini.operators.row_operator import ChunkedOperator
from airflow_provider_lamini.runs.arguments import one_of, optional_name, whole_number

if TYPE_CHECKING:
    from airflow_provider_lamini.rows.endpoints import DirectEndpoint, JobEndpoint, RowResult
    from airflow_provider_lamini.rows.ledger.ledger import Ledger
    from airflow_provider_lamini.rows.output.manifest import Manifest
    from airflow_provider_lamini.rows.output.parts import PartWriter

ENDPOINTS = ("batch", "embedding")
FORMATS = ("jsonl", "parquet")


class LaminiEmbeddingOperator(ChunkedOperator):
    """Turns one text, a few texts, or every row of an input into vectors.

    - Without ``output``, ``input`` is one text, or a list of at most 16, and the vectors are the task's result.
    - With ``output``, rows of any number go from storage to storage, in chunks and with a ledger: a retry goes on
      from there, and no finished chunk is sent twice. The folder then holds ``part-*.jsonl`` or ``part-*.parquet``
      (every row with its ``index``, the ``passthrough`` columns, ``embedding`` and, if it failed, ``error``),
      ``errors-*.jsonl`` (the failed rows again) and ``manifest.json``.

    In Parquet, ``embedding`` is a fixed-size list of 32-bit floats; the columns that are passed through keep text,
    integers, numbers and flags as such, and have all else as JSON text. Dates are text, as everywhere here.

    Endpoints: ``POST /v1/batch_embeddings`` and ``GET /v1/batch_embeddings/{id}/result``, or ``POST /v1/embedding``.

    :param input: a text, a list of texts, a list of rows (mappings), or a path, URI or glob on object storage: JSON
        Lines, CSV, or Parquet (extra ``parquet``)
    :param prompt: where the input has rows: the name of the column that holds the text, or a template over columns,
        such as ``"{title}: {body}"``
    :param output: the folder for the results, a path or URI. Give each run its own, as with ``{{ run_id }}`` in it.
    :param model_name: embedding model; the platform's default (all-MiniLM-L6-v2) if not given
    :param output_format: ``jsonl``, or ``parquet`` (extra ``parquet``)
    :param endpoint: ``batch`` for jobs, which the task waits for without a worker. The platform tells no state of
        such a job, so one that has failed looks like one that takes long: mind ``timeout``. ``embedding`` asks at
        once, many texts per request, and holds a worker; it can tell which rows failed.
    :param texts_per_request: texts in one request for ``endpoint="embedding"``
    :param kwargs: see :class:`~airflow_provider_lamini.operators.row_operator.ChunkedOperator`: ``passthrough``,
        ``max_prompt_chars``, ``chunk_size``, ``max_in_flight``, ``row_retries``, ``max_failed_rows``, ``on_other_run``,
        ``on_unknown_submission``, ``input_conn_id``, ``output_conn_id``
    :return: ``model``, ``dimensions`` and ``embeddings``, a list of vectors also for one text; or the manifest of
        the output folder (URIs, counts by outcome, chunks, seconds, model) with ``dimensions``
    """

    template_fields = (
        *ChunkedOperator.template_fields,
        "model_name",
        "output_format",
        "endpoint",
        "texts_per_request",
    )
    most_inline = 16

    def __init__(
        self,
        *,
        model_name: str | None = None,
        output_format: str = "jsonl",
        endpoint: str = "batch",
        texts_per_request: int | str = 64,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.model_name = model_name
        self.output_format = output_format
        self.endpoint = endpoint
        self.texts_per_request = texts_per_request

    def check(self) -> None:
        """Validate the rendered arguments; see :class:`JobOperator`."""
        from airflow_provider_lamini.rows.errors import MissingExtraError
        from airflow_provider_lamini.rows.output.vectors import require_pyarrow

        self._endpoint_name = one_of("endpoint", self.endpoint, ENDPOINTS)
        self._format = one_of("output_format", self.output_format, FORMATS)
        self._texts_per_request = whole_number("texts_per_request", self.texts_per_request, least=1)
        self._model = optional_name("model_name", self.model_name)
        super().check()
        if self._format == "parquet" and self.output_folder is not None:
            try:
                require_pyarrow()
            except MissingExtraError as error:
                raise InvalidArgumentError(str(error)) from error

    def fingerprint_inputs(self) -> dict[str, object]:
        """See :class:`ChunkedOperator`."""
        return {"endpoint": self._endpoint_name, "model": self._model, "format": self._format}

    def answered_by(self) -> str:
        """See :class:`ChunkedOperator`."""
        from airflow_provider_lamini.platforms.lamini.api.embeddings import DEFAULT_MODEL

        return self._model or DEFAULT_MODEL

    def job_endpoint(self) -> JobEndpoint | None:
        """See :class:`ChunkedOperator`."""
        from airflow_provider_lamini.platforms.lamini.endpoints import BatchEmbeddings

        return BatchEmbeddings(self._model) if self._endpoint_name == "batch" else None

    def direct_endpoint(self) -> DirectEndpoint:
        """See :class:`ChunkedOperator`."""
        from airflow_provider_lamini.platforms.lamini.endpoints import DirectEmbeddings

        return DirectEmbeddings(self._model, self._texts_per_request)

    def part_writer(self) -> type[PartWriter]:
        """See :class:`ChunkedOperator`."""
        from airflow_provider_lamini.rows.output.vectors import VectorLines, VectorTable

        return VectorTable if self._format == "parquet" else VectorLines

    def folder_result(self, manifest: Manifest, ledger: Ledger) -> dict[str, object]:
        """See :class:`ChunkedOperator`."""
        from airflow_provider_lamini.rows.output.vectors import dimensions

        return {**super().folder_result(manifest, ledger), "dimensions": dimensions(ledger)}

    def inline_result(self, rows: list[RowResult]) -> dict[str, object]:
        """See :class:`ChunkedOperator`."""
        vectors = [row.output for row in rows]
        first = vectors[0] if vectors else None
        return {
            "model": self.answered_by(),
            "dimensions": len(first) if isinstance(first, list) else None,
            "embeddings": vectors,
        }
