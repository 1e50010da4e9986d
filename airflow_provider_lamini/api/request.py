"""What leaves for the platform: address, headers and body of a call."""

from __future__ import annotations

import json
import re
from functools import cached_property, partial
from typing import TYPE_CHECKING, cast

import httpx
import msgspec

from airflow_provider_lamini import __version__
from airflow_provider_lamini.api.call import PromptList
from airflow_provider_lamini.api.transfer import DownloadTarget, Transfer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import IO

    from airflow_provider_lamini.api.call import Call, FilePart, Json
    from airflow_provider_lamini.api.settings import ClientSettings
    from airflow_provider_lamini.api.transfer import Upload


_PLAIN_PATH = re.compile(r"(/[\w~%-][\w.~%-]*)+/?", re.ASCII)
"""Paths that no client changes: quoted already, and without segments of dots."""

USER_AGENT = f"airflow-provider-lamini/{__version__}"


class PreparedCall:
    """A call made ready for sending, as often as needed.

    :param call: what to send
    :param settings: how to reach the platform
    :param home: what every request to the platform carries, see :func:`platform_headers`
    :param secrets: of the settings
    :param http: builds the requests
    :param clock: the time in seconds, from any start
    :raises ValueError: where the body cannot be written as JSON
    """

    def __init__(
        self,
        call: Call[object],
        settings: ClientSettings,
        *,
        home: httpx.Headers,
        secrets: tuple[str, ...],
        http: httpx.Client | httpx.AsyncClient,
        clock: Callable[[], float],
    ) -> None:
        self._call = call
        self._settings = settings
        self._http = http
        self._clock = clock
        self._home = home
        self._secrets = secrets
        self._content = None if call.json is None else _as_json(call.json, call.operation)
        self.parts: tuple[FilePart, ...] = (
            (call.content,) if call.content else tuple(call.multipart.files if call.multipart else ())
        )
        """The files that are sent, as the body or in a form."""

    @cached_property
    def url(self) -> httpx.URL:
        """The call's address."""
        url = httpx.URL(self._settings.base_url + self._call.path)
        return url.copy_merge_params(dict(self._call.params)) if self._call.params else url

    @property
    def secrets(self) -> tuple[str, ...]:
        """Texts that nothing may show: the settings' secrets, and those in the call's body."""
        body = self._call.json
        if not isinstance(body, dict):
            return self._secrets
        values = (body.get(name) for name in self._settings.dialect.secret_fields)
        return (*self._secrets, *(value for value in values if isinstance(value, str) and value))

    @property
    def timeout(self) -> float:
        """Seconds to wait for the answer."""
        return self._call.timeout or self._settings.read_timeout

    def fetch(self, there: httpx.URL | None, to: DownloadTarget | None = None) -> Transfer:
        """Return the step that sends the call to its address, or to where the platform redirected it.

        :param there: where it was redirected to; elsewhere than at the platform, neither key nor further headers
            are sent
        :param to: where a good answer's body goes; ``None`` keeps it in memory
        """
        call = self._call
        only_asks = call.method == "GET" and there is None and to is None and self._content is None
        plain = only_asks and not self.parts and not call.params and _PLAIN_PATH.fullmatch(call.path)
        return Transfer(
            partial(self._request, there),
            self.parts,
            to,
            path=call.path if plain else None,
            timeout=self.timeout,
            clock=self._clock,
        )

    def _request(self, there: httpx.URL | None, uploads: Sequence[Upload]) -> httpx.Request:
        url = self.url if there is None else there
        form = self._call.multipart
        files = [
            (form.file_field, (part.name, cast("IO[bytes]", upload), part.content_type))
            for part, upload in zip(self.parts, uploads, strict=True)
            if form
        ]
        return self._http.build_request(
            self._call.method,
            url,
            headers=self._headers(url),
            content=uploads[0] if self._call.content else self._content,
            data=dict(form.fields) if form else None,
            files=files or None,
            timeout=client_timeout(self._settings, self.timeout),
        )

    def _headers(self, url: httpx.URL) -> httpx.Headers:
        at_home = url is self.url or same_origin(url, self.url)
        headers = self._home if at_home else httpx.Headers({"User-Agent": USER_AGENT})
        if self._call.content is not None:
            return httpx.Headers({**headers, "Content-Type": self._call.content.content_type})
        if self._content is not None:
            return httpx.Headers({**headers, "Content-Type": "application/json"})
        if self.parts and "Content-Type" in headers:
            headers = headers.copy()
            del headers["Content-Type"]
        return headers


def platform_headers(settings: ClientSettings) -> httpx.Headers:
    """Return what every request to the platform carries: its key, and the connection's own headers.

    :param settings: how to reach the platform
    """
    headers = httpx.Headers(dict(settings.headers))
    headers.setdefault("User-Agent", USER_AGENT)
    headers.update({**settings.dialect.headers, **settings.dialect.key_headers(settings.key)})
    return headers


def client_timeout(settings: ClientSettings, read: float) -> httpx.Timeout:
    """Return the timeouts as httpx takes them.

    :param settings: with the seconds for a connection
    :param read: seconds to wait for an answer, for room in the connection's buffer, for a free connection
    """
    return httpx.Timeout(read, connect=settings.connect_timeout)


def same_origin(one: httpx.URL, other: httpx.URL) -> bool:
    """Say whether two addresses have one scheme, host and port."""
    ports = {"http": 80, "https": 443}
    return (one.scheme, one.host, one.port or ports.get(one.scheme)) == (
        other.scheme,
        other.host,
        other.port or ports.get(other.scheme),
    )


def _dumped(value: Json) -> bytes:
    if isinstance(value, PromptList):
        return value.as_json
    if isinstance(value, list) and {*map(type, value)} == {str}:
        return msgspec.json.encode(value)  # five times as fast for the many prompts of a batch
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def _as_json(value: Json, operation: str) -> bytes:
    try:
        if isinstance(value, dict) and {*map(type, value)} == {str}:
            pieces: list[bytes] = []
            for key, item in value.items():
                pieces += (b",", _dumped(key), b":", _dumped(item))
            return b"".join((b"{", *pieces[1:], b"}"))
        return _dumped(value)
    except UnicodeEncodeError:
        reason = "it holds half of a surrogate pair, which is no text"
    except (TypeError, ValueError) as error:
        reason = str(error)
    raise ValueError(f"The body of {operation} cannot be written as JSON: {reason}")
