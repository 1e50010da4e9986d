"""Finds the store of a path or URI."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_lamini.rows.errors import InputError, InputRefusedError
from airflow_provider_lamini.rows.storage.local import LocalStore
from airflow_provider_lamini.rows.storage.uris import is_remote, local_path, redacted_uri, split_uri
from airflow_provider_lamini.wording import no_connection

if TYPE_CHECKING:
    from airflow.sdk import ObjectStoragePath

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
    :raises InputRefusedError: if the connection is missing or wrong
    """
    if not is_remote(uri):
        return LocalStore(), local_path(uri)
    from airflow_provider_lamini.rows.storage.objects import ObjectStore

    scheme, authority, path = split_uri(uri)
    # Only the root: Airflow's path class reads some names as parts of a web address and drops what follows a '#' or '?'.
    root = _root(f"{scheme}://{authority}/", conn_id, uri)
    return ObjectStore(root.fs), f"{str(root.path).rstrip('/')}/{path}"


def _root(address: str, conn_id: str | None, uri: str) -> ObjectStoragePath:
    """Open the file system of a bucket.

    :param address: the URI without its path
    :param uri: the whole URI, for messages
    :raises InputError: if there is no file system for its scheme
    :raises InputRefusedError: if its connection is missing or wrong
    """
    from airflow.providers.common.compat.sdk import AirflowException, AirflowNotFoundException, BaseHook

    from airflow_provider_lamini.compat import connection_of, has_file_system, object_storage_path

    owner = "The worker's own account"
    try:
        root = object_storage_path(address, conn_id)
        found = connection_of(root)
        if found:
            name = found.partition(":")[0]  # what stands behind it may be a password
            owner = f"The connection {name!r}"
            # Without it, the file system of S3 would use the worker's own account.
            BaseHook.get_connection(found)
        root.fs  # noqa: B018 - it signs in
    except AirflowNotFoundException:
        raise InputRefusedError(no_connection(name)) from None
    except ImportError:
        raise _no_file_system(uri) from None
    except (ValueError, FileNotFoundError, AirflowException) as error:
        if isinstance(error, ValueError) and not has_file_system(address.partition("://")[0].lower()):
            raise _no_file_system(uri) from None
        reason = str(error).partition("\n")[0].rstrip(". ")
        raise InputRefusedError(f"{owner} cannot be used for {redacted_uri(uri)}: {reason}.") from error
    return root


def _no_file_system(uri: str) -> InputError:
    written = uri.partition("://")[0]
    advice = _ADVICE.get(written.lower(), "Install its provider, or correct the scheme.")
    return InputError(
        f"Airflow has no file system for {written}://. {advice} The path is {redacted_uri(uri)}."
    )
