"""The settings of a run over rows, and its input, output and ledger while a task works on it."""

from __future__ import annotations

import dataclasses
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from airflow_provider_lamini.exceptions import BudgetExceededError, TooManyFailedRowsError
from airflow_provider_lamini.rows.bad_rows import BadRowPolicy
from airflow_provider_lamini.rows.counts import describe_failures
from airflow_provider_lamini.rows.errors import (
    IncompleteOutputError,
    InputChangedError,
    InputError,
    LedgerError,
)
from airflow_provider_lamini.rows.ledger.document import Header, load
from airflow_provider_lamini.rows.ledger.ledger import Ledger, fingerprint
from airflow_provider_lamini.rows.output.chunk_result import ChunkResult
from airflow_provider_lamini.rows.output.failed_rows import (
    FailedRowsSource,
    read_failed_rows,
    whole_input_version,
)
from airflow_provider_lamini.rows.output.reuse import EarlierRun, row_keys
from airflow_provider_lamini.rows.passthrough_cache import PassthroughCache
from airflow_provider_lamini.rows.run_files import LEDGER, keys_name
from airflow_provider_lamini.rows.screening import screen
from airflow_provider_lamini.rows.sources.batch import SourceChunk
from airflow_provider_lamini.rows.sources.chunk_reader import ChunkReader
from airflow_provider_lamini.rows.sources.source import open_source
from airflow_provider_lamini.rows.sources.sql import SqlInput
from airflow_provider_lamini.rows.sources.validation import (
    check_input_apart,
    needed_columns,
    validate_input,
)
from airflow_provider_lamini.rows.storage.folder import OutputFolder
from airflow_provider_lamini.rows.values import digest
from airflow_provider_lamini.runs.sql_input import open_query

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_provider_lamini.api.call import PromptList
    from airflow_provider_lamini.rows.budget import Budget
    from airflow_provider_lamini.rows.counts import Counts
    from airflow_provider_lamini.rows.endpoints import DirectEndpoint, JobEndpoint
    from airflow_provider_lamini.rows.failure_limit import FailureLimit
    from airflow_provider_lamini.rows.failures import RowFailure
    from airflow_provider_lamini.rows.ledger.document import Chunk, Round
    from airflow_provider_lamini.rows.output.parts import PartWriter
    from airflow_provider_lamini.rows.output.reuse import EarlierResult
    from airflow_provider_lamini.rows.prompt import PromptTemplate
    from airflow_provider_lamini.rows.sources.batch import Cursor
    from airflow_provider_lamini.rows.sources.options import InputOptions
    from airflow_provider_lamini.rows.sources.source import Source
    from airflow_provider_lamini.rows.sources.validation import InputSummary
    from airflow_provider_lamini.rows.values import Row
    from airflow_provider_lamini.runs.outcome import Log


@dataclass(frozen=True, slots=True, kw_only=True)
class RowRunConfig:
    """The settings of a run over rows.

    :param input: the input, as `open_source` takes it
    :param output: path or URI of the output folder; empty for `InlineRun`, which writes nothing
    :param prompt: makes the prompt of a row
    :param max_prompt_chars: maximum length of a prompt in characters; ``None`` for no limit
    :param passthrough: columns to copy into the output
    :param endpoint: sends prompts, as jobs or as direct requests
    :param model: the model that answers, for the manifest
    :param fingerprint_inputs: all other arguments that decide the results, as plain values. A folder with results for
        other values belongs to another run.
    :param writer: writes the parts
    :param chunk_size: rows per chunk
    :param max_in_flight: maximum number of jobs, or of direct requests, at the same time
    :param row_retries: how often a failed row is sent again
    :param keep_bad_rows: write rows that cannot be sent with their error instead of refusing the input
    :param reuse_from: output folder of the run whose results are reused; ``None`` for none
    :param only_failed_of: output folder of the run whose failed rows are sent, and no others; ``None`` to send all rows
    :param budget: what the run may cost at most
    :param limit_rows: process only the first rows, this many; ``None`` for all
    :param dry_run: validate and count the input, and send and write nothing
    :param failure_limit: how many rows may fail
    :param replace_other_run: replace another run's results in the folder instead of failing
    :param submit_unknown: submit a chunk again if nobody knows whether its job was started
    :param input_options: how to read the input
    :param input_conn_id: the connection to the input's object storage
    :param output_conn_id: the connection to the output's object storage
    """

    input: object
    output: str
    prompt: PromptTemplate
    max_prompt_chars: int | None
    passthrough: tuple[str, ...]
    endpoint: JobEndpoint | DirectEndpoint
    model: str
    fingerprint_inputs: Mapping[str, object]
    writer: type[PartWriter]
    chunk_size: int
    max_in_flight: int
    row_retries: int
    keep_bad_rows: bool
    reuse_from: str | None
    only_failed_of: str | None
    budget: Budget
    limit_rows: int | None
    dry_run: bool
    failure_limit: FailureLimit
    replace_other_run: bool
    submit_unknown: bool
    input_options: InputOptions
    input_conn_id: str | None
    output_conn_id: str | None

    def settings(self, platform_url: str) -> str:
        """Hash of the platform, the model and the parameters: what decides the result of a prompt.

        :param platform_url: base URL of the platform
        """
        others = {name: value for name, value in self.fingerprint_inputs.items() if name != "format"}
        return digest({"platform": platform_url, **others})

    def fingerprint(self, platform_url: str) -> str:
        """Hash of everything but the input that decides the results.

        :param platform_url: base URL of the platform
        """
        return digest(
            {
                "platform": platform_url,
                "prompt": self.prompt.text,
                "passthrough": self.passthrough,
                **({} if self.limit_rows is None else {"limit_rows": self.limit_rows}),
                **({} if self.only_failed_of is None else {"only_failed_of": self.only_failed_of}),
                **self.fingerprint_inputs,
            }
        )


