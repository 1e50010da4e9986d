"""A chunked run over jobs of the platform: harvest what is done, refill, and say what to wait for.

Whatever outlives a process lies in the ledger and in the output folder; a run is made anew each time a task
wakes up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_lamini.api.errors import PlatformError, ProtocolError
from airflow_provider_lamini.exceptions import JobFailedError, JobLostError, TaskKilledError
from airflow_provider_lamini.jobs.polling import TRANSIENT_ERRORS
from airflow_provider_lamini.jobs.progress import Progress
from airflow_provider_lamini.jobs.state import JobState, JobStatus
from airflow_provider_lamini.platforms import job_kind
from airflow_provider_lamini.rows.output.chunk_result import ChunkResult
from airflow_provider_lamini.runs.outcome import WaitFor
from airflow_provider_lamini.runs.row_run import chunk_name

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airflow_provider_lamini.api.call import PromptList
    from airflow_provider_lamini.api.client import Client
    from airflow_provider_lamini.jobs.answers import Answers
    from airflow_provider_lamini.jobs.event import EndedJob, JobEvent, LostJob
    from airflow_provider_lamini.rows.endpoints import JobEndpoint
    from airflow_provider_lamini.rows.ledger.document import Chunk
    from airflow_provider_lamini.rows.sources.batch import SourceChunk
    from airflow_provider_lamini.rows.values import Row
    from airflow_provider_lamini.runs.outcome import Log
    from airflow_provider_lamini.runs.row_run import Failures, Rows


class JobRun:
    """Chunks as jobs of the platform, several under way at once.

    :param rows: input, output and ledger
    :param client: sends calls
    :param endpoint: makes jobs of prompts and results of jobs
    :param answers: what the watch has left of looks at jobs that had ended
    :param max_in_flight: jobs under way at once
    :param row_retries: how often rows that failed alone are sent again
    :param failures: ends the run when too many rows have failed
    :param submit_unknown: whether a chunk whose job may or may not have been started is submitted again
    :param killed: whether the task was killed: then nothing more is submitted
    :param log: the task's log
    """

    def __init__(
        self,
        rows: Rows,
        *,
        client: Client,
        endpoint: JobEndpoint,
        answers: Answers,
        max_in_flight: int,
        row_retries: int,
        failures: Failures,
        submit_unknown: bool,
        killed: Callable[[], bool],
        log: Log,
    ) -> None:
        self._rows = rows
        self._ledger = rows.ledger
        self._client = client
        self._endpoint = endpoint
        self._answers = answers
        self._kind = job_kind(endpoint.kind)
        self._max_in_flight = max_in_flight
        self._row_retries = row_retries
        self._failures = failures
        self._submit_unknown = submit_unknown
        self._killed = killed
        self._platform_answers = True
        self._log = log
        self._refills = False

    def attach(self, now: float) -> None:
        """Take up what an earlier try left: jobs that ended meanwhile, submissions of which nothing is known.

        :param now: when this try began, seconds since 1970
        :raises JobLostError: for such a submission, where it must not be repeated
        """
        self._ledger.begin_try(now)
        for chunk in self._ledger.unknown:
            told = self._ledger.read_left_job_id(chunk)
            if told == "":
                self._ledger.forget(chunk)
                continue
            if told is not None:
                self._log.info("The try before has left the id of job %s for %s.", told, chunk_name(chunk))
                self._ledger.submitted(chunk, told)
                continue
            if not self._submit_unknown:
                raise JobLostError(
                    f"Whether a job was started for {chunk_name(chunk)} is not known: the task stopped while it was "
                    "submitted. If so, it runs and bills. Look at the platform, then clear the task with "
                    "on_unknown_submission='submit'."
                )
            self._log.warning(
                "The job for %s may have been started before; it is submitted again.", chunk_name(chunk)
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
        # In the order of the rows, which is the fastest to read. Jobs that no chunk has were harvested before the
        # task was interrupted.
        for job_id, chunk in by_job.items():
            if job_id in event.ended:
                self._harvest(chunk, job_id, event.ended[job_id])
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
        while len(self._ledger.chunks) < self._max_in_flight and (coming := self._rows.coming()):
            with self._ledger.together():
                chunk = self._begin(*coming)
            self._send(chunk, coming[1])

    def waiting(self, since: float) -> WaitFor:
        """What to wait for now.

        :param since: when this try began, seconds since 1970
        """
        chunks = self._ledger.chunks
        began, before = self._ledger.try_began
        times = [chunk.rounds[-1].submitted_at or since for chunk in chunks]
        progress = Progress(
            jobs=len(chunks),
            done=self._ledger.totals.rows,
            total=self._ledger.header.total,
            skipped=before,
            since=began or since,
        )
        # While there is more to submit, half of the jobs go on while the task wakes up and refills.
        min_ended = len(chunks) if self._ledger.exhausted else (len(chunks) + 1) // 2
        return WaitFor(
            kind=self._endpoint.kind,
            job_ids=[chunk.job_id for chunk in chunks if chunk.job_id],
            # A job that is not known yet must not be taken for one that has vanished: it would be paid for twice.
            submitted_at=max(times),
            min_ended=min_ended,
            progress=progress.payload(),
        )

    def _look(self, chunk: Chunk, job_id: str) -> None:
        """Harvest a job at once if it has ended while nobody watched."""
        self._log.info("Attached to job %s for %s.", job_id, chunk_name(chunk))
        if not self._platform_answers:  # the watch sits an outage out, and holds no worker meanwhile
            return
        try:
            status = self._client.send(self._kind.status(job_id))
        except PlatformError as error:
            self._platform_answers = not isinstance(error, TRANSIENT_ERRORS)
            self._log.info("Job %s is not settled here, the watch goes on: %s", job_id, error)
            return
        if status.state.ended:
            self._harvest(chunk, job_id, status)

    def _harvest(self, chunk: Chunk, job_id: str, job: EndedJob | JobStatus) -> None:
        if job.state is not JobState.SUCCEEDED:
            self._ledger.forget(chunk)
            reason = f": {job.detail}" if job.detail else ""
            raise JobFailedError(
                f"Job {job_id} for {chunk_name(chunk)} ended as {job.raw}{reason}. A retry sends its rows again."
            )
        sent = chunk.rounds[-1].rows
        result = self._fetch(chunk, job_id, chunk.rows if sent is None else len(sent))
        if sent is not None:
            result = self._before(chunk).with_rows(sent, result)
        failed = result.failed
        if failed and len(chunk.rounds) <= self._row_retries:
            _, prompts = self._rows.read(chunk)
            self._log.info("%d row(s) of %s failed and are sent again.", len(failed), chunk_name(chunk))
            self._rows.writer.save_partial(chunk.number, len(chunk.rounds), result)
            self._submit(chunk, prompts, failed)
            return
        self._finish(chunk, self._rows.passthrough_rows(chunk), result)

    def _fetch(self, chunk: Chunk, job_id: str, sent: int) -> ChunkResult:
        """The outcomes of a job's rows; all failed where the platform keeps to another number of rows."""
        call = self._endpoint.results(job_id, sent)
        try:
            looked = self._answers.read(call)
            return self._client.send(call) if looked is None else looked
        except PlatformError as error:
            answered = self._rows_told(job_id) if isinstance(error, ProtocolError) else None
            if answered in (None, sent):
                self._log.warning(
                    "Job %s for %s has ended and bills no more, but its results could not be fetched. A retry fetches them.",
                    *(job_id, chunk_name(chunk)),
                )
                raise
        self._log.warning(
            "Job %s answered %d rows for the %d of %s.", job_id, answered, sent, chunk_name(chunk)
        )
        error_text = f"the platform answered {answered} rows for {sent}"
        return ChunkResult([None] * sent, [None] * sent, [error_text] * sent)

    def _rows_told(self, job_id: str) -> int | None:
        """How many rows an ended job has by its own account; ``None`` where it says nothing of the kind."""
        try:
            status = self._client.send(self._kind.status(job_id))
        except PlatformError:
            return None
        return status.total if status.state.ended else None

    def _finish(self, chunk: Chunk, rows: Sequence[Row], result: ChunkResult) -> None:
        """Write a chunk's part, and send the next chunk in its place; one change of the ledger for both."""
        coming = begun = None
        with self._rows.finishing(chunk, rows, result, chunk.retried):
            if (
                self._refills
                and len(self._ledger.chunks) < self._max_in_flight
                and not self._failures.exceeded
            ):
                coming = self._rows.coming()
                begun = self._begin(*coming) if coming else None
        if coming and begun:
            self._send(begun, coming[1])

    def _begin(self, found: SourceChunk, prompts: PromptList) -> Chunk:
        """Record that the next chunk is begun, and is about to be submitted."""
        chunk = self._rows.begin(found, prompts)
        self._rows.remembered.keep(chunk.number, found.rows)
        return self._ledger.intend(chunk)

    def _before(self, chunk: Chunk) -> ChunkResult:
        """What the chunk's earlier rounds have brought."""
        rounds = len(chunk.rounds) - 1
        saved = self._rows.writer.load_partial(chunk.number, rounds, chunk.rows) if rounds else None
        return saved or ChunkResult.pending(chunk.rows)

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
        if self._killed():
            # Airflow lets a killed task run on for a while: it must not start what will be paid for.
            self._ledger.forget(chunk)
            raise TaskKilledError(f"The task was killed: {chunk_name(chunk)} were not submitted.")
        try:
            job_id = self._client.send(self._endpoint.submit(sent))
        except PlatformError as error:
            if not error.may_have_started:
                self._ledger.forget(chunk)
            self._log.warning("Submitting %s failed.", chunk_name(chunk))
            raise
        self._ledger.submitted(chunk, job_id)

    def _lose(self, chunk: Chunk, lost: LostJob) -> None:
        if not lost.vanished:
            raise JobLostError(
                f"Job {chunk.job_id} for {chunk_name(chunk)} cannot be looked at any more, it may still run and "
                f"bill: {lost.reason} A retry looks again."
            )
        if not self._submit_unknown:
            raise JobLostError(
                f"The platform no longer knows job {chunk.job_id} for {chunk_name(chunk)}: {lost.reason} Its rows must "
                "be sent again; clear the task with on_unknown_submission='submit' for that."
            )
        self._log.warning(
            "Job %s has vanished from the platform; %s is sent again.", chunk.job_id, chunk_name(chunk)
        )
        self._go_on(self._ledger.forget(chunk))
