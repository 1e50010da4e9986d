"""From an Airflow connection to the settings of a client: one pure function for all platforms and callers."""

from __future__ import annotations

import json
import logging
import re
from dataclasses import dataclass, field
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import unquote, urlsplit, urlunsplit

from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_lamini.api.settings import ClientSettings
from airflow_provider_lamini.platforms.base import EXAMPLE_PRICES
from airflow_provider_lamini.wording import no_connection

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow.providers.common.compat.sdk import Connection

    from airflow_provider_lamini.platforms.base import ConnectionForm, Platform
    from airflow_provider_lamini.rows.answers.prices import Price

C = TypeVar("C")

log = logging.getLogger(__name__)

_FORM_NAMES = {"base_url": "Platform URL (host)", "key": "API key (password)"}
"""Names of settings in the form. An error about a setting begins with its name."""
NO_KEY = "API key (password) is empty: set it to the platform's key."
_SECRET_HEADER = re.compile(r"auth|token|key|secret|passw|credential|cookie|signature", re.IGNORECASE)
_MAX_PORT = 65535
_SHOWN = 16

_warned: set[tuple[str, tuple[str, ...]]] = set()
"""Warnings about connections that this process has logged: other types, unknown extras, keys that are sent unencrypted."""


class InvalidConnectionError(AirflowFailException, ValueError):
    """A connection is invalid. Nothing was sent; a retry cannot help, so Airflow makes none.

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
    """What a connection says about a platform.

    :param settings: how to reach it
    :param web_url: URL of its web pages without a trailing slash, if known
    :param state_path: where submission records go, if the connection says so
    :param prices: prices of tokens by model
    :param fallback_conn_ids: the connections that answer a few prompts if this one is not available, in their order
    :param secrets: texts that no log may show, besides the key
    :param unknown: names of extras that this provider does not know
    """

    settings: ClientSettings
    web_url: str | None
    state_path: str | None
    prices: Mapping[str, Price]
    fallback_conn_ids: tuple[str, ...]
    secrets: tuple[str, ...] = field(repr=False)
    unknown: tuple[str, ...]


def connection_info(conn: Connection, platform: Platform) -> ConnectionInfo:
    """Read a connection.

    :param conn: an Airflow connection to the platform
    :param platform: the platform
    :return: settings of a client, and what operators need besides
    :raises InvalidConnectionError: if a field is missing, malformed, or contradicts another
    """
    try:
        return _connection_info(conn, platform)
    except _ProblemError as problem:
        text = str(problem)
        if _is_of_another_type(conn, platform):
            text = f"It has type {conn.conn_type!r}, not {platform.form.conn_type!r}: use a connection of that type. {text}"
        raise InvalidConnectionError(conn.conn_id, text) from None


def read_connection(conn_id: str, platform: Platform) -> ConnectionInfo:
    """Look up and read a connection; mask its secrets and warn about unknown extras.

    :param conn_id: the connection
    :param platform: the platform that it leads to
    :raises InvalidConnectionError: if the connection is invalid
    """
    from airflow.providers.common.compat.sdk import AirflowNotFoundException, BaseHook, mask_secret

    try:
        conn = BaseHook.get_connection(conn_id)
    except AirflowNotFoundException as error:
        raise AirflowNotFoundException(no_connection(conn_id)) from error
    info = connection_info(conn, platform)
    for secret in info.secrets:
        mask_secret(secret)
    _warn(conn, info, platform)
    return info


async def aread_connection(conn_id: str, platform: Platform) -> ConnectionInfo:
    """The same as :func:`read_connection`, without blocking the event loop.

    :param conn_id: the connection
    :param platform: the platform that it leads to
    :raises InvalidConnectionError: if the connection is invalid
    """
    from airflow.providers.common.compat.sdk import AirflowNotFoundException

    from airflow_provider_lamini.compat import aget_connection, amask_secret

    try:
        conn = await aget_connection(conn_id)
    except AirflowNotFoundException as error:
        raise AirflowNotFoundException(no_connection(conn_id)) from error
    info = connection_info(conn, platform)
    for secret in info.secrets:
        await amask_secret(secret)
    _warn(conn, info, platform)
    return info


def _warn(conn: Connection, info: ConnectionInfo, platform: Platform) -> None:
    """Warn of what is valid, but probably not meant."""
    _warn_about_type(conn, platform)
    _warn_about_unknown(conn.conn_id, info, platform)
    _warn_about_open_key(conn.conn_id, info)


def _is_of_another_type(conn: Connection, platform: Platform) -> bool:
    return bool(conn.conn_type) and conn.conn_type != platform.form.conn_type


def _warn_about_type(conn: Connection, platform: Platform) -> None:
    """Warn once that a connection may have been meant for something else."""
    key = (conn.conn_id, ("type", str(conn.conn_type), platform.form.conn_type))
    if _is_of_another_type(conn, platform) and key not in _warned:
        _warned.add(key)
        log.warning(
            "Connection %r has type %r, not %r: check that it leads to the platform.",
            conn.conn_id,
            conn.conn_type,
            platform.form.conn_type,
        )


def _warn_about_unknown(conn_id: str, info: ConnectionInfo, platform: Platform) -> None:
    key = (conn_id, info.unknown)
    if info.unknown and key not in _warned:
        _warned.add(key)
        log.warning(
            "Connection %r has unknown extras, which are ignored: %s. Known extras: %s.",
            conn_id,
            ", ".join(info.unknown),
            ", ".join(entry.name for entry in platform.form.fields),
        )


def _warn_about_open_key(conn_id: str, info: ConnectionInfo) -> None:
    """Warn once if the key is sent without encryption to another machine."""
    parts = urlsplit(info.settings.base_url)
    key = (conn_id, ("http", parts.netloc))
    if parts.scheme == "http" and not _is_this_machine(parts.hostname or "") and key not in _warned:
        _warned.add(key)
        log.warning(
            "Connection %r sends its key unencrypted, because its address begins with http://. Use https://, unless all of "
            "the network on the way to %s is trusted.",
            conn_id,
            parts.hostname,
        )


def _is_this_machine(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def open_client(client_class: Callable[[ClientSettings], C], settings: ClientSettings, conn_id: str) -> C:
    """Create a client. Missing files and packages surface here.

    :param client_class: class of the client
    :param settings: how to reach the platform
    :param conn_id: the connection that the settings come from
    :return: the client
    :raises InvalidConnectionError: if a file or package that the settings need is missing or unusable
    """
    try:
        return client_class(settings)
    except (ValueError, OSError) as error:
        # A path in ``verify`` came from the field ``ca_path``.
        names = {"verify": "ca_path"} if isinstance(settings.verify, str) else {}
        raise InvalidConnectionError(conn_id, _with_form_names(error, names)) from None
    except ImportError as error:
        raise InvalidConnectionError(conn_id, f"proxy cannot be used: {error}") from None


def _with_form_names(error: Exception, names: Mapping[str, str]) -> str:
    name, _, rest = str(error).partition(" ")
    return f"{names.get(name, name)} {rest}."


class _ProblemError(Exception):
    """A problem with a connection, without the connection's id."""


