"""Counts of the requests of this process, for metrics: by platform and operation, never by what users name."""

from __future__ import annotations

import threading
from collections import defaultdict
from dataclasses import dataclass


@dataclass(slots=True)
class Traffic:
    """The requests of one operation.

    :param requests: how often it was sent
    :param retries: how many of these were sent because an earlier one failed
    :param failures: calls that failed after all retries
    :param paused: seconds of the pauses before retries
    """

    requests: int = 0
    retries: int = 0
    failures: int = 0
    paused: float = 0.0


class TrafficCounter:
    """Counts since the last report. Several threads may use it."""

    def __init__(self) -> None:
        self._counts: defaultdict[tuple[str, str], Traffic] = defaultdict(Traffic)
        self._lock = threading.Lock()

    def add(
        self,
        platform: str,
        operation: str,
        *,
        requests: int = 0,
        failures: int = 0,
        paused: float | None = None,
    ) -> None:
        """Count something that has happened.

        :param platform: the platform's name
        :param operation: the platform's operation id
        :param requests: how many requests were sent
        :param failures: how many calls have failed for good
        :param paused: seconds of the pause before a retry; ``None`` if there is no retry
        """
        with self._lock:
            traffic = self._counts[platform, operation]
            traffic.requests += requests
            traffic.failures += failures
            if paused is not None:
                traffic.retries += 1
                traffic.paused += paused

    def take(self) -> dict[tuple[str, str], Traffic]:
        """Return the counts since they were last taken, by platform and operation, and begin again."""
        with self._lock:
            taken, self._counts = self._counts, defaultdict(Traffic)
        return taken


TRAFFIC = TrafficCounter()
"""All requests of this process."""
