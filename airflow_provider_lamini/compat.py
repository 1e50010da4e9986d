"""Differences between Airflow versions, all in one place."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Connection
    from airflow.sdk import ObjectStoragePath


def object_storage_path(uri: str, conn_id: str | None = None) -> ObjectStoragePath:
    """Return Airflow's path to an object.

    The class is in ``airflow.sdk`` (Airflow 3) or ``airflow.io.path`` (2.11); common.compat finds it.

    :param uri: such as ``s3://bucket/key`` or ``s3://conn_id@bucket/key``
    :param conn_id: the Airflow connection to the store; takes precedence over the one in the URI
    """
    from airflow.providers.common.compat.sdk import ObjectStoragePath

    # Airflow 2.11 takes an explicit None for a connection, and ignores the one in the URI.
    return ObjectStoragePath(uri) if conn_id is None else ObjectStoragePath(uri, conn_id=conn_id)


async def aget_connection(conn_id: str) -> Connection:
    """Look up a connection without blocking the event loop.

    In ``airflow dags test``, Airflow 3 finds connections in its database only synchronously, so a missing one is looked up
    again in a thread.

    :param conn_id: the connection
    :raises AirflowNotFoundException: if there is none
    """
    from airflow.providers.common.compat.connection import get_async_connection
    from airflow.providers.common.compat.sdk import AirflowNotFoundException, BaseHook
    from asgiref.sync import sync_to_async

    try:
        return await get_async_connection(conn_id)
    except AirflowNotFoundException:
        return await sync_to_async(BaseHook.get_connection)(conn_id)


async def amask_secret(secret: str) -> None:
    """Mask a secret in this process's logs without blocking the event loop.

    :param secret: the text to mask
    """
    try:
        from airflow.sdk.log import amask_secret as mask  # since Airflow 3.3.2
    except ImportError:
        from airflow.providers.common.compat.sdk import mask_secret
        from asgiref.sync import sync_to_async

        await sync_to_async(mask_secret)(secret)
    else:
        await mask(secret)
