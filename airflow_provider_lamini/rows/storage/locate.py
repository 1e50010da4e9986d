"""Finds the store of a path or URI."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_lamini.rows.errors import InputError
from airflow_provider_lamini.rows.storage.local import LocalStore
from airflow_provider_lamini.rows.storage.uris import is_remote, local_path, redacted_uri, split_uri

if TYPE_CHECKING:
    from airflow_provider_lamini.rows.storage.base import Store


_ADVICE = {
    **dict.fromkeys(("s3", "s3a"), "Run pip install 'apache-airflow-providers-amazon[s3fs]'."),
    **dict.fromkeys(("gs", "gcs"), "Run pip install 'apache-airflow-providers-google'."),
    **dict.fromkeys(("abfs", "abfss", "adl"), "Run pip install 'apache-airflow-providers-microsoft-azure'."),
    **dict.fromkeys(("wasb", "wasbs"), "Write abfs:// instead."),
    **dict.fromkeys(("http", "https"), "Download the file to a disk or an object store first."),
}
"""What to do about a scheme without a file system."""


def locate(uri: str, conn_id: str | None = None) -> tuple[Store, str]:
    """Find the store of a path or URI.

    :param uri: ``s3://bucket/key``, ``file:///folder``, or a path, absolute or relative to the working directory
    :param conn_id: the Airflow connection to the store
    :return: the store, and the path in it
    :raises InputError: if it is not a valid path or URI, or this Airflow has no file system for its scheme
    """
    if not is_remote(uri):
        return LocalStore(), local_path(uri)
    from airflow_provider_lamini.compat import object_storage_path
    from airflow_provider_lamini.rows.storage.objects import ObjectStore

    scheme, authority, path = split_uri(uri)
    try:
        # Only the root: Airflow's path class reads some names as parts of a web address and drops what follows a '#' or '?'.
        root = object_storage_path(f"{scheme}://{authority}/", conn_id)
        files = root.fs
    except (ValueError, ImportError):
        written = uri.partition("://")[0]
        advice = _ADVICE.get(written.lower(), "Install its provider, or correct the scheme.")
        raise InputError(
            f"Airflow has no file system for {written}://. {advice} The path is {redacted_uri(uri)}."
        ) from None
    return ObjectStore(files), f"{str(root.path).rstrip('/')}/{path}"
