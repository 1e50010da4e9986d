"""Batch inference: rows in, one output for each of them out."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from airflow_provider_lamini.exceptions import InvalidArgumentError
from airflow_provider_lamini.operators.arguments import one_of, text, whole_number
from airflow_provider_lamini.operators.base import Finished, JobOperator, Waiting, owner_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_lamini.jobs.event import JobEvent
    from airflow_provider_lamini.operators.chunked import Failures, Rows

ENDPOINTS = ("batch", "completions", "chat")


class LaminiBatchInferenceOperator(JobOperator[dict[str, object]]):
    """Sends rows to a model and leaves one output row for each of them in a folder, in order.

    Rows are read, sent and written in chunks, so memory does not depend on their number. What is done is
    recorded in a ledger
    beside the output: a retry goes on from there, and no finished chunk is sent twice. The output folder then
    holds
    ``part-*.jsonl`` (every row with its ``index``, the ``passthrough`` columns, ``output``, ``finish_reason``
    and, if it failed,
    ``error``), ``errors-*.jsonl`` (the failed rows again) and ``manifest.json``.

    All arguments that name data or say what to do with it are templated.

    :param input: a list of prompts, a list of rows (mappings), or a path, URI or glob on object storage: JSON
        Lines, CSV, or
        Parquet (extra ``parquet``)
    :param prompt: a template over a row's columns, such as ``"Summarize: {body}"``, or the name of a column
    :param model_name: base model or tuned model
    :param output: the folder for the results, a path or URI. Give each run its own, as with ``{{ run_id }}``
        in it.
    :param output_type: field name to ``str``, ``int``, ``float``, ``bool`` or a list of allowed values; plain
        text if not given
    :param max_new_tokens: tokens generated at most per row; the platform's default if not given
    :param passthrough: columns of the input that are copied into the output
    :param chunk_size: rows per chunk: per job for ``endpoint="batch"``, per part of the output always
    :param max_in_flight: jobs under way at once; for the other endpoints requests under way at once
    :param row_retries: how often a row that failed alone is sent again
    :param max_failed_rows: rows that may fail: a number, a share such as ``0.01``, or ``"1%"``
    :param endpoint: ``batch`` for jobs (``/v1/batch_completions``). Where a platform has none:
        ``completions``
        (``/v2/completions``) or ``chat`` (``/inf/chat/completions``), which hold a worker while they run
    :param on_other_run: what to do when the folder holds another run's results: ``fail``, or ``replace`` them
    :param on_unknown_submission: what a retry does with a chunk of which it cannot know whether its job was
        started:
        ``submit`` it (again), or ``fail``
    :param input_conn_id: the connection for the input's object storage
    :param output_conn_id: the connection for the output's object storage
    :return: the manifest without its list of parts: URIs, counts by outcome, chunks, seconds, model
    """

    template_fields: Sequence[str] = (
        *JobOperator.template_fields,
        "input",
        "prompt",
        "model_name",
        "output_folder",
        "output_type",
        "max_new_tokens",
        "passthrough",
        "chunk_size",
        "max_in_flight",
        "row_retries",
        "max_failed_rows",
        "endpoint",
        "on_other_run",
        "on_unknown_submission",
        "input_conn_id",
        "output_conn_id",
    )
    template_fields_renderers = {"prompt": "md", "output_type": "json"}  # noqa: RUF012 - as Airflow declares it

    def __init__(
        self,
        *,
        input: str | Sequence[str] | Sequence[Mapping[str, object]],  # noqa: A002 - users expect it
        model_name: str,
        output: str,
        prompt: str = "prompt",
        output_type: Mapping[str, str | list[str] | list[int]] | None = None,
        max_new_tokens: int | str | None = None,
        passthrough: Sequence[str] = (),
        chunk_size: int | str = 1000,
        max_in_flight: int | str = 8,
        row_retries: int | str = 1,
        max_failed_rows: float | str = 0,
        endpoint: str = "batch",
        on_other_run: str = "fail",
        on_unknown_submission: str = "submit",
        input_conn_id: str | None = None,
        output_conn_id: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.input = input
        self.model_name = model_name
        self.output_folder = output  # an operator's own ``output`` is its XCom
        self.prompt = prompt
        self.output_type = output_type
        self.max_new_tokens = max_new_tokens
        self.passthrough = passthrough
        self.chunk_size = chunk_size
        self.max_in_flight = max_in_flight
        self.row_retries = row_retries
        self.max_failed_rows = max_failed_rows
        self.endpoint = endpoint
        self.on_other_run = on_other_run
        self.on_unknown_submission = on_unknown_submission
        self.input_conn_id = input_conn_id
        self.output_conn_id = output_conn_id

    def check(self) -> None:
        """Validate the rendered arguments; see :class:`JobOperator`."""
        from airflow_provider_lamini.api.output_types import check_output_type
        from airflow_provider_lamini.operators.endpoints import Inference
        from airflow_provider_lamini.rows.limits import FailureLimit
        from airflow_provider_lamini.rows.parts import check_passthrough
        from airflow_provider_lamini.rows.prompt import PromptTemplate

        tokens = self.max_new_tokens
        self._endpoint_name = one_of("endpoint", self.endpoint, ENDPOINTS)
        self._rows_per_chunk = whole_number("chunk_size", self.chunk_size, least=1)
        self._in_flight = whole_number("max_in_flight", self.max_in_flight, least=1)
        self._retries_per_row = whole_number("row_retries", self.row_retries, least=0)
        self._replace_other = one_of("on_other_run", self.on_other_run, ("fail", "replace")) == "replace"
        unknown = one_of("on_unknown_submission", self.on_unknown_submission, ("submit", "fail"))
        self._submit_unknown = unknown == "submit"
        try:
            output_type = None if self.output_type is None else check_output_type(self.output_type)
            self._limit = FailureLimit.parse(self.max_failed_rows)
            self._passthrough = check_passthrough(self.passthrough)
            self._template = PromptTemplate.parse(self.prompt)
        except ValueError as error:
            raise InvalidArgumentError(str(error)) from error
        self._inference = Inference(
            model_name=text("model_name", self.model_name),
            output_type=output_type,
            max_new_tokens=None if tokens is None else whole_number("max_new_tokens", tokens, least=1),
        )

    def advance(self, context: Context, event: JobEvent | None) -> Waiting | Finished[dict[str, object]]:
        """Harvest, refill, and wait or return the manifest; see :class:`JobOperator`."""
        from airflow_provider_lamini.rows.errors import LedgerTakenError, RowError

        try:
            return self._advance(context, event)
        except LedgerTakenError:
            raise
        except RowError as error:
            raise InvalidArgumentError(str(error)) from error

    def _advance(self, context: Context, event: JobEvent | None) -> Waiting | Finished[dict[str, object]]:
        from airflow_provider_lamini.operators.chunked import Failures
        from airflow_provider_lamini.rows.manifest import write_manifest

        rows = self._open(context)
        failures = Failures(rows, self._limit)
        if self._endpoint_name == "batch":
            waiting = self._advance_jobs(rows, failures, event)
            if waiting is not None:
                return waiting
        else:
            self._answer_directly(rows, failures)
        manifest = write_manifest(
            rows.folder, rows.ledger, model=self._inference.model_name, source=rows.source.describe()
        )
        failures.check()
        totals = manifest.counts
        self.log.info("%d rows are in %s, %d of them failed.", totals.rows, manifest.output, totals.failed)
        return Finished(dict(manifest.for_xcom()))

    def _open(self, context: Context) -> Rows:
        from airflow_provider_lamini.operators.chunked import open_rows

        return open_rows(
            self.input,
            self.output_folder,
            prompt=self._template,
            passthrough=self._passthrough,
            owner=owner_of(context),
            decides={
                "platform": self.settings.base_url,
                "endpoint": self._endpoint_name,
                "prompt": self.prompt,
                "passthrough": self._passthrough,
                "inference": asdict(self._inference),
            },
            chunk_size=self._rows_per_chunk,
            replace_other=self._replace_other,
            input_conn_id=self.input_conn_id,
            output_conn_id=self.output_conn_id,
            log=self.log,
        )

    def _advance_jobs(self, rows: Rows, failures: Failures, event: JobEvent | None) -> Waiting | None:
        from airflow_provider_lamini.operators.chunked import JobRun
        from airflow_provider_lamini.operators.endpoints import BatchCompletions

        run = JobRun(
            rows,
            client=self.hook.client(),
            endpoint=BatchCompletions(self._inference),
            max_in_flight=self._in_flight,
            row_retries=self._retries_per_row,
            failures=failures,
            submit_unknown=self._submit_unknown,
            log=self.log,
        )
        if event is None:
            run.attach()
        else:
            run.harvest(event)
        run.refill(self._rows_per_chunk)
        return None if rows.ledger.finished else run.waiting(self.started_at)

    def _answer_directly(self, rows: Rows, failures: Failures) -> None:
        from airflow_provider_lamini.operators.direct import DirectRun
        from airflow_provider_lamini.operators.endpoints import Chat, DirectCompletions

        endpoint = Chat if self._endpoint_name == "chat" else DirectCompletions
        run = DirectRun(
            rows,
            settings=self.settings,
            endpoint=endpoint(self._inference),
            max_in_flight=self._in_flight,
            row_retries=self._retries_per_row,
            failures=failures,
            log=self.log,
        )
        run.run(
            self._rows_per_chunk,
            since=self.started_at,
            deadline=self._deadline,
            report_every=self._poll_seconds,
        )
