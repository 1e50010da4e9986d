"""The hook of any platform: from an Airflow connection to a client."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from airflow.providers.common.compat.sdk import BaseHook, conf

from airflow_provider_lamini.hooks.connection import (
    NO_KEY,
    InvalidConnectionError,
    aread_connection,
    open_client,
    read_connection,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from types import TracebackType
    from typing import Self

    from airflow_provider_lamini.api.call import Call
    from airflow_provider_lamini.api.client import AsyncClient, Client
    from airflow_provider_lamini.api.settings import ClientSettings
    from airflow_provider_lamini.hooks.connection import ConnectionInfo
    from airflow_provider_lamini.platforms.base import Platform
    from airflow_provider_lamini.rows.answers.prices import Price

T = TypeVar("T")


class PlatformHook(BaseHook):
    """A platform behind an Airflow connection.

    A subclass names its platform and the class attributes that Airflow reads: ``conn_name_attr``,
    ``default_conn_name``, ``conn_type`` and ``hook_name``.

    :param conn_id: the connection
    """

    platform_name: ClassVar[str]
    """The platform's name in the registry."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Give each hook its form methods: Airflow 2.11 looks for them in the hook's own class only."""
        super().__init_subclass__(**kwargs)
        for name in ("get_connection_form_widgets", "get_ui_field_behaviour"):
            if name not in cls.__dict__:
                setattr(cls, name, PlatformHook.__dict__[name])

    def __init__(self, conn_id: str) -> None:
        super().__init__()
        self.conn_id = conn_id
        self._info: ConnectionInfo | None = None
        self._client: Client | None = None

    @classmethod
    def platform(cls) -> Platform:
        """Return the platform; imports its modules."""
        from airflow_provider_lamini.platforms import platform

        return platform(cls.platform_name)

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Return the extra fields of the connection form, for Airflow before 3.2. Later ones read the metadata."""
        from airflow_provider_lamini.hooks.forms import widgets

        return widgets(cls.platform().form.fields)

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Return labels and hidden fields of the connection form, for Airflow before 3.2."""
        form = cls.platform().form
        return {
            "hidden_fields": list(form.hidden_fields),
            "relabeling": dict(form.labels),
            "placeholders": dict(form.placeholders),
        }

    def settings(self) -> ClientSettings:
        """Return how to reach the platform. The connection is looked up once per hook.

        :raises InvalidConnectionError: if the connection is invalid
        """
        return self._connection_info().settings

    def prices(self) -> Mapping[str, Price]:
        """Return the prices of tokens by model; empty if the connection has none.

        :raises InvalidConnectionError: if the connection is invalid
        """
        return self._connection_info().prices

    def fallback_conn_ids(self) -> tuple[str, ...]:
        """Return the connections that answer a few prompts if this one is not available; empty if it names none.

        :raises InvalidConnectionError: if the connection is invalid
        """
        return self._connection_info().fallback_conn_ids

    def client(self) -> Client:
        """Return the hook's client; it is created at the first call and open until :meth:`close`.

        :raises InvalidConnectionError: if the connection is invalid
        """
        if self._client is None:
            from airflow_provider_lamini.api.client import Client

            self._client = open_client(Client, self.settings(), self.conn_id)
        return self._client

    def get_conn(self) -> Client:
        """Return the same as :meth:`client`, under the name that all hooks have."""
        return self.client()

    def send(self, call: Call[T]) -> T:
        """Send one request and return its result.

        :param call: the request, from a function in the platform's package ``api``
        :return: the response, validated and typed by the call
        :raises InvalidConnectionError: if the connection is invalid
        :raises airflow_provider_lamini.api.errors.PlatformError: if the platform fails or refuses
        """
        return self.client().send(call)

    def poll(self, call: Call[T]) -> T:
        """Send one request through a client that does not retry it: the caller polls again later.

        :param call: the request, from a function in the platform's package ``api``
        :return: the response, validated and typed by the call
        :raises InvalidConnectionError: if the connection is invalid
        :raises airflow_provider_lamini.api.errors.PlatformError: if the platform fails or refuses
        """
        from airflow_provider_lamini.api.client import Client

        once = replace(self.settings(), retry_budget=0.0, model_loading_budget=0.0)
        try:
            with open_client(Client, once, self.conn_id) as client:
                return client.send(call)
        finally:
            report_sent_requests()

    def __getstate__(self) -> dict[str, object]:
        """Leave the key and the open client out of a pickle."""
        return {**self.__dict__, "_info": None, "_client": None}

    def close(self) -> None:
        """Close the client. The hook can be used again; it then opens a new one."""
        client, self._client = self._client, None
        try:
            if client is not None:
                client.close()
        finally:  # also without a client of its own: whoever used the hook's settings has sent requests, too
            report_sent_requests()

    def forget_connection(self) -> None:
        """Close the client, and look the connection up again at the next call: its key may have been rotated."""
        self.close()
        self._info = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def asettings(self) -> ClientSettings:
        """Return how to reach the platform without blocking the event loop. Every call looks the connection up.

        :raises InvalidConnectionError: if the connection is invalid
        """
        return (await aread_connection(self.conn_id, self.platform())).settings

    @asynccontextmanager
    async def aclient(self) -> AsyncIterator[AsyncClient]:
        """Open an asynchronous client for the duration of an ``async with``.

        :raises InvalidConnectionError: if the connection is invalid
        """
        from airflow_provider_lamini.api.client import AsyncClient

        try:
            async with open_client(AsyncClient, await self.asettings(), self.conn_id) as client:
                yield client
        finally:
            report_sent_requests()

    async def asend(self, call: Call[T]) -> T:
        """Send one request through a new client. To send several, share a client: :meth:`aclient`.

        :param call: the request, from a function in the platform's package ``api``
        :return: the response, validated and typed by the call
        :raises InvalidConnectionError: if the connection is invalid
        :raises airflow_provider_lamini.api.errors.PlatformError: if the platform fails or refuses
        """
        async with self.aclient() as client:
            return await client.send(call)

    def test_connection(self) -> tuple[bool, str]:
        """Send the platform's probe, one cheap request, and wait at most 10 s.

        :return: whether address and key work, and one sentence about it, without any secret
        """
        from airflow_provider_lamini.compat import ui_tests_saved_secrets
        from airflow_provider_lamini.hooks.single_request import probe

        try:
            return probe(self.platform(), self.settings())
        except InvalidConnectionError as error:
            if error.problem == NO_KEY and not ui_tests_saved_secrets():
                return (
                    False,
                    f"{NO_KEY} Type it again to test a saved connection: Airflow 2 does not show its key to the test.",
                )
            return False, error.problem

    def web_job_url(self, kind: str, job_id: str) -> str | None:
        """Return the URL of a job's web page.

        :param kind: short name of the kind of job, such as ``tuning``
        :param job_id: the platform's id of the job
        :return: the URL; ``None`` if jobs of this kind have no page or the address of the web pages is not known
        """
        web_url, page = self._connection_info().web_url, self.platform().job_page(kind, job_id)
        return f"{web_url}{page}" if web_url and page else None

    def state_path(self) -> str | None:
        """Return where submission records go: the connection's ``state_path``, else the configuration's.

        The configuration section has the platform's name.

        :return: a folder or an object storage URL; ``None`` if neither is set
        """
        configured = conf.get(self.platform_name, "state_path", fallback="")
        return self._connection_info().state_path or configured or None

    def _connection_info(self) -> ConnectionInfo:
        if self._info is None:
            self._info = read_connection(self.conn_id, self.platform())
        return self._info


def report_sent_requests() -> None:
    """Report the requests that were sent to Airflow's metrics."""
    from airflow_provider_lamini.hooks.telemetry import report_requests

    report_requests()
