"""What all operators have in common that do the same to every row of an input."""

from __future__ import annotations

from abc import abstractmethod
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from airflow_provider_lamini.exceptions import InvalidArgumentError
from airflow_provider_lamini.operators.legacy import JobOperator
from airflow_provider_lamini.runs.arguments import folder, one_of, optional_name, whole_number
from airflow_provider_lamini.runs.outcome import Done, WaitFor, task_identity

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_lamini.jobs.event import JobEvent
    from airflow_provider_lamini.rows.endpoints import DirectEndpoint, JobEndpoint, RowResult
    from airflow_provider_lamini.rows.ledger.ledger import Ledger
    from airflow_provider_lamini.rows.output.manifest import Manifest
    from airflow_provider_lamini.rows.output.parts import PartWriter
    from airflow_provider_lamini.runs.row_run import Failures, Rows


class ChunkedOperator(JobOperator[dict[str, object]]):
    """Sends the rows of an input to the platform and leaves one output row for each of them in a folder, in order.

    Rows are read, sent and written in chunks, so memory does not depend on their number. What is done is recorded
    in a ledger beside the output: a retry goes on from there, and no finished chunk is sent twice. The output
    folder then holds ``part-*.jsonl`` (every row with its ``index``, the ``passthrough`` columns, ``output``,
    ``finish_reason`` and, if it failed, ``error``), ``errors-*.jsonl`` (the failed rows again) and
    ``manifest.json``.

    A concrete operator says in :meth:`check` what else it accepts, in :meth:`fingerprint_inputs` what of that decides the
    results, and gives one of :meth:`job_endpoint` and :meth:`direct_endpoint`. One that sets :attr:`most_inline`
    also answers a few rows without an output folder, in the task's own result: :meth:`inline_result`.

    :param input: a list of texts, a list of rows (mappings), or a path, URI or glob on object storage: JSON
        Lines, CSV, or Parquet (extra ``parquet``). Without ``output`` it may be one text.
    :param output: the folder for the results, a path or URI. Give each run its own, as with ``{{ run_id }}``
        in it. ``None`` where the operator answers a few rows at once.
    :param prompt: a template over a row's columns, such as ``"Summarize: {body}"``, or the name of a column
    :param max_prompt_chars: characters of the longest prompt that is allowed; a longer one fails the task before anything
        is sent, when the input is read at the beginning of a run. ``None`` sets no limit.
    :param passthrough: columns of the input that are copied into the output
    :param chunk_size: rows per chunk: per job where the platform has jobs for it, per part of the output always
    :param max_in_flight: jobs under way at once; without jobs, requests under way at once
    :param row_retries: how often a row that failed alone is sent again
    :param max_failed_rows: rows that may fail: a number, a share such as ``0.01``, or ``"1%"``
    :param on_other_run: what to do when the folder holds another run's results: ``fail``, or ``replace`` them
    :param on_unknown_submission: what a retry does with a chunk of which it cannot know whether its job was
        started: ``submit`` it (again), or ``fail``
    :param input_conn_id: the connection for the input's object storage
    :param output_conn_id: the connection for the output's object storage
    :return: the manifest without its list of parts: URIs, counts by outcome, chunks, seconds, model
    """

    template_fields: Sequence[str] = (
        *JobOperator.template_fields,
        "input",
        "output_folder",
        "prompt",
        "max_prompt_chars",
        "passthrough",
        "chunk_size",
        "max_in_flight",
        "row_retries",
        "max_failed_rows",
        "on_other_run",
        "on_unknown_submission",
        "input_conn_id",
        "output_conn_id",
    )
    template_fields_renderers = {"prompt": "md"}  # noqa: RUF012 - as Airflow declares it

    most_inline = 0
    """How many rows are answered without an output folder, by the direct endpoint. With 0 there must be a folder."""

    def __init__(
        self,
        *,
        input: str | Sequence[str] | Sequence[Mapping[str, object]],  # noqa: A002 - users expect it
        output: str | None = None,
        prompt: str = "prompt",
        max_prompt_chars: int | str | None = None,
        passthrough: Sequence[str] = (),
        chunk_size: int | str = 1000,
        max_in_flight: int | str = 8,
        row_retries: int | str = 1,
        max_failed_rows: float | str = 0,
        on_other_run: str = "fail",
        on_unknown_submission: str = "submit",
        input_conn_id: str | None = None,
        output_conn_id: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.input = input
        self.output_folder = output  # an operator's own ``output`` is its XCom
        self.prompt = prompt
        self.max_prompt_chars = max_prompt_chars
        self.passthrough = passthrough
        self.chunk_size = chunk_size
        self.max_in_flight = max_in_flight
        self.row_retries = row_retries
        self.max_failed_rows = max_failed_rows
        self.on_other_run = on_other_run
        self.on_unknown_submission = on_unknown_submission
        self.input_conn_id = input_conn_id
        self.output_conn_id = output_conn_id
        self._kept: dict[str, Rows] = {}  # while this process waits for their jobs, by their folders

    @abstractmethod
    def fingerprint_inputs(self) -> Mapping[str, object]:
        """The arguments beside prompt and passthrough that decide the results, as plain values.

        A folder that holds results of other values is another run's.
        """

    @abstractmethod
    def answered_by(self) -> str:
        """The model that answers, for the manifest."""

    def results_folder(self) -> str:
        """Where the rows' results go.

        :raises InvalidArgumentError: where no folder is given
        """
        if self.output_folder is None:
            raise InvalidArgumentError("output must name the output folder, a path or a URI.")
        return self.output_folder

    def job_endpoint(self) -> JobEndpoint | None:
        """The endpoint that takes a chunk as a job; ``None`` where rows are answered at once."""
        return None

    def direct_endpoint(self) -> DirectEndpoint | None:
        """The endpoint that answers rows at once: where there is no :meth:`job_endpoint`, or no ``output``."""
        return None

    def part_writer(self) -> type[PartWriter]:
        """What writes the parts of the output."""
        from airflow_provider_lamini.rows.output.parts import PartWriter

        return PartWriter

    def folder_result(self, manifest: Manifest, ledger: Ledger) -> dict[str, object]:  # noqa: ARG002 - for others
        """What the task returns where the results are in a folder.

        :param manifest: what is there
        :param ledger: the run's record
        """
        return dict(manifest.for_xcom())

    def inline_result(self, rows: list[RowResult]) -> dict[str, object]:
        """What the task returns where there is no folder.

        :param rows: the outcomes of its rows, in order; none has failed
        """
        raise NotImplementedError

    def check(self) -> None:
        """Validate the rendered arguments; see :class:`JobOperator`."""
        from airflow_provider_lamini.rows.failure_limit import FailureLimit
        from airflow_provider_lamini.rows.output.parts import check_passthrough
        from airflow_provider_lamini.rows.prompt import PromptTemplate

        self._rows_per_chunk = whole_number("chunk_size", self.chunk_size, least=1)
        self._longest_prompt = (
            None
            if self.max_prompt_chars is None
            else whole_number("max_prompt_chars", self.max_prompt_chars, least=1)
        )
        self._in_flight = whole_number("max_in_flight", self.max_in_flight, least=1)
        self._retries_per_row = whole_number("row_retries", self.row_retries, least=0)
        self._replace_other = one_of("on_other_run", self.on_other_run, ("fail", "replace")) == "replace"
        unknown = one_of("on_unknown_submission", self.on_unknown_submission, ("submit", "fail"))
        self._submit_unknown = unknown == "submit"
        optional_name("input_conn_id", self.input_conn_id)
        optional_name("output_conn_id", self.output_conn_id)
        if self.output_folder is not None:
            folder("output", self.output_folder, self.output_conn_id, look_up=False)
        elif not self.most_inline:
            self.results_folder()
        try:
            self._limit = FailureLimit.parse(self.max_failed_rows)
            self._passthrough = check_passthrough(self.passthrough, self.part_writer().reserved)
            self._template = PromptTemplate.parse(self.prompt)
        except ValueError as error:
            raise InvalidArgumentError(str(error)) from error

    def advance(self, context: Context, event: JobEvent | None) -> WaitFor | Done[dict[str, object]]:
        """Harvest, refill, and wait or return the manifest; see :class:`JobOperator`."""
        if self.output_folder is None and self.most_inline:
            return Done(self._answer_inline())
        return self._advance(context, event)

    def _go_on(self, context: Context, event: JobEvent | None) -> dict[str, object]:
        try:
            return super()._go_on(context, event)
        finally:
            self._kept.clear()  # whatever ends the try, no file stays open

    def _advance(self, context: Context, event: JobEvent | None) -> WaitFor | Done[dict[str, object]]:
        from airflow_provider_lamini.rows.output.manifest import write_manifest
        from airflow_provider_lamini.runs.row_run import Failures

        with ExitStack() as inside:
            rows = self._opened(context, event, inside)
            failures = Failures(rows, self._limit)
            jobs, direct = self.job_endpoint(), self.direct_endpoint()
            if jobs is not None:
                # Nobody else comes in until what is submitted has been recorded.
                waiting = self._advance_jobs(jobs, rows, failures, event)
                if waiting is not None:
                    if not self.deferrable:
                        self._kept[self.results_folder()] = rows
                    return waiting
            elif direct is not None:
                inside.close()
                self._answer_directly(direct, rows, failures)
                inside.enter_context(rows.folder.lock())
            else:
                raise NotImplementedError(f"{type(self).__name__} names no endpoint.")
            manifest = write_manifest(
                rows.folder,
                rows.ledger,
                model=self.answered_by(),
                source=rows.source.describe(),
                suffix=rows.writer.suffix,
            )
        failures.check()
        totals = manifest.counts
        self.log.info("%d rows are in %s, %d of them failed.", totals.rows, manifest.output, totals.failed)
        return Done(self.folder_result(manifest, rows.ledger))

    def _answer_inline(self) -> dict[str, object]:
        from airflow_provider_lamini.rows.sources.validation import check_lengths
        from airflow_provider_lamini.runs.inline import checked, inline_rows, send_all

        prompts = self._template.render_all(inline_rows(self.input, self.most_inline))
        if self._longest_prompt is not None:
            check_lengths(prompts, self._longest_prompt, lambda number: f"row {number} of the list")
        endpoint = self.direct_endpoint()
        if endpoint is None:
            raise NotImplementedError(f"{type(self).__name__} answers nothing without output.")
        several = endpoint.per_request
        calls = [endpoint.ask(prompts[at : at + several]) for at in range(0, len(prompts), several)]
        answers = send_all(self.settings, calls, at_once=self._in_flight, log=self.log)
        return self.inline_result(checked([row for answer in answers for row in answer]))

    def has_begun(self, event: JobEvent | None) -> bool:
        """Whether the run must be there already. An operator with several runs, one after another, overrides this.

        :param event: what woke the task; ``None`` at the start of a try
        """
        return event is not None

    def _opened(self, context: Context, event: JobEvent | None, inside: ExitStack) -> Rows:
        """The run that this process has open since it began to wait; else it is opened now."""
        kept = self._kept.pop(self.results_folder(), None)
        if kept is not None and event is not None and kept.go_on(inside):
            return kept
        return self._open(context, woken=self.has_begun(event), inside=inside)

    def _open(self, context: Context, *, woken: bool, inside: ExitStack) -> Rows:
        from airflow_provider_lamini.runs.row_run import open_rows

        return open_rows(
            self.input,
            self.results_folder(),
            prompt=self._template,
            max_prompt_chars=self._longest_prompt,
            passthrough=self._passthrough,
            writer=self.part_writer(),
            owner=task_identity(context),
            decides={
                "platform": self.settings.base_url,
                "prompt": self.prompt,
                "passthrough": self._passthrough,
                **self.fingerprint_inputs(),
            },
            chunk_size=self._rows_per_chunk,
            replace_other=self._replace_other,
            woken=woken,
            stays=not self.deferrable,
            input_conn_id=self.input_conn_id,
            output_conn_id=self.output_conn_id,
            inside=inside,
            log=self.log,
        )

    def _advance_jobs(
        self, endpoint: JobEndpoint, rows: Rows, failures: Failures, event: JobEvent | None
    ) -> WaitFor | None:
        from airflow_provider_lamini.runs.chunk_jobs import JobRun

        run = JobRun(
            rows,
            client=self.hook.client(),
            endpoint=endpoint,
            answers=self.answers,
            max_in_flight=self._in_flight,
            row_retries=self._retries_per_row,
            failures=failures,
            submit_unknown=self._submit_unknown,
            killed=lambda: self.killed,
            log=self.log,
        )
        if event is None:
            run.attach(self.started_at)
        else:
            run.harvest(event)
        run.refill()
        return None if rows.ledger.finished else run.waiting(self.started_at)

    def _answer_directly(self, endpoint: DirectEndpoint, rows: Rows, failures: Failures) -> None:
        from airflow_provider_lamini.runs.direct_requests import DirectRun

        run = DirectRun(
            rows,
            settings=self.settings,
            endpoint=endpoint,
            max_in_flight=self._in_flight,
            row_retries=self._retries_per_row,
            failures=failures,
            killed=lambda: self.killed,
            log=self.log,
        )
        run.run(since=self.started_at, deadline=self._deadline, report_every=self._poll_seconds)