def _connection_info(conn: Connection, platform: Platform) -> ConnectionInfo:
    extras = _Extras(_extra_fields(conn.extra, platform.form), platform.form.field_names)
    settings = _settings(conn, extras, platform)
    web_url = extras.text("web_url")
    if web_url is not None and urlsplit(web_url).scheme not in ("http", "https"):
        raise _ProblemError("web_url must begin with http:// or https://.")
    return ConnectionInfo(
        settings=settings,
        web_url=web_url.rstrip("/") if web_url else platform.form.cloud_web_url(settings.base_url),
        state_path=extras.text("state_path"),
        prices=_prices(extras.mapping("prices")),
        fallback_conn_ids=extras.names("fallback_conn_ids"),
        secrets=_secrets(settings),
        unknown=extras.unknown,
    )


def _prices(value: dict[str, object]) -> dict[str, Price]:
    if not value:
        return {}
    from airflow_provider_lamini.rows.answers.prices import parse_prices

    try:
        return parse_prices(value)
    except ValueError as error:
        raise _ProblemError(f"prices {error}, as in {EXAMPLE_PRICES}.") from None


def _settings(conn: Connection, extras: _Extras, platform: Platform) -> ClientSettings:
    base_url = _base_url(conn.host, conn.schema, conn.port, example=platform.form.default_url)
    key = (conn.password or "").strip()
    if not key:
        raise _ProblemError(NO_KEY)
    defaults = ClientSettings(base_url=platform.form.default_url, key="")
    verify: bool | str = extras.flag("verify", default=True)
    ca_path = extras.text("ca_path")
    if ca_path is not None:
        if not verify:
            raise _ProblemError("verify is false, but ca_path is set: remove one of them.")
        verify = ca_path
    try:
        return ClientSettings(
            base_url=base_url,
            key=key,
            connect_timeout=extras.number("connect_timeout", defaults.connect_timeout),
            read_timeout=extras.number("read_timeout", defaults.read_timeout),
            verify=verify,
            client_cert=extras.text("client_cert"),
            client_key=extras.text("client_key"),
            proxy=extras.text("proxy"),
            headers=_headers(extras.mapping("headers")),
            max_connections=extras.integer("max_connections", defaults.max_connections),
            requests_per_second=extras.optional_number("requests_per_second"),
            tokens_per_minute=extras.optional_number("tokens_per_minute"),
            retry_budget=extras.number("retry_budget", defaults.retry_budget),
            model_loading_budget=extras.number("model_loading_budget", defaults.model_loading_budget),
            max_result_mb=extras.number("max_result_mb", defaults.max_result_mb),
            dialect=platform.dialect,
            platform=platform.name,
        )
    except ValueError as error:
        raise _ProblemError(_with_form_names(error, _FORM_NAMES)) from None


