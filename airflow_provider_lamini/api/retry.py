"""When a failed call is sent again, and after how long: the platform's table of errors as code."""

from __future__ import annotations

import random
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, cast

from tenacity import RetryCallState, Retrying, retry_if_exception

from airflow_provider_lamini.api.call import Retry
from airflow_provider_lamini.api.failures import AttemptFailed

if TYPE_CHECKING:
    from collections.abc import Callable

    from tenacity import DoSleep

    from airflow_provider_lamini.api.settings import ClientSettings

LONGEST_RETRY_AFTER = 300.0
"""Seconds: a platform that asks for more is asked again after this."""

UNREADABLE_ANSWERS = 5
"""So many answers to one call may be no JSON: more often, it does not come from something that passes."""

_SHORTEST_RETRY_AFTER = 0.5
_SECONDS = re.compile(r"[0-9]{1,12}(\.[0-9]{0,9})?")


def parse_retry_after(value: str | None, now: float) -> float | None:
    """Read a ``Retry-After`` header.

    :param value: seconds or an HTTP date
    :param now: the time, seconds since 1970
    :returns: seconds to wait, 0 where that time is past; ``None`` where the header is absent or is neither
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


class Retries:
    """The patience of one call: which failures it repeats, how long it waits, when it gives up.

    Failures that pass are repeated with growing, jittered pauses within ``retry_budget``; a model that is
    being loaded is asked for seldom, within ``model_loading_budget``. Each budget holds the time of the
    attempts that failed so and of the pauses after them. ``Retry-After`` goes before the own pause.

    :param settings: with the budgets
    :param repeat: whether a call may be repeated that the platform may have begun
    :param clock: the time in seconds, from any start
    """

    def __init__(self, settings: ClientSettings, repeat: Retry, clock: Callable[[], float]) -> None:
        self._repeat = repeat
        self._clock = clock
        self._left = {False: settings.retry_budget, True: settings.model_loading_budget}
        self._failures = {False: 0, True: 0}
        self._unreadable = 0
        self._spent = False
        self._began = 0.0
        self._retrying = Retrying(
            retry=retry_if_exception(self._may_repeat),
            wait=self._pause,
            stop=lambda _: self._spent,
            reraise=True,
        )
        self._retrying.begin()
        self._state = RetryCallState(self._retrying, None, (), {})

    def pause_after(self, failure: AttemptFailed, began: float) -> float:
        """Decide what follows a failed attempt.

        :param failure: why it failed
        :param began: when it began, by the clock
        :returns: seconds to wait before the next attempt
        :raises AttemptFailed: the same failure, where there is to be no other attempt
        """
        self._began = began
        self._state.set_exception((type(failure), failure, failure.__traceback__))
        pause = cast("DoSleep", self._retrying.iter(retry_state=self._state))
        self._state.prepare_for_next_attempt()
        return float(pause)

    def _may_repeat(self, failure: BaseException) -> bool:
        if not isinstance(failure, AttemptFailed) or not failure.passing:
            return False
        self._unreadable += failure.unreadable
        if self._unreadable >= UNREADABLE_ANSWERS:
            return False
        return failure.refused or self._repeat is Retry.SAFE

    def _pause(self, state: RetryCallState) -> float:
        failure = state.outcome.exception() if state.outcome else None
        loading = isinstance(failure, AttemptFailed) and failure.loading
        left = self._left[loading] - (self._clock() - self._began)
        self._spent = left <= 0
        pause = self._backoff(loading=loading)
        asked = failure.retry_after if isinstance(failure, AttemptFailed) else None
        if asked:
            pause = min(max(asked, _SHORTEST_RETRY_AFTER), LONGEST_RETRY_AFTER)
        pause = max(0.0, min(pause, left))
        self._left[loading] = left - pause
        return pause

    def _backoff(self, *, loading: bool) -> float:
        before = min(self._failures[loading], 20)
        self._failures[loading] += 1
        if loading:
            return min(60.0, 5.0 * 1.5**before) * random.uniform(0.8, 1.0)
        return min(30.0, 1.0 * 2.0**before) * random.uniform(0.5, 1.0)
