"""A StatsD server on loopback: a socket, and what it has received."""

from __future__ import annotations

import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def statsd_server() -> Iterator[socket.socket]:
    """Listen during the block."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(0)
        yield server


def statsd_configuration(server: socket.socket) -> dict[str, str]:
    """Return the environment in which Airflow sends its metrics to a server."""
    return {
        "AIRFLOW__METRICS__STATSD_ON": "True",
        "AIRFLOW__METRICS__STATSD_HOST": "127.0.0.1",
        "AIRFLOW__METRICS__STATSD_PORT": str(server.getsockname()[1]),
    }


def statsd_metrics(server: socket.socket) -> dict[tuple[str, str], list[float]]:
    """Return the values that have arrived since the last call, by name (with its tags) and type."""
    found: dict[tuple[str, str], list[float]] = {}
    while True:
        try:
            lines = server.recv(65_536).decode().split()
        except BlockingIOError:
            return found
        for line in lines:
            name, _, measured = line.partition(":")
            value, kind, *tags = measured.split("|")
            name += "".join(tag for tag in tags if tag.startswith("#"))
            found.setdefault((name, kind), []).append(float(value))
