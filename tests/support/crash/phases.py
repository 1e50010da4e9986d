"""One phase of a task: a try starts, the trigger waits, or the task resumes. Each runs in a process of its own."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support.crash.steps import Watch
from tests.support.crash.zygote import Outcome
from tests.support.tasks import Deferral, TaskInstance, first_event, through_json

if TYPE_CHECKING:
    from tests.support.crash.case import Case


class TaskStateFile:
    """Airflow's task state store as a task sees it. Values are durable once ``set`` returns.

    :param file: file for the values
    """

    def __init__(self, file: Path) -> None:
        self._file = file

    def get(self, key: str, default: object = None) -> object:
        """Return a value."""
        return self._all().get(key, default)

    def set(self, key: str, value: object) -> None:
        """Store a value durably."""
        self._commit({**self._all(), key: value})

    def delete(self, key: str) -> None:
        """Remove a value."""
        self._commit({name: value for name, value in self._all().items() if name != key})

    def clear(self) -> None:
        """Remove all values."""
        self._commit({})

    def _all(self) -> dict[str, object]:
        return json.loads(self._file.read_text()) if self._file.exists() else {}

    def _commit(self, values: dict[str, object]) -> None:
        temporary = self._file.with_suffix(".new")
        temporary.write_text(json.dumps(values))
        temporary.replace(self._file)


def run(order: dict[str, Any]) -> dict[str, Any]:
    """Carry out a `zygote.Order`, given as a mapping."""
    cases: dict[str, Case] = import_module(order["cases"]).ALL
    case = cases[order["case"]]
    place = Path(order["place"])
    watch = Watch((order["step"][0], order["step"][1]) if order["step"] else None, order["call"])
    case.learn(watch)
    watch.start()
    try:
        outcome = _carry_out(case, order, place, watch)
    finally:
        watch.stop()
    return asdict(outcome) | {"steps": watch.steps, "calls": watch.calls}


def _carry_out(case: Case, order: dict[str, Any], place: Path, watch: Watch) -> Outcome:
    from airflow.providers.common.compat.sdk import AirflowFailException, TaskDeferred

    try:
        if order["phase"] == "wait":
            trigger = Deferral(**order["deferral"]).make_trigger()
            event = asyncio.run(first_event(trigger))
            watch.passed("the event is in flight")
            return Outcome(how="yielded", value=event)
        result = through_json(_task(case, order, place))
        watch.passed("the result is in flight")
        return Outcome(how="returned", value=result)
    except TaskDeferred as deferred:
        classpath, kwargs = deferred.trigger.serialize()
        watch.passed("the deferral is in flight")
        method, method_kwargs = deferred.method_name, through_json(deferred.kwargs or {})
        deferral = Deferral(classpath, through_json(kwargs), method, method_kwargs)
        return Outcome(how="deferred", value=asdict(deferral))
    except Exception as error:  # noqa: BLE001 - any exception ends the try, as in Airflow
        name = type(error).__name__
        return Outcome(how="raised", error=(name, str(error)), fatal=isinstance(error, AirflowFailException))


def _task(case: Case, order: dict[str, Any], place: Path) -> Any:
    instance = TaskInstance()
    context: dict[str, Any] = {"ti": instance, "task_instance": instance}
    if case.task_state:
        context["task_state_store"] = TaskStateFile(place / "task-state.json")
    operator = case.operator(place)
    if order["phase"] == "execute":
        return type(operator).execute.__wrapped__(operator, context)
    deferral = Deferral(**order["deferral"])
    return getattr(operator, deferral.method)(context, event=order["event"], **deferral.kwargs)
