"""From an Airflow connection to the settings of a client: one pure function, the same for every caller."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from ipaddress import IPv6Address
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import unquote, urlsplit, urlunsplit

from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_lamini.api.settings import ClientSettings
from airflow_provider_lamini.platforms.lamini.connection import LAMINI_FIELDS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow.providers.common.compat.sdk import Connection

C = TypeVar("C")

CLOUD_URL = "https://api.lamini.ai"
CLOUD_WEB_URL = "https://app.lamini.ai"

_DEFAULTS = ClientSettings(base_url=CLOUD_URL, key="")
_FIELD_NAMES = frozenset(entry.name for entry in LAMINI_FIELDS)
_FORM_PREFIX = "extra__lamini__"
_FORM_NAMES = {"base_url": "Host", "key": "The key in the password field"}
"""How the form calls what the client's settings call otherwise. Messages of both begin with the name."""
_SECRET_HEADER = re.compile(r"auth|token|key|secret|passw|credential|cookie|signature", re.IGNORECASE)
_MAX_PORT = 65535
_SHOWN = 16


class InvalidConnectionError(AirflowFailException, ValueError):
    """A connection cannot work as it stands. Nothing was sent; a retry cannot help, so none is made.

    :param conn_id: the connection's id
    :param problem: one sentence: which field, what is wrong with it, what to do
    """

    def __init__(self, conn_id: str, problem: str) -> None:
        super().__init__(conn_id, problem)
        self.conn_id = conn_id
        self.problem = problem

    def __str__(self) -> str:
        return f"Connection {self.conn_id!r}: {self.problem}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionInfo:
    """All that a connection says of a platform.

    :param settings: how to reach it
    :param web_url: address of its web pages without a trailing slash, where known
    :param state_path: where records of submitted jobs go, where the connection says so
    :param secrets: texts that no log may show, besides the key
    :param unknown: names of extras that mean nothing here
    """

    settings: ClientSettings
    web_url: str | None
    state_path: str | None
    secrets: tuple[str, ...] = field(repr=False)
    unknown: tuple[str, ...]


def settings_from_connection(conn: Connection) -> ClientSettings:
    """How to reach the platform that a connection names.

    :param conn: an Airflow connection of type ``lamini``
    :return: checked settings of a client
    :raises InvalidConnectionError: where a field is missing, malformed, or contradicts another
    """
    return target_from_connection(conn).settings


def target_from_connection(conn: Connection) -> ConnectionInfo:
    """All that a connection says of a platform.

    :param conn: an Airflow connection of type ``lamini``
    :return: settings of a client, and what operators need besides
    :raises InvalidConnectionError: where a field is missing, malformed, or contradicts another
    """
    try:
        return _target(conn)
    except _ProblemError as problem:
        raise InvalidConnectionError(conn.conn_id, str(problem)) from None


def opened(kind: Callable[[ClientSettings], C], settings: ClientSettings, conn_id: str) -> C:
    """Make a client; files that are not there and packages that are missing are noticed here.

    :param kind: class of the client
    :param settings: how to reach the platform
    :param conn_id: the connection that the settings are from
    :return: the client
    :raises InvalidConnectionError: where a file or a package that the settings ask for cannot be used
    """
    try:
        return kind(settings)
    except (ValueError, OSError) as error:
        # The settings know one name for both: where ``verify`` is a path, it came as ``ca_path``.
        names = {"verify": "ca_path"} if isinstance(settings.verify, str) else {}
        raise InvalidConnectionError(conn_id, _in_words_of_the_form(error, names)) from None
    except ImportError as error:
        raise InvalidConnectionError(conn_id, f"proxy cannot be used: {error}") from None


def _in_words_of_the_form(error: Exception, names: Mapping[str, str]) -> str:
    name, _, rest = str(error).partition(" ")
    return f"{names.get(name, name)} {rest}."


class _ProblemError(Exception):
    """What is wrong with a connection, before its id is put in front."""


def _target(conn: Connection) -> ConnectionInfo:
    extras = _Extras(_extra_fields(conn.extra))
    settings = _settings(conn, extras)
    cloud = urlsplit(settings.base_url).hostname == urlsplit(CLOUD_URL).hostname
    web_url = extras.text("web_url")
    if web_url is not None and urlsplit(web_url).scheme not in ("http", "https"):
        raise _ProblemError("web_url must begin with http:// or https://.")
    return ConnectionInfo(
        settings=settings,
        web_url=web_url.rstrip("/") if web_url else CLOUD_WEB_URL if cloud else None,
        state_path=extras.text("state_path"),
        secrets=_secrets(settings),
        unknown=extras.unknown,
    )


def _settings(conn: Connection, extras: _Extras) -> ClientSettings:
    base_url = _base_url(conn.host, conn.schema, conn.port)
    key = (conn.password or "").strip()
    if not key:
        raise _ProblemError("The password field is empty: put the platform's API key there.")
    verify: bool | str = extras.flag("verify", default=True)
    ca_path = extras.text("ca_path")
    if ca_path is not None:
        if not verify:
            raise _ProblemError("verify is false, but ca_path is set: drop one of them.")
        verify = ca_path
    try:
        return ClientSettings(
            base_url=base_url,
            key=key,
            connect_timeout=extras.number("connect_timeout", _DEFAULTS.connect_timeout),
            read_timeout=extras.number("read_timeout", _DEFAULTS.read_timeout),
            verify=verify,
            client_cert=extras.text("client_cert"),
            client_key=extras.text("client_key"),
            proxy=extras.text("proxy"),
            headers=extras.mapping("headers"),
            max_connections=extras.integer("max_connections", _DEFAULTS.max_connections),
            requests_per_second=extras.optional_number("requests_per_second"),
            retry_budget=extras.number("retry_budget", _DEFAULTS.retry_budget),
            model_loading_budget=extras.number("model_loading_budget", _DEFAULTS.model_loading_budget),
        )
    except ValueError as error:
        raise _ProblemError(_in_words_of_the_form(error, _FORM_NAMES)) from None


