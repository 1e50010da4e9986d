"""Chunks as direct requests: the worker sends many requests at the same time and waits for their answers."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING

from airflow_provider_lamini.api.client import AsyncClient
from airflow_provider_lamini.api.errors import (
    NotThePlatformError,
    PlatformTimeoutError,
    ProtocolError,
    RateLimitedError,
    UnavailableError,
    UndecodableError,
)
from airflow_provider_lamini.exceptions import (
    BudgetExceededError,
    JobFailedError,
    TaskKilledError,
    TooManyFailedRowsError,
    WaitTimeoutError,
)
from airflow_provider_lamini.hooks.telemetry import report_requests
from airflow_provider_lamini.jobs.progress import Progress
from airflow_provider_lamini.rows.answers.judging import RowResult, set_result
from airflow_provider_lamini.rows.answers.prices import sum_usage
from airflow_provider_lamini.rows.endpoints import ServedEndpoint
from airflow_provider_lamini.rows.failures import FailureReason, RowFailure
from airflow_provider_lamini.rows.tokens import sum_tokens
from airflow_provider_lamini.runs.chunk_jobs import REFUSALS, TOO_LARGE
from airflow_provider_lamini.runs.event_loop import run_in_thread
from airflow_provider_lamini.runs.open_run import CURRENT_CHECK_INTERVAL, OWNERSHIP_CHECK_INTERVAL

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from airflow_provider_lamini.rows.endpoints import DirectEndpoint
    from airflow_provider_lamini.rows.ledger.document import Chunk
    from airflow_provider_lamini.runs.open_run import ChunkRows, OpenRun
    from airflow_provider_lamini.runs.row_run_config import RowRunConfig
    from airflow_provider_lamini.runs.task import TaskRun

    PlannedChunk = tuple[Chunk, ChunkRows]

CHUNKS_AT_ONCE = 2
"""Two chunks at a time: while the last rows of one are answered, rows of the next one are sent."""

ROW_RETRY_BUDGET = 10.0
"""Seconds during which a row is retried while the platform answers 5xx. Then we check whether it answers other rows."""

MIN_FAILURES = 2
"""How often a row must fail while others are answered. Once is not enough: an outage may have begun in between."""


class _RowFailedError(Exception):
    """The platform keeps failing at this row and answers others."""


class _StoppedError(Exception):
    """A request was not sent, because the run ends."""


UNSENT = RowFailure(FailureReason.NO_ANSWER, "the row is not sent for now")
"""What stands for the result of a row that was not sent."""

LIMITS = (TooManyFailedRowsError, BudgetExceededError)
"""Errors of a run that has reached a limit of its own. What was sent by then is still answered, counted and kept."""

FINAL = (*REFUSALS, _RowFailedError)
"""Errors after which a row is not sent again."""

TRANSIENT_ERRORS = (PlatformTimeoutError, RateLimitedError, UnavailableError)
"""Errors that pass by themselves, unless the row causes them."""

ROW_ERRORS = (*FINAL, PlatformTimeoutError, ProtocolError)
"""Errors that concern one row. All others concern every row and end the run."""


class DirectRequests:
    """Sends the rows of a run as requests, each with as many rows as the endpoint takes.

    :param task: this try of the task
    :param config: the settings
    :param run: the open run
    :param endpoint: makes a request of prompts
    """

    def __init__(self, task: TaskRun, config: RowRunConfig, run: OpenRun, endpoint: DirectEndpoint) -> None:
        settings = task.settings
        self._task = task
        self._config = config
        self._run = run
        self._endpoint = endpoint
        self._prices = task.hook.prices()
        self._retry_budget = settings.retry_budget
        self._settings = replace(
            settings,
            max_connections=config.max_in_flight,
            retry_budget=min(settings.retry_budget, ROW_RETRY_BUDGET),
        )
        self._max_tries = config.row_retries + 1
        self._answered: Sequence[str] | None = None
        self._answered_at = self._served_at = 0.0
        self._failing_since: float | None = None
        self._stopped = False
        self._done = run.ledger.totals.rows
        self._tokens = run.ledger.totals.sums.get("total_tokens", 0.0)

    def run(self) -> None:
        """Send requests until every row is done, or the input changes.

        :raises WaitTimeoutError: at the deadline
        :raises PlatformError: for an error that concerns every row
        :raises JobFailedError: if the model has stopped answering
        :raises TooManyFailedRowsError: as soon as more rows have failed than may
        :raises BudgetExceededError: as soon as more tokens were used than may be
        """
        self._run.check_limits()
        try:
            run_in_thread(self._send_all())
        except TimeoutError as error:
            raise WaitTimeoutError(
                "The task's timeout has passed. Its finished chunks are kept; a retry sends the remaining rows."
            ) from error

    async def _send_all(self) -> None:
        self._slots = asyncio.Semaphore(self._config.max_in_flight)
        self._outage_check = asyncio.Lock()
        remaining = self._task.deadline - time.time()
        async with asyncio.timeout(remaining), AsyncClient(self._settings) as client:
            reporter = asyncio.create_task(self._report())
            running: set[asyncio.Task[None]] = set()
            try:
                for planned in chain(self._open_chunks(), self._new_chunks()):
                    running.add(asyncio.create_task(self._chunk(client, planned)))
                    if len(running) >= CHUNKS_AT_ONCE:
                        running = await self._settle(running)
                while running:
                    running = await self._settle(running)
            finally:
                for task in (reporter, *running):
                    task.cancel()
                await asyncio.gather(reporter, *running, return_exceptions=True)

    def _open_chunks(self) -> Iterator[PlannedChunk]:
        """The chunks that an earlier try has planned and not finished."""
        for chunk in list(self._run.ledger.chunks):
            yield chunk, self._run.read(chunk)

    def _new_chunks(self) -> Iterator[PlannedChunk]:
        """The next chunks, each planned when it is requested, until the input changes."""
        while self._run.is_current(CURRENT_CHECK_INTERVAL) and (upcoming := self._run.upcoming()):
            self._run.save_plan(upcoming, as_job=False)
            with self._run.ledger.transaction(later=True) as change:
                chunk = change.plan(upcoming.start, upcoming.after, upcoming.fingerprint)
            yield chunk, upcoming

    async def _settle(self, running: set[asyncio.Task[None]]) -> set[asyncio.Task[None]]:
        done, pending = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
        if self._run.ledger.finished:  # the manifest is written before the task fails
            return pending
        if not self._stopped:
            try:
                self._run.check_limits()
            except LIMITS:
                self._stopped = True
            else:
                return pending
        if pending:  # what is under way is still answered, and counts
            done, pending = await asyncio.wait(pending)
            for task in done:
                task.result()
        if not self._run.ledger.finished:
            self._run.check_limits()
        return pending

    async def _chunk(self, client: AsyncClient, planned: PlannedChunk) -> None:
        chunk, found = planned
        result = self._run.paused_result(chunk)
        sent: Sequence[int] = range(chunk.rows) if found.sendable is None else found.sendable
        if result is not None:
            sent = chunk.rows_left
        prompts = [found.prompts[offset] for offset in sent]
        self._done += chunk.rows - len(sent)
        size = self._endpoint.per_request
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(self._request(client, prompts[start : start + size]))
                    for start in range(0, len(prompts), size)
                ]
        except BaseExceptionGroup as errors:
            # The error concerns every row, so the other requests fail in the same way.
            raise errors.exceptions[0] from None
        result, retried = result or found.result(), 0
        rows: dict[int, RowResult] = {}
        left: list[int] = []
        answered = chain.from_iterable(task.result() for task in tasks)
        for offset, (row, tries) in zip(sent, answered, strict=True):
            retried += tries > 1
            rows[offset] = row
            set_result(result, offset, row)
            if row.failure is UNSENT:
                left.append(offset)
        sums = sum_usage(rows, self._prices, result.unpriced)
        with self._run.folder.lock() as locked:
            if locked:  # another run may have replaced this one since the rows were sent
                self._run.ledger.check_acquired()
            if left:
                self._run.pause_chunk(chunk, left, result, retried=retried, sums=sums)
            else:
                self._run.finish_chunk(chunk, found.rows, result, retried=retried, sums=sums)

    async def _request(self, client: AsyncClient, prompts: Sequence[str]) -> list[tuple[RowResult, int]]:
        """The results of some rows, each with the number of times that it was sent."""
        results = await self._ask(client, prompts, 1)
        self._done += sum(row.failure is not UNSENT for row, _ in results)
        limit = self._config.budget.tokens
        if limit is not None:
            used = sum_tokens(usage for row, _ in results for usage in row.usages)
            self._tokens += used.get("total_tokens", 0.0)
            self._stopped = self._stopped or self._tokens >= limit
        return results

    async def _send(self, client: AsyncClient, prompts: Sequence[str]) -> list[RowResult]:
        """Send one request, unless the task was killed, another process has acquired the ledger, or a limit is reached."""
        if self._stopped:
            raise _StoppedError
        if self._task.killed:
            raise TaskKilledError(
                "The task was killed; its finished chunks are kept, and nothing more is sent."
            )
        self._run.ledger.check_acquired(max_age=OWNERSHIP_CHECK_INTERVAL)
        answered = await client.send(self._endpoint.ask(prompts))
        self._answered, self._answered_at, self._failing_since = prompts, time.monotonic(), None
        return answered

    async def _answer(self, client: AsyncClient, prompts: Sequence[str]) -> list[RowResult]:
        """Send a request until it is answered. A row that keeps failing while others are answered has failed.

        :raises PlatformError: if no row has been answered for the connection's ``retry_budget``
        """
        failed = 0
        while True:
            async with self._slots:  # other requests may run between two tries
                began = time.monotonic()
                try:
                    return await self._send(client, prompts)
                except TRANSIENT_ERRORS as error:
                    failure = error
            if self._stopped:
                raise _StoppedError
            if self._failing_since is None:
                self._failing_since = time.monotonic()  # the request may have been held back for long
            reached = isinstance(failure, UnavailableError) and failure.status is not None
            if reached and await self._others_are_answered(client, began):
                failed += 1
                if failed >= max(self._max_tries, MIN_FAILURES):
                    raise _RowFailedError(str(failure)) from failure
            elif time.monotonic() - self._failing_since >= self._retry_budget:
                raise failure
            if failure.retry_after:
                await asyncio.sleep(min(failure.retry_after, self._retry_budget))

    async def _others_are_answered(self, client: AsyncClient, since: float) -> bool:
        """Whether other rows are answered while one fails. If none was sent meanwhile, send the last good request again."""
        if self._answered is None:
            return False
        if self._answered_at < since:
            try:
                await self._send(client, self._answered)
            except TRANSIENT_ERRORS:
                return False
        return True

    async def _ask(
        self, client: AsyncClient, prompts: Sequence[str], tries: int
    ) -> list[tuple[RowResult, int]]:
        try:
            answered = await self._answer(client, prompts)
        except _StoppedError:
            return [(RowResult(None, None, UNSENT), tries) for _ in prompts]
        except NotThePlatformError:  # the row is not the cause
            raise
        except ROW_ERRORS as error:
            if isinstance(error, REFUSALS):
                await self._check_outage(client, time.monotonic())
            if len(prompts) > 1:
                # One row may make the whole request fail. Halving the request finds it in a few steps.
                middle = len(prompts) // 2
                return [
                    *await self._ask(client, prompts[:middle], tries),
                    *await self._ask(client, prompts[middle:], tries),
                ]
            answered = [RowResult(None, None, RowFailure(_reason(error), str(error)))]
            if isinstance(error, FINAL):
                return [(answered[0], tries)]
        return [
            (row, tries)
            if row.failure is None or row.failure.reason.permanent or tries >= self._max_tries
            else await self._ask_again(client, prompt, row, tries + 1)
            for prompt, row in zip(prompts, answered, strict=True)
        ]

    async def _check_outage(self, client: AsyncClient, refused_at: float) -> None:
        """Make sure that a refusal is the row's fault, where the model may have stopped answering.

        :param client: asks the platform whether it still serves the model
        :param refused_at: monotonic time of the refusal in seconds; a check that began later counts for it as well
        :raises JobFailedError: if no row can be answered
        """
        if not isinstance(self._endpoint, ServedEndpoint):
            return
        async with self._outage_check:
            if self._served_at >= refused_at:
                return
            began = time.monotonic()
            reason = await client.send(self._endpoint.outage())
            if reason is not None:
                raise JobFailedError(
                    f"{reason} The finished chunks are kept, and a retry sends the remaining rows."
                )
            self._served_at = began

    async def _ask_again(
        self, client: AsyncClient, prompt: str, failed: RowResult, tries: int
    ) -> tuple[RowResult, int]:
        ((row, tries),) = await self._ask(client, [prompt], tries)
        usages = (*failed.usages, *row.usages)
        return row._replace(usages=usages, model=row.model or failed.model), tries

    async def _report(self) -> None:
        total, skipped, since = self._run.ledger.header.total_rows, self._done, time.time()
        with suppress(asyncio.CancelledError):
            while True:
                await asyncio.sleep(self._task.options.poll_interval)
                progress = Progress(jobs=0, done=self._done, total=total, skipped=skipped, since=since)
                self._task.log.info("%s", progress.line({}))
                report_requests()  # the run may take days


def _reason(error: Exception) -> FailureReason:
    """Why a row failed whose request was not answered."""
    if isinstance(error, REFUSALS):
        return FailureReason.PROMPT_TOO_LONG if error.status == TOO_LARGE else FailureReason.REJECTED
    if isinstance(error, PlatformTimeoutError):
        return FailureReason.TIMEOUT
    if isinstance(error, UndecodableError):
        return FailureReason.UNDECODABLE
    return FailureReason.NO_ANSWER if isinstance(error, ProtocolError) else FailureReason.PLATFORM_ERROR
