"""When a deployment or an engine is put to sleep: after inactivity, or outside of a schedule. Pure functions of a time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final, Literal
from zoneinfo import ZoneInfo

import msgspec

DEFAULT_INACTIVE_SECONDS: Final = 3600
"""Seconds without a request after which a deployment is put to sleep."""

Day = Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]

DAYS: Final[tuple[Day, ...]] = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


class ActiveHours(msgspec.Struct, frozen=True, kw_only=True):
    """Hours of the week in which a deployment or an engine is awake.

    :param timezone: IANA name
    :param start_time: HH:MM
    :param end_time: HH:MM; one before the start is on the next day
    :param days: the days on which it starts
    """

    timezone: str = "UTC"
    start_time: str = "00:00"
    end_time: str = "24:00"
    days: list[Day] = msgspec.field(default_factory=lambda: list(DAYS))

    def is_open(self, now: float) -> bool:
        """Whether a time is inside of the schedule.

        :param now: Unix timestamp
        """
        local = datetime.fromtimestamp(now, tz=UTC).astimezone(ZoneInfo(self.timezone))
        minute = local.hour * 60 + local.minute
        start, end = _minutes(self.start_time), _minutes(self.end_time)
        today, yesterday = (DAYS[(local - timedelta(days=days)).weekday()] for days in (0, 1))
        if start < end:
            return today in self.days and start <= minute < end
        return (today in self.days and minute >= start) or (yesterday in self.days and minute < end)


class ResourcePolicy(msgspec.Struct, frozen=True, kw_only=True):
    """When a deployment or an engine is put to sleep.

    :param inactive_seconds: seconds without a request after which it is
    :param schedule: if set, it is put to sleep outside of the schedule instead
    """

    inactive_seconds: int = DEFAULT_INACTIVE_SECONDS
    schedule: ActiveHours | None = None

    def is_asleep(self, *, active_since: float, accessed: float, woken: bool, now: float) -> bool:
        """Whether it has been put to sleep.

        :param active_since: Unix timestamp at which it was deployed or woken last
        :param accessed: Unix timestamp of the last request
        :param woken: whether it was woken by request
        :param now: Unix timestamp
        """
        is_inactive = now >= max(active_since, accessed) + self.inactive_seconds
        if self.schedule is None:
            return is_inactive
        return not self.schedule.is_open(now) and not (woken and not is_inactive)


def _minutes(text: str) -> int:
    hours, _, minutes = text.partition(":")
    return int(hours) * 60 + int(minutes)
