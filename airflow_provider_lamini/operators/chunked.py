"""The run of a chunked operator: harvest what is done, refill, and say what to wait for.

Whatever outlives a process lies in the ledger and in the output folder; a run is made anew each time a task
wakes up.
"""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from airflow_provider_lamini.api.errors import PlatformError
from airflow_provider_lamini.exceptions import JobFailedError, JobLostError, TooManyFailedRowsError
from airflow_provider_lamini.jobs.kinds import kind_named
from airflow_provider_lamini.jobs.progress import Progress
from airflow_provider_lamini.jobs.state import JobState, JobStatus
from airflow_provider_lamini.operators.base import Waiting
from airflow_provider_lamini.operators.endpoints import note
from airflow_provider_lamini.rows.errors import InputChangedError
from airflow_provider_lamini.rows.folder import OutputFolder
from airflow_provider_lamini.rows.ledger import Ledger, fingerprint
from airflow_provider_lamini.rows.parts import ChunkResult
from airflow_provider_lamini.rows.record import Header, load
from airflow_provider_lamini.rows.source import open_source
from airflow_provider_lamini.rows.survey import needed_columns, survey

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from airflow_provider_lamini.api.client import Client
    from airflow_provider_lamini.jobs.event import EndedJob, JobEvent, LostJob
    from airflow_provider_lamini.operators.base import Log
    from airflow_provider_lamini.operators.endpoints import JobEndpoint
    from airflow_provider_lamini.rows.batch import Row, SourceChunk
    from airflow_provider_lamini.rows.limits import FailureLimit
    from airflow_provider_lamini.rows.parts import PartWriter
    from airflow_provider_lamini.rows.prompt import PromptTemplate
    from airflow_provider_lamini.rows.record import Chunk
    from airflow_provider_lamini.rows.source import Source


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Where rows come from and where their results go.

    :param source: the input
    :param prompt: how a row becomes a prompt
    :param passthrough: columns that go into the output
    :param folder: the output
    :param ledger: what is done
    :param writer: writes the parts
    """

    source: Source
    prompt: PromptTemplate
    passthrough: Sequence[str]
    folder: OutputFolder
    ledger: Ledger
    writer: PartWriter

    def read(self, chunk: Chunk) -> tuple[list[Row], list[str]]:
        """The rows of a chunk that was begun, and their prompts.

        :raises InputChangedError: where they are no longer those that the chunk was begun with
        """
        columns = needed_columns(self.prompt, self.passthrough)
        found = next(self.source.chunks(chunk.rows, chunk.start, columns=columns), None)
        rows = found.rows if found else []
        prompts = self.prompt.render_all(rows)
        if fingerprint(prompts) != chunk.fingerprint:
            raise InputChangedError(
                f"In {self.source.describe()}, {_name(chunk)} are not the ones that were sent: the input was changed "
                "while the task ran. Nothing more was sent. Bring the old input back, or run the new one into "
                "another output folder."
            )
        return rows, prompts

    def coming(self, size: int) -> Iterator[tuple[SourceChunk, list[str]]]:
        """The rows that no chunk has yet, in chunks, with their prompts; `begin` begins one of them."""
        columns = needed_columns(self.prompt, self.passthrough)
        for found in self.source.chunks(size, self.ledger.cursor, columns=columns):
            yield found, self.prompt.render_all(found.rows)

    def begin(self, found: SourceChunk, prompts: list[str]) -> Chunk:
        """Record that the chunk that comes next is begun.

        :param found: its rows
        :param prompts: their prompts
        """
        return self.ledger.plan(found.start, found.after, fingerprint(prompts))

    @contextmanager
    def finishing(
        self, chunk: Chunk, rows: Sequence[Row], result: ChunkResult, retried: int
    ) -> Iterator[None]:
        """Write a chunk's part and record that it is done, with whatever the block changes in the ledger.

        :param chunk: the chunk
        :param rows: its rows
        :param result: what they came to
        :param retried: how many of them were sent more than once
        """
        self.ledger.check()
        self.writer.write(chunk.number, chunk.first_row, rows, result)
        with self.ledger.together():
            self.ledger.finish(chunk, result.counts(retried, self.writer.sums(result)))
            yield
        self.writer.unstage(chunk.number, len(chunk.rounds))


def open_rows(
    given: object,
    output: str,
    *,
    prompt: PromptTemplate,
    passthrough: Sequence[str],
    writer: type[PartWriter],
    owner: dict[str, str | int],
    decides: Mapping[str, object],
    chunk_size: int,
    replace_other: bool,
    input_conn_id: str | None,
    output_conn_id: str | None,
    log: Log,
) -> Rows:
    """Open the input and the output of a task, and take the ledger over.

    At the beginning of a run the whole input is read once and checked. A later try finds that in the ledger.

    :param given: the task's input
    :param output: the output folder
    :param prompt: how a row becomes a prompt
    :param passthrough: columns that go into the output
    :param writer: writes the parts
    :param owner: who runs: Dag, task, run and map index
    :param decides: all arguments that decide the results
    :param chunk_size: rows per chunk
    :param replace_other: remove another run's results, where the folder holds such, instead of failing
    :param input_conn_id: the connection for the input's object storage
    :param output_conn_id: the connection for the output's object storage
    :param log: the task's log
    :raises RowError: where the input or the output cannot be used
    """
    source = open_source(given, conn_id=input_conn_id)
    folder = OutputFolder(output, output_conn_id)
    folder.check_apart(source)
    settings = hashlib.blake2b(msgspec.json.encode(decides, order="sorted"), digest_size=16).hexdigest()
    stamp = source.stamp()
    found = load(folder)
    known = found and (found.header.owner, found.header.settings, found.header.chunk_size, found.header.stamp)
    if known == (owner, settings, chunk_size, stamp):
        ledger = Ledger.resume(folder, owner)
        log.info("%d of %d rows are done.", ledger.totals.rows, ledger.header.total)
    else:
        seen = survey(source, prompt, passthrough=passthrough)
        header = Header(owner, settings, seen.content, seen.total, chunk_size, stamp, kinds=seen.kinds)
        ledger = Ledger.open(folder, header, if_other="replace" if replace_other else "fail")
        log.info("Read %s: %d rows. The output goes to %s.", source.describe(), seen.total, folder)
    return Rows(
        source=source,
        prompt=prompt,
        passthrough=passthrough,
        folder=folder,
        ledger=ledger,
        writer=writer.of_run(folder, passthrough, ledger),
    )


class Failures:
    """Ends a run when too many of its rows have failed.

    :param rows: input, output and ledger
    :param limit: how many rows may fail
    """

    def __init__(self, rows: Rows, limit: FailureLimit) -> None:
        self._rows = rows
        self._limit = limit

    @property
    def exceeded(self) -> bool:
        """Whether more rows have failed so far than may."""
        ledger = self._rows.ledger
        return self._limit.exceeded(ledger.totals.failed, ledger.header.total)

    def check(self) -> None:
        """Compare what has failed so far with the limit.

        :raises TooManyFailedRowsError: where it is exceeded
        """
        if not self.exceeded:
            return
        ledger = self._rows.ledger
        failed, total = ledger.totals.failed, ledger.header.total
        under_way = [chunk.job_id for chunk in ledger.chunks if chunk.job_id]
        running = f" Still running, and billing: {', '.join(under_way)}." if under_way else ""
        raise TooManyFailedRowsError(
            f"{failed} of {total} rows failed, and max_failed_rows allows {self._limit}. Why each of them failed "
            f"is in errors-*.jsonl in {self._rows.folder}.{running} To send rows again, choose another folder."
        )


class JobRun:
    """Chunks as jobs of the platform, several under way at once.

    :param rows: input, output and ledger
    :param client: sends calls
    :param endpoint: makes jobs of prompts and results of jobs
    :param chunk_size: rows per chunk
    :param max_in_flight: jobs under way at once
    :param row_retries: how often rows that failed alone are sent again
    :param failures: ends the run when too many rows have failed
    :param submit_unknown: whether a chunk whose job may or may not have been started is submitted again
    :param log: the task's log
    """

    def __init__(
        self,
        rows: Rows,
        *,
        client: Client,
        endpoint: JobEndpoint,
        chunk_size: int,
        max_in_flight: int,
        row_retries: int,
        failures: Failures,
        submit_unknown: bool,
        log: Log,
    ) -> None:
        self._rows = rows
        self._ledger = rows.ledger
        self._client = client
        self._endpoint = endpoint
        self._kind = kind_named(endpoint.kind)
        self._chunk_size = chunk_size
        self._max_in_flight = max_in_flight
        self._row_retries = row_retries
        self._failures = failures
        self._submit_unknown = submit_unknown
        self._log = log
        self._coming: Iterator[tuple[SourceChunk, list[str]]] | None = None
        self._refills = False

    def attach(self) -> None:
        """Take up what an earlier try left: jobs that ended meanwhile, submissions of which nothing is known.

        :raises JobLostError: for such a submission, where it must not be repeated
        """
        for chunk in self._ledger.unknown:
            if not self._submit_unknown:
                raise JobLostError(
                    f"Whether a job was started for {_name(chunk)} is not known: the task stopped while it was "
                    "submitted. If so, it runs and bills. Look at the platform, then clear the task with "
                    "on_unknown_submission='submit'."
                )
            self._log.warning(
                "The job for %s may have been started before; it is submitted again.", _name(chunk)
            )
            self._ledger.forget(chunk)
        for chunk in list(self._ledger.chunks):
            self._go_on(chunk)

    def harvest(self, event: JobEvent) -> None:
        """Fetch the results of the jobs that have ended.

        :param event: what became of the jobs waited for
        :raises JobError: where a job failed or is lost
        """
        by_job = {chunk.job_id: chunk for chunk in self._ledger.chunks if chunk.job_id}
        # Each chunk that is done makes room for the next at once, unless this try is about to fail.
        self._refills = not event.lost and all(
            job.state is JobState.SUCCEEDED for job in event.ended.values()
        )
        for job_id, job in event.ended.items():
            if job_id in by_job:  # else it was harvested before the task was interrupted
                self._harvest(by_job[job_id], job_id, job)
        for job_id, lost in event.lost.items():
            if job_id in by_job:
                self._lose(by_job[job_id], lost)

    def refill(self) -> None:
        """Submit chunks until enough jobs are under way or the input is used up.

        :raises TooManyFailedRowsError: where too many rows have failed already
        """
        if self._ledger.finished:  # the manifest is written first
            return
        self._failures.check()
        while len(self._ledger.chunks) < self._max_in_flight and (coming := self._next()):
            with self._ledger.together():
                chunk = self._begin(*coming)
            self._send(chunk, coming[1])

    def waiting(self, since: float) -> Waiting:
        """What to wait for now.

        :param since: when this try began, seconds since 1970
        """
        chunks = self._ledger.chunks
        header = self._ledger.header
        times = [chunk.rounds[-1].submitted_at or since for chunk in chunks]
        progress = Progress(
            jobs=len(chunks), done=self._ledger.totals.rows, total=header.total, since=header.created_at
        )
        # While there is more to submit, half of the jobs go on while the task wakes up and refills.
        enough = len(chunks) if self._ledger.exhausted else (len(chunks) + 1) // 2
        return Waiting(
            kind=self._endpoint.kind,
            job_ids=[chunk.job_id for chunk in chunks if chunk.job_id],
            # A job that is not known yet must not be taken for one that has vanished: it would be paid for twice.
            submitted_at=max(times),
            enough=enough,
            progress=progress.payload(),
        )

    def _look(self, chunk: Chunk, job_id: str) -> None:
        """Harvest a job at once if it has ended while nobody watched."""
        self._log.info("Attached to job %s for %s.", job_id, _name(chunk))
        try:
            status = self._client.send(self._kind.look(job_id))
        except PlatformError as error:
            self._log.info("Job %s is not settled here, the watch goes on: %s", job_id, error)
            return
        if status.state.ended:
            self._harvest(chunk, job_id, status)

    def _harvest(self, chunk: Chunk, job_id: str, job: EndedJob | JobStatus) -> None:
        if job.state is not JobState.SUCCEEDED:
            self._ledger.forget(chunk)
            reason = f": {job.detail}" if job.detail else ""
            raise JobFailedError(
                f"Job {job_id} for {_name(chunk)} ended as {job.raw}{reason}. A retry sends its rows again."
            )
        sent = list(range(chunk.rows)) if chunk.rounds[-1].rows is None else chunk.rounds[-1].rows
        fetched = self._client.send(self._endpoint.results(job_id, len(sent)))
        rows, prompts = self._rows.read(chunk)
        result = self._before(chunk)
        for offset, row in zip(sent, fetched, strict=True):
            note(result, offset, row)
        failed = result.failed
        if failed and len(chunk.rounds) <= self._row_retries:
            self._log.info("%d row(s) of %s failed and are sent again.", len(failed), _name(chunk))
            self._rows.writer.stage(chunk.number, len(chunk.rounds), result)
            self._submit(chunk, prompts, failed)
            return
        self._finish(chunk, rows, result)

    def _finish(self, chunk: Chunk, rows: Sequence[Row], result: ChunkResult) -> None:
        """Write a chunk's part, and send the next chunk in its place; one change of the ledger for both."""
        coming = begun = None
        with self._rows.finishing(chunk, rows, result, chunk.retried):
            if (
                self._refills
                and len(self._ledger.chunks) < self._max_in_flight
                and not self._failures.exceeded
            ):
                coming = self._next()
                begun = self._begin(*coming) if coming else None
        if coming and begun:
            self._send(begun, coming[1])

    def _next(self) -> tuple[SourceChunk, list[str]] | None:
        """The rows that come next, and their prompts; ``None`` where all are in chunks."""
        if self._ledger.exhausted:
            return None
        if self._coming is None:
            self._coming = self._rows.coming(self._chunk_size)
        return next(self._coming, None)

    def _begin(self, found: SourceChunk, prompts: list[str]) -> Chunk:
        """Record that the next chunk is begun, and is about to be submitted."""
        return self._ledger.intend(self._rows.begin(found, prompts))

    def _before(self, chunk: Chunk) -> ChunkResult:
        """What the chunk's earlier rounds have brought."""
        rounds = len(chunk.rounds) - 1
        staged = self._rows.writer.staged(chunk.number, rounds, chunk.rows) if rounds else None
        return staged or ChunkResult.pending(chunk.rows)

    def _go_on(self, chunk: Chunk) -> None:
        """Do for an open chunk what comes next after its last known submission."""
        if chunk.job_id is not None:
            self._look(chunk, chunk.job_id)
        else:
            _, prompts = self._rows.read(chunk)
            self._submit(chunk, prompts)

    def _submit(self, chunk: Chunk, prompts: Sequence[str], only: list[int] | None = None) -> None:
        """Start a job for a chunk, or for some of its rows; the ledger knows before and after."""
        chunk = self._ledger.intend(chunk, only)
        self._send(chunk, prompts if only is None else [prompts[offset] for offset in only])

    def _send(self, chunk: Chunk, sent: Sequence[str]) -> None:
        """Start the job that the ledger says is intended, and record its id."""
        try:
            job_id = self._client.send(self._endpoint.submit(sent))
        except PlatformError as error:
            if not error.may_have_started:
                self._ledger.forget(chunk)
            self._log.warning("Submitting %s failed.", _name(chunk))
            raise
        self._ledger.submitted(chunk, job_id)

    def _lose(self, chunk: Chunk, lost: LostJob) -> None:
        if not lost.vanished:
            raise JobLostError(
                f"Job {chunk.job_id} for {_name(chunk)} cannot be looked at any more, it may still run and "
                f"bill: {lost.reason} A retry looks again."
            )
        if not self._submit_unknown:
            raise JobLostError(
                f"The platform no longer knows job {chunk.job_id} for {_name(chunk)}: {lost.reason} Its rows must "
                "be sent again; clear the task with on_unknown_submission='submit' for that."
            )
        self._log.warning(
            "Job %s has vanished from the platform; %s is sent again.", chunk.job_id, _name(chunk)
        )
        self._go_on(self._ledger.forget(chunk))


def _name(chunk: Chunk) -> str:
    return f"rows {chunk.first_row} to {chunk.first_row + chunk.rows - 1}"
