"""Another model, or another connection, for requests that are answered at once, if the first is not available."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from airflow_provider_lamini.api.errors import (
    ModelLoadingError,
    ModelNotFoundError,
    NotThePlatformError,
    PlatformTimeoutError,
    RateLimitedError,
    UnavailableError,
)
from airflow_provider_lamini.exceptions import InvalidArgumentError
from airflow_provider_lamini.runs.arguments import optional_name, plain_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_lamini.api.settings import ClientSettings
    from airflow_provider_lamini.hooks.base import PlatformHook
    from airflow_provider_lamini.runs.outcome import Log

T = TypeVar("T")

UNAVAILABLE = (
    ModelLoadingError,
    ModelNotFoundError,
    NotThePlatformError,
    PlatformTimeoutError,
    RateLimitedError,
    UnavailableError,
)
"""Errors after which the fallback is asked. After all others, such as a refused key or request, it would hide a mistake."""


@dataclass(frozen=True, slots=True)
class Route:
    """Who answers.

    :param model_name: the model
    :param conn_id: the connection to its platform
    :param settings: how to reach it
    """

    model_name: str
    conn_id: str
    settings: ClientSettings


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
    :param fallback_model: the other model; ``None`` for the same
    :param fallback_conn_id: the other connection; ``None`` for the same
    :return: one or two routes, in the order in which they are tried
    :raises InvalidArgumentError: if an argument is wrong, or the fallback is no other than the first
    :raises InvalidConnectionError: if a connection is invalid
    """
    names = [(plain_name("model_name", model_name), plain_name(*conn_id))]
    other_model = optional_name("fallback_model", fallback_model)
    other_conn = optional_name("fallback_conn_id", fallback_conn_id)
    if other_model is not None or other_conn is not None:
        other = (other_model or names[0][0], other_conn or names[0][1])
        if other in names:
            raise InvalidArgumentError(
                "fallback_model and fallback_conn_id name the model and the connection that are tried first: change one of them."
            )
        names.append(other)
    return [Route(model, conn, hook_class(conn).settings()) for model, conn in names]


def ask_with_fallback(routes: list[Route], ask: Callable[[Route], T], log: Log) -> tuple[Route, T]:
    """Ask the first route, and if it is not available the second one.

    :param routes: one or two routes
    :param ask: sends everything to a route
    :param log: the task's log
    :return: the route that has answered, and its answer
    :raises PlatformError: if the last route has not answered either, or the first one refuses the request
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
    :return: ``model``, and with a fallback also ``fallback``: whether it has answered
    """
    found: dict[str, object] = {"model": answered.model_name}
    return found if len(routes) == 1 else {**found, "fallback": answered is not routes[0]}
