"""Creating inference engines, and putting them to sleep."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_lamini.api.errors import BadRequestError
from airflow_provider_lamini.exceptions import JobFailedError
from airflow_provider_lamini.jobs.state import JobState
from airflow_provider_lamini.platforms.emissary.api import engines
from airflow_provider_lamini.platforms.emissary.kinds import CREATED_ENGINE, ENGINE, PARKED_ENGINE, is_live
from airflow_provider_lamini.runs.emissary.provision import ProvisionSpec
from airflow_provider_lamini.runs.emissary.waking import Sleeper
from airflow_provider_lamini.runs.outcome import Done, WaitFor
from airflow_provider_lamini.runs.task_errors import lost_error

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from airflow_provider_lamini.api.call import Call, Json
    from airflow_provider_lamini.jobs.event import JobEvent
    from airflow_provider_lamini.platforms.emissary.api.engines import InferenceEngineSummary
    from airflow_provider_lamini.runs.job_spec import Prepared
    from airflow_provider_lamini.runs.task import TaskRun


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineRequest:
    """An engine.

    :param base_model: base model of the deployments on it
    :param name: its name; ``None`` for one that no other engine has
    :param task_type: what its deployments do
    :param inactive_timeout: seconds without a request until it is parked
    :param schedule: when it is active
    :param reuse: take a live engine with this name, if there is one
    :param list_delay: seconds until an engine that was just created is in the platform's list
    """

    base_model: str
    name: str | None
    task_type: str | None
    inactive_timeout: int | None
    schedule: Mapping[str, Json] | None
    reuse: bool
    list_delay: float

    def call(self, name: str | None) -> Call[InferenceEngineSummary]:
        """The request that creates the engine.

        :param name: its name
        :raises ValueError: if an argument is invalid
        """
        return engines.create(
            base_model=self.base_model,
            name=name,
            task_type=self.task_type,
            inactive_timeout=self.inactive_timeout,
            schedule=self.schedule,
        )


class EngineSpec(ProvisionSpec):
    """An engine that the task creates, or a live one with the same name.

    :param task: this try of the task
    :param request: the engine
    """

    kind = CREATED_ENGINE

    def __init__(self, task: TaskRun, request: EngineRequest) -> None:
        super().__init__(task, request.name, request.list_delay)
        self._request = request

    def fingerprint_inputs(self) -> Mapping[str, object]:
        request = self._request
        return {
            "base_model": request.base_model,
            "name": request.name,
            "task_type": request.task_type,
            "inactive_timeout": request.inactive_timeout,
            "schedule": None if request.schedule is None else dict(request.schedule),
        }

    @contextmanager
    def prepare(self, mark: str) -> Iterator[Prepared]:
        yield self.named(mark, lambda name: self._task.hook.send(self._request.call(name)).id)

    def listed(self) -> Iterable[tuple[str, str | None]]:
        return [(engine.id, engine.name) for engine in self._task.hook.send(engines.list_all())]

    def find_live(self) -> str | None:
        """A live engine with the same name and base model."""
        request = self._request
        if not request.reuse or request.name is None:
            return None
        for engine in self._task.hook.send(engines.list_all()):
            same = engine.name == request.name and engine.base_model in (None, request.base_model)
            if same and is_live(ENGINE, engine.status):
                return engine.id
        return None

    def sleeper(self, job_id: str) -> Sleeper:
        return Sleeper.engine(job_id)

    def describe(self, job_id: str, status: str | None, *, new: bool) -> dict[str, object]:
        found = self._task.hook.send(engines.engine(job_id))
        return {
            "job_id": job_id,
            "engine_id": job_id,
            "name": found.name,
            "base_model": found.base_model,
            "status": status or found.status,
            "new": new,
        }


class Deactivation:
    """Puts an engine to sleep, and waits until it sleeps; a `Work`. Safe to repeat.

    :param task: this try of the task
    :param engine_id: the engine
    :param wait: wait until it sleeps
    """

    def __init__(self, task: TaskRun, engine_id: str, *, wait: bool) -> None:
        self._task = task
        self._engine_id = engine_id
        self._wait = wait

    def advance(self, event: JobEvent | None) -> WaitFor | Done[dict[str, object]]:
        """Put it to sleep, or judge how the wait has ended.

        :param event: how it stands; ``None`` at the start of a try
        """
        if event is None:
            return self._begin()
        for lost in event.lost.values():
            raise lost_error(
                lost,
                f"Engine {self._engine_id} may still be active and bill; a retry puts it to sleep if it exists.",
            )
        return self._done(event.ended[self._engine_id].raw)

    def on_deadline(self, event: JobEvent) -> str:
        """Nothing can be done.

        :param event: how it stands
        """
        return f"Engine {', '.join(event.pending)} may still be active and bill; a retry waits again."

    def close(self) -> None:
        """Nothing is open."""

    def _begin(self) -> WaitFor | Done[dict[str, object]]:
        send, engine_id = self._task.hook.send, self._engine_id
        status = send(PARKED_ENGINE.status(engine_id))
        if status.state is JobState.SUCCEEDED:
            return self._done(status.raw)
        try:
            send(engines.deactivate(engine_id))
        except BadRequestError as error:
            # The platform refuses it unless the engine is active: it may just have been parked.
            status = send(PARKED_ENGINE.status(engine_id))
            if status.state is not JobState.SUCCEEDED:
                raise JobFailedError(
                    f"Engine {engine_id} is {status.raw} and cannot be put to sleep; it bills. A retry tries again. {error}"
                ) from error
            return self._done(status.raw)
        self._task.log.info("Engine %s is going to sleep.", engine_id)
        if not self._wait:
            return Done({"engine_id": engine_id, "status": status.raw})
        return WaitFor(kind=PARKED_ENGINE.name, job_ids=[engine_id], submitted_at=time.time())

    def _done(self, status: str) -> Done[dict[str, object]]:
        self._task.log.info("Engine %s sleeps (%s).", self._engine_id, status)
        return Done({"engine_id": self._engine_id, "status": status})
