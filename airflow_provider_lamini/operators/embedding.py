"""Embeddings: a vector for each text of an input."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_lamini.exceptions import InvalidArgumentError
from airflow_provider_lamini.operators.lineage import reports_lineage
from airflow_provider_lamini.operators.row_operator import RowOperator
from airflow_provider_lamini.runs.arguments import one_of, optional_name, plain_name, whole_number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_lamini.hooks.lamini import LaminiHook
    from airflow_provider_lamini.rows.answers.judging import RowResult
    from airflow_provider_lamini.rows.endpoints import DirectEndpoint, JobEndpoint
    from airflow_provider_lamini.rows.output.manifest import Manifest
    from airflow_provider_lamini.rows.output.parts import PartWriter
    from airflow_provider_lamini.runs.row_run import InlineRun, RowRun
    from airflow_provider_lamini.runs.task import TaskRun

ENDPOINTS = ("batch", "embedding")
FORMATS = ("jsonl", "parquet")
MAX_INLINE = 16


def _default_model() -> str:
    from airflow_provider_lamini.platforms.lamini.api.embeddings import DEFAULT_MODEL

    return DEFAULT_MODEL


@reports_lineage("lamini", uses={"model_name": "models"}, defaults={"model_name": _default_model})
class LaminiEmbeddingOperator(RowOperator):
    """Turns one text, a few texts, or every row of an input into vectors.

    - Without ``output``, ``input`` is one text or a list of up to 16 texts, and the vectors are the task's result.
    - With ``output``, any number of rows is read from storage and written to storage, in chunks and with a ledger: a
      retry continues from there and never sends a finished chunk again. The folder then contains ``part-*.jsonl`` or
      ``part-*.parquet`` (every row with its ``index``, the ``passthrough`` columns, ``embedding`` and, if it failed,
      ``error``), ``errors-*.jsonl`` (a copy of the failed rows) and ``manifest.json``.

    In Parquet, ``embedding`` is a fixed-size list of 32-bit floats. Passthrough columns keep text, integers, numbers and
    flags; other values are JSON text. Dates are text, as in all outputs of this provider.

    Endpoints: ``POST /v1/batch_embeddings`` and ``GET /v1/batch_embeddings/{id}/result``, or ``POST /v1/embedding``.

    :param input: a text, a list of texts, a list of rows (mappings), or a path, URI or glob on object storage: JSON
        Lines, CSV, or Parquet (extra ``parquet``)
    :param prompt: if the input has rows: the name of the column with the text, or a template over columns, such as
        ``"{title}: {body}"``
    :param output: folder for the results, a path or URI. Each run needs its own, for example with ``{{ run_id }}`` in it.
    :param model_name: embedding model; default: the platform's (all-MiniLM-L6-v2)
    :param output_format: ``jsonl``, or ``parquet`` (extra ``parquet``)
    :param endpoint: ``batch`` for jobs, which the task waits for without a worker slot. The platform has no status for
        these jobs: a failed one looks like a slow one, so choose ``timeout`` accordingly. ``embedding`` sends requests
        with many texts each and holds a worker slot; it reports which rows failed.
    :param texts_per_request: texts per request for ``endpoint="embedding"``
    :param lamini_conn_id: the connection to the platform
    :param kwargs: arguments of :class:`~airflow_provider_lamini.operators.row_operator.RowOperator`, such as
        ``passthrough``, ``chunk_size``, ``max_in_flight``, ``row_retries`` and ``max_failed_rows``
    :return: ``model``, ``dimensions`` and ``embeddings``, a list of vectors even for one text; with ``output``, the
        manifest (URIs, counts by outcome, chunks, seconds, model) with ``dimensions``
    """

    template_fields: Sequence[str] = (
        *RowOperator.template_fields,
        "lamini_conn_id",
        "model_name",
        "output_format",
        "endpoint",
        "texts_per_request",
    )

    def __init__(
        self,
        *,
        model_name: str | None = None,
        output_format: str = "jsonl",
        endpoint: str = "batch",
        texts_per_request: int | str = 64,
        lamini_conn_id: str = "lamini_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.model_name = model_name
        self.output_format = output_format
        self.endpoint = endpoint
        self.texts_per_request = texts_per_request
        self.lamini_conn_id = lamini_conn_id

    def make_hook(self) -> LaminiHook:
        """The platform's hook."""
        from airflow_provider_lamini.hooks.lamini import LaminiHook

        return LaminiHook(plain_name("lamini_conn_id", self.lamini_conn_id))

    def work(self, task: TaskRun) -> RowRun | InlineRun:
        """Validate the arguments, then return the run."""
        from airflow_provider_lamini.platforms.lamini.endpoints import (
            BatchEmbeddings,
            DirectEmbeddings,
        )
        from airflow_provider_lamini.rows.output.vectors import dimensions
        from airflow_provider_lamini.runs.inline import failures_value
        from airflow_provider_lamini.runs.row_run import InlineRun, RowRun, manifest_result

        endpoint_name = one_of("endpoint", self.endpoint, ENDPOINTS)
        output_format = one_of("output_format", self.output_format, FORMATS)
        model = optional_name("model_name", self.model_name)
        direct = DirectEmbeddings(model, whole_number("texts_per_request", self.texts_per_request, minimum=1))

        def inline_result(rows: list[RowResult]) -> dict[str, object]:
            vectors = [row.output for row in rows]
            first = next((vector for vector in vectors if vector is not None), None)
            return {
                "model": model or _default_model(),
                "dimensions": len(first) if isinstance(first, list) else None,
                "embeddings": vectors,
                **failures_value(rows),
            }

        endpoint: JobEndpoint | DirectEndpoint = (
            BatchEmbeddings(model) if endpoint_name == "batch" else direct
        )
        config = self.row_run_config(
            task,
            endpoint=endpoint,
            model=model or _default_model(),
            fingerprint_inputs={"endpoint": endpoint_name, "model": model, "format": output_format},
            writer=_part_writer("jsonl" if self.output_folder is None else output_format),
        )

        if self.output_folder is None:
            return InlineRun(task, config, direct, max_rows=MAX_INLINE, result=inline_result)

        def folder_result(manifest: Manifest) -> dict[str, object]:
            return {**manifest_result(manifest), "dimensions": dimensions(manifest.counts)}

        return RowRun(task, config, result=folder_result)


def _part_writer(output_format: str) -> type[PartWriter]:
    from airflow_provider_lamini.rows.errors import MissingExtraError
    from airflow_provider_lamini.rows.output.vectors import VectorLines, VectorTable, require_pyarrow

    if output_format == "jsonl":
        return VectorLines
    try:
        require_pyarrow()
    except MissingExtraError as error:
        raise InvalidArgumentError(str(error)) from error.__cause__
    return VectorTable
