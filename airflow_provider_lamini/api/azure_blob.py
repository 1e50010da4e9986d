"""Uploads a file to an Azure blob with a signed URL: in one request, or in blocks followed by their list.

The signature is a secret while it is valid. Only the transport, below everything that logs or reports errors, adds it to
a request: no message and no log line contains it.
"""

from __future__ import annotations

import base64
import io
from dataclasses import replace
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx

from airflow_provider_lamini.api.call import Call, FilePart, Retry
from airflow_provider_lamini.api.client import Client, tls_context
from airflow_provider_lamini.api.deadline import set_deadline
from airflow_provider_lamini.api.dialect import Dialect
from airflow_provider_lamini.api.errors import AuthenticationError, NotFoundError, ProtocolError

if TYPE_CHECKING:
    from airflow_provider_lamini.api.settings import ClientSettings

BLOCK = 8 * 1024 * 1024
"""Bytes per request. Two blocks are in memory at a time."""

MAX_BLOCKS = 50_000
"""The store's limit for one blob."""


def upload(url: str, data: FilePart, settings: ClientSettings, *, block: int = BLOCK) -> int:
    """Upload a file into a blob. Until the last request has succeeded, the blob does not change.

    A file of at most one block takes one request (``PUT`` with ``x-ms-blob-type: BlockBlob``). A larger one is sent in
    blocks (``comp=block``), which a last request joins (``comp=blocklist``). Each request may be retried.

    :param url: the blob's signed URL
    :param data: the file; it is read once
    :param settings: the platform's, for timeouts, budgets, certificates and proxy; its key, headers and client
        certificate are not sent to the store
    :param block: bytes per request
    :returns: size of the blob in bytes
    :raises PlatformError: if the store failed after all retries, or refused
    """
    with _Blob(url, settings) as blob, data.open() as file:
        current, following = file.read(block), file.read(block)
        if not following:
            blob.put(current, {})
            return len(current)
        names: list[str] = []
        size = 0
        while current:
            names.append(base64.b64encode(f"{len(names):08d}".encode()).decode())
            if len(names) > MAX_BLOCKS:
                raise ValueError(f"{data.name} is too large for a blob: it has more than {MAX_BLOCKS} blocks")
            blob.put(current, {"comp": "block", "blockid": names[-1]})
            size += len(current)
            current, following = following, file.read(block)
        entries = "".join(f"<Latest>{name}</Latest>" for name in names)
        listed = f'<?xml version="1.0" encoding="utf-8"?><BlockList>{entries}</BlockList>'
        blob.put(listed.encode(), {"comp": "blocklist"})
        return size


class _Blob:
    """A blob with a signed URL that allows writing.

    :param url: the signed URL
    :param settings: the platform's
    """

    def __init__(self, url: str, settings: ClientSettings) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
            raise ProtocolError("The platform sent no valid URL for the upload of a dataset.")
        self._path = parts.path
        own = replace(
            settings,
            base_url=f"{parts.scheme}://{parts.netloc}",
            key="",
            headers={},
            client_cert=None,
            client_key=None,
            proxy=None,  # the transport below uses it
            dialect=Dialect(),
        )
        proxy = settings.proxy or _environment_proxy(parts.scheme, parts.hostname)
        network = httpx.HTTPTransport(verify=tls_context(own), proxy=proxy)
        self._client = Client(own, transport=_Signing(network, parts.query))
        set_deadline(network, self._client.deadline)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def put(self, content: bytes, params: dict[str, str]) -> None:
        """Send one request.

        :param content: its body
        :param params: query parameters besides the signature
        """
        # An exchange leaves reference cycles behind; the block must not stay in memory until they are collected.
        holder = [content]
        call = Call(
            operation="blob_put",
            method="PUT",
            path=self._path,
            params=params,
            content=FilePart("block", lambda: io.BytesIO(holder[0])),
            parse=lambda _: None,
            retry=Retry.SAFE,
        )
        try:
            self._client.send(call)
        except (AuthenticationError, NotFoundError) as error:
            # The advice about the platform's key and paths would mislead here.
            message = (
                f"The blob store refused the dataset ({error.status}): the signed URL may have expired, or not "
                "allow writing. Nothing was stored; a retry requests a new URL from the platform."
            )
            raise type(error)(message, status=error.status, operation=call.operation) from None
        finally:
            holder.clear()


def _environment_proxy(scheme: str, host: str) -> str | None:
    """Return the proxy that httpx would use without a custom transport."""
    return None if proxy_bypass(host) else getproxies().get(scheme)


class _Signing(httpx.BaseTransport):
    """Adds the signature to each request.

    :param network: sends the requests
    :param signature: the query of the signed URL, unchanged
    """

    def __init__(self, network: httpx.BaseTransport, signature: str) -> None:
        self._network = network
        self._signature = signature.encode("ascii")

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        path, _, query = request.url.raw_path.partition(b"?")
        whole = path + b"?" + b"&".join(filter(None, (self._signature, query)))
        signed = httpx.Request(
            request.method,
            request.url.copy_with(raw_path=whole),
            headers=request.headers,
            stream=request.stream,
            extensions=request.extensions,
        )
        if b"comp=" not in query:
            signed.headers["x-ms-blob-type"] = "BlockBlob"
        return self._network.handle_request(signed)

    def close(self) -> None:
        self._network.close()