class ChunkRows(NamedTuple):
    """The rows of a chunk, with their prompts.

    :param start: position of the first row
    :param after: position after the last row
    :param rows: the rows
    :param prompts: their prompts; empty for rows that cannot be sent
    :param failures: why rows cannot be sent, by offset
    :param reused: results of an earlier run for rows that need not be sent, by offset
    """

    start: Cursor
    after: Cursor
    rows: Sequence[Row]
    prompts: PromptList
    failures: Mapping[int, RowFailure]
    reused: Mapping[int, EarlierResult]

    @property
    def sendable(self) -> list[int] | None:
        """Offsets of the rows to send; ``None`` for all."""
        if not self.failures and not self.reused:
            return None
        return [
            offset
            for offset in range(len(self.rows))
            if offset not in self.failures and offset not in self.reused
        ]

    def result(self) -> ChunkResult:
        """The result of the chunk before anything is sent."""
        result = ChunkResult.pending(len(self.rows))
        for offset, failure in self.failures.items():
            result.fail(offset, failure)
        for offset, earlier in self.reused.items():
            result.settle(offset, earlier.output, earlier.finish_reason)
        result.reused = len(self.reused)
        return result

    @property
    def fingerprint(self) -> str:
        """Hash of the prompts."""
        return fingerprint(self.prompts)


