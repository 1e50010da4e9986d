"""Run an operator as Airflow runs a task, without a scheduler.

Airflow makes a new operator in a new process each time a task resumes, so attributes do not survive. Triggers and
events are stored in a database. This module imitates both::

    ended = run_to_end(lambda: MyOperator(task_id="mine", deferrable=True))
    assert ended.result == 42
    assert len(ended.deferrals) == 1
"""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import threading
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from importlib import import_module
from importlib.util import find_spec
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, MutableMapping
    from typing import Self

    from airflow.triggers.base import BaseTrigger

    Make = Callable[[], Any]
    """A factory: each call returns a new operator with the same arguments."""


@dataclass(frozen=True, slots=True)
class TaskInstance:
    """The part of Airflow's task instance that identifies a try."""

    dag_id: str = "nightly"
    task_id: str = "infer"
    run_id: str = "run-1"
    map_index: int = -1
    try_number: int = 1
    max_tries: int = 1

    def cleared(self, retries: int = 1) -> Self:
        """Return the task instance after a clear: Airflow keeps counting tries, and allows as many retries again."""
        return replace(self, try_number=self.try_number + 1, max_tries=self.try_number + retries)

    def retried(self) -> Self:
        """Return the task instance of an automatic retry."""
        return replace(self, try_number=self.try_number + 1)

    def xcom_push(self, key: str, value: object) -> None:
        """Forget a value."""

    def xcom_pull(self, key: str) -> object:  # noqa: ARG002 - some subclasses remember values
        """Return nothing."""
        return None


TI = TaskInstance()


def context_of(ti: TaskInstance, **values: object) -> dict[str, Any]:
    """Return the context of a task: one with an ``iteration`` is in a task-group loop, and has ``loop``.

    :param ti: the task instance
    :param values: what else the context has
    """
    iteration = getattr(ti, "iteration", None)
    return {"ti": ti} | ({} if iteration is None else {"loop": SimpleNamespace(index=iteration)}) | values


WAITING = {"deferrable": True, "poll_interval": 0.1, "timeout": 30}
"""Arguments of an operator that waits in a trigger, with short intervals."""


def maker(operator: Callable[..., Any], **defaults: object) -> Callable[..., Make]:
    """Return a function that takes arguments and returns a factory of operators.

    :param operator: the class; the argument ``operator`` of the returned function replaces it
    :param defaults: default arguments
    """

    def factory(operator: Callable[..., Any] = operator, **arguments: object) -> Make:
        return lambda: operator(**defaults | arguments)

    return factory


@dataclass(frozen=True, slots=True)
class Deferral:
    """What Airflow stores of a task that waits for its trigger.

    :param classpath: import path of the trigger's class
    :param trigger: the trigger's arguments
    :param method: the operator's method that is called with the event
    :param kwargs: other arguments of that method
    """

    classpath: str
    trigger: dict[str, Any]
    method: str
    kwargs: dict[str, Any]

    def make_trigger(self, **changed: object) -> BaseTrigger:
        """Return a new trigger, as a triggerer creates it.

        :param changed: arguments to replace
        """
        return load_trigger(self.classpath, self.trigger | changed)

    def wait(self, timeout: float = 60, **changed: object) -> dict[str, Any]:
        """Run the trigger until it yields its event.

        :param timeout: maximum time in seconds
        :param changed: arguments of the trigger to replace
        """
        return asyncio.run(asyncio.wait_for(first_event(self.make_trigger(**changed)), timeout))


@dataclass(slots=True)
class Ended:
    """The outcome of a try.

    :param result: what the task returned
    :param deferrals: its deferrals, in order
    :param events: the event that ended each deferral
    """

    result: Any = None
    deferrals: list[Deferral] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)


def load_trigger(classpath: str, kwargs: Mapping[str, object]) -> BaseTrigger:
    """Create a trigger from its serialized form."""
    module, name = classpath.rsplit(".", 1)
    trigger: BaseTrigger = getattr(import_module(module), name)(**kwargs)
    return trigger


async def first_event(trigger: BaseTrigger) -> dict[str, Any]:
    """Return the payload of a trigger's event, as it is read from a database."""
    async for event in trigger.run():
        payload: dict[str, Any] = through_json(event.payload)
        return payload
    raise AssertionError("the trigger ended without an event")


def execute(operator: Any, ti: TaskInstance = TI) -> Any:
    """Start a try of a task. This bypasses Airflow's check that only its task runner calls ``execute``."""
    return type(operator).execute.__wrapped__(operator, context_of(ti))


def begin(make: Make, ti: TaskInstance = TI) -> Deferral:
    """Start a try and return when it defers. Without :func:`resume`, this is a try that died while it waited.

    :return: the deferral
    """
    return _deferral_of(lambda: execute(make(), ti))


def resume(make: Make, deferral: Deferral, event: Mapping[str, Any], ti: TaskInstance = TI) -> Any:
    """Resume a task after its trigger has yielded an event.

    :return: what the task returned
    :raises TaskDeferred: it defers again
    """
    return getattr(make(), deferral.method)(context_of(ti), event=event, **deferral.kwargs)


