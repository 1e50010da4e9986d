"""Where the consoles of object stores show what a task writes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow_provider_lamini.compat import shows_pages
from airflow_provider_lamini.links import ManifestLink, ReportLink, ResultsLink, task_page
from airflow_provider_lamini.rows.storage.run_files import MANIFEST, REPORT_HTML
from airflow_provider_lamini.rows.storage.uris import SCHEME, split_uri

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow.providers.common.compat.sdk import BaseOperator

_S3, _GCS, _AZURE = ("s3", "s3a", "s3n"), ("gs", "gcs"), ("abfs", "abfss", "adl", "az", "wasb", "wasbs")
_AZURE_HOST = ".dfs.core.windows.net"


def console_url(uri: str, extra: Mapping[str, object], *, folder: bool) -> str | None:
    """Return the address of the page that shows a folder or an object; ``None`` if there is none, as for a local file.

    - S3: none for another service with the same API, which the connection's ``endpoint_url`` tells.
    - Azure: its portal needs ``subscription_id`` and ``resource_group`` in the connection's extra.

    :param uri: the path or URI
    :param extra: the extra of the connection to the store; empty if there is no connection
    :param folder: whether it is a folder
    """
    if not SCHEME.match(uri):
        return None
    scheme, authority, path = split_uri(uri)
    user, _, host = authority.rpartition("@")
    key = quote(path.strip("/"), safe="/")
    if scheme in _S3:
        if extra.get("endpoint_url"):
            return None
        place, end = ("buckets", "/") if folder else ("object", "")
        return f"https://console.aws.amazon.com/s3/{place}/{quote(host)}?prefix={key}{end if key else ''}"
    if scheme in _GCS:
        place = "" if folder else "_details/"
        return f"https://console.cloud.google.com/storage/browser/{place}{quote(host)}/{key}".rstrip("/")
    if scheme in _AZURE:
        return _azure_url(user if host.endswith(_AZURE_HOST) else host, host, extra)
    return None


def _azure_url(container: str, host: str, extra: Mapping[str, object]) -> str | None:
    """The page of a container in Azure's portal, which has no address for a folder in it."""
    account = host.removesuffix(_AZURE_HOST) if host.endswith(_AZURE_HOST) else extra.get("account_name")
    subscription, group = extra.get("subscription_id"), extra.get("resource_group")
    if not (account and subscription and group and container):
        return None
    resource = f"/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.Storage/storageAccounts/{account}"
    return (
        "https://portal.azure.com/#view/Microsoft_Azure_Storage/ContainerMenuBlade/~/overview/storageAccountId/"
        f"{quote(resource, safe='')}/path/{quote(container, safe='')}"
    )


def storage_urls(operator: BaseOperator, ti: object, *, at_end: bool) -> dict[str, str]:
    """The URLs of an operator's links to storage, by the key of their XCom.

    :param operator: the operator, its templates rendered
    :param ti: the task instance
    :param at_end: whether the try ends, so that a manifest or a report may exist; else only the folder is linked
    """
    task: Any = operator
    manifest = _text(task, "manifest")
    own_page = task_page(ti) if (_text(task, "output_folder") or manifest) and shows_pages() else None
    folder = _text(task, "output_folder") or _text(task, "results")
    conn_id = getattr(task, "output_conn_id", None) or getattr(task, "results_conn_id", None)
    found: dict[str, str | None] = {}
    for link in operator.operator_extra_links:
        if isinstance(link, ResultsLink) and not at_end:
            found[link.key] = _url(folder, conn_id, folder=True) or own_page
        elif isinstance(link, ManifestLink) and at_end:
            shown = own_page and f"{own_page}#manifest"
            if manifest:
                found[link.key] = _index_url(manifest, getattr(task, "manifest_conn_id", None), shown)
            else:
                found[link.key] = _file_url(folder, conn_id, MANIFEST, shown)
        elif isinstance(link, ReportLink) and at_end:
            found[link.key] = _file_url(folder, conn_id, REPORT_HTML, own_page and f"{own_page}#report")
    return {key: url for key, url in found.items() if url}


def _text(operator: object, argument: str) -> str | None:
    value = getattr(operator, argument, None)
    return str(value) if value not in (None, "", "None") and not isinstance(value, dict) else None


def _file_url(folder: str | None, conn_id: str | None, name: str, own_page: str | None) -> str | None:
    """The URL of a file in a folder, if it exists: in the store's console, or else on the task's own page."""
    from airflow_provider_lamini.rows.storage.folder import OutputFolder

    url = _url(f"{folder.rstrip('/')}/{name}" if folder else None, conn_id, folder=False) or own_page
    return url if url and folder and OutputFolder(folder, conn_id).exists(name) else None


def _index_url(manifest: str, conn_id: str | None, own_page: str | None) -> str | None:
    """The URL of an index manifest, likewise."""
    from airflow_provider_lamini.corpus.index_manifest import manifest_place

    folder, name = manifest_place(manifest, conn_id)
    url = _url(manifest, conn_id, folder=False) or own_page
    return url if url and folder.exists(name) else None


def _url(uri: str | None, conn_id: str | None, *, folder: bool) -> str | None:
    if uri is None or not SCHEME.match(uri):
        return None
    return console_url(uri, _extra(uri, conn_id), folder=folder)


def _extra(uri: str, conn_id: str | None) -> Mapping[str, object]:
    """The extra of the connection to a store, with the endpoint that the environment gives."""
    from airflow.providers.common.compat.sdk import BaseHook

    named = conn_id or split_uri(uri).authority.rpartition("@")[0]
    if not named or named.count("@"):
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        return {"endpoint_url": endpoint}
    connection = BaseHook.get_connection(named)
    extra: dict[str, object] = connection.extra_dejson
    return {"account_name": connection.login, **extra}
