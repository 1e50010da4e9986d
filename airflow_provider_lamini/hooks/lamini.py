"""The hook: from a connection to a client of the Lamini API."""

from __future__ import annotations

import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from airflow.providers.common.compat.sdk import BaseHook, conf

from airflow_provider_lamini.hooks.connection import InvalidConnectionError, opened, target_from_connection
from airflow_provider_lamini.platforms.lamini.connection import (
    HIDDEN_FIELDS,
    LABELS,
    LAMINI_FIELDS,
    PLACEHOLDERS,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from types import TracebackType
    from typing import Self

    from airflow_provider_lamini.api.call import Call
    from airflow_provider_lamini.api.client import AsyncClient, Client
    from airflow_provider_lamini.api.settings import ClientSettings
    from airflow_provider_lamini.hooks.connection import ConnectionInfo

T = TypeVar("T")

log = logging.getLogger(__name__)

_WEB_PAGES = {"tuning": "train"}
"""The folder of the web pages for a kind of job. The platform has no page per job for the other kinds."""

_warned: set[tuple[str, tuple[str, ...]]] = set()
"""Connections whose unknown extras this process has warned of."""


class LaminiHook(BaseHook):
    """The Lamini API behind an Airflow connection.

    Every operation of the API is a function in :mod:`airflow_provider_lamini.platforms.lamini.api` that returns a typed
    request; the hook sends it. Keys, timeouts, retries and errors are the same for all of them::

        from airflow_provider_lamini.platforms.lamini.api import completions, training

        with LaminiHook("lamini_default") as hook:
            answer = hook.send(completions.complete(model_name="llama-3.1-8b", prompt=["Hello"]))
            jobs = hook.send(training.list_jobs())

    In ``async`` code, one call is ``await hook.asend(call)``; several share a client::

        async with hook.aclient() as client:
            jobs = await client.send(training.list_jobs())

    :param lamini_conn_id: the connection, of type ``lamini``
    """

    conn_name_attr = "lamini_conn_id"
    default_conn_name = "lamini_default"
    conn_type = "lamini"
    hook_name = "Lamini"

    def __init__(self, lamini_conn_id: str = default_conn_name) -> None:
        super().__init__()
        self.lamini_conn_id = lamini_conn_id
        self._target: ConnectionInfo | None = None
        self._client: Client | None = None

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """The extra fields of the connection form, for Airflow before 3.2. Later ones read the metadata."""
        from airflow_provider_lamini.hooks.forms import widgets

        return widgets(LAMINI_FIELDS)

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Labels and hidden fields of the connection form, for Airflow before 3.2."""
        return {
            "hidden_fields": list(HIDDEN_FIELDS),
            "relabeling": dict(LABELS),
            "placeholders": dict(PLACEHOLDERS),
        }

    def settings(self) -> ClientSettings:
        """How to reach the platform. The connection is looked up once per hook.

        :raises InvalidConnectionError: where the connection cannot work as it stands
        """
        return self._looked_up().settings

    def client(self) -> Client:
        """The hook's client, made at first use and open until :meth:`close`.

        :raises InvalidConnectionError: where the connection cannot work as it stands
        """
        if self._client is None:
            from airflow_provider_lamini.api.client import Client

            self._client = opened(Client, self.settings(), self.lamini_conn_id)
        return self._client

    def get_conn(self) -> Client:
        """The same as :meth:`client`, under the name that all hooks have."""
        return self.client()

    def send(self, call: Call[T]) -> T:
        """Send one request and return its answer.

        :param call: the request, from a function in :mod:`airflow_provider_lamini.platforms.lamini.api`
        :return: the answer, checked and typed by the call
        :raises InvalidConnectionError: where the connection cannot work as it stands
        :raises airflow_provider_lamini.api.errors.PlatformError: where the platform fails or refuses
        """
        return self.client().send(call)

    def __getstate__(self) -> dict[str, object]:
        """Neither the key nor an open client is pickled."""
        return {**self.__dict__, "_target": None, "_client": None}

    def close(self) -> None:
        """Close the client. The hook can be used again; it then opens a new one."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def asettings(self) -> ClientSettings:
        """How to reach the platform, without blocking the event loop. Looked up anew at every call.

        :raises InvalidConnectionError: where the connection cannot work as it stands
        """
        from airflow_provider_lamini.compat import aget_connection, amask_secret

        target = target_from_connection(await aget_connection(self.lamini_conn_id))
        for secret in target.secrets:
            await amask_secret(secret)
        self._warn_of_unknown(target)
        return target.settings

    @asynccontextmanager
    async def aclient(self) -> AsyncIterator[AsyncClient]:
        """An asynchronous client that lives as long as the caller's ``async with``.

        :raises InvalidConnectionError: where the connection cannot work as it stands
        """
        from airflow_provider_lamini.api.client import AsyncClient

        async with opened(AsyncClient, await self.asettings(), self.lamini_conn_id) as client:
            yield client

    async def asend(self, call: Call[T]) -> T:
        """Send one request through a client of its own; for several, share one from :meth:`aclient`.

        :param call: the request, from a function in :mod:`airflow_provider_lamini.platforms.lamini.api`
        :return: the answer, checked and typed by the call
        :raises InvalidConnectionError: where the connection cannot work as it stands
        :raises airflow_provider_lamini.api.errors.PlatformError: where the platform fails or refuses
        """
        async with self.aclient() as client:
            return await client.send(call)

    def test_connection(self) -> tuple[bool, str]:
        """Ask the platform for its downloaded models (``GET /v1alpha/downloaded_models/``), for 10 s at most.

        That proves address and key, and costs the platform nothing.

        :return: whether it answered as it should, and one sentence about it, without any secret
        """
        from airflow_provider_lamini.hooks.probe import probe

        try:
            return probe(self.settings())
        except InvalidConnectionError as error:
            return False, error.problem

    def web_job_url(self, kind: str, job_id: str) -> str | None:
        """The page of a job in the platform's web pages.

        :param kind: kind of the job, such as ``tuning``
        :param job_id: the platform's id of the job
        :return: its URL; ``None`` where the kind has no page or the web address is not known
        """
        web_url, page = self._looked_up().web_url, _WEB_PAGES.get(kind)
        return f"{web_url}/{page}/{quote(job_id, safe='')}" if web_url and page else None

    def state_path(self) -> str | None:
        """Where records of submitted jobs go: the connection's ``state_path``, else ``[lamini] state_path``.

        :return: a folder or an object storage URL; ``None`` where neither is set
        """
        return self._looked_up().state_path or conf.get("lamini", "state_path", fallback="") or None

    def _looked_up(self) -> ConnectionInfo:
        if self._target is None:
            from airflow.providers.common.compat.sdk import mask_secret

            target = target_from_connection(self.get_connection(self.lamini_conn_id))
            for secret in target.secrets:
                mask_secret(secret)
            self._warn_of_unknown(target)
            self._target = target
        return self._target

    def _warn_of_unknown(self, target: ConnectionInfo) -> None:
        mark = (self.lamini_conn_id, target.unknown)
        if target.unknown and mark not in _warned:
            _warned.add(mark)
            log.warning(
                "Connection %r has extras that mean nothing here and are ignored: %s. Known are: %s.",
                self.lamini_conn_id,
                ", ".join(target.unknown),
                ", ".join(field.name for field in LAMINI_FIELDS),
            )
