"""How to reach one platform: URL, key, timeouts, limits. Loads only the standard library."""

from __future__ import annotations

import hashlib
import math
import re
import secrets
from base64 import b64encode
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from airflow_provider_lamini.api.dialect import Dialect

if TYPE_CHECKING:
    from collections.abc import Mapping

_SALT = secrets.token_bytes(32)
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e]*")
_MIN_SECRET = 8
"""Characters. Hiding shorter header values would hide parts of ordinary words."""
_KEY = re.compile(r"[\x21-\x7e]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientSettings:
    """Everything that a client needs to reach a platform.

    :param base_url: ``http`` or ``https`` URL, with an optional path prefix; a trailing slash is removed
    :param key: API key; an empty one sends no authentication header
    :param connect_timeout: seconds to wait for a connection
    :param read_timeout: seconds to wait for the next bytes of a response
    :param verify: whether to verify certificates, or the path of a CA bundle (file or folder) to verify them with
    :param client_cert: path of the client's certificate, PEM
    :param client_key: path of the client certificate's key, PEM; needs ``client_cert``
    :param proxy: URL of an HTTP or SOCKS proxy
    :param headers: additional headers, sent to the platform only
    :param max_connections: maximum number of open connections
    :param requests_per_second: maximum requests per second, including retries; ``None`` for no limit
    :param tokens_per_minute: maximum tokens per minute: those of prompts by estimate, of answers if the platform counts them;
        ``None`` for no limit
    :param retry_budget: maximum seconds that one call spends on transient failures
    :param model_loading_budget: maximum seconds that one call waits for a model that is being loaded
    :param max_result_mb: maximum size of a response with results of rows, in MB
    :param max_in_memory: maximum bytes of a response that is kept in memory as a whole, besides each call's own limit
    :param dialect: how the platform speaks HTTP; by default a bearer key and only the generic statuses
    :param platform: the platform's name, for metrics
    :raises ValueError: if a value is invalid; the message names the field and never contains the key
    """

    base_url: str
    key: str = field(repr=False)
    connect_timeout: float = 10.0
    read_timeout: float = 120.0
    verify: bool | str = True
    client_cert: str | None = None
    client_key: str | None = None
    proxy: str | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    max_connections: int = 20
    requests_per_second: float | None = None
    tokens_per_minute: float | None = None
    retry_budget: float = 300.0
    model_loading_budget: float = 1800.0
    max_result_mb: float = 1000.0
    max_in_memory: int | None = None
    dialect: Dialect = field(default_factory=Dialect)
    platform: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "base_url", _checked_url(self.base_url))
        object.__setattr__(self, "headers", _checked_headers(self.headers))
        if not isinstance(self.key, str) or not _KEY.fullmatch(self.key):
            raise ValueError(
                "key must be printable ASCII without spaces (perhaps it ends with a line break?)"
            )
        key_header = self.dialect.key_header
        if self.key and any(name.lower() == key_header.lower() for name in self.headers):
            raise ValueError(f"headers must not contain {key_header}: the key is sent there")
        for name in ("connect_timeout", "read_timeout", "max_result_mb"):
            _check_number(name, getattr(self, name), positive=True)
        for name in ("retry_budget", "model_loading_budget"):
            _check_number(name, getattr(self, name), positive=False)
        for name in ("requests_per_second", "tokens_per_minute"):
            _check_limit(name, getattr(self, name))
        connections: object = self.max_connections
        if not isinstance(connections, int) or isinstance(connections, bool) or connections < 1:
            raise ValueError(f"max_connections must be a whole number of at least 1, not {connections!r}")
        if not isinstance(self.verify, bool) and (not isinstance(self.verify, str) or not self.verify):
            raise ValueError("verify must be true, false or the path of a CA bundle")
        if self.client_key and not self.client_cert:
            raise ValueError("client_key is set without client_cert: set the certificate's path as well")
        if self.proxy is not None:
            _check_proxy(self.proxy)

    @property
    def origin(self) -> str:
        """Scheme, host and port of the platform, for messages."""
        parts = urlsplit(self.base_url)
        return f"{parts.scheme}://{parts.netloc}"

    @property
    def secrets(self) -> tuple[str, ...]:
        """Texts that nothing may show: the key, values of additional headers, the proxy's password."""
        found = {self.key}
        for value in self.headers.values():
            found |= {value, value.rpartition(" ")[2]}  # the latter without a scheme such as Bearer
        if self.proxy is not None and (password := urlsplit(self.proxy).password):
            user = f"{unquote(urlsplit(self.proxy).username or '')}:{unquote(password)}"
            found |= {self.proxy, password, unquote(password), b64encode(user.encode()).decode()}
        found = {text for text in found if text == self.key or len(text) >= _MIN_SECRET}
        return tuple(sorted(found - {""}, key=len, reverse=True))

    @property
    def fingerprint(self) -> str:
        """A hash of all fields, including the key, that does not reveal the key.

        Only comparable within one process and its forks.
        """
        digest = hashlib.blake2b(key=_SALT, digest_size=16)
        for item in fields(self):
            value = getattr(self, item.name)
            text = repr(sorted(value.items()) if item.name == "headers" else value)
            digest.update(f"{item.name}={text}\0".encode())
        return digest.hexdigest()

    def __hash__(self) -> int:
        return hash(self.fingerprint)


def _checked_url(url: object) -> str:
    if not isinstance(url, str) or not url.strip():
        raise ValueError("base_url is missing: set the platform's URL, such as https://api.example.com")
    url = url.strip()
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError(f"base_url is not a valid URL: {error}") from None
    if parts.username is not None or parts.password is not None:
        raise ValueError("base_url must not contain a user name or password: the key has its own field")
    if parts.scheme not in ("http", "https"):
        raise ValueError(f"base_url must begin with http:// or https://, not {url.split('//', 1)[0][:40]!r}")
    if not host or port == 0 or any(character.isspace() for character in url):
        raise ValueError(f"base_url has no valid host: {url[:200]!r}")
    if parts.query or parts.fragment:
        raise ValueError("base_url must end with the host or a path: remove '?' or '#' and what follows")
    return url.rstrip("/")


def _checked_headers(headers: Mapping[str, str]) -> dict[str, str]:
    checked = dict(headers)
    for name, value in checked.items():
        if not isinstance(name, str) or not _HEADER_NAME.fullmatch(name):
            raise ValueError(f"headers: {str(name)[:60]!r} is not a valid header name")
        if not isinstance(value, str) or not _HEADER_VALUE.fullmatch(value):
            raise ValueError(f"headers: the value of {name} must be printable ASCII on one line")
    return checked


def _check_number(name: str, value: object, *, positive: bool) -> None:
    known = isinstance(value, int | float) and not isinstance(value, bool)
    if not known or not math.isfinite(value) or value < 0 or (positive and value == 0):  # type: ignore[arg-type,operator]
        minimum = "above 0" if positive else "of at least 0"
        raise ValueError(f"{name} must be a number {minimum}, not {value!r}")


def _check_limit(name: str, value: object) -> None:
    if value is not None:
        _check_number(name, value, positive=True)


def _check_proxy(proxy: object) -> None:
    problem = "proxy must be a URL such as http://proxy.example:3128"
    if not isinstance(proxy, str):
        raise ValueError(problem)  # noqa: TRY004 - one kind of error for all fields
    try:
        parts = urlsplit(proxy)
        usable = parts.scheme in ("http", "https", "socks5", "socks5h") and parts.hostname
    except ValueError:
        usable = None
    if not usable:
        raise ValueError(problem)
