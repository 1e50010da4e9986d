"""Runs over rows: a task sends the rows of an input to the platform and writes their results."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import AirflowException

from airflow_provider_lamini.api.errors import PlatformError
from airflow_provider_lamini.exceptions import InvalidArgumentError, StorageError
from airflow_provider_lamini.hooks.telemetry import DIRECT, report_rows
from airflow_provider_lamini.rows.answers.judging import RowResult
from airflow_provider_lamini.rows.answers.prices import COST, describe_cost
from airflow_provider_lamini.rows.batch import limited
from airflow_provider_lamini.rows.counts import Counts, describe_failures, describe_tokens
from airflow_provider_lamini.rows.endpoints import JobEndpoint
from airflow_provider_lamini.rows.output.chunk_result import NOT_ANSWERED
from airflow_provider_lamini.rows.output.manifest import write_manifest
from airflow_provider_lamini.rows.prompts.screening import Screened, screen
from airflow_provider_lamini.rows.sources.validation import needed_columns
from airflow_provider_lamini.runs.chunk_jobs import ChunkJobs
from airflow_provider_lamini.runs.direct_requests import DirectRequests
from airflow_provider_lamini.runs.inline import (
    inline_error,
    inline_source,
    report_answers,
    require_outputs,
    send_all,
)
from airflow_provider_lamini.runs.open_run import CURRENT_CHECK_INTERVAL, LAST_CHECK, PASSTHROUGH_CACHE_BYTES
from airflow_provider_lamini.runs.opening import dry_run, open_run
from airflow_provider_lamini.runs.outcome import Done, WaitFor
from airflow_provider_lamini.runs.report import write_reports
from airflow_provider_lamini.runs.run_report import report_of_run
from airflow_provider_lamini.wording import counted

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_lamini.jobs.event import JobEvent
    from airflow_provider_lamini.rows.endpoints import DirectEndpoint
    from airflow_provider_lamini.rows.failures import RowFailure
    from airflow_provider_lamini.rows.output.manifest import Manifest
    from airflow_provider_lamini.rows.values import Row
    from airflow_provider_lamini.runs.open_run import OpenRun
    from airflow_provider_lamini.runs.row_run_config import RowRunConfig
    from airflow_provider_lamini.runs.task import TaskRun


def manifest_result(manifest: Manifest) -> dict[str, object]:
    """The result of a task whose rows are in a folder."""
    return dict(manifest.for_xcom())


class RowRun:
    """Sends the rows of an input in chunks and writes one output row for each of them, in order.

    :param task: this try of the task
    :param config: the settings
    :param result: makes the task's result of the manifest
    :param follows_another: whether the run starts after another run of the same task, so that it need not exist when
        the task resumes after a deferral
    """

    def __init__(
        self,
        task: TaskRun,
        config: RowRunConfig,
        *,
        result: Callable[[Manifest], dict[str, object]] = manifest_result,
        follows_another: bool = False,
    ) -> None:
        self._task = task
        self._config = config
        self._result = result
        self._follows_another = follows_another
        self._run: OpenRun | None = None
        self._has_begun = False
        self._known = Counts()

    def advance(self, event: JobEvent | None) -> WaitFor | Done[dict[str, object]]:
        """Fetch the results of ended jobs and submit more, or send direct requests until all rows are done.

        :param event: what happened to the jobs; ``None`` at the start of a try
        :raises TooManyFailedRowsError: if more rows have failed than may
        """
        config, log = self._config, self._task.log
        if config.dry_run:
            return Done(dry_run(config, log))
        with ExitStack() as stack:
            while True:
                run = self._open(event, stack)
                wait = self._send(run, event, stack)
                if wait is not None:
                    run.close()
                    return wait
                if run.is_current(LAST_CHECK if run.folder.remote else 0.0):
                    break
                # The input has changed while its rows were sent. Opening the run again extends it, or raises an error.
                event = None
                stack.close()
            manifest = write_manifest(
                run.folder,
                run.ledger,
                model=config.model,
                source=run.source.name(),
                suffix=run.writer.suffix,
                settings=config.settings(self._task.settings.base_url),
                only_failed_of=config.only_failed_of or run.source.failed_in,
                index=lambda row: run.source.indices(row, 1)[0],
                write_reports=lambda manifest: write_reports(
                    run.folder, report_of_run(run, manifest, self._task.hook.platform_name)
                ),
            )
        run.check_limits()
        counts = manifest.counts
        why = f" ({describe_failures(counts.failures)})" if counts.failed else ""
        if "total_tokens" in counts.sums:
            log.info("The platform counted %s.", describe_tokens(counts.sums))
            limit = config.budget.tokens
            if limit is not None and counts.sums["total_tokens"] > limit:
                log.warning(
                    "That is more than max_total_tokens=%d, but all rows were answered by then.", limit
                )
        if cost := describe_cost(counts.sums):
            said = "the tokens cost" if COST in counts.sums else "the cost of the tokens is"
            log.info("At the connection's prices, %s %s.", said, cost)
        was_done = 0 < self._known.rows == counts.rows
        log.info(
            "%s %s to %s; %s failed%s.",
            "Earlier, this task wrote" if was_done else "Wrote",
            *(counted(counts.rows, "row"), manifest.output, f"{counts.failed:,}", why),
        )
        return Done(self._result(manifest))

    def prepare(self) -> bool:
        """Open the run without sending anything: when it begins, this validates the input. A dry run opens nothing.

        :return: whether rows are left to send
        """
        if self._config.dry_run:
            return False
        with ExitStack() as stack:
            run = self._open(None, stack)
            return not run.ledger.finished

    def on_deadline(self, event: JobEvent) -> str:
        """Leave the jobs running: a retry attaches to them."""
        return jobs_kept(event)

    def close(self) -> None:
        """Close what is open."""
        if self._run is not None:
            totals = self._run.ledger.totals
            self._task.written[self._run.folder.location] = totals
            report_rows(self._task.hook.platform_name, row_kind(self._config.endpoint), self._known, totals)
            self._run.end()
            self._run = None

    def _open(self, event: JobEvent | None, stack: ExitStack) -> OpenRun:
        """Open the run, unless this process has it open since an earlier step."""
        run = self._run
        if run is not None and run.is_current(CURRENT_CHECK_INTERVAL if run.folder.remote else 0.0):
            stack.enter_context(run.folder.lock())
            run.ledger.check_acquired()
            return run
        self.close()
        task = self._task
        resumed = event is not None and not self._follows_another
        self._run = open_run(
            self._config,
            owner=task.identity.as_dict(),
            platform_url=task.settings.base_url,
            must_exist=resumed or self._has_begun,
            cache_bytes=0 if task.options.deferrable else PASSTHROUGH_CACHE_BYTES,
            stack=stack,
            log=task.log,
        )
        self._known = self._run.ledger.totals
        self._has_begun = task.begun = True
        return self._run

    def _send(self, run: OpenRun, event: JobEvent | None, stack: ExitStack) -> WaitFor | None:
        """Send rows until all are done, or the task has to wait. The stack has the folder's lock."""
        endpoint = self._config.endpoint
        if isinstance(endpoint, JobEndpoint):
            # The lock is held until everything that was submitted is recorded.
            return self._advance_jobs(run, endpoint, event)
        stack.close()
        DirectRequests(self._task, self._config, run, endpoint).run()
        stack.enter_context(run.folder.lock())
        return None

    def _advance_jobs(self, run: OpenRun, endpoint: JobEndpoint, event: JobEvent | None) -> WaitFor | None:
        jobs = ChunkJobs(self._task, self._config, run, endpoint)
        try:
            if event is None:
                jobs.attach()
            else:
                jobs.collect(event)
            jobs.refill()
        except (PlatformError, AirflowException) as error:
            if not isinstance(error, StorageError):
                run.ledger.commit()
            raise
        return None if run.ledger.finished else jobs.wait_for()