def _base_url(host: str | None, schema: str | None, port: int | None) -> str:
    """One URL from a host name or a full URL, with the scheme and port fields where they add something."""
    host = (host or "").strip()
    schema = (schema or "").strip().lower()
    if not host:
        raise _ProblemError(f"Host is empty: set it to the platform's URL, such as {CLOUD_URL}.")
    if schema not in ("", "http", "https"):
        raise _ProblemError(
            f"Schema must be http or https, not {schema!r}; to give a path, put the full URL into Host."
        )
    if port is not None and not 1 <= port <= _MAX_PORT:
        raise _ProblemError(f"Port must be between 1 and {_MAX_PORT}, not {port}.")
    try:
        parts = urlsplit(host if "://" in host else f"//{_bracketed(host)}")
        own_port = parts.port
    except ValueError:  # its text may repeat a key that was pasted into the wrong field
        raise _ProblemError("Host is no URL that can be read: check its port and its brackets.") from None
    if schema and parts.scheme and schema != parts.scheme:
        raise _ProblemError(f"Host begins with {parts.scheme}://, but Schema is {schema}: drop one of them.")
    if port is not None and own_port is not None and port != own_port:
        raise _ProblemError(f"Host holds port {own_port}, but Port is {port}: drop one of them.")
    netloc = parts.netloc.removesuffix(":")
    if port is not None and own_port is None:
        netloc = f"{netloc}:{port}"
    return urlunsplit((parts.scheme or schema or "https", netloc, parts.path, parts.query, parts.fragment))


def _bracketed(host: str) -> str:
    """A bare IPv6 address as a URL holds it; other hosts as they are."""
    try:
        return f"[{IPv6Address(host)}]"
    except ValueError:
        return host


def _extra_fields(extra: str | None) -> dict[str, object]:
    """The extra as a mapping; names that older forms prefixed are accepted."""
    if not extra or not extra.strip():
        return {}
    try:
        loaded = json.loads(extra)
    except ValueError as error:
        raise _ProblemError(f"Extra is not valid JSON: {error}.") from None
    except RecursionError:
        raise _ProblemError("Extra is nested too deep.") from None
    if not isinstance(loaded, dict):
        raise _ProblemError("Extra must be a JSON object, such as {}.")
    prefixed = {name.removeprefix(_FORM_PREFIX): value for name, value in loaded.items()}
    return {**prefixed, **{name: value for name, value in loaded.items() if name in _FIELD_NAMES}}


class _Extras:
    """Typed access to the extras: forms and URIs deliver text where JSON would hold a number or a flag."""

    def __init__(self, values: Mapping[str, object]) -> None:
        self._values = {
            name: stripped
            for name, value in values.items()
            if (stripped := value.strip() if isinstance(value, str) else value) not in (None, "")
        }

    @property
    def unknown(self) -> tuple[str, ...]:
        return tuple(sorted(self._values.keys() - _FIELD_NAMES))

    def text(self, name: str) -> str | None:
        value = self._values.get(name)
        if value is not None and not isinstance(value, str):
            raise _ProblemError(f"{name} must be text.")
        return value

    def optional_number(self, name: str) -> float | None:
        value = self._values.get(name)
        if value is None:
            return None
        try:
            if isinstance(value, str | int | float) and not isinstance(value, bool):
                return float(value)
        except (ValueError, OverflowError):
            pass
        raise _ProblemError(f"{name} must be a number, not {_shown(value)}.")

    def number(self, name: str, default: float) -> float:
        value = self.optional_number(name)
        return default if value is None else value

    def integer(self, name: str, default: int) -> int:
        value = self.number(name, float(default))
        if not value.is_integer():
            raise _ProblemError(f"{name} must be a whole number, not {_shown(self._values[name])}.")
        return int(value)

    def flag(self, name: str, *, default: bool) -> bool:
        value = self._values.get(name, default)
        if isinstance(value, str):
            value = {"true": True, "false": False}.get(value.lower(), value)
        if not isinstance(value, bool):
            raise _ProblemError(f"{name} must be true or false, not {_shown(value)}.")
        return value

    def mapping(self, name: str) -> dict[str, str]:
        value = self._values.get(name, {})
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except ValueError as error:
                raise _ProblemError(f"{name} must be a JSON object: {error}.") from None
        if not isinstance(value, dict):
            raise _ProblemError(f'{name} must be a JSON object, such as {{"X-Team": "data"}}.')
        for key, item in value.items():
            if isinstance(item, bool) or not isinstance(item, str | int | float):
                raise _ProblemError(f"{name}: the value of {key!r} must be text.")
        return {key: str(item).strip() for key, item in value.items()}


def _shown(value: object) -> str:
    """A wrong value as a message shows it: enough to find it, not enough to give a pasted secret away."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _secrets(settings: ClientSettings) -> tuple[str, ...]:
    found: set[str] = set()
    if settings.proxy is not None and (password := urlsplit(settings.proxy).password):
        found |= {settings.proxy, password, unquote(password)}
    for name, value in settings.headers.items():
        if _SECRET_HEADER.search(name):
            found |= {value, value.rpartition(" ")[2]}  # the latter without a scheme, such as Bearer
    return tuple(sorted(found - {""}))
