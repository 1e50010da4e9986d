"""What all operators share that do the same to every row of an input."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_lamini.exceptions import InvalidArgumentError
from airflow_provider_lamini.links import ManifestLink, ReportLink, ResultsLink
from airflow_provider_lamini.operators.base import (
    COLOR,
    DAY,
    default_deferrable,
    kill_work,
    resume_work,
    run_work,
)
from airflow_provider_lamini.operators.templates import renders_only_templates
from airflow_provider_lamini.runs.arguments import (
    flag,
    folder,
    one_of,
    optional_name,
    plain_name,
    whole_number,
)
from airflow_provider_lamini.runs.outlets import publishes
from airflow_provider_lamini.runs.shared_arguments import (
    INPUT_FIELDS,
    bad_row_policy,
    input_options,
    limit,
    required_input,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import timedelta

    from airflow.providers.common.compat.sdk import BaseOperatorLink, Context

    from airflow_provider_lamini.hooks.base import PlatformHook
    from airflow_provider_lamini.rows.endpoints import DirectEndpoint, JobEndpoint
    from airflow_provider_lamini.rows.output.parts import PartWriter
    from airflow_provider_lamini.rows.prompts.template import PromptTemplate
    from airflow_provider_lamini.runs.row_run_config import RowRunConfig
    from airflow_provider_lamini.runs.task import TaskRun, Work


@renders_only_templates
class RowOperator(BaseOperator):
    """Sends the rows of an input to the platform and writes one output row for each of them to a folder, in order.

    Rows are read, sent and written in chunks, so memory does not depend on their number. A ledger in the output
    folder records what is done: a retry continues from there and never sends a finished chunk again. The output folder then
    contains ``part-*.jsonl`` (every row with its ``index``, the ``passthrough`` columns, ``output``, ``finish_reason``
    and, if it failed, ``error``), ``errors-*.jsonl`` (a copy of the failed rows), ``manifest.json``, and a report for people:
    ``report.html`` with charts, and ``report.md``.

    A concrete operator returns its platform's hook from :meth:`make_hook` and its work, usually a
    :class:`~airflow_provider_lamini.runs.row_run.RowRun`, from :meth:`work`.

    :param input: a list of texts, a list of rows (mappings), or a path, URI or glob on object storage: JSON Lines, CSV,
        or Parquet (extra ``parquet``). Without ``output``, it may be a single text.
    :param output: folder for the results, a path or URI. Each run needs its own, for example with ``{{ run_id }}`` in it.
        ``None``, for operators that support it, answers a few rows in the result of the task.
    :param prompt: a template over a row's columns, such as ``"Summarize: {body}"``, or the name of a column
    :param max_prompt_chars: maximum length of a prompt in characters. A longer one fails the task before anything is
        sent, when the input is validated at the beginning of a run. ``None`` sets no limit.
    :param passthrough: columns of the input to copy into the output
    :param chunk_size: rows per chunk, which is a part of the output and, for endpoints with jobs, a job
    :param max_in_flight: maximum number of jobs that run at the same time; without jobs, of concurrent requests
    :param row_retries: how often a failed row is sent again, if that may help
    :param on_bad_row: what to do with a row that cannot be read, or has no prompt or a too long one: ``fail`` the task
        before anything is sent, or write the row with its ``error``, do not send it, and count it as a failed row
    :param reuse_from: output folder of an earlier run, its manifest, or the result of its task: the output of each row whose
        prompt, model and parameters have not changed is copied from there and not sent. If the folder has no finished run,
        everything is sent.
    :param only_failed_of: the same for a run with the same input: only the rows that failed in it are sent, and the
        output has these rows with the ``index`` that they have there. What the prompt uses may have been corrected, but the
        other passthrough columns of that run must have the same values.
    :param max_rows: maximum number of rows; a larger input is refused before anything is sent
    :param max_input_chars: maximum number of characters of all prompts together, likewise
    :param max_total_tokens: maximum number of tokens, over all tries: once they are used, nothing more is sent, and the
        task fails with its results kept. Refused before anything is sent if the endpoint reports no tokens.
    :param limit_rows: process only the first rows, this many, to try the task out. With a larger number or none, and
        ``on_changed_input="extend"``, the cleared task continues with the others.
    :param dry_run: validate and count the input, return the numbers, and send and write nothing
    :param max_failed_rows: how many rows may fail: a number, a fraction such as ``0.01``, or ``"1%"``
    :param on_other_run: what to do if the folder contains another run's results: ``fail``, or ``replace`` them
    :param on_changed_input: what to do if the input is not the one that this run has begun with: ``fail``, or ``extend`` the run
        if rows were added at its end: the rows that were sent stay as they are, and only the new ones are sent
    :param on_unknown_submission: what to do with a chunk if nobody can tell whether an earlier try started its job:
        ``submit`` it (again), or ``fail``
    :param input_sql: a query that returns the rows, instead of ``input``, or the name of a file with it (``.sql``). It needs
        ``ORDER BY`` with a unique key, and ``input_conn_id``, the connection to the database. The rows are read once and kept
        in the output folder until the run has ended.
    :param sql_parameters: the values of the query's placeholders, a mapping or a list
    :param columns: names for rows that are sequences of values, such as those of a database
    :param input_format: the format of files whose names do not tell it: ``jsonl``, ``json``, ``csv``, ``tsv``, ``parquet`` or
        ``txt``
    :param csv_options: how CSV files are written: ``delimiter``, ``encoding``, ``escape``, ``quote``, ``null_values`` and
        ``header`` (names for files without a header line)
    :param failed_input_rows: what to do with the failed rows if the input is an earlier run: ``skip`` them, ``fail``, or take
        ``only`` these, with their ``index``
    :param input_conn_id: the connection to the input's object storage, or to the database of ``input_sql``
    :param output_conn_id: the connection to the output's object storage
    :param deferrable: wait for jobs in the triggerer, without holding a worker slot; default: ``[operators]
        default_deferrable``
    :param poll_interval: maximum seconds between polls. Recently submitted jobs are polled more often.
    :param timeout: seconds, or a ``timedelta``, that one try may take in wall-clock time, deferred or not. Afterwards the
        task fails, and a retry attaches to its jobs.
    :param cancel_on_kill: cancel the jobs when the task is killed, cleared or marked, if the platform can
    :return: the manifest: URIs (of the parts only if there are at most 100), counts by outcome, chunks, seconds, model, report
    """

    operator_extra_links: Sequence[BaseOperatorLink] = (ResultsLink(), ManifestLink(), ReportLink())

    template_fields: Sequence[str] = (
        "poll_interval",
        "timeout",
        "input",
        "input_sql",
        "sql_parameters",
        "output_folder",
        "prompt",
        "max_prompt_chars",
        "passthrough",
        "chunk_size",
        "max_in_flight",
        "row_retries",
        "on_bad_row",
        "reuse_from",
        "only_failed_of",
        "max_rows",
        "max_input_chars",
        "max_total_tokens",
        "limit_rows",
        "count_only",
        "max_failed_rows",
        "on_other_run",
        "on_changed_input",
        "on_unknown_submission",
        *INPUT_FIELDS,
        "input_conn_id",
        "output_conn_id",
    )
    template_fields_renderers = {"prompt": "md", "input_sql": "sql"}  # noqa: RUF012 - as Airflow declares it
    ui_color = COLOR

    def __init__(
        self,
        *,
        input: str | Sequence[str] | Sequence[Mapping[str, object]] | None = None,  # noqa: A002 - users expect it
        input_sql: str | None = None,
        sql_parameters: Mapping[str, object] | Sequence[object] | None = None,
        output: str | None = None,
        prompt: str = "prompt",
        max_prompt_chars: int | str | None = None,
        passthrough: Sequence[str] = (),
        chunk_size: int | str = 1000,
        max_in_flight: int | str = 8,
        row_retries: int | str = 1,
        on_bad_row: str = "fail",
        reuse_from: str | Mapping[str, object] | None = None,
        only_failed_of: str | Mapping[str, object] | None = None,
        max_rows: int | str | None = None,
        max_input_chars: int | str | None = None,
        max_total_tokens: int | str | None = None,
        limit_rows: int | str | None = None,
        dry_run: bool | str = False,
        max_failed_rows: float | str | None = 0,
        on_other_run: str = "fail",
        on_changed_input: str = "fail",
        on_unknown_submission: str = "submit",
        columns: Sequence[str] | None = None,
        input_format: str | None = None,
        csv_options: Mapping[str, Any] | str | None = None,
        failed_input_rows: str = "skip",
        input_conn_id: str | None = None,
        output_conn_id: str | None = None,
        deferrable: bool | None = None,
        poll_interval: float | str = 30.0,
        timeout: float | str | timedelta = DAY,
        cancel_on_kill: bool = True,
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("multiple_outputs", True)  # so that a Dag may write task.output["output"]
        super().__init__(**kwargs)
        self.input = input
        self.input_sql = input_sql
        self.sql_parameters = sql_parameters
        self.output_folder = output  # Airflow uses the attribute ``output`` for the task's XCom
        self.prompt = prompt
        self.max_prompt_chars = max_prompt_chars
        self.passthrough = passthrough
        self.chunk_size = chunk_size
        self.max_in_flight = max_in_flight
        self.row_retries = row_retries
        self.on_bad_row = on_bad_row
        self.reuse_from = reuse_from
        self.only_failed_of = only_failed_of
        self.max_rows = max_rows
        self.max_input_chars = max_input_chars
        self.max_total_tokens = max_total_tokens
        self.limit_rows = limit_rows
        self.count_only = dry_run  # Airflow's operators have a method ``dry_run``
        self.max_failed_rows = max_failed_rows
        self.on_other_run = on_other_run
        self.on_changed_input = on_changed_input
        self.on_unknown_submission = on_unknown_submission
        self.columns = columns
        self.input_format = input_format
        self.csv_options = csv_options
        self.failed_input_rows = failed_input_rows
        self.input_conn_id = input_conn_id
        self.output_conn_id = output_conn_id
        self.deferrable = default_deferrable(deferrable)
        self.poll_interval = poll_interval
        self.timeout = timeout
        self.cancel_on_kill = cancel_on_kill
        self.task_run: TaskRun | None = None
        self.killed = False

    @abstractmethod
    def make_hook(self) -> PlatformHook:
        """The platform's hook. The connection is looked up later, when the hook is used.

        :raises InvalidArgumentError: if the connection's id is wrong
        """

    @abstractmethod
    def work(self, task: TaskRun) -> Work[dict[str, object]]:
        """Validate the arguments, then return what is to be done.

        :param task: this try of the task
        :raises InvalidArgumentError: if an argument is wrong; nothing has been sent
        """

    @publishes
    def execute(self, context: Context) -> dict[str, object]:
        """Send the rows, wait, and return the manifest.

        :param context: Airflow's context
        """
        return run_work(self, context)

    @publishes
    def execute_complete(self, context: Context, event: object) -> dict[str, object]:
        """Continue after the trigger has fired.

        :param context: Airflow's context
        :param event: what the trigger yielded
        """
        return resume_work(self, context, event)

    def on_kill(self) -> None:
        """Submit nothing more, and cancel the jobs if the platform can. Airflow calls it when a running task is killed."""
        kill_work(self)

    def _earlier_folder(self) -> str | None:
        from airflow_provider_lamini.rows.sources.forms import folder_of_run
        from airflow_provider_lamini.rows.storage.folder import OutputFolder

        if self.reuse_from in (None, "", "None"):
            return None
        if self.output_folder is None:
            raise InvalidArgumentError("reuse_from needs output, the folder for the results.")
        found = folder("reuse_from", folder_of_run(self.reuse_from), self.output_conn_id, look_up=False)
        # A template for the last run's folder may find the task's own, whose results the ledger knows anyway.
        own = OutputFolder(self.output_folder, self.output_conn_id).location
        return None if OutputFolder(found, self.output_conn_id).location == own else found

    def _failed_rows_folder(self) -> str | None:
        from airflow_provider_lamini.rows.sources.forms import folder_of_run
        from airflow_provider_lamini.rows.storage.folder import OutputFolder

        if self.only_failed_of is None:
            return None
        if self.output_folder is None:
            raise InvalidArgumentError("only_failed_of needs output, the folder for the results.")
        earlier = plain_name("only_failed_of", folder_of_run(self.only_failed_of))
        found = OutputFolder(earlier, self.output_conn_id).location
        if found == OutputFolder(self.output_folder, self.output_conn_id).location:
            raise InvalidArgumentError(
                "only_failed_of is the output folder itself. Write the rows that are sent again to a folder of their own."
            )
        return found

    def rows_input(self, task: TaskRun) -> object:  # noqa: ARG002 - for overrides
        """The rows, or where they come from. A decorator overrides this: there, a function returns them.

        :param task: this try of the task
        :raises InvalidArgumentError: if there is none, or more than one
        """
        return required_input(self.input, self)

    def row_run_config(
        self,
        task: TaskRun,
        *,
        endpoint: JobEndpoint | DirectEndpoint,
        model: str,
        fingerprint_inputs: Mapping[str, object],
        prompt: PromptTemplate | None = None,
        writer: type[PartWriter] | None = None,
        output_required: bool = False,
    ) -> RowRunConfig:
        """Validate the arguments of this class.

        :param task: this try of the task
        :param endpoint: sends prompts
        :param model: the model that answers, for the manifest
        :param fingerprint_inputs: the arguments of the concrete operator that decide the results, as plain values
        :param prompt: makes the prompt of a row; ``None`` for the operator's ``prompt``
        :param writer: writes the parts; ``None`` for outputs as JSON Lines
        :param output_required: whether ``output`` must be given; otherwise a few rows are answered without it
        :raises InvalidArgumentError: if an argument is wrong
        """
        from airflow_provider_lamini.rows.limits import Budget
        from airflow_provider_lamini.rows.output.parts import PartWriter, check_passthrough
        from airflow_provider_lamini.rows.prompts.template import PromptTemplate
        from airflow_provider_lamini.runs.row_run_config import RowRunConfig

        writer = writer or PartWriter
        if self.output_folder is not None:
            folder("output", self.output_folder, self.output_conn_id, look_up=False)
        elif output_required:
            raise InvalidArgumentError("output must name the output folder, a path or a URI.")
        max_chars = self.max_prompt_chars
        policy = bad_row_policy(self)
        unknown = one_of("on_unknown_submission", self.on_unknown_submission, ("submit", "fail"))
        try:
            passthrough = check_passthrough(self.passthrough, writer.reserved)
            prompt = prompt or PromptTemplate.parse(self.prompt)
        except ValueError as error:
            raise InvalidArgumentError(str(error)) from error.__cause__
        return RowRunConfig(
            input=self.rows_input(task),
            output=self.output_folder or "",
            prompt=prompt,
            max_prompt_chars=None
            if max_chars is None
            else whole_number("max_prompt_chars", max_chars, minimum=1),
            passthrough=passthrough,
            endpoint=endpoint,
            model=model,
            fingerprint_inputs=fingerprint_inputs,
            writer=writer,
            chunk_size=whole_number("chunk_size", self.chunk_size, minimum=1),
            max_in_flight=whole_number("max_in_flight", self.max_in_flight, minimum=1),
            row_retries=whole_number("row_retries", self.row_retries, minimum=0),
            keep_bad_rows=policy.keep,
            reuse_from=self._earlier_folder(),
            only_failed_of=self._failed_rows_folder(),
            budget=Budget(
                rows=limit(self, "max_rows"),
                characters=limit(self, "max_input_chars"),
                tokens=limit(self, "max_total_tokens"),
            ),
            limit_rows=limit(self, "limit_rows"),
            dry_run=flag("dry_run", self.count_only),
            failure_limit=policy.limit,
            replace_other_run=one_of("on_other_run", self.on_other_run, ("fail", "replace")) == "replace",
            extend_input=one_of("on_changed_input", self.on_changed_input, ("fail", "extend")) == "extend",
            submit_unknown=unknown == "submit",
            input_options=input_options(self),
            input_conn_id=optional_name("input_conn_id", self.input_conn_id),
            output_conn_id=optional_name("output_conn_id", self.output_conn_id),
        )
