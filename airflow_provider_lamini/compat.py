"""Differences between Airflow versions, all in one place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, MutableMapping

    from airflow.providers.common.compat.sdk import BaseHook, Connection, Context
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


def has_file_system(scheme: str) -> bool:
    """Say whether Airflow, with the providers that are installed, has a file system for the scheme of a URI.

    :param scheme: such as ``s3``, in lower case
    """
    try:
        from airflow.sdk.io import has_fs
    except ImportError:  # Airflow 2
        from airflow.io import has_fs  # type: ignore[attr-defined, no-redef]
    return bool(has_fs(scheme))


def connection_of(path: ObjectStoragePath) -> str | None:
    """Return the Airflow connection of a path to an object: Airflow 2.11 has no attribute for it.

    :param path: the path
    """
    found: str | None = getattr(path, "conn_id", None) or path.storage_options.get("conn_id")
    return found


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


def is_openlineage_enabled() -> bool:
    """Whether OpenLineage's provider is installed and has somewhere to send events."""
    try:
        from airflow.providers.openlineage.conf import is_disabled
    except ImportError:
        return False
    return not is_disabled()


def collects_lineage() -> bool:
    """Whether anything in this Airflow reads the lineage of tasks: OpenLineage, or a plugin with a hook lineage reader."""
    if is_openlineage_enabled():
        return True
    try:
        from airflow.sdk.plugins_manager import get_hook_lineage_readers_plugins
    except ImportError:  # earlier versions of Airflow
        from airflow.providers.common.compat.lineage.hook import get_hook_lineage_collector

        return type(get_hook_lineage_collector()).__name__ != "NoOpCollector"
    # Without a reader, the collector would still load the assets of all installed providers, which takes 0.13 s.
    return bool(get_hook_lineage_readers_plugins())


def report_hook_lineage(context: object, *, reads: Iterable[str] = (), writes: Iterable[str] = ()) -> None:
    """Report data to Airflow's hook lineage; Airflow 2.11 calls it datasets, and common.compat knows that.

    :param context: the hook or the path on whose behalf
    :param reads: URIs of what was read
    :param writes: URIs of what was written
    """
    from airflow.providers.common.compat.lineage.hook import get_hook_lineage_collector

    collector: Any = get_hook_lineage_collector()
    for uri in reads:
        collector.add_input_asset(context, uri=uri)
    for uri in writes:
        collector.add_output_asset(context, uri=uri)


def call_arguments(
    function: Callable[..., object], positional: Collection[object], context: Mapping[str, object]
) -> Mapping[str, object]:
    """Return what a function asks for by name, as Airflow does it for TaskFlow functions.

    :param function: the function
    :param positional: its positional arguments, which must not be given by name as well
    :param context: Airflow's context, and the arguments by name
    """
    try:
        from airflow.sdk.bases.decorator import determine_kwargs
    except ImportError:  # Airflow 2
        from airflow.utils.operator_helpers import determine_kwargs  # type: ignore[attr-defined]
    found: Mapping[str, object] = determine_kwargs(function, positional, context)
    return found


def report_sql_lineage(hook: BaseHook, sql: str) -> None:
    """Report a statement to Airflow's hook lineage, as Airflow's own database hooks do.

    :param hook: the hook of the database
    :param sql: the statement, without values
    """
    try:
        from airflow.providers.common.sql.hooks.lineage import send_sql_hook_lineage
    except ImportError:  # before version 1.31 of that provider
        return
    if collects_lineage():
        send_sql_hook_lineage(context=hook, sql=sql)


def outlet_extras(context: Context, outlets: Iterable[object]) -> list[MutableMapping[str, Any]]:
    """Return the ``extra`` of each asset event that the task will emit; Airflow 2 calls assets datasets.

    An alias has none: which asset it stands for is known only to the Dag's author.

    :param context: Airflow's context
    :param outlets: the task's outlets
    """
    from airflow.providers.common.compat.sdk import Asset

    kinds: tuple[type, ...] = (Asset,)
    try:
        from airflow.sdk.definitions.asset import AssetRef
    except ImportError:  # Airflow 2 has no references to assets
        pass
    else:
        kinds = (Asset, AssetRef)
    events: Any = context.get("outlet_events")
    if events is None:
        return []
    return [events[outlet].extra for outlet in outlets if isinstance(outlet, kinds)]


def event_trigger_class() -> type[Any]:
    """Return the base class of triggers for asset watchers.

    :raises ImportError: before Airflow 3, which has no asset watchers
    """
    try:
        from airflow.triggers.base import BaseEventTrigger
    except ImportError as error:
        raise ImportError("Asset watchers need Airflow 3. On Airflow 2.11, use a sensor.") from error
    return BaseEventTrigger


def shows_pages() -> bool:
    """Whether Airflow shows pages of plugins (3.1 and newer), and the configuration does not turn this provider's off."""
    from airflow.providers.common.compat.sdk import conf
    from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_1_PLUS

    return AIRFLOW_V_3_1_PLUS and conf.getboolean("airflow_provider_lamini", "pages", fallback=True)


def ui_tests_saved_secrets() -> bool:
    """Whether the test of a connection in the UI knows a saved password; that of Airflow 2 knows only what is typed in."""
    from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS

    return AIRFLOW_V_3_0_PLUS


def shown_map_index(model: Any) -> Any:
    """Return the column of the map index that Airflow shows: -1 for a task that is not mapped, so for every iteration of a loop.

    :param model: Airflow's class of stored task instances
    """
    try:
        from airflow.models.task_coordinates import (  # type: ignore[import-not-found]
            public_map_index_expression,
        )
    except ImportError:  # before Airflow 3.4, which has loops
        return model.map_index
    return public_map_index_expression(model)


def is_xcom_of(ti: Any) -> tuple[Any, ...]:
    """Return the conditions that choose the XComs of a task instance.

    :param ti: the task instance, as Airflow stores it
    """
    from airflow.models.xcom import XComModel

    if hasattr(XComModel, "task_instance_id"):  # since Airflow 3.4
        return (XComModel.task_instance_id == ti.id,)
    names = ("dag_id", "run_id", "task_id", "map_index")
    return tuple(getattr(XComModel, name) == getattr(ti, name) for name in names)
