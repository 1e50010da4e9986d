"""What the page of jobs shows: connections to platforms, their lists of jobs, one job with its loss curve."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import TYPE_CHECKING, TypeVar

from airflow_provider_lamini.api.errors import (
    JobNotFoundError,
    NotFoundError,
    PlatformError,
    PlatformTimeoutError,
)
from airflow_provider_lamini.hooks.connection import InvalidConnectionError, connection_info
from airflow_provider_lamini.hooks.single_request import send_once
from airflow_provider_lamini.jobs.listed import MAX_LISTED, JobDetail, ListedJob
from airflow_provider_lamini.platforms import platform, platform_names
from airflow_provider_lamini.plugins.bounded import BOUNDED, SECONDS, PageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.api_fastapi.auth.managers.models.base_user import BaseUser

    from airflow_provider_lamini.api.call import Call, Json
    from airflow_provider_lamini.api.settings import ClientSettings
    from airflow_provider_lamini.jobs.kinds import JobKind
    from airflow_provider_lamini.jobs.listed import JobList
    from airflow_provider_lamini.platforms.base import Platform

T = TypeVar("T")

MAX_CONNECTIONS = 200
"""Maximum number of connections that the page lists. Any other one can be opened by its id."""
MAX_RESPONSE_MB = 64.0
MAX_STATES = 20
"""Maximum number of a task's jobs whose states are read."""
MAX_LARGE_STATES = 5
"""The same for jobs whose status comes only with their results."""
MAX_TEXT = 300
"""Maximum characters of a text of the platform."""


@dataclass(frozen=True, slots=True)
class OpenConnection:
    """A connection to a platform.

    :param conn_id: its id
    :param platform: the platform
    :param settings: how to reach it
    :param web_url: URL of its web pages without a trailing slash, if known
    """

    conn_id: str
    platform: Platform
    settings: ClientSettings
    web_url: str | None

    def ask(self, call: Call[T]) -> T:
        """Send a request once.

        :param call: the request
        :raises PageError: if the platform does not answer, fails or refuses
        """
        where = f"{self.platform.title} at {self.settings.origin}"
        try:
            return BOUNDED.run(lambda: send_once(self.settings, call, SECONDS, self.conn_id), where)
        except PlatformTimeoutError:
            raise PageError(504, f"{where} did not answer in time. Try again later.") from None
        except (JobNotFoundError, NotFoundError) as error:
            raise PageError(404, str(error)) from None
        except (PlatformError, InvalidConnectionError) as error:
            raise PageError(502, str(error)) from None

    def kind(self, short_name: str) -> JobKind:
        """Return one of the platform's kinds of jobs.

        :param short_name: its short name
        :raises PageError: if there is none
        """
        if short_name not in self.platform.job_kinds:
            raise PageError(404, f"{self.platform.title} has no jobs of the kind {short_name[:50]!r}.")
        return self.platform.job_kinds[short_name]

    def job_list(self, short_name: str) -> JobList:
        """Return one of the platform's lists of jobs.

        :param short_name: short name of the jobs' kind
        :raises PageError: if there is none
        """
        found = [each for each in self.platform.job_lists if each.kind.short_name == short_name]
        if not found:
            raise PageError(404, f"{self.platform.title} does not list jobs of the kind {short_name[:50]!r}.")
        return found[0]

    def shown(self, kind: JobKind, job: ListedJob) -> dict[str, Json]:
        """Return a job as the pages show it.

        :param kind: its kind
        :param job: the job
        """
        status, progress = job.status, job.status.progress
        page = self.platform.job_page(kind.short_name, status.job_id)
        return {
            "kind": kind.short_name,
            "title": kind.title,
            "job_id": status.job_id,
            "name": None if job.name is None else job.name[:MAX_TEXT],
            "state": status.state.value,
            "ended": status.state.ended,
            "word": status.raw[:MAX_TEXT],
            "progress": None if progress is None else str(progress),
            "share": _share(status.progress.done, status.progress.total) if status.progress else None,
            "detail": None if status.detail is None else status.detail[:MAX_TEXT],
            "created_at": job.created_at,
            "updated_at": job.updated_at,
            "url": f"{self.web_url}{page}" if self.web_url and page else None,
        }


def _share(done: float, total: float | None) -> float | None:
    return None if not total else max(0.0, min(1.0, done / total))


def open_connection(conn_id: str) -> OpenConnection:
    """Look up a connection to a platform.

    :param conn_id: its id
    :raises PageError: if there is none, or it leads to no platform or is invalid
    """
    from airflow.models.connection import Connection
    from airflow.providers.common.compat.sdk import AirflowNotFoundException, mask_secret

    try:
        found = Connection.get_connection_from_secrets(conn_id)
    except AirflowNotFoundException:
        raise PageError(404, f"There is no connection {conn_id[:250]!r}.") from None
    names = platform_names()
    if found.conn_type not in names:
        raise PageError(
            400,
            f"The connection {conn_id!r} has the type {found.conn_type!r}. Choose one of the types {', '.join(names)}.",
        )
    to = platform(found.conn_type)
    try:
        info = connection_info(found, to)
    except InvalidConnectionError as error:
        raise PageError(400, str(error)) from None
    for secret in (info.settings.key, *info.secrets):
        mask_secret(secret)
    settings = replace(info.settings, max_result_mb=min(info.settings.max_result_mb, MAX_RESPONSE_MB))
    return OpenConnection(conn_id, to, settings, info.web_url)


