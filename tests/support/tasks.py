"""Runs an operator as Airflow runs a task, without a scheduler.

Each time a task goes on, Airflow makes a new operator in a new process: what was kept in an attribute is gone.
Triggers and events pass through a database. Both are so here::

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
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, MutableMapping
    from typing import Self

    from airflow.triggers.base import BaseTrigger

    Make = Callable[[], Any]
    """Makes a new operator, always of the same arguments."""


@dataclass(frozen=True, slots=True)
class TaskInstance:
    """The part of Airflow's task instance that says who runs."""

    dag_id: str = "nightly"
    task_id: str = "infer"
    run_id: str = "run-1"
    map_index: int = -1
    try_number: int = 1
    max_tries: int = 1

    def cleared(self, retries: int = 1) -> Self:
        """The same after a person has cleared it: Airflow counts its tries on, and allows as many again."""
        return replace(self, try_number=self.try_number + 1, max_tries=self.try_number + retries)

    def retried(self) -> Self:
        """The same when Airflow tries it again by itself."""
        return replace(self, try_number=self.try_number + 1)


TI = TaskInstance()


WAITING = {"deferrable": True, "poll_interval": 0.5, "timeout": 30}
"""Arguments of an operator that waits: in a trigger, impatiently."""


def maker(operator: Callable[..., Any], **always: object) -> Callable[..., Make]:
    """Returns a function that takes arguments, and returns what makes a new operator of them each time.

    :param operator: its class; another one may be given with the arguments, as ``operator``
    :param always: arguments, where none with that name is given
    """

    def of(operator: Callable[..., Any] = operator, **given: object) -> Make:
        return lambda: operator(**always | given)

    return of


@dataclass(frozen=True, slots=True)
class Deferral:
    """What Airflow keeps of a task that waits for its trigger.

    :param classpath: the trigger's class
    :param trigger: the trigger's arguments
    :param method: the operator's method that is called with the event
    :param kwargs: arguments of that method besides
    """

    classpath: str
    trigger: dict[str, Any]
    method: str
    kwargs: dict[str, Any]

    def make_trigger(self, **changed: object) -> BaseTrigger:
        """The trigger, made anew as a triggerer makes it.

        :param changed: arguments with another value
        """
        return made(self.classpath, self.trigger | changed)

    def wait(self, timeout: float = 60, **changed: object) -> dict[str, Any]:
        """Run the trigger until it yields its event.

        :param timeout: seconds that it may take
        :param changed: arguments of the trigger with another value
        """
        return asyncio.run(asyncio.wait_for(first_event(self.make_trigger(**changed)), timeout))


@dataclass(slots=True)
class Ended:
    """How a task came to its end.

    :param result: what it returned
    :param deferrals: how it waited, each time
    :param events: what woke it, each time
    """

    result: Any = None
    deferrals: list[Deferral] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)


def made(classpath: str, kwargs: Mapping[str, object]) -> BaseTrigger:
    """Make a trigger from what was kept of it."""
    module, name = classpath.rsplit(".", 1)
    trigger: BaseTrigger = getattr(import_module(module), name)(**kwargs)
    return trigger


async def first_event(trigger: BaseTrigger) -> dict[str, Any]:
    """The payload of a trigger's event, as a database gives it back."""
    async for event in trigger.run():
        payload: dict[str, Any] = through_json(event.payload)
        return payload
    raise AssertionError("the trigger ended without an event")


def execute(operator: Any, ti: TaskInstance = TI) -> Any:
    """Begin a try of a task; in any thread, where Airflow's guard against that would be in the way."""
    return type(operator).execute.__wrapped__(operator, {"ti": ti})


def begin(make: Make, ti: TaskInstance = TI) -> Deferral:
    """Begin a try of a task that has to wait. Without more, it is a try that died while it waited.

    :returns: how it waits
    """
    return _deferral_of(lambda: execute(make(), ti))


def wake(make: Make, deferral: Deferral, event: Mapping[str, Any], ti: TaskInstance = TI) -> Any:
    """Go on with a task after its trigger has yielded.

    :returns: what the task returned
    :raises TaskDeferred: it waits again
    """
    return getattr(make(), deferral.method)({"ti": ti}, event=event, **deferral.kwargs)


