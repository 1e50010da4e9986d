"""Other models, or other connections, for requests that are answered at once, if the first is not available."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from airflow_provider_lamini.api.errors import (
    ModelLoadingError,
    ModelNotFoundError,
    NotThePlatformError,
    PlatformTimeoutError,
    RateLimitedError,
    UnavailableError,
    UnsupportedError,
)
from airflow_provider_lamini.exceptions import InvalidArgumentError
from airflow_provider_lamini.runs.arguments import optional_name, plain_name

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow_provider_lamini.api.settings import ClientSettings
    from airflow_provider_lamini.hooks.base import PlatformHook
    from airflow_provider_lamini.rows.answers.prices import Price
    from airflow_provider_lamini.runs.outcome import Log

T = TypeVar("T")

MAX_FALLBACKS = 10

UNAVAILABLE = (
    ModelLoadingError,
    ModelNotFoundError,
    NotThePlatformError,
    PlatformTimeoutError,
    RateLimitedError,
    UnavailableError,
    UnsupportedError,
)
"""Errors after which the next one is asked. After all others, such as a refused key or request, it would hide a mistake."""


@dataclass(frozen=True, slots=True)
class Route:
    """Who answers.

    :param model_name: the model
    :param conn_id: the connection to its platform
    :param settings: how to reach it
    :param prices: the connection's prices of tokens by model
    """

    model_name: str
    conn_id: str
    settings: ClientSettings
    prices: Mapping[str, Price]


def parse_routes(
    hook_class: type[PlatformHook],
    *,
    model_name: object,
    conn_id: tuple[str, object],
    fallback_model: object,
    fallback_conn_id: object,
) -> list[Route]:
    """Validate who answers, and who does if they do not. Both connections are looked up, so that a mistake shows early.

    :param hook_class: leads from a connection to a platform
    :param model_name: the model
    :param conn_id: the argument with the connection, its name and its value
    :param fallback_model: the other model, or a list of models in the order in which they are tried; ``None`` for the same
    :param fallback_conn_id: the other connection, or a list, likewise. Of two lists, one entry of each makes a fallback. If both
        arguments are ``None``, the connection may name others itself.
    :return: the routes, in the order in which they are tried
    :raises InvalidArgumentError: if an argument is wrong, or a fallback is the same as an earlier one or the first
    :raises InvalidConnectionError: if a connection is invalid
    """
    names = [(plain_name("model_name", model_name), plain_name(*conn_id))]
    first = hook_class(names[0][1])
    models = _names("fallback_model", fallback_model)
    conns = _names("fallback_conn_id", fallback_conn_id)
    source = "fallback_model and fallback_conn_id name"
    if not models and not conns:
        conns = _names("fallback_conn_ids of the connection", first.fallback_conn_ids() or None)
        source = f"fallback_conn_ids of connection {first.conn_id} name"
    if len(models) > 1 and len(conns) > 1 and len(models) != len(conns):
        raise InvalidArgumentError(
            f"fallback_model has {len(models)} entries and fallback_conn_id {len(conns)}. Give as many of both, or a single one."
        )
    for number in range(max(len(models), len(conns))):
        other = (_entry(models, number) or names[0][0], _entry(conns, number) or names[0][1])
        if other in names:
            raise InvalidArgumentError(
                f"{source} {other[0]} on {other[1]}, which is tried already: change one of them."
            )
        names.append(other)
    hooks = [first, *(hook_class(conn) for _, conn in names[1:])]
    return [
        Route(model, conn, hook.settings(), hook.prices())
        for (model, conn), hook in zip(names, hooks, strict=True)
    ]


def _names(argument: str, value: object) -> list[str]:
    """The entries of a fallback argument; the same one may occur with different partners."""
    if value is None or isinstance(value, str) or not isinstance(value, Sequence):
        name = optional_name(argument, value)
        return [] if name is None else [name]
    if not 0 < len(value) <= MAX_FALLBACKS:
        raise InvalidArgumentError(
            f"{argument} has {len(value) or 'no'} entries; 1 to {MAX_FALLBACKS} are allowed."
        )
    return [plain_name(f"{argument} {number} (counted from 0)", item) for number, item in enumerate(value)]


def _entry(names: list[str], number: int) -> str | None:
    """The name for a fallback: a single one is for all of them."""
    return None if not names else names[number if len(names) > 1 else 0]


def ask_with_fallback(routes: list[Route], ask: Callable[[Route], T], log: Log) -> tuple[Route, T]:
    """Ask the first route, and if it is not available the next one.

    :param routes: who is asked, in order
    :param ask: sends everything to a route
    :param log: the task's log
    :return: the route that has answered, and its answer
    :raises PlatformError: if the last route has not answered either, or one of them refuses the request
    """
    for number, route in enumerate(routes):
        try:
            return route, ask(route)
        except UNAVAILABLE as error:
            if number == len(routes) - 1:
                raise
            following = routes[number + 1]
            log.warning(
                "%s on connection %s is not available; asking %s on connection %s instead. %s",
                *(route.model_name, route.conn_id, following.model_name, following.conn_id, error),
            )
    raise AssertionError("there is at least one route")


def route_value(routes: list[Route], answered: Route) -> dict[str, object]:
    """What the XCom value says about who has answered.

    :param routes: who was to be asked
    :param answered: who has answered
    :return: ``model``, and with a fallback also ``fallback``, whether one has answered, and ``conn_id``, whose connection
    """
    found: dict[str, object] = {"model": answered.model_name}
    if len(routes) == 1:
        return found
    return {**found, "fallback": answered is not routes[0], "conn_id": answered.conn_id}
