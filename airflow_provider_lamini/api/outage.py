"""What the log says while requests fail and are retried."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from airflow_provider_lamini.wording import duration

if TYPE_CHECKING:
    from collections.abc import Callable
    from logging import Logger

    from airflow_provider_lamini.api.failures import AttemptFailed

LINE_INTERVAL = 60.0
"""Minimum seconds from a line about failed requests to the next one, however many requests fail."""


class OutageLog:
    """Warns once when requests begin to fail, repeats it each minute, and says when the platform answers again.

    All requests of a client share one, so that an outage of many requests at a time is not many lines.

    :param log: takes the lines
    :param clock: monotonic time in seconds
    """

    def __init__(self, log: Logger, clock: Callable[[], float]) -> None:
        self._log = log
        self._clock = clock
        self._lock = threading.Lock()
        self._since: float | None = None
        self._last_line: float | None = None
        self._announced = False

    def failed(self, failure: AttemptFailed) -> None:
        """Note that a request has failed and will be retried.

        :param failure: why
        """
        now = self._clock()
        with self._lock:
            if self._since is None:
                self._since, self._announced = now, False
            if self._last_line is not None and now - self._last_line < LINE_INTERVAL:
                return
            self._last_line = now
            began, self._announced = not self._announced, True
            seconds = now - self._since
        if began:
            self._log.warning("Requests fail and are retried: %s", _reason(failure))
        else:
            self._log.info(
                "Requests have failed for %s and are retried: %s", duration(seconds), _reason(failure)
            )

    def answered(self) -> None:
        """Note that the platform has answered a request."""
        if self._since is None:
            return
        with self._lock:
            since, announced = self._since, self._announced
            self._since = None
        if since is not None and announced:
            self._log.info("The platform answers again, after %s.", duration(self._clock() - since))


def _reason(failure: AttemptFailed) -> str:
    """Why requests fail, and what to do. The rest comes last."""
    if failure.status is None or failure.unreadable:
        return " ".join(filter(None, (failure.advice, failure.what)))
    return (
        f"the platform answers {failure.status}. {failure.advice or 'Check it if this lasts.'} {failure.what}"
    )
