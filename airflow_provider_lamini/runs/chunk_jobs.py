"""Chunks as jobs of the platform: submit, attach, collect results, and say what to wait for.

Everything that must outlive the process is in the ledger and the output folder.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_lamini.api.errors import (
    BadRequestError,
    InvalidRequestError,
    PlatformError,
    ProtocolError,
)
from airflow_provider_lamini.exceptions import (
    JobFailedError,
    JobLostError,
    TaskKilledError,
    TooManyFailedRowsError,
)
from airflow_provider_lamini.jobs.polling import TRANSIENT_ERRORS
from airflow_provider_lamini.jobs.progress import Progress
from airflow_provider_lamini.jobs.state import JobState, JobStatus
from airflow_provider_lamini.platforms import job_kind
from airflow_provider_lamini.rows.failures import FailureReason, RowFailure
from airflow_provider_lamini.rows.output.chunk_result import ChunkResult
from airflow_provider_lamini.rows.storage.run_files import remove_run
from airflow_provider_lamini.runs.failed_jobs import (
    MAX_FAILED_JOBS,
    failed_jobs,
    failure_of_job,
    max_pieces,
    may_be_of_a_row,
)
from airflow_provider_lamini.runs.outcome import WaitFor
from airflow_provider_lamini.runs.submission_record import left_job_id, record_job_id
from airflow_provider_lamini.runs.task_errors import lost_error
from airflow_provider_lamini.wording import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_lamini.jobs.event import EndedJob, JobEvent, LostJob
    from airflow_provider_lamini.rows.endpoints import JobEndpoint
    from airflow_provider_lamini.rows.ledger.document import Chunk, ChunkSubmission
    from airflow_provider_lamini.runs.open_run import ChunkRows, OpenRun
    from airflow_provider_lamini.runs.row_run_config import RowRunConfig
    from airflow_provider_lamini.runs.task import TaskRun


REFUSALS = (BadRequestError, InvalidRequestError)
"""Errors by which the platform refuses rows, together or one of them."""

TOO_LARGE = 413
"""HTTP status: the request, not one of its rows, is too large."""

MAX_REFUSED_ALONE = 10
"""Number of rows that are refused, each alone, before any was accepted, after which every row counts as refused."""

MAX_ROWS_AT_ONCE = 10_000
"""Rows of chunks that are planned together, and are in memory until they are submitted."""

GATHER_IN_WORKER = 0.02
"""Seconds that a task that waits in its worker waits for the other jobs too, if the results of all fit into memory together."""

NEVER_ACCEPTED = {
    reason.value
    for reason in (
        FailureReason.BAD_ROW,
        FailureReason.NO_PROMPT,
        FailureReason.PROMPT_TOO_LONG,
        FailureReason.REJECTED,
    )
}
"""Reasons of rows of which the platform has accepted none."""


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
        self._refused_alone = 0

    def attach(self) -> None:
        """Continue what an earlier try has left: running jobs, ended jobs and unknown submissions.

        :raises JobLostError: for an unknown submission that must not be repeated
        """
        with self._ledger.transaction(later=True) as change:
            change.begin_try(self._task.started_at)
        for intended in self._ledger.document.intents():
            self._settle_unknown(intended)
        for chunk in list(self._ledger.chunks):
            for submission in chunk.submissions:
                if submission.job_id is not None:
                    self._poll(chunk, submission, submission.job_id)

    def collect(self, event: JobEvent) -> None:
        """Fetch the results of the jobs that have ended.

        :param event: what happened to the jobs
        :raises JobError: if a job failed or is lost
        """
        by_job = {
            submission.job_id: (chunk, submission)
            for chunk in self._ledger.chunks
            for submission in chunk.submissions
            if submission.job_id
        }
        # Each finished chunk makes room for the next one at once, unless this try is about to fail.
        self._refill_at_once = not event.lost and all(
            job.state is JobState.SUCCEEDED for job in event.ended.values()
        )
        # In the order of the rows, which is the fastest to read. A job without a chunk was collected before the task was
        # interrupted.
        for job_id, (chunk, submission) in by_job.items():
            if job_id in event.ended:
                self._collect(chunk, submission, job_id, event.ended[job_id])
                if self._refill_at_once and not self._ledger.may_wait:
                    self._submit_more()
        for job_id, lost in event.lost.items():
            if job_id in by_job:
                self._handle_lost(*by_job[job_id], lost)

    def refill(self) -> None:
        """Submit chunks, and pieces of them, until enough jobs are running or all rows are in chunks.

        :raises TooManyFailedRowsError: if more rows have failed than may
        """
        while not self._ledger.finished:  # the manifest is written before the task fails
            self._run.check_limits()
            if self._running() >= self._config.max_in_flight:
                break
            waiting = next((chunk for chunk in self._ledger.chunks if self._may_continue(chunk)), None)
            if waiting is not None:
                self._continue(waiting)
            elif not self._start():
                break
        self._ledger.commit()

    def _may_continue(self, chunk: Chunk) -> bool:
        """Whether a submission of a chunk waits for its turn, and may have it."""
        if chunk.state != "planned":
            return False
        doubted = failed_jobs(chunk) >= MAX_FAILED_JOBS and self._running() > 0
        return not doubted or self._job_ended_well(chunk)

    def wait_for(self) -> WaitFor:
        """The jobs to wait for."""
        document = self._ledger.document
        submitted = [
            each for chunk in document.open for each in chunk.submissions if each.state == "submitted"
        ]
        started_at = self._task.started_at
        submitted_at = [each.submitted_at or started_at for each in submitted]
        try_started_at = max(document.try_started_at, document.header.created_at) or started_at
        progress = Progress(
            jobs=len(submitted),
            done=document.totals.rows,
            total=document.header.total_rows,
            skipped=document.rows_done_before,
            # Jobs of an earlier try may have done most of their rows before this one started.
            since=min(try_started_at, *submitted_at),
        )
        # While rows are left, half of the jobs keep running while the task resumes and refills.
        min_ended = len(submitted) if document.exhausted else (len(submitted) + 1) // 2
        rows = sum(chunk.rows for chunk in document.open)
        return WaitFor(
            kind=self._endpoint.kind,
            job_ids=[each.job_id for each in submitted if each.job_id],
            # The platform may not know a new job yet. If it counted as vanished, it would be paid for twice.
            submitted_at=max(submitted_at),
            min_ended=min_ended,
            gather=GATHER_IN_WORKER if rows <= MAX_ROWS_AT_ONCE else 0.0,
            progress=progress.payload(),
        )

    def _running(self) -> int:
        """Number of jobs under way."""
        return sum(len(chunk.job_ids) for chunk in self._ledger.chunks)

    def _settle_unknown(self, intended: Sequence[tuple[Chunk, ChunkSubmission]]) -> None:
        """Decide about submissions that an earlier try intended together, and of whose outcome the ledger says nothing."""
        for number, (chunk, submission) in enumerate(intended):
            if not self._was_submitted(chunk, submission):
                # They are submitted one after the other, so nothing was sent after the first one without an id.
                with self._ledger.transaction() as change:
                    for after, piece in intended[number + 1 :]:
                        change.forget(after, piece.key)
                return

    def _was_submitted(self, chunk: Chunk, submission: ChunkSubmission) -> bool:
        """Find out what an earlier try has left about a submission; if nothing, forget it or raise an error."""
        left = left_job_id(self._task, self._run.submission_key(chunk, submission))
        if left is None:
            left = self._ledger.read_left_job_id(chunk, submission)
        if left == "":
            self._ledger.forget(chunk, submission.key)
            return False
        if left is not None:
            self._task.log.info("The earlier try has left the id of job %s for %s.", left, chunk)
            self._ledger.record_job_id(chunk, left, submission.key)
            return True
        if not self._config.submit_unknown:
            raise JobLostError(
                f"Check the platform for a job for {chunk}, then clear the task with on_unknown_submission='submit'. The "
                "task stopped while it was submitting, so a job may have been started; if so, it runs and bills."
            )
        self._task.log.warning(
            "A job for %s may have been started before; submitting it again. If it was, both run and bill "
            "(on_unknown_submission='fail' asks you first).",
            chunk,
        )
        self._ledger.forget(chunk, submission.key)
        return False

    def _submit_more(self) -> None:
        """Submit the next chunks in the place of finished ones, unless something must be decided first."""
        waiting = any(chunk.state != "submitted" for chunk in self._ledger.chunks)
        if not waiting and not self._run.too_many_failed(self._ledger.totals):
            self._start()

    def _start(self) -> bool:
        """Plan the next chunks, and intend and submit them together.

        :return: whether there was a chunk
        """
        planned = self._plan()
        begun: list[tuple[Chunk, ChunkRows]] = []
        with self._ledger.transaction() as change:
            for chunk, upcoming in planned:
                if upcoming.sendable != []:
                    begun.append((change.intend(chunk, upcoming.sendable), upcoming))
        for number, (chunk, upcoming) in enumerate(begun):
            if number:
                self._ledger.confirm([each for each, _ in begun[number:]])
            current = self._ledger.chunk(chunk.number)
            self._run.remember(current, upcoming.rows)
            self._send(current, current.rounds[-1], upcoming.prompts)
        return bool(planned)

    def _plan(self) -> list[tuple[Chunk, ChunkRows]]:
        """Plan as many chunks as may run, and fit into memory together; those without a row to send are finished at once."""
        planned: list[tuple[Chunk, ChunkRows]] = []
        room = self._config.max_in_flight - self._running()
        if not self._running() and not self._ledger.totals.ok:
            room = 1  # the platform may refuse everything
        while len(planned) < room and sum(chunk.rows for chunk, _ in planned) < MAX_ROWS_AT_ONCE:
            upcoming = self._run.upcoming()
            if upcoming is None:
                break
            self._run.save_plan(upcoming, as_job=upcoming.sendable != [])
            with self._ledger.transaction(later=True) as change:
                chunk = change.plan(upcoming.start, upcoming.after, upcoming.fingerprint)
            planned.append((chunk, upcoming))
            if upcoming.sendable == []:
                self._run.finish_chunk(chunk, upcoming.rows, upcoming.result(), later=True)
                break  # its failed rows may be too many
        return planned

    def _continue(self, chunk: Chunk) -> None:
        """Submit what waits in an open chunk: all rows that can be sent, or the next of its pieces."""
        found = self._run.read(chunk)
        waiting = next((each for each in chunk.submissions if each.state == "planned"), None)
        if waiting is None:
            rows = found.sendable
            if rows == []:
                self._run.finish_chunk(chunk, found.rows, found.result(), later=True)
                return
            with self._ledger.transaction() as change:
                chunk = change.intend(chunk, rows)
            self._send(chunk, chunk.rounds[-1], found.prompts)
            return
        with self._ledger.transaction() as change:
            chunk = change.intend_piece(chunk, waiting.key)
        self._send(chunk, chunk.submission(waiting.key), found.prompts)

    def _poll(self, chunk: Chunk, submission: ChunkSubmission, job_id: str) -> None:
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
            self._collect(chunk, submission, job_id, status)

    def _collect(
        self, chunk: Chunk, submission: ChunkSubmission, job_id: str, job: EndedJob | JobStatus
    ) -> None:
        chunk = self._ledger.chunk(chunk.number)  # another piece may have been collected since
        if job.state is not JobState.SUCCEEDED:
            self._handle_failed(chunk, submission, job_id, job)
            return
        sent = submission.rows
        result = self._fetch(chunk, job_id, chunk.rows if sent is None else len(sent))
        if sent is not None:
            result = self._merged(chunk, sent, result)
        self._settle(chunk, submission, result)

    def _merged(self, chunk: Chunk, sent: list[int], result: ChunkResult) -> ChunkResult:
        """The result of a chunk so far, with the results of a submission."""
        last = chunk.rounds[-1]
        saved = len(chunk.rounds) if any(piece.done for piece in last.pieces) else len(chunk.rounds) - 1
        before = self._run.writer.load_partial(chunk.number, saved, chunk.rows)
        return (before or self._run.read(chunk).result()).with_rows(sent, result)

    def _settle(self, chunk: Chunk, submission: ChunkSubmission, result: ChunkResult) -> None:
        """Continue with a submission's results: wait for the other pieces, send rows again, or finish the chunk."""
        rounds = len(chunk.rounds)
        if len(chunk.submissions) > 1:
            self._run.writer.save_partial(chunk.number, rounds, result)
            with self._ledger.transaction() as change:
                change.settle_piece(chunk, submission.key)
            return
        again = result.worth_retrying
        if again and rounds <= self._config.row_retries:
            found = self._run.read(chunk)
            self._task.log.info("%s of %s failed; sending them again.", counted(len(again), "row"), chunk)
            self._run.writer.save_partial(chunk.number, rounds, result)
            with self._ledger.transaction() as change:
                intended = change.intend(chunk, again)
            self._send(intended, intended.rounds[-1], found.prompts)
            return
        self._run.finish_chunk(chunk, self._run.rows_to_write(chunk, result), result, later=True)

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
            "Job %s returned %s for the %d of %s.", job_id, counted(answered, "row"), sent, chunk
        )
        failure = RowFailure(
            FailureReason.NO_ANSWER, f"the platform answered {counted(answered, 'row')} for {sent}"
        )
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

    def _send(self, chunk: Chunk, submission: ChunkSubmission, prompts: Sequence[str]) -> None:
        """Start the job that the ledger says is intended, and record its id.

        :param chunk: the chunk
        :param submission: which of its submissions
        :param prompts: the prompts of all rows of the chunk
        """
        if self._task.killed:
            # Airflow lets a killed task run for a while. It must not start anything that bills.
            self._ledger.forget(chunk, submission.key)
            raise TaskKilledError(
                f"The task was killed before it submitted {chunk}. A retry continues there."
            )
        rows = submission.rows
        try:
            job_id = self._task.client.send(
                self._endpoint.submit(prompts if rows is None else [prompts[row] for row in rows])
            )
        except REFUSALS as error:
            self._split(chunk, submission, error)
            return
        except PlatformError as error:
            if not error.may_have_started:
                self._ledger.forget(chunk, submission.key)
            self._task.log.warning("Submitting %s failed.", chunk)
            raise
        self._task.log.info("Submitted job %s for %s.", job_id, chunk)
        key = self._run.submission_key(chunk, submission)
        record_job_id(
            self._task, job_id, "job", key, lambda: self._ledger.record_job_id(chunk, job_id, submission.key)
        )

    def _split(self, chunk: Chunk, submission: ChunkSubmission, error: PlatformError) -> None:
        """Halve a refused submission, so that the row which is the reason is found. A row that is refused alone has failed."""
        rows = list(range(chunk.rows)) if submission.rows is None else submission.rows
        if len(rows) == 1:
            self._fail_alone(chunk, submission, error)
            return
        self._task.log.warning(
            "The platform refused %d rows of %s; sending them in two halves: %s", len(rows), chunk, error
        )
        self._halve(chunk, submission, rows, too_large=error.status == TOO_LARGE)

    def _halve(
        self, chunk: Chunk, submission: ChunkSubmission, rows: list[int], *, too_large: bool = False
    ) -> None:
        middle = (len(rows) + 1) // 2
        with self._ledger.transaction() as change:
            change.split(chunk, submission.key, [rows[:middle], rows[middle:]])
            if too_large:
                change.limit_chunks(middle)

    def _handle_failed(
        self, chunk: Chunk, submission: ChunkSubmission, job_id: str, job: EndedJob | JobStatus
    ) -> None:
        """Halve the rows of a failed job, so that the row which is the reason is found. A row that fails alone has failed.

        :raises JobFailedError: if the reason is not a row's: then a retry sends the rows again
        """
        reason = f": {job.detail.rstrip(' .')}" if job.detail else ""
        ended = f"Job {job_id} for {chunk} ended as {job.raw}{reason}"
        rows = list(range(chunk.rows)) if submission.rows is None else submission.rows
        pieces = max(1, len(chunk.rounds[-1].pieces))
        if not may_be_of_a_row(job):
            self._ledger.forget(chunk, submission.key)
            raise JobFailedError(f"{ended}. A retry sends its rows again.")
        if self._nothing_works(chunk, submission):
            with self._ledger.transaction() as change:
                change.send_whole_again(chunk)
            raise JobFailedError(
                f"{ended}. No other job has ended well, so no single row is the reason. A retry sends the rows again."
            )
        if len(rows) > 1 and pieces < max_pieces(chunk.rows):
            self._task.log.warning("%s; sending its %d rows in two halves.", ended, len(rows))
            self._halve(chunk, submission, rows)
            return
        failure = failure_of_job(job, alone=len(rows) == 1)
        self._settle(chunk, submission, self._merged(chunk, rows, ChunkResult.all_failed(len(rows), failure)))

    def _nothing_works(self, chunk: Chunk, submission: ChunkSubmission) -> bool:
        """Whether a job that has failed is the last of several, none of which has ended well."""
        if self._running() > 1 or self._job_ended_well(chunk):
            return False
        others = [each for each in chunk.submissions if each.key != submission.key]
        alone = chunk.rows == 1 if submission.rows is None else len(submission.rows) == 1
        return failed_jobs(chunk) + 1 >= MAX_FAILED_JOBS or (alone and not others)

    def _job_ended_well(self, chunk: Chunk) -> bool:
        """Whether a job of this run has answered a row."""
        totals = self._ledger.totals
        if totals.ok > totals.reused:
            return True
        found = self._merged(chunk, [], ChunkResult.pending(0)) if chunk.rounds else None
        return found is not None and len(found) - len(found.failed) > found.reused

    def _fail_alone(self, chunk: Chunk, submission: ChunkSubmission, error: PlatformError) -> None:
        """Record that the platform refuses one row."""
        self._refused_alone += 1
        self._check_refusals(chunk, submission, error)
        too_large = error.status == TOO_LARGE
        reason = FailureReason.PROMPT_TOO_LONG if too_large else FailureReason.REJECTED
        refused = ChunkResult.all_failed(1, RowFailure(reason, str(error)))
        rows = [0] if submission.rows is None else submission.rows
        self._settle(chunk, submission, self._merged(chunk, rows, refused))

    def _check_refusals(self, chunk: Chunk, submission: ChunkSubmission, error: PlatformError) -> None:
        """Stop if the platform refuses more rows than may fail, or every row so far.

        :raises TooManyFailedRowsError: if more rows have failed than may
        :raises PlatformError: if no row was accepted yet
        """
        totals = self._ledger.totals
        # This try may have refused rows in chunks that are finished: then they count in both numbers.
        failed = max(totals.failed, self._refused_alone)
        if self._run.over_limit(failed):
            self._ledger.forget(chunk, submission.key)
            raise TooManyFailedRowsError(
                f"The platform refused {counted(self._refused_alone, 'row')} sent alone, and max_failed_rows allows "
                f"{self._config.failure_limit}. Correct the rows or the arguments, or raise max_failed_rows, then clear the "
                f"task: what is done is kept. The last refusal, in {chunk}: {error}"
            )
        accepted = totals.ok or self._running() or not set(totals.failures) <= NEVER_ACCEPTED
        if not accepted and self._refused_alone >= MAX_REFUSED_ALONE:
            # The rows are not the reason, so they do not count as failed.
            with self._ledger.transaction() as change:
                change.start_over()
            remove_run(self._run.folder)
            raise error

    def _handle_lost(self, chunk: Chunk, submission: ChunkSubmission, lost: LostJob) -> None:
        if not lost.vanished:
            raise lost_error(
                lost, f"Job {submission.job_id} for {chunk} may still run and bill; a retry polls it again."
            )
        if not self._config.submit_unknown:
            raise JobLostError(
                f"Clear the task with on_unknown_submission='submit' to send {chunk} again: the platform no longer knows "
                f"job {submission.job_id} for it. {lost.reason}"
            )
        self._task.log.warning(
            "Job %s has vanished from the platform; sending %s again.", submission.job_id, chunk
        )
        self._ledger.forget(chunk, submission.key)
