"""Projects, datasets, checkpoints, engines and deployments: their records in SQLite."""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING, ClassVar, Final, TypeVar

import msgspec

from airflow_provider_lamini.local.database import Database
from airflow_provider_lamini.local.emissary.policy import ResourcePolicy  # noqa: TC001 - decoders need it
from airflow_provider_lamini.local.errors import ObjectNotFoundError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS resources (
    id TEXT PRIMARY KEY, kind TEXT NOT NULL, parent TEXT NOT NULL, body BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS resources_by_parent ON resources (kind, parent);
CREATE TABLE IF NOT EXISTS losses (
    job TEXT NOT NULL, step INTEGER NOT NULL, total INTEGER NOT NULL, at REAL NOT NULL, loss REAL NOT NULL,
    PRIMARY KEY (job, step)
) WITHOUT ROWID;
"""


class Resource(msgspec.Struct, frozen=True, kw_only=True):
    """What all records have.

    :param id: its id
    :param parent: id of what it belongs to; empty if it belongs to nothing
    :param name: its name
    :param created: Unix timestamp
    :param updated: Unix timestamp
    """

    kind: ClassVar[str]
    prefix: ClassVar[str]

    id: str
    parent: str = ""
    name: str
    created: float = msgspec.field(default_factory=time.time)
    updated: float = msgspec.field(default_factory=time.time)


class Project(Resource, frozen=True, kw_only=True):
    """A project."""

    kind = "project"
    prefix = "ms-"


class StoredDataset(Resource, frozen=True, kw_only=True):
    """A dataset of a project.

    :param file: id of its rows in the dataset repository
    :param ready: Unix timestamp at which it counts as uploaded
    """

    kind = "dataset"
    prefix = "ds-"

    file: str
    ready: float


class Checkpoint(Resource, frozen=True, kw_only=True):
    """A checkpoint of a training job, its parent.

    :param number: its number, from 1
    :param file: name of its file: an adapter, or a classifier
    :param rows: number of rows that it was tested on; None before that
    :param scores: mean score of each test function
    """

    kind = "checkpoint"
    prefix = "checkpoint-"

    number: int
    file: str
    rows: int | None = None
    scores: dict[str, float] = {}


class Engine(Resource, frozen=True, kw_only=True):
    """An inference engine, which deployments share.

    :param base: the base model of all its deployments
    :param task_type: what its deployments do
    :param policy: when it is put to sleep
    :param activation: id of the job that created it or woke it last
    :param woken: whether it was woken since it was created
    :param accessed: Unix timestamp of the last request
    :param deactivated: whether it was put to sleep by request
    """

    kind = "inference engine"
    prefix = "engine-"

    base: str
    task_type: str
    policy: ResourcePolicy
    activation: str
    woken: bool = False
    accessed: float
    deactivated: bool = False


class Deployment(Resource, frozen=True, kw_only=True):
    """A deployment of a checkpoint or of a base model. Its parent is the project.

    :param description: a text for people
    :param engine: id of the engine that it runs on; None if it runs on its own
    :param training: id of the training job, or name of the base model
    :param checkpoint: number of the checkpoint; 0 for a base model
    :param base: the base model
    :param task_type: what it does
    :param labels: the labels of a classifier
    :param file: name of its own copy of the checkpoint's file; empty for a base model
    :param policy: when it is put to sleep
    :param activation: id of the job that deployed it or woke it last
    :param woken: whether it was woken since it was deployed
    :param accessed: Unix timestamp of the last request
    :param terminated: whether it was removed from its engine
    """

    kind = "deployment"
    prefix = "dp-"

    description: str = ""
    engine: str | None = None
    training: str
    checkpoint: int
    base: str
    task_type: str
    labels: list[str] = []
    file: str = ""
    policy: ResourcePolicy
    activation: str
    woken: bool = False
    accessed: float
    terminated: bool = False


class LossRecord(msgspec.Struct, frozen=True):
    """A point of a loss curve.

    :param step: number of the step
    :param total: total number of steps
    :param at: Unix timestamp
    :param loss: the loss
    """

    step: int
    total: int
    at: float
    loss: float


R = TypeVar("R", bound=Resource)

_DECODERS: Final[dict[type[Resource], msgspec.json.Decoder[Resource]]] = {
    kind: msgspec.json.Decoder(kind) for kind in (Project, StoredDataset, Checkpoint, Engine, Deployment)
}


def new_id(prefix: str) -> str:
    """Return a new id that starts with a prefix."""
    return prefix + secrets.token_hex(16)


class ResourceRepository:
    """All records in one SQLite file. Any thread may use it.

    :param path: the database file, created if missing
    """

    def __init__(self, path: Path) -> None:
        self._db = Database(path, SCHEMA)

    def add(self, resource: R) -> R:
        """Store a new record, and return it."""
        self.add_all([resource])
        return resource

    def add_all(self, resources: Sequence[Resource]) -> None:
        """Store new records: all of them, or none."""
        with self._db.write() as db:
            db.executemany(
                "INSERT INTO resources VALUES (?, ?, ?, ?)",
                [(item.id, item.kind, item.parent, msgspec.json.encode(item)) for item in resources],
            )

    def find(self, kind: type[R], resource_id: str) -> R | None:
        """Return a record, or None if there is none of this kind with this id."""
        found = self._db.read("SELECT body FROM resources WHERE id = ? AND kind = ?", resource_id, kind.kind)
        return _decode(kind, found[0][0]) if found else None

    def get(self, kind: type[R], resource_id: str, parent: str | None = None) -> R:
        """Return a record.

        :param kind: its kind
        :param resource_id: its id
        :param parent: what it must belong to, if that matters
        :raises ObjectNotFoundError: there is no such record
        """
        found = self.find(kind, resource_id)
        if found is None or parent not in (None, found.parent):
            raise ObjectNotFoundError(kind.kind, resource_id)
        return found

    def all(self, kind: type[R], parent: str | None = None) -> list[R]:
        """Return all records of a kind, oldest first.

        :param kind: the kind
        :param parent: only those that belong to this
        """
        sql = "SELECT body FROM resources WHERE kind = ? AND (? IS NULL OR parent = ?) ORDER BY rowid"
        return [_decode(kind, body) for (body,) in self._db.read(sql, kind.kind, parent, parent)]

    def change(self, resource: R, **fields: object) -> R:
        """Change fields of the record as it is stored now, and return it; one that was deleted stays deleted."""
        kind = type(resource)
        with self._db.write() as db:
            found = db.execute("SELECT body FROM resources WHERE id = ?", (resource.id,)).fetchone()
            current = resource if found is None else _decode(kind, found[0])
            changed = msgspec.structs.replace(current, **fields)
            db.execute(
                "UPDATE resources SET body = ? WHERE id = ?", (msgspec.json.encode(changed), resource.id)
            )
        return changed

    def remove(self, resource: Resource) -> None:
        """Delete a record."""
        with self._db.write() as db:
            db.execute("DELETE FROM resources WHERE id = ?", (resource.id,))

    def record_loss(self, job_id: str, record: LossRecord) -> None:
        """Record a step of a training job; a step that is repeated after a crash replaces the earlier one."""
        with self._db.write() as db:
            db.execute(
                "INSERT OR REPLACE INTO losses VALUES (?, ?, ?, ?, ?)",
                (job_id, record.step, record.total, record.at, record.loss),
            )

    def losses(self, job_id: str) -> list[LossRecord]:
        """Return the loss curve of a training job."""
        sql = "SELECT step, total, at, loss FROM losses WHERE job = ? ORDER BY step"
        return [LossRecord(*row) for row in self._db.read(sql, job_id)]

    def last_loss(self, job_id: str) -> LossRecord | None:
        """Return the last point of a loss curve; None if there is none."""
        sql = "SELECT step, total, at, loss FROM losses WHERE job = ? ORDER BY step DESC LIMIT 1"
        return next((LossRecord(*row) for row in self._db.read(sql, job_id)), None)

    def remove_losses(self, job_id: str) -> None:
        """Delete the loss curve of a training job."""
        with self._db.write() as db:
            db.execute("DELETE FROM losses WHERE job = ?", (job_id,))

    def clear(self) -> None:
        """Delete everything."""
        with self._db.write() as db:
            db.execute("DELETE FROM resources")
            db.execute("DELETE FROM losses")

    def close(self) -> None:
        """Close the database."""
        self._db.close()


def _decode(kind: type[R], body: bytes) -> R:
    resource: R = _DECODERS[kind].decode(body)  # type: ignore[assignment]  # the decoder of this kind
    return resource