def may_read_connection(conn_id: str, user: BaseUser) -> bool:
    """Whether a user may read a connection; Airflow's own check.

    :param conn_id: its id
    :param user: the user
    """
    from airflow.api_fastapi.app import get_auth_manager
    from airflow.api_fastapi.auth.managers.models.resource_details import ConnectionDetails
    from airflow.models.connection import Connection

    details = ConnectionDetails(conn_id=conn_id, team_name=Connection.get_team_name(conn_id))
    return get_auth_manager().is_authorized_connection(method="GET", details=details, user=user)


def list_connections(user: BaseUser) -> dict[str, Json]:
    """List the connections to platforms in Airflow's database that a user may read.

    :param user: the user
    """
    from airflow.models.connection import Connection
    from airflow.utils.session import create_session
    from sqlalchemy import select

    query = (
        select(Connection.conn_id, Connection.conn_type)
        .where(Connection.conn_type.in_(platform_names()))
        .order_by(Connection.conn_id)
        .limit(MAX_CONNECTIONS)
    )
    with create_session() as session:
        found = [(str(conn_id), str(conn_type)) for conn_id, conn_type in session.execute(query)]
    return {
        "connections": [
            {"conn_id": conn_id, "platform": platform(conn_type).title}
            for conn_id, conn_type in found
            if may_read_connection(conn_id, user)
        ]
    }


def describe_connection(conn_id: str) -> dict[str, Json]:
    """Return what can be listed and found with a connection. Nothing is sent.

    :param conn_id: the connection
    :raises PageError: if it cannot be used
    """
    to = open_connection(conn_id).platform
    return {
        "conn_id": conn_id,
        "platform": to.title,
        "lists": [
            {"kind": each.kind.short_name, "title": each.title, "has_scopes": each.scopes is not None}
            for each in to.job_lists
        ],
        "kinds": [
            {"kind": kind.short_name, "title": kind.title}
            for kind in to.job_kinds.values()
            if kind.polled_as is None
        ],
    }


def list_scopes(conn_id: str, kind: str) -> dict[str, Json]:
    """List what the jobs of a kind belong to, such as projects.

    :param conn_id: the connection
    :param kind: short name of the kind
    :raises PageError: if the platform cannot be asked
    """
    connection = open_connection(conn_id)
    scopes = connection.job_list(kind).scopes
    found = [] if scopes is None else connection.ask(scopes)
    return {
        "scopes": [{"id": scope.scope_id, "name": scope.name[:MAX_TEXT]} for scope in found[:MAX_LISTED]],
        "total": len(found),
    }


def list_jobs(conn_id: str, kind: str, scope: str) -> dict[str, Json]:
    """List the newest jobs of a kind.

    :param conn_id: the connection
    :param kind: short name of the kind
    :param scope: what they belong to; empty for kinds without scopes
    :raises PageError: if the platform cannot be asked
    """
    connection = open_connection(conn_id)
    wanted = connection.job_list(kind)
    if wanted.scopes is not None and not scope:
        raise PageError(400, f"Choose a project first: {wanted.title} belong to one.")
    try:
        page = connection.ask(wanted.jobs(scope))
    except ValueError as error:  # a scope that cannot be part of an address
        raise PageError(400, str(error)) from None
    return {"jobs": [connection.shown(wanted.kind, job) for job in page.jobs], "total": page.total}


def read_job(conn_id: str, kind: str, job_id: str) -> dict[str, Json]:
    """Read one job, with its loss curve if it has one.

    :param conn_id: the connection
    :param kind: short name of its kind
    :param job_id: the platform's id
    :raises PageError: if the platform cannot be asked
    """
    connection = open_connection(conn_id)
    found = connection.kind(kind)
    with_curve = [each.detail for each in connection.platform.job_lists if each.kind is found and each.detail]
    try:
        if with_curve:
            detail = connection.ask(with_curve[0](job_id))
        else:
            detail = JobDetail(ListedJob(status=connection.ask(found.status(job_id))))
    except ValueError as error:  # an id that is none of the platform's
        raise PageError(400, str(error)) from None
    return {
        "job": connection.shown(found, detail.job),
        "losses": [list(point) for point in detail.losses],
        "axis": detail.axis.value,
    }


def read_states(conn_id: str, kind: str, job_ids: Sequence[str]) -> dict[str, Json]:
    """Read the states of a task's last jobs, one request after the other, until the time is up.

    :param conn_id: the connection
    :param kind: short name of their kind
    :param job_ids: the platform's ids, in the order of their submission
    :raises PageError: if the connection cannot be used
    """
    connection = open_connection(conn_id)
    found = connection.kind(kind)
    maximum = MAX_LARGE_STATES if found.status_call_returns_results else MAX_STATES
    jobs: list[Json] = []
    end = time.monotonic() + SECONDS
    for job_id in reversed(job_ids[-maximum:]):
        try:
            status = connection.ask(found.status(job_id))
        except PageError as error:
            jobs.append({"job_id": job_id, "error": str(error)})
            if error.status != HTTPStatus.NOT_FOUND:  # whatever does not answer is asked only once
                break
        except ValueError as error:
            jobs.append({"job_id": job_id, "error": str(error)})
        else:
            jobs.append(connection.shown(found, ListedJob(status=status)))
        if time.monotonic() > end:
            break
    return {"jobs": jobs}