def run_to_end(
    make: Make, ti: TaskInstance = TI, *, while_deferred: Callable[[int], object] = lambda _: None
) -> Ended:
    """Run a try of a task to its end, however often it defers.

    :param make: factory of the operator
    :param ti: the task instance
    :param while_deferred: called during each deferral, with the number of earlier deferrals
    """
    from airflow.providers.common.compat.sdk import TaskDeferred

    ended = Ended()
    next_step: Callable[[], Any] = lambda: execute(make(), ti)  # noqa: E731
    while True:
        try:
            ended.result = through_json(next_step())
        except TaskDeferred as deferred:
            deferral = _deferral(deferred)
        else:
            return ended
        while_deferred(len(ended.deferrals))
        event = deferral.wait()
        ended.deferrals.append(deferral)
        ended.events.append(event)
        next_step = lambda deferral=deferral, event=event: resume(make, deferral, event, ti)  # type: ignore[misc]  # noqa: E731


class TerminatedError(BaseException):
    """Like Airflow's exception on SIGTERM: ``except Exception`` does not catch it."""


def kill_once(ready: Callable[[], bool], make: Make, ti: TaskInstance = TI, *, timeout: float = 20) -> float:
    """Run a try of a task, and kill it as Airflow kills a running task.

    :param ready: returns whether to kill it now
    :param make: factory of the operator
    :param ti: the task instance
    :param timeout: seconds after which it is killed in any case
    :return: seconds from the kill to the end of the try
    """
    operator, killed_at = make(), 0.0
    ended = threading.Event()

    def kill(*_: object) -> None:
        nonlocal killed_at
        killed_at = time.monotonic()
        operator.on_kill()
        raise TerminatedError

    def watch() -> None:
        end = time.monotonic() + timeout
        while not (ended.wait(0.02) or ready() or time.monotonic() > end):
            pass
        if not ended.is_set():
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGALRM)

    watcher = threading.Thread(target=watch)
    old = signal.signal(signal.SIGALRM, kill)
    watcher.start()
    try:
        execute(operator, ti)
    except TerminatedError:
        return time.monotonic() - killed_at
    finally:
        ended.set()
        watcher.join()
        signal.signal(signal.SIGALRM, old)
    raise AssertionError("the task ended before it was killed")


def through_json(value: Any) -> Any:
    """Return a value as it is read from a database."""
    return json.loads(json.dumps(value))


def _deferral_of(call: Callable[[], object]) -> Deferral:
    from airflow.providers.common.compat.sdk import TaskDeferred

    try:
        result = call()
    except TaskDeferred as deferred:
        return _deferral(deferred)
    raise AssertionError(f"the task did not defer, it returned {result!r}")


def _deferral(deferred: Any) -> Deferral:
    classpath, kwargs = deferred.trigger.serialize()
    return Deferral(
        classpath, through_json(kwargs), deferred.method_name, through_json(deferred.kwargs or {})
    )


@contextmanager
def log_lines(minimum: int = logging.INFO, lines: list[str] | None = None) -> Iterator[list[str]]:
    """Collect the log lines of tasks, triggers and clients within the block.

    :param minimum: the lowest level to collect
    :param lines: the list that gets them; ``None`` for a new one
    """
    lines = [] if lines is None else lines
    handler = _LineHandler(lines, minimum)
    with ExitStack() as stack:
        for name in ("", "airflow.task"):
            logger = logging.getLogger(name)
            logger.addHandler(handler)
            stack.callback(logger.removeHandler, handler)
        if find_spec("structlog") is not None:  # Airflow 3 logs with it
            from structlog.testing import capture_logs

            stack.enter_context(capture_logs(processors=[handler.add_entry]))
        yield lines


@contextmanager
def at_log_line(text: str, action: Callable[[], object]) -> Iterator[None]:
    """Call a function at the moment when the first log line within the block has a text.

    :param text: a part of the line
    :param action: called in the thread that logs
    """
    with log_lines(lines=_Listener(text, action)):
        yield


class _Listener(list[str]):
    """Calls a function when the first line with a text is appended."""

    def __init__(self, text: str, action: Callable[[], object]) -> None:
        super().__init__()
        self._text = text
        self._actions = [action]

    def append(self, line: str) -> None:
        if self._text in line and self._actions:
            self._actions.pop()()


class _LineHandler(logging.Handler):
    """Collects lines. As a handler, it gets those of the standard library's loggers, the only ones that Airflow 2 uses."""

    def __init__(self, lines: list[str], minimum: int) -> None:
        super().__init__(minimum)
        self._lines = lines
        self._last = threading.local()

    def add_entry(self, _: object, level: str, entry: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """Collect a line of structlog."""
        if logging.getLevelNamesMapping()[level.upper()] >= self.level:
            self._lines.append(str(entry["event"]))
        return entry

    def handle(self, record: logging.LogRecord) -> bool:
        # Without the handler's lock: a listener's action may wait for a thread that logs.
        self.emit(record)
        return True

    def emit(self, record: logging.LogRecord) -> None:
        if record is not getattr(self._last, "record", None):  # both loggers may get the same record
            self._last.record = record
            self._lines.append(record.getMessage())


def outlet_events() -> Any:
    """Return the accessors of asset events, as Airflow puts them into a context."""
    name = (
        "airflow.utils.context" if find_spec("airflow.sdk") is None else "airflow.sdk.execution_time.context"
    )
    return import_module(name).OutletEventAccessors()
