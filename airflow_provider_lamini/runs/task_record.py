"""What a task records of itself for its page in Airflow's UI. It is an XCom: who may read XComs of a Dag may read it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_lamini.rows.storage.uris import is_remote, local_path, without_password

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.providers.common.compat.sdk import BaseOperator

KEY = "airflow_provider_lamini_task"
"""The key of the XCom."""
VERSION = 1
MAX_JOBS = 100
"""Maximum number of recorded jobs: the last ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRecord:
    """What a task has said of itself. It has no data, and no secrets.

    :param platform: the platform's name; empty for a task that needs none
    :param conn_id: the connection to it
    :param output: the folder with the results, a path or URI without a password
    :param output_conn_id: the connection to its object store
    :param manifest: the manifest of the index that it refreshes, likewise
    :param manifest_conn_id: the connection to its object store
    :param kind: the kind of the jobs, with its platform
    :param job_ids: the platform's ids of the last jobs, in the order of their submission
    """

    platform: str = ""
    conn_id: str | None = None
    output: str | None = None
    output_conn_id: str | None = None
    manifest: str | None = None
    manifest_conn_id: str | None = None
    kind: str | None = None
    job_ids: tuple[str, ...] = ()

    def payload(self) -> dict[str, Any]:
        """Return the record as plain values, for the XCom."""
        index: dict[str, Any] = {}
        if self.manifest is not None:
            index = {"manifest": self.manifest, "manifest_conn_id": self.manifest_conn_id}
        return {
            "version": VERSION,
            "platform": self.platform,
            "conn_id": self.conn_id,
            "output": self.output,
            "output_conn_id": self.output_conn_id,
            "kind": self.kind,
            "job_ids": list(self.job_ids),
            **index,
        }

    @classmethod
    def from_payload(cls, value: object) -> TaskRecord | None:
        """Read what :meth:`payload` returned; ``None`` if it is something else, or of a newer release.

        :param value: the value of the XCom
        """
        if not isinstance(value, Mapping) or value.get("version") != VERSION:
            return None
        names = ("platform", "conn_id", "output", "output_conn_id", "manifest", "manifest_conn_id", "kind")
        texts = [value.get(name) for name in names]
        job_ids = value.get("job_ids")
        if not all(text is None or isinstance(text, str) for text in texts):
            return None
        if not isinstance(job_ids, list) or not all(isinstance(job_id, str) for job_id in job_ids):
            return None
        platform, conn_id, output, output_conn_id, manifest, manifest_conn_id, kind = texts
        return cls(
            platform=platform or "",
            conn_id=conn_id,
            output=output,
            output_conn_id=output_conn_id,
            manifest=manifest,
            manifest_conn_id=manifest_conn_id,
            kind=kind,
            job_ids=tuple(job_ids[-MAX_JOBS:]),
        )


def task_record(operator: BaseOperator, platform: str, earlier: TaskRecord | None) -> TaskRecord:
    """Return what a task can say of itself now.

    :param operator: the operator, its templates rendered
    :param platform: the platform's name
    :param earlier: what an earlier process of the same try has recorded
    """
    task: Any = operator
    run = getattr(task, "task_run", None)
    kind, job_ids = (None, ()) if run is None else (run.job_kind, tuple(run.job_ids))
    if callable(getattr(task, "job", None)):  # a sensor
        job_id, sensed = task.job()
        kind, job_ids = sensed.name, (job_id,)
    output, manifest = _text(getattr(task, "output_folder", None)), _text(getattr(task, "manifest", None))
    return TaskRecord(
        platform=platform,
        conn_id=_text(getattr(task, f"{platform}_conn_id", None)),
        output=None if output is None else _location(output),
        output_conn_id=_text(getattr(task, "output_conn_id", None)),
        manifest=None if manifest is None else _location(manifest),
        manifest_conn_id=_text(getattr(task, "manifest_conn_id", None)),
        kind=kind or (earlier.kind if earlier else None),
        job_ids=_last(() if earlier is None else earlier.job_ids, job_ids),
    )


def _location(path: str) -> str:
    return without_password(path) if is_remote(path) else local_path(path)


def _last(before: Sequence[str], now: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*before, *now)))[-MAX_JOBS:]


def _text(value: object) -> str | None:
    return str(value) if value not in (None, "", "None") else None
