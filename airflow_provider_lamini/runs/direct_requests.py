"""A chunked run over an endpoint that answers at once: many requests under way, held by one worker."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING

from airflow_provider_lamini.api.client import AsyncClient
from airflow_provider_lamini.api.errors import (
    BadRequestError,
    InvalidRequestError,
    NotThePlatformError,
    PlatformTimeoutError,
    ProtocolError,
    RateLimitedError,
    UnavailableError,
)
from airflow_provider_lamini.exceptions import TaskKilledError, WaitTimeoutError
from airflow_provider_lamini.jobs.progress import Progress
from airflow_provider_lamini.rows.endpoints import RowResult, note
from airflow_provider_lamini.rows.output.chunk_result import ChunkResult
from airflow_provider_lamini.runs.event_loop import run_in_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from airflow_provider_lamini.api.settings import ClientSettings
    from airflow_provider_lamini.rows.endpoints import DirectEndpoint
    from airflow_provider_lamini.rows.ledger.document import Chunk
    from airflow_provider_lamini.rows.values import Row
    from airflow_provider_lamini.runs.outcome import Log
    from airflow_provider_lamini.runs.row_run import Failures, Rows

    Begun = tuple[Chunk, Sequence[Row], list[str]]

CHUNKS_AT_ONCE = 2
"""While the last rows of one chunk are answered, the next one keeps the requests going."""

REFUSALS = (BadRequestError, InvalidRequestError)
"""The platform will not take this row, however often it is sent."""

ROW_PATIENCE = 10.0
"""Seconds that one row is asked for again while the platform answers 5xx; then it is seen whether others are answered."""

LEAST_FAILURES = 2
"""A row that fails while others are answered does so at least so often: an outage may have begun in between."""

CHECK_EVERY = 1.0
"""Seconds after which it is made sure again, before a request, that no other process has taken the output folder over."""


class _RowFailedError(Exception):
    """The platform fails at this row again and again, and answers others."""


FINAL = (*REFUSALS, _RowFailedError)
"""Errors after which a row is not sent again."""

TRANSIENT_ERRORS = (PlatformTimeoutError, RateLimitedError, UnavailableError)
"""Errors that pass by themselves, unless they are the row's own."""

ROW_ERRORS = (*FINAL, PlatformTimeoutError, ProtocolError)
"""Errors that concern one row. All others concern every row, and end the run."""


