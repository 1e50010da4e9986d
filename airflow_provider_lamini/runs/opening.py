"""Opening a run over rows: its input is validated once, its output folder is locked, its ledger is acquired."""

from __future__ import annotations

import dataclasses
from contextlib import contextmanager
from typing import TYPE_CHECKING

from airflow_provider_lamini.rows.bad_rows import BadRowPolicy
from airflow_provider_lamini.rows.errors import (
    IncompleteOutputError,
    InputChangedError,
    InputError,
    LedgerError,
    RowError,
)
from airflow_provider_lamini.rows.ledger.document import Header, has_other_input, load
from airflow_provider_lamini.rows.ledger.ledger import Ledger
from airflow_provider_lamini.rows.output.failed_rows import (
    FailedRowsSource,
    read_failed_rows,
    whole_input_version,
)
from airflow_provider_lamini.rows.output.reuse import open_earlier
from airflow_provider_lamini.rows.sources.source import FileSource, open_source
from airflow_provider_lamini.rows.sources.validation import (
    check_input_apart,
    validate_input,
)
from airflow_provider_lamini.rows.storage.folder import OutputFolder
from airflow_provider_lamini.rows.storage.run_files import kept_rows_files
from airflow_provider_lamini.runs.extension import extend_run
from airflow_provider_lamini.runs.kept_rows import open_kept_rows
from airflow_provider_lamini.runs.open_run import OpenRun
from airflow_provider_lamini.wording import counted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import ExitStack

    from airflow_provider_lamini.rows.ledger.document import LedgerDocument
    from airflow_provider_lamini.rows.sources.source import Source
    from airflow_provider_lamini.rows.sources.validation import InputSummary
    from airflow_provider_lamini.runs.outcome import Log
    from airflow_provider_lamini.runs.row_run_config import RowRunConfig


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
    ledger_file = folder.start(lambda: load(folder))
    source = _open_input(config, folder, stack, log)
    check_input_apart(source, folder)
    run_fingerprint = config.fingerprint(platform_url)
    config = dataclasses.replace(config, prompt=source.bind(config.prompt))
    version = source.version()
    rows_version = version if config.limit_rows is None else f"{version}/{config.limit_rows}"
    found = ledger_file()
    if found is None and must_exist:
        found = _load_again(folder)
    known = found and (found.header.owner, found.header.fingerprint, found.header.input_version)
    if known == (owner, run_fingerprint, rows_version):
        stack.enter_context(folder.lock())
        ledger = Ledger.resume(folder, owner, known=found)
        if ledger.totals.rows and not must_exist:  # after a wait, the trigger's summary has said so
            _log_resumption(ledger, log)
    else:
        with _forgetting_rows(config, folder, found):
            summary = _checked_input(config, source, log)
        header = Header(
            owner=owner,
            fingerprint=run_fingerprint,
            total_rows=summary.total_rows,
            chunk_size=config.chunk_size,
            input_version=rows_version,
            column_kinds=summary.column_kinds,
            characters=summary.characters,
        )
        stack.enter_context(folder.lock())
        replace = config.replace_other_run and not must_exist
        ledger = _open_ledger(config, folder, source, header, replace=replace, log=log)
        log.info(
            "Validated %s: %s, %s of prompts. The output goes to %s.%s",
            *(
                source.describe(),
                counted(summary.total_rows, "row"),
                counted(summary.characters, "character"),
            ),
            *(folder, source.remarks()),
        )
        _log_promise(ledger, folder, log)
    _check_budget(config, ledger)
    ledger.update_header(chunk_size=config.chunk_size)
    earlier = None
    if config.reuse_from is not None and not ledger.finished:
        settings = config.settings(platform_url)
        earlier = open_earlier(config.reuse_from, config.output_conn_id, settings, log.warning)
    return OpenRun(
        config, source, folder, ledger, input_version=version, cache_bytes=cache_bytes, earlier=earlier
    )


def _log_resumption(ledger: Ledger, log: Log) -> None:
    if ledger.finished:
        log.info("This run has ended before, and its arguments are the same: nothing is sent.")
    else:
        done = (ledger.totals.rows, ledger.header.total_rows)
        log.info(
            "Resuming what an earlier try began: %s of %s rows are done.", *(f"{rows:,}" for rows in done)
        )


def _load_again(folder: OutputFolder) -> LedgerDocument:
    """Load the ledger of a run that has begun, and was not found.

    :raises LedgerError: if it is not there: starting over would submit everything again after each deferral
    """
    # A store that fails may answer once that a file does not exist.
    found = load(folder) if folder.remote else None
    if found is None:
        raise LedgerError(
            f"The run that this task has begun is not in {folder}; its jobs may still run and bill. Either somebody has "
            "removed it, or the output folder has changed since the task was deferred: its template must not use the "
            "current time or random values."
        )
    return found


