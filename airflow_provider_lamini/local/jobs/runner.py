"""The job runner: runs jobs of any kind in background threads and resumes them after a restart."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections import Counter, defaultdict, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from airflow_provider_lamini.jobs.state import JobState
from airflow_provider_lamini.local.database import DatabaseClosedError
from airflow_provider_lamini.local.errors import storage_problem
from airflow_provider_lamini.local.unexpected import describe_safely

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from airflow_provider_lamini.api.call import Json
    from airflow_provider_lamini.local.jobs.store import Job, JobStore, StoredResult

logger = logging.getLogger(__name__)

HOLD_POLL: Final = 0.05
"""Seconds between checks whether a held job was released."""

MAX_CRASHES: Final = 3
"""A job during which the process has died this many times without progress is failed, not resumed."""

STORE_RETRIES: Final = (0.1, 0.5, 2.0)
"""Seconds before each retry of a write to the store."""

RECORD_PAUSE: Final = 2.0
"""Seconds between later attempts to record the end of a job."""

T = TypeVar("T")


class JobFailed(Exception):  # noqa: N818 - says what happened
    """The job failed. The message becomes the job's detail, for a person to read; it contains no prompt."""


class _Stop(BaseException):  # no Exception, so that no job catches it by accident
    """The job must end now because of a request, a time limit or a shutdown."""