class OpenRun:
    """The input, output and ledger of a run that this process works on. Create it with `open_run`.

    :param config: the settings
    :param source: the input
    :param folder: the output
    :param ledger: the ledger, acquired by this process
    :param input_version: the input's version when it was opened
    :param cache_bytes: memory for passthrough columns of submitted chunks, so that they are not read again
    :param earlier: the run whose results are reused

    :ivar source: the input
    :ivar folder: the output
    :ivar ledger: the ledger
    :ivar writer: writes the parts
    """

    def __init__(
        self,
        config: RowRunConfig,
        source: Source,
        folder: OutputFolder,
        ledger: Ledger,
        *,
        input_version: str,
        cache_bytes: int,
        earlier: EarlierRun | None = None,
    ) -> None:
        self._config = config
        self.source = source
        self._input_version = input_version
        self.folder = folder
        self.ledger = ledger
        self.writer = config.writer.for_run(
            folder, config.passthrough, ledger.totals, ledger.header.column_kinds
        )
        columns = needed_columns(config.prompt, config.passthrough)
        # Two readers: reading a planned chunk again must not move the position of the next one.
        self._upcoming = ChunkReader(source, columns)
        self._planned = ChunkReader(source, columns)
        self._cache = PassthroughCache(config.passthrough, cache_bytes)
        self._earlier = earlier

    def is_current(self) -> bool:
        """Whether the input is unchanged and the ledger still exists. Otherwise the run must be opened again."""
        return self.source.version() == self._input_version and self.folder.exists(LEDGER)

    def close(self) -> None:
        """Close the input. Reading again opens it again."""
        self._upcoming.close()
        self._planned.close()

    def end(self) -> None:
        """Close everything. The run must not be used any more."""
        self.close()
        if self._earlier is not None:
            self._earlier.close()

    def upcoming(self) -> ChunkRows | None:
        """Read the rows of the next chunk; ``None`` if all rows are in chunks.

        :raises InputChangedError: if a row cannot be sent although all rows could when the input was validated
        """
        document = self.ledger.document
        if document.exhausted:
            return None
        left = document.header.total_rows - document.next.row
        chunk = self._upcoming.read(document.next, min(document.chunk_size, left))
        if chunk is None:
            return None
        found = self._screened(chunk)
        if found.failures and not self._config.keep_bad_rows:
            offset, failure = min(found.failures.items())
            raise InputChangedError(
                f"Row {found.start.row + offset} of {self.source.describe()} could be sent when the task began, and now it "
                f"cannot: {failure.text}. The input was changed while the task ran. Restore the old input."
            )
        return found

    def remember(self, chunk: Chunk, rows: Sequence[Row]) -> None:
        """Keep the passthrough columns of a submitted chunk in memory, if they fit.

        :param chunk: the chunk
        :param rows: its rows
        """
        self._cache.put(chunk.number, rows)

    def rows_to_write(self, chunk: Chunk, result: ChunkResult) -> Sequence[Row]:
        """The rows of a planned chunk with at least their passthrough columns, and those of the prompt if a row failed.

        :raises InputChangedError: if they are not the rows that the chunk was planned with
        """
        cached = self._cache.pop(chunk.number)
        return self.read(chunk).rows if cached is None or result.failures else cached

    def read(self, chunk: Chunk) -> ChunkRows:
        """Read the rows of a planned chunk again, with their prompts.

        :raises InputChangedError: if they are not the rows that the chunk was planned with
        """
        found = self._planned.read(chunk.start, chunk.rows)
        screened = self._screened(found or SourceChunk(chunk.start, chunk.start, ()))
        if screened.fingerprint != chunk.fingerprint:
            raise InputChangedError(
                f"In {self.source.describe()}, {chunk} are not the rows that were sent: the input was changed while the "
                "task ran. Nothing more was sent. Restore the old input, or process the new one with another output "
                "folder."
            )
        return screened

    def _screened(self, chunk: SourceChunk) -> ChunkRows:
        config = self._config
        prompts, failures = screen(chunk.rows, chunk.bad, config.prompt, config.max_prompt_chars)
        reused: Mapping[int, EarlierResult] = {}
        if self._earlier is not None:
            wanted = [offset for offset in range(len(chunk.rows)) if offset not in failures]
            reused = self._earlier.find(prompts, wanted)
        return ChunkRows(chunk.start, chunk.after, chunk.rows, prompts, failures, reused)

    def save_plan(self, upcoming: ChunkRows, *, as_job: bool) -> None:
        """Save what is known about the rows of a chunk before it is planned: their keys, and results to be reused.

        :param upcoming: the rows
        :param as_job: whether the results are needed again when a job has ended, perhaps in another process
        """
        number = self.ledger.document.planned
        self.folder.write(keys_name(number), row_keys(upcoming.prompts), durable=False)
        if as_job and upcoming.reused:
            self.writer.save_partial(number, 0, upcoming.result())

    def submission_key(self, chunk: Chunk, submission: Round) -> str:
        """Identify a submission among all of the task's.

        :param chunk: the chunk
        :param submission: one of its submissions, made or about to be
        """
        intended_at = submission.intended_at
        return digest({"output": self.folder.location, "chunk": chunk.number, "intended_at": intended_at})

    def write_part(
        self,
        chunk: Chunk,
        rows: Sequence[Row],
        result: ChunkResult,
        retried: int,
        sums: Mapping[str, float] | None = None,
    ) -> Counts:
        """Write the part of a chunk.

        :param chunk: the chunk
        :param rows: its rows
        :param result: their results
        :param retried: number of rows that were sent more than once
        :param sums: sums over the rows besides those of the writer, such as tokens
        :return: the rows by outcome, to finish the chunk with
        :raises LedgerLostError: if another process has acquired the ledger
        """
        self.ledger.check_acquired()
        self.writer.write(chunk.number, self.source.indices(chunk.first_row, chunk.rows), rows, result)
        return result.counts(retried, {**self.writer.sums(result), **(sums or {})})

    def too_many_failed(self, totals: Counts) -> bool:
        """Whether more rows have failed than may.

        :param totals: the rows of all finished chunks by outcome
        """
        return self.over_limit(totals.failed)

    def over_limit(self, failed: int) -> bool:
        """Whether a number of failed rows is more than may fail.

        :param failed: number of rows
        """
        return self._config.failure_limit.exceeded(failed, self.ledger.header.total_rows)

    def check_failures(self) -> None:
        """Compare the failed rows so far with the limit.

        :raises TooManyFailedRowsError: if more rows have failed than may
        :raises BudgetExceededError: if rows are left, and more tokens were used than may be
        """
        ledger = self.ledger
        if not self.too_many_failed(ledger.totals):
            self._check_tokens()
            return
        failed, total = ledger.totals.failed, ledger.header.total_rows
        job_ids = [job_id for chunk in ledger.chunks for job_id in chunk.job_ids]
        running = f" Still running, and billing: {', '.join(job_ids)}." if job_ids else ""
        raise TooManyFailedRowsError(
            f"{failed} of {total} rows failed, and max_failed_rows allows {self._config.failure_limit}. By reason: "
            f"{describe_failures(ledger.totals.failures)}. The files errors-*.jsonl in {self.folder} say why.{running} To "
            "accept the failed rows, raise max_failed_rows and clear the task; only_failed_of of another task sends them again."
        )

    def _check_tokens(self) -> None:
        limit, sums = self._config.budget.tokens, self.ledger.totals.sums
        if limit is None or self.ledger.finished or not self.ledger.totals.ok:
            return
        used = sums.get("total_tokens")
        done, total = self.ledger.totals.rows, self.ledger.header.total_rows
        if used is None and self.ledger.totals.reused < self.ledger.totals.ok:
            raise BudgetExceededError(
                f"max_total_tokens cannot be kept: this endpoint reports no tokens. {done} of {total} rows are done and "
                "kept. Remove max_total_tokens, perhaps for max_input_chars, and clear the task."
            )
        if used is not None and used >= limit:
            raise BudgetExceededError(
                f"The run has used {used:.0f} tokens, and max_total_tokens allows {limit}. {done} of {total} rows are done "
                f"and kept in {self.folder}. To send the others, raise max_total_tokens and clear the task."
            )


