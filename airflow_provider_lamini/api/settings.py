"""How to reach one platform: address, key, timeouts, limits. No import beyond the standard library."""

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
_SHORTEST_SECRET = 8
"""Characters; what is shorter, as the value of a header, would hide parts of words."""
_KEY = re.compile(r"[\x21-\x7e]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientSettings:
    """Everything a client must know of a platform.

    :param base_url: ``http`` or ``https`` address, a path prefix is kept; a trailing slash is dropped
    :param key: API key; an empty one sends no authentication header
    :param connect_timeout: seconds to wait for a connection
    :param read_timeout: seconds to wait for the next bytes of an answer
    :param verify: ``False`` checks no certificate; a path names a CA bundle (file or folder) to check with
    :param client_cert: path of the client's certificate, PEM
    :param client_key: path of the client certificate's key, PEM; needs ``client_cert``
    :param proxy: address of an HTTP or SOCKS proxy
    :param headers: further headers, sent to the platform only
    :param max_connections: connections at most, at a time
    :param requests_per_second: requests sent at most per second, retries included; ``None`` sets no bound
    :param retry_budget: seconds that one call may spend at most on failures that pass
    :param model_loading_budget: seconds that one call may spend at most on a model that is being loaded
    :param dialect: how the platform speaks HTTP; by default a bearer key and only the generic statuses
    :raises ValueError: where a value cannot work; the message names the field, never the key
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
    retry_budget: float = 300.0
    model_loading_budget: float = 1800.0
    dialect: Dialect = field(default_factory=Dialect)

    def __post_init__(self) -> None:
        object.__setattr__(self, "base_url", _checked_url(self.base_url))
        object.__setattr__(self, "headers", _checked_headers(self.headers))
        if not isinstance(self.key, str) or not _KEY.fullmatch(self.key):
            raise ValueError("key must be printable ASCII without blanks (a line break at its end, perhaps?)")
        key_header = self.dialect.key_header
        if self.key and any(name.lower() == key_header.lower() for name in self.headers):
            raise ValueError(f"headers must not contain {key_header}: the key is sent there")
        for name in ("connect_timeout", "read_timeout"):
            _check_number(name, getattr(self, name), positive=True)
        for name in ("retry_budget", "model_loading_budget"):
            _check_number(name, getattr(self, name), positive=False)
        if self.requests_per_second is not None:
            _check_number("requests_per_second", self.requests_per_second, positive=True)
        connections: object = self.max_connections
        if not isinstance(connections, int) or isinstance(connections, bool) or connections < 1:
            raise ValueError(f"max_connections must be a whole number of at least 1, not {connections!r}")
        if not isinstance(self.verify, bool) and (not isinstance(self.verify, str) or not self.verify):
            raise ValueError("verify must be true, false or the path of a CA bundle")
        if self.client_key and not self.client_cert:
            raise ValueError("client_key is given without client_cert: give the certificate's path as well")
        if self.proxy is not None:
            _check_proxy(self.proxy)

    @property
    def origin(self) -> str:
        """Scheme, host and port of the platform, for messages."""
        parts = urlsplit(self.base_url)
        return f"{parts.scheme}://{parts.netloc}"

    @property
    def secrets(self) -> tuple[str, ...]:
        """Texts that nothing may show, whoever repeats them: key, values of further headers, the proxy's password."""
        found = {self.key}
        for value in self.headers.values():
            found |= {value, value.rpartition(" ")[2]}  # the latter without a scheme, such as Bearer
        if self.proxy is not None and (password := urlsplit(self.proxy).password):
            user = f"{unquote(urlsplit(self.proxy).username or '')}:{unquote(password)}"
            found |= {self.proxy, password, unquote(password), b64encode(user.encode()).decode()}
        found = {each for each in found if each == self.key or len(each) >= _SHORTEST_SECRET}
        return tuple(sorted(found - {""}, key=len, reverse=True))

    @property
    def fingerprint(self) -> str:
        """A hash of all fields, the key included, that does not reveal it.

        Equal settings have equal fingerprints within one process, and its forks, only.
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
        raise ValueError("base_url is missing: give the platform's address, such as https://api.example.com")
    url = url.strip()
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError(f"base_url is not an address: {error}") from None
    if parts.username is not None or parts.password is not None:
        raise ValueError("base_url must hold no user name or password: the key goes into its own field")
    if parts.scheme not in ("http", "https"):
        raise ValueError(f"base_url must begin with http:// or https://, not {url.split('//', 1)[0][:40]!r}")
    if not host or port == 0 or any(character.isspace() for character in url):
        raise ValueError(f"base_url names no host that can be reached: {url[:200]!r}")
    if parts.query or parts.fragment:
        raise ValueError("base_url must end with the host or a path: drop what follows '?' or '#'")
    return url.rstrip("/")


def _checked_headers(headers: Mapping[str, str]) -> dict[str, str]:
    checked = dict(headers)
    for name, value in checked.items():
        if not isinstance(name, str) or not _HEADER_NAME.fullmatch(name):
            raise ValueError(f"headers: {str(name)[:60]!r} is no name of a header")
        if not isinstance(value, str) or not _HEADER_VALUE.fullmatch(value):
            raise ValueError(f"headers: the value of {name} must be printable ASCII on one line")
    return checked


def _check_number(name: str, value: object, *, positive: bool) -> None:
    known = isinstance(value, int | float) and not isinstance(value, bool)
    if not known or not math.isfinite(value) or value < 0 or (positive and value == 0):  # type: ignore[arg-type,operator]
        bound = "above 0" if positive else "of at least 0"
        raise ValueError(f"{name} must be a number {bound}, not {value!r}")


def _check_proxy(proxy: object) -> None:
    problem = "proxy must be an address such as http://proxy.example:3128"
    if not isinstance(proxy, str):
        raise ValueError(problem)  # noqa: TRY004 - one kind of error for all fields
    try:
        parts = urlsplit(proxy)
        usable = parts.scheme in ("http", "https", "socks5", "socks5h") and parts.hostname
    except ValueError:
        usable = None
    if not usable:
        raise ValueError(problem)
