"""Queries a Memory RAG index."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_lamini.exceptions import InvalidArgumentError
from airflow_provider_lamini.operators.lineage import reports_lineage
from airflow_provider_lamini.operators.row_operator import RowOperator
from airflow_provider_lamini.runs.arguments import (
    identifier,
    not_called,
    optional_name,
    plain_name,
    whole_number,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airflow_provider_lamini.api.call import Json
    from airflow_provider_lamini.hooks.lamini import LaminiHook
    from airflow_provider_lamini.operators.batch_inference import OutputTypeArgument
    from airflow_provider_lamini.platforms.lamini.endpoints import RagQuery
    from airflow_provider_lamini.rows.answers.judging import RowResult
    from airflow_provider_lamini.rows.output.manifest import Manifest
    from airflow_provider_lamini.runs.lamini.memory_rag import QueryReadyIndex
    from airflow_provider_lamini.runs.row_run import InlineRun, RowRun
    from airflow_provider_lamini.runs.task import TaskRun

MAX_INLINE = 100
PATH = "/alpha/memory-rag/completions"


@reports_lineage("lamini", uses={"index_id": "indexes", "model_name": "models"})
class LaminiMemoryRagQueryOperator(RowOperator):
    """Lets a model answer one prompt, or a prompt for every row of an input, with passages of an index.

    - Without ``output``, ``input`` is one prompt or a list of up to 100 prompts, and the answers are the task's result.
    - With ``output``, any number of rows is read from storage and written to storage, in chunks and with a ledger: a
      retry continues from there. The requests hold a worker slot: the platform has no jobs for them.

    If the index is still being built, the task waits for it, deferred if the task is deferrable.

    Endpoints: ``POST /alpha/memory-rag/status``, ``POST /alpha/memory-rag/completions``.

    :param index_id: the index, as a build or a refresh returns it
    :param input: a prompt, a list of prompts, a list of rows (mappings), or a path, URI or glob on object storage: JSON
        Lines, CSV, or Parquet (extra ``parquet``)
    :param prompt: if the input has rows: a template over their columns, such as ``"Who wrote {title}?"``, or the name of
        a column
    :param output: folder for the results, a path or URI. Each run needs its own, for example with ``{{ run_id }}`` in it.
    :param model_name: the model that answers; default: the index's own
    :param rag_query_size: passages per prompt; the platform's default is 3
    :param output_type: the shape of each output: field names with ``str``, ``int``, ``float``, ``bool`` or a list of
        allowed values; or a JSON Schema or a pydantic model that says no more than that. Default: plain text
    :param strict_output: fail a row whose answer has anything around the object, or a value such as ``1.0`` for an integer
    :param check: a callable, or its dotted path, that takes an output and returns ``None`` or true to accept it; false, or
        a text that says why not, makes the row a failed one
    :param fail_on_length: whether a row fails whose output was cut at ``max_new_tokens``
    :param accept_answers: answers that count as outputs although they are none: ``empty``, ``refused``, ``filtered``,
        ``tool_calls``; by default each of them fails its row
    :param max_new_tokens: maximum number of generated tokens; default: the platform's
    :param lamini_conn_id: the connection to the platform
    :param kwargs: arguments of :class:`~airflow_provider_lamini.operators.row_operator.RowOperator`, such as
        ``passthrough``, ``chunk_size``, ``max_in_flight``, ``row_retries`` and ``max_failed_rows``. ``reuse_from`` is
        refused, because the index may have changed since the earlier run.
    :return: ``index_id`` with ``output`` and ``finish_reason`` for one prompt, or with ``outputs`` and ``finish_reasons``
        for a list; with ``output``, ``index_id`` and the manifest: URIs, counts by outcome, chunks, seconds, model
        (``None`` if the platform chooses it)
    """

    template_fields: Sequence[str] = (
        *RowOperator.template_fields,
        "lamini_conn_id",
        "index_id",
        "model_name",
        "rag_query_size",
        "output_type",
        "strict_output",
        "fail_on_length",
        "accept_answers",
        "max_new_tokens",
    )

    def __init__(
        self,
        *,
        index_id: str,
        model_name: str | None = None,
        rag_query_size: int | str | None = None,
        output_type: OutputTypeArgument = None,
        strict_output: bool | str = False,
        check: Callable[[Json], object] | str | None = None,
        fail_on_length: bool | str = False,
        accept_answers: Sequence[str] | str = (),
        max_new_tokens: int | str | None = None,
        lamini_conn_id: str = "lamini_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.index_id = index_id
        self.model_name = model_name
        self.rag_query_size = rag_query_size
        self.output_type = not_called(output_type)
        self.strict_output = strict_output
        self.check = check
        self.fail_on_length = fail_on_length
        self.accept_answers = accept_answers
        self.max_new_tokens = max_new_tokens
        self.lamini_conn_id = lamini_conn_id

    def make_hook(self) -> LaminiHook:
        """The platform's hook."""
        from airflow_provider_lamini.hooks.lamini import LaminiHook

        return LaminiHook(plain_name("lamini_conn_id", self.lamini_conn_id))

    def work(self, task: TaskRun) -> QueryReadyIndex:
        """Validate the arguments, then return the run."""
        from airflow_provider_lamini.platforms.lamini.endpoints import RagQuery
        from airflow_provider_lamini.runs.answer_policy import parse_answer_policy
        from airflow_provider_lamini.runs.lamini.memory_rag import QueryReadyIndex

        if self.reuse_from not in (None, "", "None"):
            raise InvalidArgumentError(
                "reuse_from is not for queries: a refresh may have added to the index since the earlier run. Remove it."
            )
        size, tokens = self.rag_query_size, self.max_new_tokens
        query = RagQuery(
            index_id=identifier("index_id", self.index_id),
            model_name=optional_name("model_name", self.model_name),
            rag_query_size=None if size is None else whole_number("rag_query_size", size, minimum=1),
            answers=parse_answer_policy(
                self.output_type,
                self.strict_output,
                self.check,
                self.fail_on_length,
                self.accept_answers,
                flat_only=PATH,
            ),
            max_new_tokens=None if tokens is None else whole_number("max_new_tokens", tokens, minimum=1),
        )
        return QueryReadyIndex(task, query.index_id, self._queries(task, query))

    def _queries(self, task: TaskRun, query: RagQuery) -> RowRun | InlineRun:
        from airflow_provider_lamini.platforms.lamini.endpoints import MemoryRagCompletions
        from airflow_provider_lamini.runs.inline import is_single, output_value
        from airflow_provider_lamini.runs.row_run import InlineRun, RowRun, manifest_result

        endpoint = MemoryRagCompletions(query)

        def inline_result(rows: list[RowResult]) -> dict[str, object]:
            return {"index_id": query.index_id, **output_value(rows, single=is_single(config.input))}

        config = self.row_run_config(
            task,
            endpoint=endpoint,
            model=query.model_name or f"index {query.index_id}",
            fingerprint_inputs={"query": query.plain()},
        )
        if self.output_folder is None:
            return InlineRun(task, config, endpoint, max_rows=MAX_INLINE, result=inline_result)

        def folder_result(manifest: Manifest) -> dict[str, object]:
            # The manifest has a description of the model where the platform chooses it.
            return {**manifest_result(manifest), "index_id": query.index_id, "model": query.model_name}

        return RowRun(task, config, result=folder_result)