def _checked_input(config: RowRunConfig, source: Source, log: Log) -> InputSummary:
    """Validate the input of a run and compare it with what may be sent.

    :raises RowError: if the input cannot be used, or is larger than the budget
    """
    summary = validate_input(
        source,
        config.prompt,
        passthrough=config.passthrough,
        max_prompt_chars=config.max_prompt_chars,
        keep_bad=config.keep_bad_rows,
        limit_rows=config.limit_rows,
    )
    _check_bad_rows(summary, config, source, log)
    refusal = config.budget.refusal(summary.total_rows, summary.characters)
    if refusal is not None:
        raise InputError(f"{refusal} ({source.describe()}). Nothing was sent.")
    return summary


def dry_run(config: RowRunConfig, log: Log) -> dict[str, object]:
    """Validate and count the input of a run; send and write nothing.

    :param config: the settings
    :param log: the task's log
    :return: what the task returns
    :raises RowError: if the input cannot be used, or is larger than the budget
    """
    with ExitStack() as stack:
        folder = OutputFolder(config.output, config.output_conn_id)
        source = _open_input(config, folder, stack, log)
        check_input_apart(source, folder)
        config = dataclasses.replace(config, prompt=source.bind(config.prompt))
        summary = _checked_input(config, source, log)
    bad = summary.bad.count
    log.info(
        "Dry run: %s has %d rows, %d of which can be sent, with %d characters. Nothing was sent.%s",
        *(source.describe(), summary.total_rows, summary.total_rows - bad, summary.characters),
        source.remarks(),
    )
    return {
        "dry_run": True,
        "rows": summary.total_rows,
        "characters": summary.characters,
        "failures": dict(summary.bad.failures),
        "input": source.describe(),
        "model": config.model,
    }


