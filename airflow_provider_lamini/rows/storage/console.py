"""The web pages on which the stores' own consoles show a folder or an object."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from airflow_provider_lamini.rows.storage.uris import SCHEME, split_uri

if TYPE_CHECKING:
    from collections.abc import Mapping

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
