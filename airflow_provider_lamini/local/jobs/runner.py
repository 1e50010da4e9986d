"""Runs jobs of any kind in the background, and takes them up again after a restart."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, defaultdict, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from airflow_provider_lamini.jobs.state import JobState
from airflow_provider_lamini.local.errors import place_of
from airflow_provider_lamini.local.store import StoreClosedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from airflow_provider_lamini.api.call import Json
    from airflow_provider_lamini.local.store import Job, RowResult, Store

logger = logging.getLogger(__name__)

HOLD_POLL: Final = 0.05
"""Seconds between two looks at whether a held job was released."""


class JobFailed(Exception):  # noqa: N818 - says what happened
    """The job cannot end well. Its message is the job's detail, for a person; it holds no prompt."""


class _Stop(BaseException):  # not an error: nobody may catch it by accident
    """The job has to end now, other than by its own doing."""


class JobKind(Protocol):
    """What the runner has to know of one kind of job."""

    @property
    def name(self) -> str:
        """The word for it in the store and in the control endpoints."""

    @property
    def concurrency(self) -> int:
        """How many of them run at once; more wait, queued."""

    @property
    def time_limit(self) -> float | None:
        """Seconds that one run may take before the job counts as timed out; None sets no limit."""

    def run(self, job: RunningJob) -> None:
        """Do the job's work, from wherever an earlier run left it; return when it is done.

        It runs in a thread of its own and calls ``job.check()`` often: so it learns that it must end.

        :raises JobFailed: it cannot end well
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """Jobs that start no further work until they are released.

    :param kind: only jobs of this kind
    :param job_id: only this job
    :param after_rows: rows that a job may do before it is held
    """

    kind: str | None = None
    job_id: str | None = None
    after_rows: int = 0

    def fits(self, job: Job) -> bool:
        """Whether this is about that job."""
        return self.kind in (None, job.kind) and self.job_id in (None, job.id)


class RunningJob:
    """A job while it runs: what it was asked for, and whether it must end.

    :param job: the job as it was stored when it was started
    :param store: where its rows are
    :param runner: who runs it
    :param time_limit: seconds that it may run
    """

    def __init__(self, job: Job, store: Store, runner: JobRunner, time_limit: float | None) -> None:
        self.job = job
        self.store = store
        self._runner = runner
        self._deadline = None if time_limit is None else time.monotonic() + time_limit
        self._end: tuple[JobState | None, str | None] | None = None
        self._wake = threading.Event()

    @property
    def must_end(self) -> bool:
        """Whether the job was told to end, or ran out of time."""
        if self._end is None and self._deadline is not None and time.monotonic() > self._deadline:
            self.end(JobState.TIMED_OUT, "The job ran into its time limit.")
        return self._end is not None

    def check(self) -> None:
        """Return if the job may go on; wait while it is held.

        :raises Exception: the job must end now; let it pass
        """
        while True:
            if self.must_end:
                raise _Stop
            if not self.held():
                return
            self.sleep(HOLD_POLL)

    def held(self, rows_begun: int = 0) -> bool:
        """Whether the job must start no further work for now.

        :param rows_begun: rows that this job has begun or done
        """
        return self._runner.holds(self.job, rows_begun)

    def keep(self, results: Sequence[RowResult]) -> None:
        """Store results of rows, unless the job was made to end meanwhile."""
        if self.ending[0] is not None:
            return
        self._runner.count_rows(self.job.id, self.store.save(self.job.id, results))

    def sleep(self, seconds: float) -> None:
        """Wait that long, less if the job must end."""
        self._wake.wait(seconds)

    def end(self, state: JobState | None, detail: str | None = None) -> None:
        """Tell the job to end.

        :param state: how it ends; None leaves it as it is, to be taken up again by the next process
        :param detail: why, for a person
        """
        if self._end is None:
            self._end = (state, detail)
            self._wake.set()

    @property
    def ending(self) -> tuple[JobState | None, str | None]:
        """How the job was told to end, and why."""
        return self._end or (None, None)


class JobRunner:
    """Runs stored jobs, each in its own thread, first come first served within its kind.

    :param store: where jobs are
    :param kinds: the kinds of jobs that can be run
    """

    def __init__(self, store: Store, kinds: Iterable[JobKind]) -> None:
        self._store = store
        self._kinds = {kind.name: kind for kind in kinds}
        self._lock = threading.Lock()
        self._waiting: dict[str, deque[Job]] = defaultdict(deque)
        self._running: dict[str, RunningJob] = {}
        self._holds: list[Hold] = []
        self._computed: Counter[str] = Counter()
        self._stopping = False

    def resume(self) -> int:
        """Take up every job that has not ended, oldest first.

        :returns: how many there are
        """
        jobs = self._store.jobs(alive=True)
        for job in jobs:
            if job.kind in self._kinds:
                self._enqueue(job)
            else:
                logger.warning("job %s is of kind %s, which this version does not run", job.id, job.kind)
        return len(jobs)

    def submit(
        self, kind: str, params: dict[str, Json], prompts: Sequence[str] = (), job_id: str | None = None
    ) -> Job:
        """Store a job and run it as soon as its kind has room.

        :param kind: the name of its kind
        :param params: what was asked for, without the prompts
        :param prompts: one text per row
        :param job_id: its id, which no other job has; one is made up where none is given
        """
        job = self._store.create(kind, params, prompts, job_id)
        logger.info("%s %s queued, rows: %d", kind, job.id, job.total)
        self._enqueue(job)
        return job

    def end(self, job_id: str, state: JobState, detail: str | None = None) -> bool:
        """End a job now, such as by cancelling it.

        :param state: how it ends
        :param detail: why, for a person
        :returns: False where it had ended already, or there is no such job
        """
        ended = self._store.ended(job_id, state, detail)
        with self._lock:
            running = self._running.get(job_id)
            for queue in self._waiting.values():
                for job in [job for job in queue if job.id == job_id]:
                    queue.remove(job)
        if running is not None:
            running.end(state, detail)
        return ended

    def hold(self, hold: Hold) -> None:
        """Keep jobs from starting further work."""
        with self._lock:
            self._holds.append(hold)

    def release(self) -> None:
        """Let every held job go on."""
        with self._lock:
            self._holds.clear()

    def holds(self, job: Job, rows_begun: int) -> bool:
        """Whether a job is held at that number of rows."""
        return any(hold.fits(job) and rows_begun >= hold.after_rows for hold in tuple(self._holds))

    def count_rows(self, job_id: str, rows: int) -> None:
        """Note that rows were computed."""
        with self._lock:
            self._computed[job_id] += rows

    def computed(self) -> dict[str, int]:
        """Rows computed per job, since this process began or was reset."""
        with self._lock:
            return dict(self._computed)

    def reset(self) -> None:
        """Release what is held and count rows from nothing again."""
        with self._lock:
            self._holds.clear()
            self._computed.clear()

    def stop(self) -> None:
        """Let what runs end without an end: the next process takes it up."""
        with self._lock:
            self._stopping = True
            self._waiting.clear()
            running = list(self._running.values())
        for job in running:
            job.end(None)

    def _enqueue(self, job: Job) -> None:
        with self._lock:
            self._waiting[job.kind].append(job)
        self._start_what_fits(job.kind)

    def _start_what_fits(self, kind_name: str) -> None:
        kind = self._kinds[kind_name]
        with self._lock:
            queue = self._waiting[kind_name]
            active = sum(running.job.kind == kind_name for running in self._running.values())
            while queue and active < kind.concurrency and not self._stopping:
                running = RunningJob(queue.popleft(), self._store, self, kind.time_limit)
                self._running[running.job.id] = running
                active += 1
                threading.Thread(target=self._run, args=(kind, running), name=kind_name, daemon=True).start()

    def _run(self, kind: JobKind, running: RunningJob) -> None:
        job = running.job
        began = time.monotonic()
        state: JobState | None = JobState.SUCCEEDED
        detail: str | None = None
        try:
            running.check()
            self._store.started(job.id)
            kind.run(running)
        except (_Stop, StoreClosedError):
            state, detail = running.ending
        except JobFailed as error:
            state, detail = JobState.FAILED, str(error)
        except Exception as error:  # noqa: BLE001 - it is the job's end
            logger.error("%s %s broke: %s", job.kind, job.id, place_of(error))  # noqa: TRY400 - its text may hold a prompt
            state, detail = (
                JobState.FAILED,
                f"The platform broke while doing the job ({type(error).__name__}).",
            )
        if state is not None:
            self._note_end(job, state, detail, time.monotonic() - began)
        with self._lock:
            del self._running[job.id]
        self._start_what_fits(job.kind)

    def _note_end(self, job: Job, state: JobState, detail: str | None, seconds: float) -> None:
        try:
            self._store.ended(job.id, state, detail)
        except StoreClosedError:
            return
        logger.info(
            "%s %s %s after %.1f s%s", job.kind, job.id, state.value, seconds, f": {detail}" if detail else ""
        )