def open_run(
    config: RowRunConfig,
    *,
    owner: dict[str, str | int],
    platform_url: str,
    must_exist: bool,
    cache_bytes: int,
    stack: ExitStack,
    log: Log,
) -> OpenRun:
    """Open the input and the output of a run, and acquire its ledger.

    When a run begins, the whole input is validated once. A later try finds the result in the ledger.

    :param config: the settings
    :param owner: Dag, task, run and map index of the task
    :param platform_url: base URL of the platform
    :param must_exist: whether the run has begun already, because the task was deferred
    :param cache_bytes: memory for passthrough columns
    :param stack: the folder's lock is entered here, so that no other process works in the folder until it is closed
    :param log: the task's log
    :raises RowError: if the input or the output cannot be used
    """
    folder = OutputFolder(config.output, config.output_conn_id)
    source = _open_input(config, folder, stack, log)
    check_input_apart(source, folder)
    run_fingerprint = config.fingerprint(platform_url)
    config = dataclasses.replace(config, prompt=source.bind(config.prompt))
    version = source.version()
    found = load(folder)
    if found is None and must_exist:
        # Starting over would submit everything again after each deferral.
        raise LedgerError(
            f"The run that this task has begun is not in {folder}; its jobs may still run and bill. Either somebody has "
            "removed it, or the output folder has changed since the task was deferred: its template must not use the "
            "current time or random values."
        )
    known = found and (found.header.owner, found.header.fingerprint, found.header.input_version)
    if known == (owner, run_fingerprint, version):
        stack.enter_context(folder.lock())
        ledger = Ledger.resume(folder, owner)
        if ledger.totals.rows:
            begun = "Continuing after the wait" if must_exist else "Resuming what an earlier try began"
            log.info("%s: %d of %d rows are done.", begun, ledger.totals.rows, ledger.header.total_rows)
    else:
        summary = _checked_input(config, source, log)
        header = Header(
            owner=owner,
            fingerprint=run_fingerprint,
            input_hash=summary.content_hash,
            total_rows=summary.total_rows,
            chunk_size=config.chunk_size,
            input_version=version,
            column_kinds=summary.column_kinds,
            characters=summary.characters,
        )
        stack.enter_context(folder.lock())
        replace = config.replace_other_run and not must_exist
        ledger = Ledger.open(folder, header, if_other="replace" if replace else "fail")
        log.info(
            "Validated %s: %d rows, %d characters of prompts. The output goes to %s.%s",
            *(source.describe(), summary.total_rows, summary.characters, folder, source.remarks()),
        )
    refusal = config.budget.refusal(ledger.header.total_rows, ledger.header.characters)
    if refusal is not None and not ledger.finished:
        raise InputError(f"{refusal}. {ledger.totals.rows} rows are done and kept; nothing more is sent.")
    ledger.update_header(chunk_size=config.chunk_size, input_version=version)
    earlier = None if ledger.finished else _earlier_run(config, platform_url, log)
    return OpenRun(
        config, source, folder, ledger, input_version=version, cache_bytes=cache_bytes, earlier=earlier
    )


def _earlier_run(config: RowRunConfig, platform_url: str, log: Log) -> EarlierRun | None:
    """Open the run whose results are reused, if it had the same settings."""
    if config.reuse_from is None:
        return None
    folder = OutputFolder(config.reuse_from, config.output_conn_id)
    try:
        earlier = EarlierRun(folder)
    except IncompleteOutputError as error:
        log.warning("Nothing can be reused: %s", error)
        return None
    if earlier.settings != config.settings(platform_url):
        log.warning("Nothing can be reused from %s: it has another model or other parameters.", folder)
        earlier.close()
        return None
    return earlier


def _check_bad_rows(summary: InputSummary, config: RowRunConfig, source: Source, log: Log) -> None:
    """Say which rows cannot be sent, and stop if more of them exist than may fail.

    :raises BadRowError: if there are more
    """
    policy = BadRowPolicy(config.keep_bad_rows, config.failure_limit)
    found = policy.check(summary.bad, summary.total_rows, source.describe())
    if found is not None:
        log.warning(
            "%s; they are written with their error. The first: %s", found, "; ".join(summary.bad.examples)
        )


def _open_input(config: RowRunConfig, folder: OutputFolder, stack: ExitStack, log: Log) -> Source:
    """Open the rows to send."""
    whole = _open_whole_input(config, folder, stack, log)
    if config.only_failed_of is None:
        return whole
    earlier = OutputFolder(config.only_failed_of, config.output_conn_id)
    prompt = whole.bind(config.prompt)
    return FailedRowsSource(whole, read_failed_rows(earlier, (*prompt.columns, *prompt.optional_columns)))


def _open_whole_input(config: RowRunConfig, folder: OutputFolder, stack: ExitStack, log: Log) -> Source:
    if not isinstance(config.input, SqlInput):
        return open_source(
            config.input,
            conn_id=config.input_conn_id,
            keep_bad=config.keep_bad_rows,
            options=config.input_options,
        )
    stack.enter_context(folder.lock())  # two tries must not begin with different rows
    found = load(folder)
    return open_query(
        config.input,
        folder,
        conn_id=config.output_conn_id,
        known_version=None if found is None else whole_input_version(found.header.input_version),
        keep_bad=config.keep_bad_rows,
        log=log,
    )
