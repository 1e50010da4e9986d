"""Asking a Memory RAG index."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from airflow_provider_lamini.exceptions import JobLostError
from airflow_provider_lamini.operators.row_operator import ChunkedOperator
from airflow_provider_lamini.runs.arguments import identifier, optional_name, whole_number
from airflow_provider_lamini.runs.job_errors import job_error
from airflow_provider_lamini.runs.outcome import Done, WaitFor

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_lamini.jobs.event import EndedJob, JobEvent
    from airflow_provider_lamini.jobs.state import JobStatus
    from airflow_provider_lamini.rows.endpoints import DirectEndpoint, RowResult


class LaminiMemoryRagQueryOperator(ChunkedOperator):
    """Has a model answer with passages of an index: one prompt, or every row of an input.

    - Without ``output``, ``input`` is one prompt, or a list of at most 100, and the answers are the task's result.
    - With ``output``, rows of any number go from storage to storage, in chunks and with a ledger: a retry goes on from
      there. The requests hold a worker: the platform has no jobs for them.

    An index that is still being built is waited for, deferred if the task is deferrable.

    Endpoints: ``POST /alpha/memory-rag/status``, ``POST /alpha/memory-rag/completions``.

    :param index_id: the index, as a build or a refresh returns it
    :param input: a prompt, a list of prompts, a list of rows (mappings), or a path, URI or glob on object storage: JSON
        Lines, CSV, or Parquet (extra ``parquet``)
    :param prompt: where the input has rows: a template over their columns, such as ``"Who wrote {title}?"``, or the
        name of a column
    :param output: the folder for the results, a path or URI. Give each run its own, as with ``{{ run_id }}`` in it.
    :param model_name: the model that answers, where it is not the index's own
    :param rag_query_size: passages looked up for each prompt; the platform's default is 3
    :param output_type: field name to ``str``, ``int``, ``float``, ``bool`` or a list of allowed values; plain
        text if not given
    :param max_new_tokens: tokens generated at most; the platform's default if not given
    :param kwargs: see :class:`~airflow_provider_lamini.operators.row_operator.ChunkedOperator`: ``passthrough``,
        ``max_prompt_chars``, ``chunk_size``, ``max_in_flight``, ``row_retries``, ``max_failed_rows``, ``on_other_run``,
        ``input_conn_id``, ``output_conn_id``
    :return: ``index_id`` with ``output`` and ``finish_reason`` for one prompt, with ``outputs`` and ``finish_reasons``
        for a list; or the manifest of the output folder: URIs, counts by outcome, chunks, seconds, model
    """

    template_fields: Sequence[str] = (
        *ChunkedOperator.template_fields,
        "index_id",
        "model_name",
        "rag_query_size",
        "output_type",
        "max_new_tokens",
    )
    template_fields_renderers = {"prompt": "md", "output_type": "json"}  # noqa: RUF012 - as Airflow declares it
    most_inline = 100

    def __init__(
        self,
        *,
        index_id: str | int,
        model_name: str | None = None,
        rag_query_size: int | str | None = None,
        output_type: Mapping[str, str | list[str] | list[int]] | str | None = None,
        max_new_tokens: int | str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.index_id = index_id
        self.model_name = model_name
        self.rag_query_size = rag_query_size
        self.output_type = output_type
        self.max_new_tokens = max_new_tokens

    def check(self) -> None:
        """Validate the rendered arguments; see :class:`JobOperator`."""
        from airflow_provider_lamini.platforms.lamini.endpoints import RagQuery
        from airflow_provider_lamini.runs.inline import output_type

        super().check()
        size, tokens = self.rag_query_size, self.max_new_tokens
        self._lookup = RagQuery(
            index_id=identifier("index_id", self.index_id),
            model_name=optional_name("model_name", self.model_name),
            rag_query_size=None if size is None else whole_number("rag_query_size", size, least=1),
            output_type=output_type(self.output_type),
            max_new_tokens=None if tokens is None else whole_number("max_new_tokens", tokens, least=1),
        )

    def advance(self, context: Context, event: JobEvent | None) -> WaitFor | Done[dict[str, object]]:
        """Wait for the index if need be, then ask; see :class:`JobOperator`."""
        from airflow_provider_lamini.platforms.lamini.kinds import MEMORY_RAG

        index_id = self._lookup.index_id
        if event is None:
            status = self.hook.send(MEMORY_RAG.status(index_id))
            if not status.state.ended:
                self.log.info("Index %s is not ready yet (%s).", index_id, status.raw)
                return WaitFor(kind=MEMORY_RAG.name, job_ids=[index_id], submitted_at=self.started_at)
            self._require(status)
        for lost in event.lost.values() if event else ():
            raise JobLostError(
                f"Index {index_id} cannot be looked at any more: {lost.reason} A retry looks again."
            )
        for ended in event.ended.values() if event else ():
            self._require(ended)
        return super().advance(context, None)

    def _require(self, status: EndedJob | JobStatus) -> None:
        from airflow_provider_lamini.jobs.state import JobState
        from airflow_provider_lamini.platforms.lamini.kinds import MEMORY_RAG

        if status.state is not JobState.SUCCEEDED:
            raise job_error(MEMORY_RAG, self._lookup.index_id, status, "Build the index anew.")

    def fingerprint_inputs(self) -> Mapping[str, object]:
        """See :class:`ChunkedOperator`."""
        return {"lookup": asdict(self._lookup)}

    def answered_by(self) -> str:
        """See :class:`ChunkedOperator`."""
        return self._lookup.model_name or f"index {self._lookup.index_id}"

    def direct_endpoint(self) -> DirectEndpoint:
        """See :class:`ChunkedOperator`."""
        from airflow_provider_lamini.platforms.lamini.endpoints import MemoryRagCompletions

        return MemoryRagCompletions(self._lookup)

    def inline_result(self, rows: list[RowResult]) -> dict[str, object]:
        """See :class:`ChunkedOperator`."""
        from airflow_provider_lamini.runs.inline import answers, is_single

        return {"index_id": self._lookup.index_id, **answers(rows, single=is_single(self.input))}
