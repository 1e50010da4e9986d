"""What Airflow's database has of a task instance: its state, its times, and the XComs that its page needs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_lamini.links import JobLink, ManifestLink, ReportLink, ResultsLink
from airflow_provider_lamini.plugins.bounded import PageError
from airflow_provider_lamini.runs.task_record import KEY, TaskRecord

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_lamini.api.call import Json

RESULT = "return_value"
LINKS = {
    JobLink.key: "Job",
    ResultsLink.key: ResultsLink.title,
    ManifestLink.key: ManifestLink.title,
    ReportLink.key: ReportLink.title,
}
"""The XComs with links, each with its text."""
MAX_XCOM = 1_000_000
"""Maximum characters of an XCom that is read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskKey:
    """Identifies a task instance.

    :param dag_id: the Dag
    :param run_id: the Dag run
    :param task_id: the task
    :param map_index: -1 if it is not mapped
    """

    dag_id: str
    run_id: str
    task_id: str
    map_index: int

    def owns(self, owner: Mapping[str, str | int]) -> bool:
        """Whether a ledger's owner is this task instance.

        :param owner: as the ledger has it
        """
        return self.identity.items() <= owner.items()

    def is_task(self, owner: Mapping[str, str | int]) -> bool:
        """Whether an owner is this task, in any of its runs.

        :param owner: as a ledger or a reservation has it
        """
        own = {"dag": self.dag_id, "task": self.task_id, "map_index": self.map_index}
        return own.items() <= owner.items()

    @property
    def identity(self) -> dict[str, str | int]:
        """The task instance as records have it."""
        return {"dag": self.dag_id, "task": self.task_id, "run": self.run_id, "map_index": self.map_index}


@dataclass(frozen=True, slots=True)
class StoredTask:
    """What Airflow's database has of a task instance.

    :param facts: its state and times
    :param xcoms: the XComs that matter here, by key
    :param too_long: keys of those that are too long to be read
    :param iterated: whether it is one of several iterations of a loop, the one that started last
    """

    facts: dict[str, Json]
    xcoms: dict[str, Any]
    too_long: list[str]
    iterated: bool = False

    @property
    def record(self) -> TaskRecord | None:
        """What the task has recorded of itself."""
        return TaskRecord.from_payload(self.xcoms.get(KEY))


def load_task(key: TaskKey) -> StoredTask:
    """Read a task instance and its XComs from Airflow's database, without deserializing any classes.

    :param key: the task instance
    :raises PageError: if there is none
    """
    from airflow.models.taskinstance import TaskInstance
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session
    from sqlalchemy import String, cast, func, select

    from airflow_provider_lamini.compat import is_xcom_of, shown_map_index

    with create_session() as session:
        found = session.scalars(
            select(TaskInstance)
            .where(
                TaskInstance.dag_id == key.dag_id,
                TaskInstance.run_id == key.run_id,
                TaskInstance.task_id == key.task_id,
                shown_map_index(TaskInstance) == key.map_index,
            )
            .order_by(TaskInstance.start_date.is_(None), TaskInstance.start_date.desc())
            .limit(2)
        ).all()
        if not found:
            raise PageError(404, "There is no such task instance.")
        ti = found[0]
        facts: dict[str, Json] = {
            "state": None if ti.state is None else str(ti.state),
            "operator": ti.operator,
            "try_number": ti.try_number,
            "started": None if ti.start_date is None else ti.start_date.isoformat(),
            "ended": None if ti.end_date is None else ti.end_date.isoformat(),
            "seconds": ti.duration,
        }
        wanted = (*is_xcom_of(ti), XComModel.key.in_([RESULT, KEY, *LINKS]))
        sizes = session.execute(
            select(XComModel.key, func.length(cast(XComModel.value, String))).where(*wanted)
        ).all()
        short = [name for name, size in sizes if (size or 0) <= MAX_XCOM]
        values = session.execute(
            select(XComModel.key, XComModel.value).where(*wanted, XComModel.key.in_(short))
        ).all()
    return StoredTask(
        facts,
        {name: _plain(value) for name, value in values},
        [name for name, _ in sizes if name not in short],
        iterated=len(found) > 1,
    )


def _plain(value: Any) -> Any:
    """The value of an XCom, which some versions of Airflow keep as JSON in a text."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value