def _check_budget(config: RowRunConfig, ledger: Ledger) -> None:
    """Compare a run that is not finished with what may be sent.

    :raises InputError: if it is larger
    """
    refusal = config.budget.refusal(ledger.header.total_rows, ledger.header.characters, config.endpoint)
    if refusal is not None and not ledger.finished:
        raise InputError(
            f"{refusal}. Nothing more is sent; the results so far are kept ({counted(ledger.totals.rows, 'row')}). Change "
            "the limit and clear the task to continue."
        )


@contextmanager
def _forgetting_rows(
    config: RowRunConfig, folder: OutputFolder, found: LedgerDocument | None
) -> Iterator[None]:
    """If the rows of an input that is read once are refused within the block, let the next try read others."""
    try:
        yield
    except RowError:
        if found is None and config.read_once is not None:
            folder.delete_all(kept_rows_files(folder, config.read_once.fingerprint))
            folder.close_work()
        raise


def _open_ledger(
    config: RowRunConfig, folder: OutputFolder, source: Source, header: Header, *, replace: bool, log: Log
) -> Ledger:
    """Acquire the ledger of a run, new or known, whose input was validated."""
    found = load(folder)
    if found is not None and has_other_input(found.header, header):
        extends = config.extend_input
        # As many rows may be the same ones, in files that were written again.
        if extends or found.header.total_rows == header.total_rows:
            try:
                ledger = extend_run(folder, config, source, header)
            except (InputChangedError, IncompleteOutputError):
                if extends and not (replace or found.nothing_submitted):
                    raise
            else:
                log.info(
                    "The input was written again since the run began (%d rows then, %d now); the %d rows sent are the same.",
                    *(found.header.total_rows, header.total_rows, ledger.document.next.row),
                )
                return ledger
    return Ledger.open(folder, header, if_other="replace" if replace else "fail")


def _log_promise(ledger: Ledger, folder: OutputFolder, log: Log) -> None:
    """Say what a folder's store promises to two processes that work there at the same moment."""
    if not ledger.fenced:
        log.warning(
            "Let only one try of this task run at a time: the store of %s does not refuse to create an object twice (tried "
            "with two puts). Two tries in the same moment, for example of a worker that was cut off, could both send the same "
            "rows. See 'Object stores' in the documentation of the provider.",
            folder,
        )
    elif folder.remote:
        log.info("Two tries never send the same rows: the store of %s creates an object only once.", folder)


def dry_run(config: RowRunConfig, log: Log) -> dict[str, object]:
    """Validate and count the input of a run; send and write nothing.

    :param config: the settings
    :param log: the task's log
    :return: what the task returns
    :raises RowError: if the input cannot be used, or is larger than the budget
    """
    folder = OutputFolder(config.output, config.output_conn_id)
    source = _open_input(config, folder, None, log)
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
        "input": source.name(),
        "model": config.model,
    }


def _checked_input(config: RowRunConfig, source: Source, log: Log) -> InputSummary:
    """Validate the input of a run and compare it with what may be sent.

    :raises RowError: if the input cannot be used, or is larger than the budget
    """
    if isinstance(source, FailedRowsSource):
        source.check_unmoved(config.prompt, config.max_prompt_chars)
    summary = validate_input(
        source,
        config.prompt,
        passthrough=config.passthrough,
        max_prompt_chars=config.max_prompt_chars,
        keep_bad=config.keep_bad_rows,
        limit_rows=config.limit_rows,
    )
    _check_bad_rows(summary, config, source, log)
    refusal = config.budget.refusal(summary.total_rows, summary.characters, config.endpoint)
    if refusal is not None:
        raise InputError(f"{refusal} ({source.describe()}). Nothing was sent.")
    return summary


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


def _open_input(config: RowRunConfig, folder: OutputFolder, stack: ExitStack | None, log: Log) -> Source:
    """Open the rows to send. Without a stack for the folder's lock, nothing is written to the folder."""
    whole = _open_whole_input(config, folder, stack, log)
    if config.only_failed_of is None:
        return whole
    earlier = OutputFolder(config.only_failed_of, config.output_conn_id)
    prompt = whole.bind(config.prompt)
    return FailedRowsSource(whole, read_failed_rows(earlier, (*prompt.columns, *prompt.optional_columns)))


def _open_whole_input(
    config: RowRunConfig, folder: OutputFolder, stack: ExitStack | None, log: Log
) -> Source:
    if stack is None or config.read_once is None:
        source = open_source(
            config.read_once or config.input,
            conn_id=config.input_conn_id,
            keep_bad=config.reads_bad_rows,
            options=config.input_options,
        )
        if config.input_title is not None and isinstance(source, FileSource):
            source.entitle(config.input_title)
        return source
    stack.enter_context(folder.lock())  # two tries must not begin with different rows
    found = load(folder)
    return open_kept_rows(
        config.read_once,
        folder,
        conn_id=config.output_conn_id,
        known_version=None if found is None else whole_input_version(found.header.input_version),
        keep_bad=config.reads_bad_rows,
        log=log,
    )
