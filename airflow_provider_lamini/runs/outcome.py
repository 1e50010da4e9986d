"""The steps of a task: wait for jobs, or be done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow.providers.common.compat.sdk import Context

R = TypeVar("R")


class Log(Protocol):
    """A task's log, of whichever Airflow."""

    def info(self, message: str, /, *args: object) -> object:
        """Tell a person how the task is."""

    def warning(self, message: str, /, *args: object) -> object:
        """Tell a person of something that they may not expect."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitFor:
    """Jobs are under way; nothing is to be done until some of them have ended.

    :param kind: name of the jobs' kind in ``jobs.kinds``
    :param job_ids: the platform's ids
    :param submitted_at: when the youngest was submitted, seconds since 1970: so long may the platform not
        know it
    :param enough: how many must have ended before there is something to do
    :param progress: numbers for the log, from ``jobs.progress.Progress.payload``
    """

    kind: str
    job_ids: Sequence[str]
    submitted_at: float
    min_ended: int = 1
    progress: Mapping[str, float] | None = None


@dataclass(frozen=True, slots=True)
class Done(Generic[R]):
    """The work is done.

    :param result: what the task returns
    """

    result: R


def request_key(context: Context) -> str:
    """Who asked for this: the run as it began, or the person who cleared it. It is the same for all retries after that.

    Airflow sets anew how many tries a task has when it is cleared, and at no other time.

    :param context: Airflow's context
    """
    return f"{'/'.join(map(str, task_identity(context).values()))}/{getattr(context['ti'], 'max_tries', 0)}"


def retry_follows(context: Context) -> bool:
    """Whether Airflow will try the task again by itself if this try fails.

    :param context: Airflow's context
    """
    ti = context["ti"]
    return int(getattr(ti, "try_number", 1)) <= int(getattr(ti, "max_tries", 0))


def task_identity(context: Context) -> dict[str, str | int]:
    """Who runs: Dag, task, run and map index. It is the same for every try.

    :param context: Airflow's context
    """
    ti = context["ti"]
    return {
        "dag": str(ti.dag_id),
        "task": str(ti.task_id),
        "run": str(ti.run_id),
        "map_index": int(ti.map_index if ti.map_index is not None else -1),
    }