def run_to_end(
    make: Make, ti: TaskInstance = TI, *, while_deferred: Callable[[int], object] = lambda _: None
) -> Ended:
    """Run a try of a task to its end, however often it defers.

    :param make: makes a new operator
    :param ti: who runs
    :param while_deferred: is called each time that the task is deferred, with how often that was before
    """
    from airflow.providers.common.compat.sdk import TaskDeferred

    ended = Ended()
    go_on: Callable[[], Any] = lambda: execute(make(), ti)  # noqa: E731
    while True:
        try:
            ended.result = through_json(go_on())
        except TaskDeferred as deferred:
            kept = _kept(deferred)
        else:
            return ended
        while_deferred(len(ended.deferrals))
        event = kept.wait()
        ended.deferrals.append(kept)
        ended.events.append(event)
        go_on = lambda kept=kept, event=event: wake(make, kept, event, ti)  # type: ignore[misc]  # noqa: E731


class TerminatedError(BaseException):
    """As Airflow's own: no ``except Exception`` holds it up."""


def kill_once(ready: Callable[[], bool], make: Make, ti: TaskInstance = TI, *, patience: float = 20) -> float:
    """Run a try of a task, and kill it as Airflow kills a running task.

    :param ready: whether it is to be killed now
    :param make: makes a new operator
    :param ti: who runs
    :param patience: seconds after which it is killed in any case
    :returns: how many seconds after that it ended
    """
    operator, killed_at = make(), 0.0
    over = threading.Event()

    def die(*_: object) -> None:
        nonlocal killed_at
        killed_at = time.monotonic()
        operator.on_kill()
        raise TerminatedError

    def watch() -> None:
        end = time.monotonic() + patience
        while not (over.wait(0.02) or ready() or time.monotonic() > end):
            pass
        if not over.is_set():
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGALRM)

    watcher = threading.Thread(target=watch)
    old = signal.signal(signal.SIGALRM, die)
    watcher.start()
    try:
        execute(operator, ti)
    except TerminatedError:
        return time.monotonic() - killed_at
    finally:
        over.set()
        watcher.join()
        signal.signal(signal.SIGALRM, old)
    raise AssertionError("the task ended before it was to be killed")


def through_json(value: Any) -> Any:
    """A value as it comes back from a database."""
    return json.loads(json.dumps(value))


def _deferral_of(call: Callable[[], object]) -> Deferral:
    from airflow.providers.common.compat.sdk import TaskDeferred

    try:
        result = call()
    except TaskDeferred as deferred:
        return _kept(deferred)
    raise AssertionError(f"the task has nothing to wait for, it returned {result!r}")


def _kept(deferred: Any) -> Deferral:
    classpath, kwargs = deferred.trigger.serialize()
    return Deferral(
        classpath, through_json(kwargs), deferred.method_name, through_json(deferred.kwargs or {})
    )


@contextmanager
def log_lines() -> Iterator[list[str]]:
    """What tasks, triggers and clients log within the block, from INFO on, as it comes."""
    lines: list[str] = []
    keeper = _Keeper(lines)
    with ExitStack() as stack:
        for name in ("", "airflow.task"):
            logger = logging.getLogger(name)
            logger.addHandler(keeper)
            stack.callback(logger.removeHandler, keeper)
        if find_spec("structlog") is not None:  # Airflow 3 logs with it
            from structlog.testing import capture_logs

            stack.enter_context(capture_logs(processors=[keeper.keep]))
        yield lines


class _Keeper(logging.Handler):
    """Keeps lines, by itself those of the standard library's loggers, which Airflow 2 has throughout."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__(logging.INFO)
        self._lines = lines
        self._last: logging.LogRecord | None = None

    def keep(self, _: object, __: str, entry: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """Keep a line of structlog's."""
        self._lines.append(str(entry["event"]))
        return entry

    def emit(self, record: logging.LogRecord) -> None:
        if record is not self._last:  # two of the loggers may see the same record
            self._last = record
            self._lines.append(record.getMessage())