class InlineRun:
    """Answers a few rows at once, without an output folder.

    :param task: this try of the task
    :param config: the settings
    :param endpoint: sends the prompts, instead of the endpoint in the settings
    :param max_rows: maximum number of rows
    :param result: makes the task's result of the results of the rows
    """

    def __init__(
        self,
        task: TaskRun,
        config: RowRunConfig,
        endpoint: DirectEndpoint,
        *,
        max_rows: int,
        result: Callable[[list[RowResult]], dict[str, object]],
    ) -> None:
        self._task = task
        self._config = config
        self._endpoint = endpoint
        self._max_rows = max_rows
        self._result = result
        self._characters = 0

    def advance(self, event: JobEvent | None) -> Done[dict[str, object]]:
        """Send all requests and wait for their answers.

        :param event: not used, because there are no jobs
        :raises AnswerError: if more rows have no usable answer than may fail
        """
        del event
        config, size = self._config, self._endpoint.per_request
        prompts, failures = self._screened
        if config.dry_run:
            counted = Counter(failure.reason.value for failure in failures.values())
            found = {"rows": len(prompts), "characters": self._characters, "failures": dict(counted)}
            return Done({"dry_run": True, **found})
        results = [
            RowResult(None, None, failures.get(offset, NOT_ANSWERED)) for offset in range(len(prompts))
        ]
        sent = [offset for offset in range(len(prompts)) if offset not in failures]
        calls = [
            self._endpoint.ask([prompts[offset] for offset in sent[start : start + size]])
            for start in range(0, len(sent), size)
        ]
        answers = send_all(self._task.settings, calls, at_once=config.max_in_flight, log=self._task.log)
        for offset, result in zip(sent, chain.from_iterable(answers), strict=True):
            results[offset] = result
        self._task.answered = report_answers(self._task.hook.platform_name, results)
        return Done(self._result(require_outputs(results, config.failure_limit)))

    def prepare(self) -> bool:
        """Read and validate the rows without sending anything.

        :return: whether there are rows to send
        """
        prompts, failures = self._screened
        return not self._config.dry_run and len(failures) < len(prompts)

    @cached_property
    def _screened(self) -> Screened:
        """The prompts of the rows, which are read once."""
        config = self._config
        given, keep_bad = config.input, config.reads_bad_rows
        if config.read_once is not None:
            given = config.read_once.first_rows(self._max_rows + 1, keep_bad=keep_bad)
        source = inline_source(
            given, self._max_rows, config.input_options, keep_bad=keep_bad, limit_rows=config.limit_rows
        )
        prompt = source.bind(config.prompt)
        rows: list[Row] = []
        bad: dict[int, RowFailure] = {}
        for batch in limited(source.batches(columns=needed_columns(prompt)), config.limit_rows):
            bad |= {len(rows) + offset: failure for offset, failure in batch.bad.items()}
            rows += batch.rows
        screened = screen(rows, bad, prompt, config.max_prompt_chars)
        if screened.failures and not config.keep_bad_rows:
            raise inline_error(rows, prompt, screened.failures, bad)
        self._characters = sum(prompt.lengths([text for text in screened.prompts if text]))
        if refusal := config.budget.refusal(len(rows), self._characters, self._endpoint):
            raise InvalidArgumentError(f"{refusal}. Nothing was sent.")
        return screened

    def on_deadline(self, event: JobEvent) -> str:
        return jobs_kept(event)

    def close(self) -> None:
        """Nothing is open."""


def row_kind(endpoint: JobEndpoint | DirectEndpoint) -> str:
    """The kind of the rows of an endpoint, for metrics.

    :param endpoint: sends the rows
    """
    return endpoint.kind.rpartition("/")[2] if isinstance(endpoint, JobEndpoint) else DIRECT


def jobs_kept(event: JobEvent) -> str:
    """What the error says about jobs that still run when the timeout has passed.

    :param event: the state of the jobs
    """
    if len(event.pending) == 1:
        return f"Job {event.pending[0]} may still run and bill; a retry attaches to it."
    names = f"The jobs {', '.join(event.pending)}" if event.pending else "Its jobs"
    return f"{names} may still run and bill; a retry attaches to them."
