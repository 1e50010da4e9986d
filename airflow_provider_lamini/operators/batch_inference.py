"""Batch inference: rows in, one output for each of them out."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from airflow_provider_lamini.operators.row_operator import ChunkedOperator
from airflow_provider_lamini.runs.arguments import one_of, plain_name, whole_number

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_provider_lamini.rows.endpoints import DirectEndpoint, JobEndpoint

ENDPOINTS = ("batch", "completions", "chat")


class LaminiBatchInferenceOperator(ChunkedOperator):
    """Sends rows to a model and leaves one output row for each of them in a folder, in order.

    Rows are read, sent and written in chunks, so memory does not depend on their number. What is done is recorded
    in a ledger beside the output: a retry goes on from there, and no finished chunk is sent twice. The output
    folder then holds ``part-*.jsonl`` (every row with its ``index``, the ``passthrough`` columns, ``output``,
    ``finish_reason`` and, if it failed, ``error``), ``errors-*.jsonl`` (the failed rows again) and
    ``manifest.json``.

    All arguments that name data or say what to do with it are templated.

    :param input: a list of prompts, a list of rows (mappings), or a path, URI or glob on object storage: JSON
        Lines, CSV, or Parquet (extra ``parquet``)
    :param prompt: a template over a row's columns, such as ``"Summarize: {body}"``, or the name of a column
    :param model_name: base model or tuned model
    :param output: the folder for the results, a path or URI. Give each run its own, as with ``{{ run_id }}``
        in it.
    :param output_type: field name to ``str``, ``int``, ``float``, ``bool`` or a list of allowed values; plain
        text if not given
    :param max_new_tokens: tokens generated at most per row; the platform's default if not given
    :param max_prompt_chars: characters of the longest prompt that is allowed; a longer one fails the task before anything
        is sent, when the input is read at the beginning of a run. ``None`` sets no limit.
    :param passthrough: columns of the input that are copied into the output
    :param chunk_size: rows per chunk: per job for ``endpoint="batch"``, per part of the output always
    :param max_in_flight: jobs under way at once; for the other endpoints requests under way at once
    :param row_retries: how often a row that failed alone is sent again
    :param max_failed_rows: rows that may fail: a number, a share such as ``0.01``, or ``"1%"``
    :param endpoint: ``batch`` for jobs (``/v1/batch_completions``). Where a platform has none: ``completions``
        (``/v2/completions``) or ``chat`` (``/inf/chat/completions``), which hold a worker while they run
    :param on_other_run: what to do when the folder holds another run's results: ``fail``, or ``replace`` them
    :param on_unknown_submission: what a retry does with a chunk of which it cannot know whether its job was
        started: ``submit`` it (again), or ``fail``
    :param input_conn_id: the connection for the input's object storage
    :param output_conn_id: the connection for the output's object storage
    :return: the manifest without its list of parts: URIs, counts by outcome, chunks, seconds, model
    """

    template_fields: Sequence[str] = (
        *ChunkedOperator.template_fields,
        "model_name",
        "output_type",
        "max_new_tokens",
        "endpoint",
    )
    template_fields_renderers = {"prompt": "md", "output_type": "json"}  # noqa: RUF012 - as Airflow declares it

    def __init__(
        self,
        *,
        output: str,
        model_name: str,
        output_type: Mapping[str, str | list[str] | list[int]] | None = None,
        max_new_tokens: int | str | None = None,
        endpoint: str = "batch",
        **kwargs: Any,
    ) -> None:
        super().__init__(output=output, **kwargs)
        self.model_name = model_name
        self.output_type = output_type
        self.max_new_tokens = max_new_tokens
        self.endpoint = endpoint

    def check(self) -> None:
        """Validate the rendered arguments; see :class:`JobOperator`."""
        from airflow_provider_lamini.platforms.lamini.endpoints import Inference
        from airflow_provider_lamini.runs.inline import output_type

        super().check()
        tokens = self.max_new_tokens
        self._endpoint_name = one_of("endpoint", self.endpoint, ENDPOINTS)
        self._inference = Inference(
            model_name=plain_name("model_name", self.model_name),
            output_type=output_type(self.output_type),
            max_new_tokens=None if tokens is None else whole_number("max_new_tokens", tokens, minimum=1),
        )

    def fingerprint_inputs(self) -> dict[str, object]:
        """See :class:`ChunkedOperator`."""
        return {"endpoint": self._endpoint_name, "inference": asdict(self._inference)}

    def answered_by(self) -> str:
        """See :class:`ChunkedOperator`."""
        return self._inference.model_name

    def job_endpoint(self) -> JobEndpoint | None:
        """See :class:`ChunkedOperator`."""
        from airflow_provider_lamini.platforms.lamini.endpoints import BatchCompletions

        return BatchCompletions(self._inference) if self._endpoint_name == "batch" else None

    def direct_endpoint(self) -> DirectEndpoint | None:
        """See :class:`ChunkedOperator`."""
        from airflow_provider_lamini.platforms.lamini.endpoints import Chat, DirectCompletions

        if self._endpoint_name == "chat":
            return Chat(self._inference)
        return DirectCompletions(self._inference) if self._endpoint_name == "completions" else None
