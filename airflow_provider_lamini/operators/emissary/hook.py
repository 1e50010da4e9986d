"""The hook of Emissary's operators."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_lamini.runs.arguments import plain_name

if TYPE_CHECKING:
    from airflow_provider_lamini.hooks.emissary import EmissaryHook


def emissary_hook(conn_id: object) -> EmissaryHook:
    """Return the hook for an operator's ``emissary_conn_id``.

    :param conn_id: the argument, its template rendered
    :raises InvalidArgumentError: if it is not a name
    """
    from airflow_provider_lamini.hooks.emissary import EmissaryHook

    return EmissaryHook(plain_name("emissary_conn_id", conn_id))
