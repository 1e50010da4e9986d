"""Names of files, tables and objects of a platform, as OpenLineage and Airflow's assets write them."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_provider_lamini.rows.storage.patterns import is_pattern
from airflow_provider_lamini.rows.storage.uris import SCHEME, local_path, redacted_uri, split_uri

_SCHEMES = {"s3a": "s3", "s3n": "s3", "gcs": "gs", "abfs": "abfss", "adl": "abfss", "az": "abfss"}
"""Other schemes of stores that OpenLineage knows under one."""
_AZURE_HOST = ".dfs.core.windows.net"


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """One dataset, named as OpenLineage names it.

    :param namespace: where it is, such as ``s3://bucket``
    :param name: its name there, such as the key of an object
    :param sort: ``FILE``, ``TABLE``, or the sort of an object of the platform
    :param rows: number of its rows, if known
    """

    namespace: str
    name: str
    sort: str = "FILE"
    rows: int | None = None

    @property
    def in_storage(self) -> bool:
        """Whether it is a file or a table, and not an object of the platform."""
        return self.sort in ("FILE", "TABLE")

    @property
    def uri(self) -> str:
        """The URI of an asset of Airflow with the same data."""
        if self.namespace == "file":
            return f"file://{self.name}"
        name = self.name.replace(".", "/") if self.sort == "TABLE" else self.name
        return f"{self.namespace}/{name}"


def file_data(uri: str) -> Data:
    """Name a file, a folder or a pattern as OpenLineage does.

    :param uri: a path or URI. Of a pattern, the folder above its first component with a wildcard is taken.
    """
    parts = split_uri(redacted_uri(uri)) if SCHEME.match(uri) else None
    if parts is None or parts.scheme in ("file", "local"):
        return Data(namespace="file", name=_above_pattern(local_path(uri)))
    authority = parts.authority
    if not authority.endswith(_AZURE_HOST):
        authority = authority.rpartition("@")[2]  # without the id of a connection
    scheme = _SCHEMES.get(parts.scheme, parts.scheme)
    return Data(namespace=f"{scheme}://{authority}", name=_above_pattern(parts.path).strip("/") or "/")


def _above_pattern(path: str) -> str:
    parts = path.split("/")
    first = next((number for number, part in enumerate(parts) if is_pattern(part)), len(parts))
    return "/".join(parts[:first])
