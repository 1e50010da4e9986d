"""What holds requests back: a limit of requests per second, and one of tokens per minute."""

from __future__ import annotations

import functools
import logging
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_lamini.api.call import Call, Json

log = logging.getLogger(__name__)

CHARACTERS_PER_TOKEN = 4
"""The usual estimate for English text."""

_LONG_WAIT = 10.0
"""Seconds from which a wait for tokens is logged."""

_LOG_INTERVAL = 60.0


class Pacer:
    """Spaces requests evenly. Several threads may use it.

    :param per_second: maximum requests per second; ``None`` for no limit
    :param clock: monotonic time in seconds
    """

    def __init__(self, per_second: float | None, clock: Callable[[], float]) -> None:
        self._interval = 1.0 / per_second if per_second else 0.0
        self._clock = clock
        self._next = clock()
        self._lock = threading.Lock()

    def seconds_to_wait(self) -> float:
        """Reserve the next free slot and return the seconds until then."""
        if not self._interval:
            return 0.0
        with self._lock:
            now = self._clock()
            slot = max(now, self._next)
            self._next = slot + self._interval
        return slot - now


class TokenBudget:
    """A bucket of tokens that refills steadily and holds those of one minute. Several threads may use it.

    Requests are served in the order in which they ask. Each waits until the bucket holds what it takes, or is full, and may
    leave a debt, which those after it wait for.

    :param per_minute: maximum tokens per minute
    :param clock: monotonic time in seconds
    """

    def __init__(self, per_minute: float, clock: Callable[[], float]) -> None:
        self._capacity = self._left = per_minute
        self._clock = clock
        self._filled_at = clock()
        self._logged_at = self._filled_at - _LOG_INTERVAL
        self._lock = threading.Lock()

    def take(self, tokens: float) -> float:
        """Reserve tokens and return the seconds to wait until they may be used.

        :param tokens: how many
        """
        if not tokens:
            return 0.0
        with self._lock:
            self._refill()
            missing = min(tokens, self._capacity) - self._left
            self._left -= tokens
            wait = max(0.0, missing * 60 / self._capacity)
            if wait >= _LONG_WAIT and self._filled_at - self._logged_at >= _LOG_INTERVAL:
                self._logged_at = self._filled_at
                log.info(
                    "The connection's tokens_per_minute are used up; the next request is sent in %.0f s.",
                    wait,
                )
        return wait

    def give_back(self, tokens: float) -> None:
        """Return tokens that were reserved and not used.

        :param tokens: how many; a negative number takes more, without waiting
        """
        with self._lock:
            self._refill()
            self._left = min(self._capacity, self._left + tokens)

    def _refill(self) -> None:
        now = self._clock()
        refilled = (now - self._filled_at) * self._capacity / 60
        self._left, self._filled_at = min(self._capacity, self._left + refilled), now


@functools.lru_cache(maxsize=64)
def token_budget(
    base_url: str,  # noqa: ARG001 - each platform has a budget
    key: str,  # noqa: ARG001 - and each key
    per_minute: float,
    clock: Callable[[], float],
) -> TokenBudget:
    """Return the budget that all clients of this process share for a platform and a key.

    :param base_url: the platform's
    :param key: the API key, which is what platforms limit
    :param per_minute: maximum tokens per minute
    :param clock: monotonic time in seconds
    """
    return TokenBudget(per_minute, clock)


def estimate_tokens(call: Call[object]) -> float:
    """Estimate how many tokens the prompts of a call have.

    :param call: the call, which says in which fields of its body they are
    """
    body = call.json
    if not isinstance(body, dict):
        return 0.0
    return sum(_characters(body.get(name)) for name in call.prompt_fields) / CHARACTERS_PER_TOKEN


def _characters(value: Json) -> int:
    if isinstance(value, str):
        return len(value)
    if isinstance(value, list):
        return sum(map(_characters, value))
    return sum(map(_characters, value.values())) if isinstance(value, dict) else 0
