"""The hook of the Emissary API."""

from __future__ import annotations

from airflow_provider_lamini.hooks.base import PlatformHook


class EmissaryHook(PlatformHook):
    """The Emissary API behind an Airflow connection.

    Every operation of the API is a function in :mod:`airflow_provider_lamini.platforms.emissary.api` that returns a
    typed request; the hook sends it, as :class:`~airflow_provider_lamini.hooks.lamini.LaminiHook` does::

        from airflow_provider_lamini.platforms.emissary.api import inference, projects

        with EmissaryHook("emissary_default") as hook:
            names = [project.name for project in hook.send(projects.list_all())]
            response = hook.send(inference.complete(model="support", prompt="Hello"))

    The connection test lists the base models (``GET /v1/models``).

    :param emissary_conn_id: the connection, of type ``emissary``
    """

    conn_name_attr = "emissary_conn_id"
    default_conn_name = "emissary_default"
    conn_type = "emissary"
    hook_name = "Emissary"
    platform_name = "emissary"

    def __init__(self, emissary_conn_id: str = default_conn_name) -> None:
        super().__init__(emissary_conn_id)
        self.emissary_conn_id = emissary_conn_id
