"""Chunks as jobs of the platform: submit, attach, collect results, and say what to wait for.

Everything that must outlive the process is in the ledger and the output folder.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_lamini.api.errors import PlatformError, ProtocolError
from airflow_provider_lamini.exceptions import JobFailedError, JobLostError, TaskKilledError
from airflow_provider_lamini.jobs.polling import TRANSIENT_ERRORS
from airflow_provider_lamini.jobs.progress import Progress
from airflow_provider_lamini.jobs.state import JobState, JobStatus
from airflow_provider_lamini.platforms import job_kind
from airflow_provider_lamini.rows.failures import FailureReason, RowFailure
from airflow_provider_lamini.rows.output.chunk_result import ChunkResult
from airflow_provider_lamini.runs.outcome import WaitFor
from airflow_provider_lamini.runs.recording import left_job_id, record_job_id

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_lamini.jobs.event import EndedJob, JobEvent, LostJob
    from airflow_provider_lamini.rows.counts import Counts
    from airflow_provider_lamini.rows.endpoints import JobEndpoint
    from airflow_provider_lamini.rows.ledger.change import LedgerChange
    from airflow_provider_lamini.rows.ledger.document import Chunk
    from airflow_provider_lamini.rows.values import Row
    from airflow_provider_lamini.runs.open_run import OpenRun, RowRunConfig, UpcomingChunk
    from airflow_provider_lamini.runs.task import TaskRun


class ChunkJobs:
    """The chunks of a run as jobs, several at the same time.

    :param task: this try of the task
    :param config: the settings
    :param run: the open run
    :param endpoint: makes a job of prompts, and results of a job
    """

    def __init__(self, task: TaskRun, config: RowRunConfig, run: OpenRun, endpoint: JobEndpoint) -> None:
        self._task = task
        self._config = config
        self._run = run
        self._ledger = run.ledger
        self._endpoint = endpoint
        self._kind = job_kind(endpoint.kind)
        self._platform_answers = True
        self._refill_at_once = False

    def attach(self) -> None:
        """Continue what an earlier try has left: running jobs, ended jobs and unknown submissions.

        :raises JobLostError: for an unknown submission that must not be repeated
        """
        with self._ledger.transaction() as change:
            change.begin_try(self._task.started_at)
        for chunk in self._ledger.unknown_submissions:
            self._settle_unknown(chunk)
        for chunk in list(self._ledger.chunks):
            self._continue(chunk)

    def collect(self, event: JobEvent) -> None:
        """Fetch the results of the jobs that have ended.

        :param event: what happened to the jobs
        :raises JobError: if a job failed or is lost
        """
        by_job = {chunk.job_id: chunk for chunk in self._ledger.chunks if chunk.job_id}
        # Each finished chunk makes room for the next one at once, unless this try is about to fail.
        self._refill_at_once = not event.lost and all(
            job.state is JobState.SUCCEEDED for job in event.ended.values()
        )
        # In the order of the rows, which is the fastest to read. A job without a chunk was collected before the task was
        # interrupted.
        for job_id, chunk in by_job.items():
            if job_id in event.ended:
                self._collect(chunk, job_id, event.ended[job_id])
        for job_id, lost in event.lost.items():
            if job_id in by_job:
                self._handle_lost(by_job[job_id], lost)

    def refill(self) -> None:
        """Submit chunks until enough jobs are running or all rows are in chunks.

        :raises TooManyFailedRowsError: if more rows have failed than may
        """
        if self._ledger.finished:  # the manifest is written before the task fails
            return
        self._run.check_failures()
        while len(self._ledger.chunks) < self._config.max_in_flight and (upcoming := self._run.upcoming()):
            with self._ledger.transaction() as change:
                chunk = self._begin(change, upcoming)
            self._send(chunk, upcoming.prompts)

    def wait_for(self) -> WaitFor:
        """The jobs to wait for."""
        document = self._ledger.document
        chunks = document.open
        started_at = self._task.started_at
        progress = Progress(
            jobs=len(chunks),
            done=document.totals.rows,
            total=document.header.total_rows,
            skipped=document.rows_done_before,
            since=document.try_started_at or started_at,
        )
        # While rows are left, half of the jobs keep running while the task resumes and refills.
        min_ended = len(chunks) if document.exhausted else (len(chunks) + 1) // 2
        return WaitFor(
            kind=self._endpoint.kind,
            job_ids=[chunk.job_id for chunk in chunks if chunk.job_id],
            # The platform may not know a new job yet. If it counted as vanished, it would be paid for twice.
            submitted_at=max(chunk.rounds[-1].submitted_at or started_at for chunk in chunks),
            min_ended=min_ended,
            progress=progress.payload(),
        )

    def _settle_unknown(self, chunk: Chunk) -> None:
        """Decide about a submission that an earlier try intended and whose outcome is unknown."""
        left = left_job_id(self._task, self._run.submission_key(chunk))
        if left is None:
            left = self._ledger.read_left_job_id(chunk)
        if left == "":
            self._ledger.forget(chunk)
            return
        if left is not None:
            self._task.log.info("The earlier try has left the id of job %s for %s.", left, chunk)
            self._ledger.record_job_id(chunk, left)
            return
        if not self._config.submit_unknown:
            raise JobLostError(
                f"Nobody knows whether a job was started for {chunk}: the task stopped while it was submitting. If so, it "
                "runs and bills. Check the platform, then clear the task with on_unknown_submission='submit'."
            )
        self._task.log.warning("A job for %s may have been started before; submitting it again.", chunk)
        self._ledger.forget(chunk)

    def _continue(self, chunk: Chunk) -> None:
        """Continue an open chunk after its last known submission."""
        if chunk.job_id is not None:
            self._poll(chunk, chunk.job_id)
        else:
            _, prompts = self._run.read(chunk)
            self._submit(chunk, prompts)

    def _poll(self, chunk: Chunk, job_id: str) -> None:
        """Collect a job at once if it has ended while nobody waited for it."""
        log = self._task.log
        log.info("Attached to job %s for %s.", job_id, chunk)
        if not self._platform_answers:  # the task waits for the platform later, if possible without a worker
            return
        try:
            status = self._task.client.send(self._kind.status(job_id))
        except PlatformError as error:
            self._platform_answers = not isinstance(error, TRANSIENT_ERRORS)
            log.info("Could not read the status of job %s; continuing to poll: %s", job_id, error)
            return
        if status.state.ended:
            self._collect(chunk, job_id, status)

    def _collect(self, chunk: Chunk, job_id: str, job: EndedJob | JobStatus) -> None:
        if job.state is not JobState.SUCCEEDED:
            self._ledger.forget(chunk)
            reason = f": {job.detail}" if job.detail else ""
            raise JobFailedError(
                f"Job {job_id} for {chunk} ended as {job.raw}{reason}. A retry sends its rows again."
            )
        sent = chunk.rounds[-1].rows
        result = self._fetch(chunk, job_id, chunk.rows if sent is None else len(sent))
        if sent is not None:
            result = self._earlier_result(chunk).with_rows(sent, result)
        again = result.worth_retrying
        if again and len(chunk.rounds) <= self._config.row_retries:
            _, prompts = self._run.read(chunk)
            self._task.log.info("%d row(s) of %s failed; sending them again.", len(again), chunk)
            self._run.writer.save_partial(chunk.number, len(chunk.rounds), result)
            self._submit(chunk, prompts, again)
            return
        self._finish(chunk, self._run.passthrough_rows(chunk), result)

    def _fetch(self, chunk: Chunk, job_id: str, sent: int) -> ChunkResult:
        """The results of a job; all rows have failed if the platform insists on another number of rows."""
        call = self._endpoint.results(job_id, sent)
        try:
            cached = self._task.result_cache.take(call)
            return self._task.client.send(call) if cached is None else cached
        except PlatformError as error:
            answered = self._answered_rows(job_id) if isinstance(error, ProtocolError) else None
            if answered in (None, sent):
                self._task.log.warning(
                    "Job %s for %s has ended and no longer bills, but its results could not be fetched. A retry fetches "
                    "them.",
                    *(job_id, chunk),
                )
                raise
        self._task.log.warning(
            "Job %s returned %d rows for the %d rows of %s.", job_id, answered, sent, chunk
        )
        failure = RowFailure(FailureReason.NO_ANSWER, f"the platform answered {answered} rows for {sent}")
        return ChunkResult.all_failed(sent, failure)

    def _answered_rows(self, job_id: str) -> int | None:
        """The number of rows of an ended job according to its status; ``None`` if the status does not say."""
        try:
            status = self._task.client.send(self._kind.status(job_id))
        except PlatformError:
            return None
        if not status.state.ended or status.rows is None or status.rows.total is None:
            return None
        return int(status.rows.total)

    def _earlier_result(self, chunk: Chunk) -> ChunkResult:
        """The result of the earlier rounds of a chunk."""
        rounds = len(chunk.rounds) - 1
        saved = self._run.writer.load_partial(chunk.number, rounds, chunk.rows) if rounds else None
        return saved or ChunkResult.pending(chunk.rows)

    def _finish(self, chunk: Chunk, rows: Sequence[Row], result: ChunkResult) -> None:
        """Write the part of a chunk, and submit the next chunk in its place."""
        counts = self._run.write_part(chunk, rows, result, chunk.retried)
        upcoming = self._run.upcoming() if self._has_room_after(counts) else None
        begun = None
        with self._ledger.transaction() as change:
            change.finish(chunk, counts)
            if upcoming is not None:
                begun = self._begin(change, upcoming)
        self._run.writer.delete_partial(chunk.number, len(chunk.rounds))
        if upcoming is not None and begun is not None:
            self._send(begun, upcoming.prompts)

    def _has_room_after(self, counts: Counts) -> bool:
        """Whether the next chunk is submitted when a chunk with these outcomes is finished."""
        return (
            self._refill_at_once
            and len(self._ledger.chunks) - 1 < self._config.max_in_flight
            and not self._run.too_many_failed(self._ledger.totals + counts)
        )

    def _begin(self, change: LedgerChange, upcoming: UpcomingChunk) -> Chunk:
        """Plan the next chunk and intend its submission."""
        chunk = change.intend(change.plan(upcoming.start, upcoming.after, upcoming.fingerprint))
        self._run.remember(chunk, upcoming.rows)
        return chunk

    def _submit(self, chunk: Chunk, prompts: Sequence[str], rows: list[int] | None = None) -> None:
        """Start a job for a chunk, or for some of its rows. The ledger is written before and after."""
        with self._ledger.transaction() as change:
            intended = change.intend(chunk, rows)
        self._send(intended, prompts if rows is None else [prompts[row] for row in rows])

    def _send(self, chunk: Chunk, prompts: Sequence[str]) -> None:
        """Start the job that the ledger says is intended, and record its id."""
        if self._task.killed:
            # Airflow lets a killed task run for a while. It must not start anything that bills.
            self._ledger.forget(chunk)
            raise TaskKilledError(f"The task was killed: {chunk} were not submitted.")
        try:
            job_id = self._task.client.send(self._endpoint.submit(prompts))
        except PlatformError as error:
            if not error.may_have_started:
                self._ledger.forget(chunk)
            self._task.log.warning("Submitting %s failed.", chunk)
            raise
        self._task.log.info("Submitted job %s for %s.", job_id, chunk)
        key = self._run.submission_key(chunk)
        record_job_id(self._task, job_id, "job", key, lambda: self._ledger.record_job_id(chunk, job_id))

    def _handle_lost(self, chunk: Chunk, lost: LostJob) -> None:
        if not lost.vanished:
            raise JobLostError(
                f"The status of job {chunk.job_id} for {chunk} can no longer be read, it may still run and bill: "
                f"{lost.reason} A retry polls again."
            )
        if not self._config.submit_unknown:
            raise JobLostError(
                f"The platform no longer knows job {chunk.job_id} for {chunk}: {lost.reason} Its rows must be sent again; "
                "clear the task with on_unknown_submission='submit' to do so."
            )
        self._task.log.warning(
            "Job %s has vanished from the platform; sending %s again.", chunk.job_id, chunk
        )
        self._continue(self._ledger.forget(chunk))