class DirectRun:
    """Rows as requests, each with as many rows as the endpoint takes at once.

    :param rows: input, output and ledger
    :param settings: how to reach the platform
    :param endpoint: makes a request of prompts
    :param max_in_flight: requests under way at once
    :param row_retries: how often a row that failed alone is sent again
    :param failures: ends the run when too many rows have failed
    :param killed: whether the task was killed: then nothing more is sent
    :param log: the task's log
    """

    def __init__(
        self,
        rows: Rows,
        *,
        settings: ClientSettings,
        endpoint: DirectEndpoint,
        max_in_flight: int,
        row_retries: int,
        failures: Failures,
        killed: Callable[[], bool],
        log: Log,
    ) -> None:
        self._rows = rows
        self._patience = settings.retry_budget
        self._settings = replace(
            settings, max_connections=max_in_flight, retry_budget=min(settings.retry_budget, ROW_PATIENCE)
        )
        self._answered: Sequence[str] | None = None
        self._answered_at = self._check_again_at = 0.0
        self._failing_since: float | None = None
        self._endpoint = endpoint
        self._max_in_flight = max_in_flight
        self._tries = row_retries + 1
        self._failures = failures
        self._killed = killed
        self._log = log
        self._done = rows.ledger.totals.rows

    def run(self, *, since: float, deadline: float, report_every: float) -> None:
        """Work until every row is done.

        :param since: when this try began, seconds since 1970
        :param deadline: when to stop, seconds since 1970
        :param report_every: seconds between two lines in the log
        :raises WaitTimeoutError: at the deadline
        :raises PlatformError: where the platform fails in a way that concerns every row
        :raises TooManyFailedRowsError: as soon as too many rows have failed
        """
        try:
            run_in_thread(self._run(since, deadline, report_every))
        except TimeoutError as error:
            raise WaitTimeoutError(
                "The task's timeout has passed. The chunks that are done are kept; a retry sends the rest."
            ) from error

    async def _run(self, since: float, deadline: float, report_every: float) -> None:
        self._slots = asyncio.Semaphore(self._max_in_flight)
        async with asyncio.timeout(deadline - time.time()), AsyncClient(self._settings) as client:
            reporter = asyncio.create_task(self._report(since, report_every))
            running: set[asyncio.Task[None]] = set()
            try:
                for begun in chain(self._left_open(), self._new()):
                    running.add(asyncio.create_task(self._chunk(client, begun)))
                    if len(running) >= CHUNKS_AT_ONCE:
                        running = await self._settle(running)
                while running:
                    running = await self._settle(running)
            finally:
                for task in (reporter, *running):
                    task.cancel()
                await asyncio.gather(reporter, *running, return_exceptions=True)

    def _left_open(self) -> Iterator[Begun]:
        """The chunks that an earlier try has begun and not finished."""
        for chunk in list(self._rows.ledger.chunks):
            yield chunk, *self._rows.read(chunk)

    def _new(self) -> Iterator[Begun]:
        """The chunks that come next, each begun when it is asked for."""
        while coming := self._rows.coming():
            found, prompts = coming
            yield self._rows.begin(found, prompts), found.rows, prompts

    async def _settle(self, running: set[asyncio.Task[None]]) -> set[asyncio.Task[None]]:
        done, pending = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
        if not self._rows.ledger.finished:  # else the manifest is written first
            self._failures.check()
        return pending

    async def _chunk(self, client: AsyncClient, begun: Begun) -> None:
        chunk, rows, prompts = begun
        several = self._endpoint.per_request
        groups = [prompts[at : at + several] for at in range(0, len(prompts), several)]
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._group(client, each)) for each in groups]
        except BaseExceptionGroup as several_errors:
            # It concerns every row, so the requests under way say much the same.
            raise several_errors.exceptions[0] from None
        result, retried = ChunkResult.pending(len(rows)), 0
        for offset, (row, tries) in enumerate(chain.from_iterable(task.result() for task in tasks)):
            retried += tries > 1
            note(result, offset, row)
        with self._rows.finishing(chunk, rows, result, retried):
            pass

    async def _group(self, client: AsyncClient, prompts: Sequence[str]) -> list[tuple[RowResult, int]]:
        """Ask for some rows in one request; each with how often it was sent."""
        outcomes = await self._ask(client, prompts, 1)
        self._done += len(prompts)
        return outcomes

    async def _send(self, client: AsyncClient, prompts: Sequence[str]) -> list[RowResult]:
        """Send one request, if the output folder is still this process's."""
        if self._killed():
            raise TaskKilledError("The task was killed; what is done is kept, and nothing more is sent.")
        if time.monotonic() >= self._check_again_at:
            self._rows.ledger.check()
            self._check_again_at = time.monotonic() + CHECK_EVERY
        answered = await client.send(self._endpoint.ask(prompts))
        self._answered, self._answered_at, self._failing_since = prompts, time.monotonic(), None
        return answered

    async def _answer(self, client: AsyncClient, prompts: Sequence[str]) -> list[RowResult]:
        """Send a request until it is answered; a row that fails alone, while others are answered, has failed.

        :raises PlatformError: where no row has been answered for as long as the connection's ``retry_budget``
        """
        failed = 0
        while True:
            async with self._slots:  # between two tries, others have their turn
                began = time.monotonic()
                try:
                    return await self._send(client, prompts)
                except TRANSIENT_ERRORS as error:
                    failure = error
            if self._failing_since is None:
                self._failing_since = began
            reached = isinstance(failure, UnavailableError) and failure.status is not None
            if reached and await self._others_are_answered(client, began):
                failed += 1
                if failed >= max(self._tries, LEAST_FAILURES):
                    raise _RowFailedError(str(failure)) from failure
            elif time.monotonic() - self._failing_since >= self._patience:
                raise failure
            if failure.retry_after:
                await asyncio.sleep(min(failure.retry_after, self._patience))

    async def _others_are_answered(self, client: AsyncClient, since: float) -> bool:
        """Whether a row was answered while another one failed. Where no other was, the last good one is asked again."""
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
        except NotThePlatformError:  # no row is at fault
            raise
        except ROW_ERRORS as error:
            if len(prompts) > 1:
                # One row may spoil the request for all: halves find it in a few steps.
                middle = len(prompts) // 2
                return [
                    *await self._ask(client, prompts[:middle], tries),
                    *await self._ask(client, prompts[middle:], tries),
                ]
            answered = [RowResult(None, None, str(error))]
            if isinstance(error, FINAL):
                return [(answered[0], tries)]
        return [
            (row, tries)
            if row.error is None or tries >= self._tries
            else (await self._ask(client, [prompt], tries + 1))[0]
            for prompt, row in zip(prompts, answered, strict=True)
        ]

    async def _report(self, since: float, every: float) -> None:
        total, before = self._rows.ledger.header.total, self._done
        with suppress(asyncio.CancelledError):
            while True:
                await asyncio.sleep(every)
                progress = Progress(jobs=0, done=self._done, total=total, skipped=before, since=since)
                self._log.info("%s", progress.line({}))
