"""Task runs without operators, and a hook without a network."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from airflow_provider_lamini.runs.task import TaskRun, WaitOptions
from tests.support.tasks import TI, context_of

if TYPE_CHECKING:
    from tests.support.tasks import TaskInstance


@dataclass
class MemoryHook:
    """A hook that sends a call by calling it: its calls are functions without arguments.

    :param records: the folder that the connection names for submission records
    """

    records: str | None = None
    conn_id: str = "mine"
    closed: bool = False
    platform_name: str = "test"

    def settings(self) -> Any:
        """Settings with an address."""
        return SimpleNamespace(base_url="https://platform.test", retry_budget=0.5)

    def client(self) -> Any:
        """Fail: there is no network."""
        raise AssertionError("this task sends nothing through a client")

    def send(self, call: Any) -> Any:
        """Call the function."""
        return call()

    def state_path(self) -> str | None:
        """The folder for records."""
        return self.records

    def web_job_url(self, kind: str, job_id: str) -> str | None:
        """The page of a job."""
        return f"https://web.test/{kind}/{job_id}"

    def close(self) -> None:
        """Record that the hook was closed."""
        self.closed = True


def task_run(
    ti: TaskInstance = TI,
    *,
    hook: MemoryHook | None = None,
    started_at: float | None = None,
    state_store: object = None,
    **options: Any,
) -> TaskRun:
    """Return one try of a task.

    :param ti: which task
    :param hook: the hook
    :param started_at: when the try started, a Unix timestamp; ``None`` for now
    :param state_store: Airflow's task state store, if there is one
    :param options: options of waiting that differ from the defaults
    """
    context: Any = context_of(ti, **({} if state_store is None else {"task_state_store": state_store}))
    defaults: dict[str, Any] = {
        "deferrable": True,
        "poll_interval": 0.1,
        "timeout": 60.0,
        "cancel_on_kill": False,
    }
    return TaskRun(
        context,
        hook=cast("Any", hook or MemoryHook()),
        options=WaitOptions(**defaults | options),
        log=logging.getLogger("airflow.task"),
        started_at=started_at,
    )