def _base_url(host: str | None, schema: str | None, port: int | None, *, example: str) -> str:
    """Build the base URL from Host, a host name or a full URL, and the fields Schema and Port."""
    host = (host or "").strip()
    schema = (schema or "").strip().lower()
    if not host:
        raise _ProblemError(f"Platform URL (host) is empty: set it to the platform's URL, such as {example}.")
    if schema not in ("", "http", "https"):
        raise _ProblemError(
            f"Scheme must be http or https, not {schema!r}; to give a path, put the full URL into Platform URL."
        )
    port = port or None  # Airflow's form sends 0 for an empty port
    if port is not None and not 1 <= port <= _MAX_PORT:
        raise _ProblemError(f"Port must be between 1 and {_MAX_PORT}, not {port}.")
    try:
        parts = urlsplit(host if "://" in host else f"//{_bracketed(host)}")
        own_port = parts.port
    except ValueError:  # its message may repeat a key that was pasted into the wrong field
        raise _ProblemError(
            "Platform URL (host) is not a valid URL: check its port and its brackets."
        ) from None
    if schema and parts.scheme and schema != parts.scheme:
        raise _ProblemError(
            f"Platform URL (host) begins with {parts.scheme}://, but Scheme is {schema}: remove one of them."
        )
    if port is not None and own_port is not None and port != own_port:
        raise _ProblemError(
            f"Platform URL (host) contains port {own_port}, but Port is {port}: remove one of them."
        )
    netloc = parts.netloc.removesuffix(":")
    if port is not None and own_port is None:
        netloc = f"{netloc}:{port}"
    return urlunsplit((parts.scheme or schema or "https", netloc, parts.path, parts.query, parts.fragment))


def _bracketed(host: str) -> str:
    """Put a bare IPv6 address in brackets, as URLs need it; leave other hosts alone."""
    try:
        return f"[{IPv6Address(host)}]"
    except ValueError:
        return host


def _extra_fields(extra: str | dict[str, object] | None, form: ConnectionForm) -> dict[str, object]:
    """Parse the extra; accept the prefixed names of older forms.

    :param extra: JSON; or its object, as Airflow 3.2 makes it of a URI
    """
    if not extra or (isinstance(extra, str) and not extra.strip()):
        return {}
    try:
        loaded = json.loads(extra) if isinstance(extra, str) else extra
    except ValueError as error:
        raise _ProblemError(f"Extra is not valid JSON: {error}.") from None
    except RecursionError:
        raise _ProblemError("Extra is nested too deeply.") from None
    if not isinstance(loaded, dict):
        raise _ProblemError("Extra must be a JSON object, such as {}.")
    prefix = f"extra__{form.conn_type}__"
    unprefixed = {name.removeprefix(prefix): value for name, value in loaded.items()}
    return {**unprefixed, **{name: value for name, value in loaded.items() if name in form.field_names}}


class _Extras:
    """Typed access to the extras: forms and URIs deliver text where JSON has a number or a flag."""

    def __init__(self, values: Mapping[str, object], known: frozenset[str]) -> None:
        self._known = known
        self._values = {
            name: stripped
            for name, value in values.items()
            if (stripped := value.strip() if isinstance(value, str) else value) not in (None, "")
        }

    @property
    def unknown(self) -> tuple[str, ...]:
        return tuple(sorted(self._values.keys() - self._known))

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

    def names(self, name: str) -> tuple[str, ...]:
        """A list of names, or a text with commas between them."""
        value = self._values.get(name, [])
        if isinstance(value, str):
            value = value.split(",")
        if not isinstance(value, list) or not all(isinstance(item, str) and item.strip() for item in value):
            raise _ProblemError(f"{name} must be names with commas between them, such as first, second.")
        return tuple(item.strip() for item in value)

    def mapping(self, name: str) -> dict[str, object]:
        value = self._values.get(name, {})
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except ValueError as error:
                raise _ProblemError(f"{name} must be a JSON object: {error}.") from None
        if not isinstance(value, dict):
            raise _ProblemError(f"{name} must be a JSON object, such as {_EXAMPLES[name]}.")
        return {str(key): item for key, item in value.items()}


_EXAMPLES = {"headers": '{"X-Team": "data"}', "prices": EXAMPLE_PRICES}


def _headers(value: Mapping[str, object]) -> dict[str, str]:
    for key, item in value.items():
        if isinstance(item, bool) or not isinstance(item, str | int | float):
            raise _ProblemError(f"headers: the value of {key!r} must be text.")
    return {key: str(item).strip() for key, item in value.items()}


def _shown(value: object) -> str:
    """A wrong value for a message: long enough to recognize it, too short to reveal a pasted secret."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _secrets(settings: ClientSettings) -> tuple[str, ...]:
    found: set[str] = set()
    if settings.proxy is not None and (password := urlsplit(settings.proxy).password):
        found |= {settings.proxy, password, unquote(password)}
    for name, value in settings.headers.items():
        if _SECRET_HEADER.search(name):
            found |= {value, value.rpartition(" ")[2]}  # the latter without a scheme such as Bearer
    return tuple(sorted(found - {""}))
