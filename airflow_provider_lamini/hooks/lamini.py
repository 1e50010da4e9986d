"""The hook of the Lamini API."""

from __future__ import annotations

from airflow_provider_lamini.hooks.base import PlatformHook


class LaminiHook(PlatformHook):
    """The Lamini API behind an Airflow connection.

    Every operation of the API is a function in :mod:`airflow_provider_lamini.platforms.lamini.api` that returns a typed
    request; the hook sends it. Keys, timeouts, retries and errors are the same for all of them::

        from airflow_provider_lamini.platforms.lamini.api import completions, training

        with LaminiHook("lamini_default") as hook:
            response = hook.send(completions.complete(model_name="llama-3.1-8b", prompt=["Hello"]))
            jobs = hook.send(training.list_jobs())

    In ``async`` code, one call is ``await hook.asend(call)``; several calls share a client::

        async with hook.aclient() as client:
            jobs = await client.send(training.list_jobs())

    The connection test lists the downloaded models (``GET /v1alpha/downloaded_models/``).

    :param lamini_conn_id: the connection, of type ``lamini``
    """

    conn_name_attr = "lamini_conn_id"
    default_conn_name = "lamini_default"
    conn_type = "lamini"
    hook_name = "Lamini"
    platform_name = "lamini"

    def __init__(self, lamini_conn_id: str = default_conn_name) -> None:
        super().__init__(lamini_conn_id)
        self.lamini_conn_id = lamini_conn_id