class RunnableKind(Protocol):
    """A kind of job, as the runner sees it."""

    @property
    def name(self) -> str:
        """Name of the kind in the store and in the control endpoints."""

    @property
    def concurrency(self) -> int:
        """Maximum number of jobs of this kind that run at once. Others are queued."""

    @property
    def time_limit(self) -> float | None:
        """Seconds after which a run is ended as timed out; None sets no limit."""

    def run(self, job: RunningJob) -> None:
        """Do the job's work, or the rest of it if an earlier run was interrupted. Return when it is done.

        It runs in its own thread and must call ``job.check()`` often to notice that it must end.

        :raises JobFailed: the job failed
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """Keeps matching jobs from starting more work until they are released.

    :param kind: match only jobs of this kind
    :param job_id: match only this job
    :param after_rows: rows that a job may compute before it is held
    """

    kind: str | None = None
    job_id: str | None = None
    after_rows: int = 0

    def matches(self, job: Job) -> bool:
        """Whether the hold applies to a job."""
        return self.kind in (None, job.kind) and self.job_id in (None, job.id)


class RunningJob:
    """A job while it runs: its parameters, and whether it must end.

    :param job: the job as stored when this run started
    :param store: holds its rows
    :param runner: runs it
    :param time_limit: seconds that it may run
    """

    def __init__(self, job: Job, store: JobStore, runner: JobRunner, time_limit: float | None) -> None:
        self.job = job
        self.store = store
        self._runner = runner
        self._deadline = None if time_limit is None else time.monotonic() + time_limit
        self._end: tuple[JobState | None, str | None] | None = None
        self._wake = threading.Event()

    @property
    def must_end(self) -> bool:
        """Whether the job must end, by request or because it exceeded its time limit."""
        if self._end is None and self._deadline is not None and time.monotonic() > self._deadline:
            self.end(JobState.TIMED_OUT, "The job exceeded its time limit.")
        return self._end is not None

    def check(self) -> None:
        """Return if the job may continue. Wait while it is held.

        :raises BaseException: the job must end now; do not catch it
        """
        while True:
            if self.must_end:
                raise _Stop
            if not self.is_held():
                return
            self.sleep(HOLD_POLL)

    def is_held(self, started_rows: int = 0) -> bool:
        """Whether the job must not start more work for now.

        :param started_rows: rows of the job that were started, including finished ones
        """
        return self._runner.is_held(self.job, started_rows)

    def save_results(self, results: Sequence[StoredResult]) -> None:
        """Store results of rows, unless the job has been ended in the meantime."""
        if self.ending[0] is not None:
            return
        saved = _with_retries(lambda: self.store.save_results(self.job.id, results))
        self._runner.count_rows(self.job.id, saved)

    def note_progress(self) -> None:
        """Record that the job has stored part of its work, in another place than the store."""
        _with_retries(lambda: self.store.note_progress(self.job.id))

    def sleep(self, seconds: float) -> None:
        """Sleep, but wake up if the job must end."""
        self._wake.wait(seconds)

    def end(self, state: JobState | None, detail: str | None = None) -> None:
        """Tell the job to end.

        :param state: its final state; None leaves the job unfinished, so that the next process resumes it
        :param detail: why it ends, for a person to read
        """
        if self._end is None:
            self._end = (state, detail)
            self._wake.set()

    @property
    def is_interrupted(self) -> bool:
        """Whether the platform is stopping, so that the next process resumes the job."""
        return self._end is not None and self._end[0] is None

    @property
    def ending(self) -> tuple[JobState | None, str | None]:
        """The final state the job was told to end with, and why."""
        return self._end or (None, None)


def wait_while_held(job: RunningJob, done: int) -> None:
    """Wait while a job is held after this much work, and return when it may continue.

    :param job: the job
    :param done: units of its work that are done
    """
    job.check()
    while job.is_held(done):
        job.sleep(HOLD_POLL)
        job.check()


class JobRunner:
    """Runs stored jobs, each in its own thread. Jobs of one kind start in the order they were submitted.

    :param store: holds the jobs
    :param kinds: the kinds of job to run
    """

    def __init__(self, store: JobStore, kinds: Iterable[RunnableKind]) -> None:
        self._store = store
        self._kinds = {kind.name: kind for kind in kinds}
        self._lock = threading.Lock()
        self._waiting: dict[str, deque[Job]] = defaultdict(deque)
        self._running: dict[str, RunningJob] = {}
        self._holds: list[Hold] = []
        self._computed: Counter[str] = Counter()
        self._stopping = False

    def resume(self) -> int:
        """Queue every unfinished job of an earlier process, oldest first. Fail those that have killed it several times.

        :return: number of unfinished jobs
        """
        self._store.requeue_running(crashed=True)
        jobs = self._store.jobs(unfinished=True)
        for job in jobs:
            if job.crashes >= MAX_CRASHES:
                logger.warning(
                    "%s job %s is not resumed: the process died during it %d times",
                    job.kind,
                    job.id,
                    job.crashes,
                )
                self._store.mark_ended(
                    job.id,
                    JobState.FAILED,
                    f"The platform's process died {job.crashes} times while this job ran, without progress. "
                    "It is not started again.",
                )
            elif job.kind in self._kinds:
                self._enqueue(job)
            else:
                logger.warning("Job %s has the unknown kind %s; leaving it queued", job.id, job.kind)
        return len(jobs)

    def submit(
        self, kind: str, params: dict[str, Json], prompts: Sequence[str] = (), job_id: str | None = None
    ) -> Job:
        """Store a job and run it as soon as the concurrency of its kind allows.

        :param kind: name of the kind
        :param params: parameters without the prompts
        :param prompts: one text per row
        :param job_id: a new, unique id; generated by default
        """
        job = self._store.create(kind, params, prompts, job_id)
        rows = f" with {job.total} rows" if job.total else ""
        logger.info("Queued %s job %s%s", kind, job.id, rows)
        self._enqueue(job)
        return job

    def end(self, job_id: str, state: JobState, detail: str | None = None) -> bool:
        """End a job now, for example cancel it.

        :param job_id: its id
        :param state: its final state
        :param detail: why it ends, for a person to read
        :return: False if it had already ended or does not exist
        """
        ended = self._store.mark_ended(job_id, state, detail)
        with self._lock:
            running = self._running.get(job_id)
            for queue in self._waiting.values():
                for job in [job for job in queue if job.id == job_id]:
                    queue.remove(job)
        if running is not None:
            running.end(state, detail)
        return ended

    def hold(self, hold: Hold) -> None:
        """Keep jobs from starting more work."""
        with self._lock:
            self._holds.append(hold)

    def release(self) -> None:
        """Release all held jobs."""
        with self._lock:
            self._holds.clear()

    def is_held(self, job: Job, started_rows: int) -> bool:
        """Whether a job with this number of started rows is held."""
        return any(hold.matches(job) and started_rows >= hold.after_rows for hold in tuple(self._holds))

    def count_rows(self, job_id: str, rows: int) -> None:
        """Add to the number of computed rows of a job."""
        with self._lock:
            self._computed[job_id] += rows

    def computed_rows(self) -> dict[str, int]:
        """Rows computed per job since this process started or was reset."""
        with self._lock:
            return dict(self._computed)

    def reset(self) -> None:
        """Release all held jobs and set the counts of computed rows to zero."""
        with self._lock:
            self._holds.clear()
            self._computed.clear()

    def stop(self) -> None:
        """Interrupt all jobs and leave them unfinished, so that the next process resumes them."""
        with self._lock:
            self._stopping = True
            self._waiting.clear()
            running = list(self._running.values())
        for job in running:
            job.end(None)
        try:
            self._store.requeue_running(crashed=False)
        except (DatabaseClosedError, sqlite3.Error) as error:
            logger.warning("Could not record that the jobs were interrupted: %s", describe_safely(error))

    def _enqueue(self, job: Job) -> None:
        with self._lock:
            self._waiting[job.kind].append(job)
        self._start_waiting(job.kind)

    def _start_waiting(self, kind_name: str) -> None:
        """Start as many waiting jobs of a kind as its concurrency allows."""
        kind = self._kinds[kind_name]
        with self._lock:
            queue = self._waiting[kind_name]
            active = sum(running.job.kind == kind_name for running in self._running.values())
            while queue and active < kind.concurrency and not self._stopping:
                running = RunningJob(queue[0], self._store, self, kind.time_limit)
                thread = threading.Thread(target=self._run, args=(kind, running), name=kind_name, daemon=True)
                try:
                    thread.start()
                except RuntimeError:  # no more threads: it stays in the queue until another job ends
                    logger.warning(
                        "Could not start a thread for %s job %s; it waits", kind_name, running.job.id
                    )
                    return
                queue.popleft()
                self._running[running.job.id] = running
                active += 1

    def _run(self, kind: RunnableKind, running: RunningJob) -> None:
        job = running.job
        start = time.monotonic()
        state: JobState | None = None
        recorded = False
        try:
            state, detail = self._work(kind, running)
            recorded = state is None or self._record_end(job, state, detail, time.monotonic() - start)
        finally:
            with self._lock:
                del self._running[job.id]
            self._start_waiting(job.kind)
        while not recorded and state is not None and not self._stopping:
            time.sleep(RECORD_PAUSE)
            recorded = self._record_end(job, state, detail, time.monotonic() - start)

    def _work(self, kind: RunnableKind, running: RunningJob) -> tuple[JobState | None, str | None]:
        """Run a job.

        :return: its final state and why it ended; None as the state leaves it unfinished
        """
        job = running.job
        try:
            running.check()
            _with_retries(lambda: self._store.mark_started(job.id))
            kind.run(running)
        except (_Stop, DatabaseClosedError):
            return running.ending
        except JobFailed as error:
            return JobState.FAILED, str(error)
        except Exception as error:  # noqa: BLE001 - it ends the job
            logger.error("%s job %s failed unexpectedly: %s", job.kind, job.id, describe_safely(error))  # noqa: TRY400 - the message may contain a prompt
            _, problem = storage_problem(error) or (
                None,
                f"The job failed unexpectedly ({type(error).__name__}).",
            )
            return JobState.FAILED, problem
        return JobState.SUCCEEDED, None

    def _record_end(self, job: Job, state: JobState, detail: str | None, seconds: float) -> bool:
        """Record the end of a job.

        :return: False if the store failed, so that this must be tried again
        """
        try:
            _with_retries(lambda: self._store.mark_ended(job.id, state, detail))
        except DatabaseClosedError:
            return True
        except sqlite3.Error as error:
            logger.error(  # noqa: TRY400 - the message may contain a prompt
                "Could not record that %s job %s %s; will retry: %s",
                job.kind,
                job.id,
                state.value,
                describe_safely(error),
            )
            return False
        reason = f": {detail}" if detail else ""
        logger.info("%s job %s %s after %.1f s%s", job.kind, job.id, state.value, seconds, reason)
        return True


def _with_retries(write: Callable[[], T]) -> T:
    """Write to the store, and retry for a few seconds if it fails.

    :raises sqlite3.Error: it still fails
    """
    for pause in STORE_RETRIES:
        try:
            return write()
        except sqlite3.Error as error:
            logger.warning("A write to the store failed; will retry: %s", describe_safely(error))
            time.sleep(pause)
    return write()
