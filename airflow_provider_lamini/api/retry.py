"""When a failed call is sent again, and after what pause."""

from __future__ import annotations

import random
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from tenacity import RetryCallState, wait_exponential

from airflow_provider_lamini.api.call import Retry

if TYPE_CHECKING:
    from collections.abc import Callable

    from tenacity.wait import wait_base

    from airflow_provider_lamini.api.failures import AttemptFailed
    from airflow_provider_lamini.api.settings import ClientSettings

MAX_RETRY_AFTER = 300.0
"""Maximum seconds that a ``Retry-After`` header can make a call wait."""

MAX_UNREADABLE = 5
"""Unreadable responses to one call until it fails: what is only temporary does not send so many."""

_MIN_RETRY_AFTER = 0.5
_SECONDS = re.compile(r"[0-9]{1,12}(\.[0-9]{0,9})?")


def parse_retry_after(value: str | None, now: float) -> float | None:
    """Parse a ``Retry-After`` header.

    :param value: seconds or an HTTP date
    :param now: Unix timestamp
    :returns: seconds to wait, 0 for a date in the past; ``None`` if the header is missing or malformed
    """
    text = (value or "").strip()
    if _SECONDS.fullmatch(text):
        return float(text)
    try:
        when = parsedate_to_datetime(text)
        if when.tzinfo is None:
            when = when.replace(tzinfo=UTC)
        return max(0.0, (when - datetime.fromtimestamp(now, UTC)).total_seconds())
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


class _Budget:
    """The time that one call may spend on one sort of failure.

    :param seconds: the time, including failed attempts and the pauses after them
    :param wait: the pauses, growing with each failure
    :param least_jitter: smallest factor that a pause is multiplied with
    """

    def __init__(self, seconds: float, wait: wait_base, least_jitter: float) -> None:
        self._left = seconds
        self._wait = wait
        self._least_jitter = least_jitter
        self._failures = RetryCallState(None, None, (), {})  # type: ignore[arg-type]  # counts the attempts for the wait

    def spend(self, seconds: float, retry_after: float | None) -> float | None:
        """Charge a failed attempt.

        :param seconds: how long it took
        :param retry_after: seconds that the platform asked to wait; takes precedence over the own pause
        :returns: the pause before the next attempt; ``None`` if the budget is spent
        """
        self._left -= seconds
        if self._left <= 0:
            return None
        pause = self._wait(self._failures) * random.uniform(self._least_jitter, 1.0)
        self._failures.attempt_number += 1
        if retry_after:
            pause = min(max(retry_after, _MIN_RETRY_AFTER), MAX_RETRY_AFTER)
        pause = min(pause, self._left)
        self._left -= pause
        return pause


class Retries:
    """Decides for one call which failures are retried, after what pause, and when to give up.

    Transient failures are retried with growing, jittered pauses within ``retry_budget``. While a model is being loaded,
    retries are slow, within ``model_loading_budget``.

    :param settings: with the budgets
    :param retry: whether to retry a call that the platform may have started
    :param clock: monotonic time in seconds
    """

    def __init__(self, settings: ClientSettings, retry: Retry, clock: Callable[[], float]) -> None:
        self._retry = retry
        self._clock = clock
        self._unreadable = 0
        self._transient = _Budget(settings.retry_budget, wait_exponential(multiplier=1, max=30), 0.5)
        self._loading = _Budget(
            settings.model_loading_budget, wait_exponential(multiplier=5, exp_base=1.5, max=60), 0.8
        )

    def pause_after(self, failure: AttemptFailed, started: float) -> float:
        """Return the seconds to wait before the next attempt.

        :param failure: why the last attempt failed
        :param started: when that attempt started, by the clock
        :raises AttemptFailed: the same failure, if there must be no further attempt
        """
        self._unreadable += failure.unreadable
        may_repeat = failure.not_started or self._retry is Retry.SAFE
        if not failure.transient or not may_repeat or self._unreadable >= MAX_UNREADABLE:
            raise failure
        budget = self._loading if failure.loading else self._transient
        pause = budget.spend(self._clock() - started, failure.retry_after)
        if pause is None:
            raise failure
        return pause
