"""Limits on what clients send, and the mark of endpoints whose body goes to disk while it arrives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping

EndpointT = TypeVar("EndpointT", bound="Callable[..., Any]")

MIB: Final = 1 << 20

BODIES_IN_MEMORY: Final = 4
"""All bodies in memory at one time may together be this many times as large as one."""

MAX_VALUES: Final = 100_000
"""Maximum number of values in a JSON body: items of lists and fields of objects. Each takes far more memory than text."""

MIN_RATE: Final = 1024
"""Bytes per second that a client must send on average, once its first :attr:`Limits.client_timeout` has passed."""

MAX_CONNECTIONS: Final = 512
"""Open connections above which requests are answered with 503."""

_uploads: set[Callable[..., Any]] = set()


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits on what clients send.

    :param max_body: bytes of a body that is held in memory
    :param max_upload: bytes of a body that goes to disk while it arrives
    :param client_timeout: seconds in which a client must send a request's headers, and must not stop to send a body or
        to read a response
    :param allowed_hosts: host names that requests may be addressed to, beside those of loopback; ``*`` allows all
    """

    max_body: int = 64 * MIB
    max_upload: int = 4096 * MIB
    client_timeout: float = 30.0
    allowed_hosts: tuple[str, ...] = ()


def takes_upload(endpoint: EndpointT) -> EndpointT:
    """Mark an endpoint that reads its body piece by piece, so that :attr:`Limits.max_upload` holds for it."""
    _uploads.add(endpoint)
    return endpoint


def is_upload(scope: MutableMapping[str, Any]) -> bool:
    """Whether a request goes to an endpoint that takes an upload. It must have been routed."""
    return scope.get("endpoint") in _uploads
