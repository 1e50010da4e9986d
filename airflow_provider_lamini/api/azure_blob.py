"""Uploading a file to an Azure blob by a signed URL: in one request, or in blocks and then their list.

The signature is a secret while it is valid. Only the transport, below everything that logs or explains, puts
it on a request: no message and no log line holds it.
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
from airflow_provider_lamini.api.dialect import Dialect
from airflow_provider_lamini.api.errors import AuthenticationError, NotFoundError, ProtocolError

if TYPE_CHECKING:
    from airflow_provider_lamini.api.settings import ClientSettings

BLOCK = 8 * 1024 * 1024
"""Bytes per request. Two blocks are in memory at once."""

MOST_BLOCKS = 50_000
"""As many does the store allow for one blob."""


def upload(url: str, data: FilePart, settings: ClientSettings, *, block: int = BLOCK) -> int:
    """Put a file into a blob. Until the last request has succeeded, the blob is as it was before.

    A file of at most one block goes in one request (``PUT`` with ``x-ms-blob-type: BlockBlob``), a larger one
    in blocks (``comp=block``), which a last request puts together (``comp=blocklist``). Each of them may be
    repeated.

    :param url: the blob's signed URL
    :param data: the file; it is read once
    :param settings: the platform's, for timeouts, budgets, certificates and proxy; its key, its further
        headers and its client certificate are not sent to the blob
    :param block: bytes per request
    :returns: how many bytes the blob has
    :raises PlatformError: where the store failed for good, or refused
    """
    with _Blob(url, settings) as blob, data.open() as file:
        here, following = file.read(block), file.read(block)
        if not following:
            blob.put(here, {})
            return len(here)
        names: list[str] = []
        size = 0
        while here:
            names.append(base64.b64encode(f"{len(names):08d}".encode()).decode())
            if len(names) > MOST_BLOCKS:
                raise ValueError(
                    f"{data.name} is too large for a blob: it has more than {MOST_BLOCKS} blocks"
                )
            blob.put(here, {"comp": "block", "blockid": names[-1]})
            size += len(here)
            here, following = following, file.read(block)
        entries = "".join(f"<Latest>{name}</Latest>" for name in names)
        listed = f'<?xml version="1.0" encoding="utf-8"?><BlockList>{entries}</BlockList>'
        blob.put(listed.encode(), {"comp": "blocklist"})
        return size


class _Blob:
    """A blob that a signed URL allows to write.

    :param url: the signed URL
    :param settings: the platform's
    """

    def __init__(self, url: str, settings: ClientSettings) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
            raise ProtocolError("The platform gave no address that a dataset can be uploaded to.")
        self._path = parts.path
        own = replace(
            settings,
            base_url=f"{parts.scheme}://{parts.netloc}",
            key="",
            headers={},
            client_cert=None,
            client_key=None,
            proxy=None,  # the transport below goes through it
            dialect=Dialect(),
        )
        proxy = settings.proxy or _proxy_of_the_environment(parts.scheme, parts.hostname)
        network = httpx.HTTPTransport(verify=tls_context(own), proxy=proxy)
        self._client = Client(own, transport=_Signing(network, parts.query))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def put(self, content: bytes, params: dict[str, str]) -> None:
        """Send one request.

        :param content: its body
        :param params: query parameters, beside the signature
        """
        # What an exchange leaves behind is freed some time later; the block must not wait for that.
        held = [content]
        call = Call(
            operation="blob_put",
            method="PUT",
            path=self._path,
            params=params,
            content=FilePart("block", lambda: io.BytesIO(held[0])),
            parse=lambda _: None,
            retry=Retry.SAFE,
        )
        try:
            self._client.send(call)
        except (AuthenticationError, NotFoundError) as error:
            # The words for the platform's key and paths would mislead here.
            message = (
                f"The blob store refused the dataset ({error.status}): the signed URL may have expired, or not "
                "allow to write. Nothing was stored; a retry asks the platform for a new URL."
            )
            raise type(error)(message, status=error.status, operation=call.operation) from None
        finally:
            held.clear()


def _proxy_of_the_environment(scheme: str, host: str) -> str | None:
    """The proxy that httpx's clients find by themselves, where they have no transport of ours."""
    return None if proxy_bypass(host) else getproxies().get(scheme)


class _Signing(httpx.BaseTransport):
    """Puts the signature on each request.

    :param network: sends the requests
    :param signature: the query of the signed URL, as it came
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
