"""Waking parked deployments and engines: a wait of its own, with a deadline of its own."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_lamini.api.errors import BadRequestError
from airflow_provider_lamini.exceptions import JobFailedError, WaitTimeoutError
from airflow_provider_lamini.jobs.state import JobState
from airflow_provider_lamini.platforms.emissary.api import deployments, engines
from airflow_provider_lamini.platforms.emissary.kinds import (
    DEPLOY_AGAIN,
    DEPLOYMENT,
    ENGINE,
    split_id,
    state_of,
)
from airflow_provider_lamini.runs.outcome import Done, WaitFor
from airflow_provider_lamini.runs.task_errors import lost_error
from airflow_provider_lamini.wording import duration

if TYPE_CHECKING:
    from airflow_provider_lamini.api.call import Call
    from airflow_provider_lamini.jobs.event import EndedJob, JobEvent
    from airflow_provider_lamini.jobs.kinds import JobKind
    from airflow_provider_lamini.jobs.state import JobStatus
    from airflow_provider_lamini.runs.task import TaskRun


@dataclass(frozen=True, slots=True)
class Sleeper:
    """What can be parked and woken.

    :param kind: ``emissary/deployment`` or ``emissary/engine``
    :param job_id: its id as a job
    :param name: what messages call it
    """

    kind: JobKind
    job_id: str
    name: str

    @classmethod
    def deployment(cls, job_id: str, name: str | None = None) -> Sleeper:
        """A deployment.

        :param job_id: ``project/id``
        :param name: its name
        """
        return cls(DEPLOYMENT, job_id, f"Deployment {name} ({job_id})" if name else f"Deployment {job_id}")

    @classmethod
    def engine(cls, engine_id: str) -> Sleeper:
        """An engine.

        :param engine_id: its id
        """
        return cls(ENGINE, engine_id, f"Engine {engine_id}")

    def state_of(self, word: str) -> JobState:
        """What a status word of the platform means.

        :param word: such as ``Deactivated``
        """
        return state_of(self.kind, word)

    def wake_call(self) -> Call[None]:
        """The request that wakes it."""
        if self.kind is ENGINE:
            return engines.reactivate(self.job_id)
        return deployments.reactivate(*split_id(self.job_id))


class Waking:
    """Wakes something that is parked, and waits until it is active.

    :param task: this try of the task
    :param sleeper: what to wake
    :param timeout: seconds that it may take
    """

    def __init__(self, task: TaskRun, sleeper: Sleeper, timeout: float) -> None:
        self._task = task
        self._sleeper = sleeper
        self._timeout = timeout

    def begin(self) -> WaitFor | JobStatus:
        """Wake it if it is parked. Safe to repeat.

        :return: what to wait for; its status if it is active
        :raises JobFailedError: if it can never be active again
        """
        sleeper, send = self._sleeper, self._task.hook.send
        status = send(sleeper.kind.status(sleeper.job_id))
        if status.state is JobState.INACTIVE:
            try:
                send(sleeper.wake_call())
            except BadRequestError as error:
                # The platform refuses to wake what is active or waking: somebody else may just have woken it.
                status = send(sleeper.kind.status(sleeper.job_id))
                if status.state is JobState.INACTIVE:
                    raise JobFailedError(
                        f"{sleeper.name} is {status.raw} and cannot be woken. {error}"
                    ) from error
            self._task.log.info(
                "%s is parked; woke it, which takes about 8 to 20 minutes. Waiting up to %s.",
                *(sleeper.name, duration(self._timeout)),
            )
        if status.state.ended:
            self._check(status)
            return status
        return self._wait()

    def end(self, event: JobEvent) -> EndedJob:
        """Judge how the wait has ended.

        :param event: how it stands
        :return: its status, which is active
        :raises WaitTimeoutError: if it did not wake in time
        :raises JobError: if it can never be active again, or is gone
        """
        name = self._sleeper.name
        for lost in event.lost.values():
            raise lost_error(
                lost,
                f"{name} cannot be polled any more. If it exists, it may be active and bill; a retry polls it again.",
            )
        if self._sleeper.job_id not in event.ended:
            seen = f" The last poll failed: {event.last_error}" if event.last_error else ""
            raise WaitTimeoutError(
                f"{name} was not active after {self._timeout:.0f} s (wake_timeout). It may still wake, and bills once it is "
                f"active. A retry waits again; if it never wakes, look at the platform.{seen}"
            )
        ended = event.ended[self._sleeper.job_id]
        self._check(ended)
        return ended

    def _wait(self) -> WaitFor:
        now = time.time()
        deadline = now + self._timeout
        return WaitFor(
            kind=self._sleeper.kind.name,
            job_ids=[self._sleeper.job_id],
            submitted_at=now,
            deadline=deadline if deadline < self._task.deadline else None,
        )

    def _check(self, status: EndedJob | JobStatus) -> None:
        if status.state is not JobState.SUCCEEDED:
            raise JobFailedError(f"{self._sleeper.name} is {status.raw}. {DEPLOY_AGAIN}")


class WakeUp:
    """Wakes a deployment or an engine, as all that a task does; a `Work`.

    :param waking: what to wake
    :param result: what the task returns
    """

    def __init__(self, waking: Waking, result: dict[str, object]) -> None:
        self._waking = waking
        self._result = result

    def advance(self, event: JobEvent | None) -> WaitFor | Done[dict[str, object]]:
        """Wake it, or judge how the wait has ended.

        :param event: how it stands; ``None`` at the start of a try
        """
        outcome = self._waking.begin() if event is None else self._waking.end(event)
        return outcome if isinstance(outcome, WaitFor) else Done({**self._result, "status": outcome.raw})

    def on_deadline(self, event: JobEvent) -> str:
        """It continues to wake: waking cannot be cancelled.

        :param event: how it stands
        """
        return f"{', '.join(event.pending)} may still wake, and bills once it is active; a retry waits again."

    def close(self) -> None:
        """Nothing is open."""
