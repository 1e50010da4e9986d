"""The platforms. Each is a package of its own; it is imported when it is first used, and no other one with it.

Other distributions add platforms through the entry point group ``airflow_provider_lamini.platforms``: the entry's name
is the platform's name, and its object is a :class:`~airflow_provider_lamini.platforms.base.Platform`.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_provider_lamini.jobs.kinds import JobKind
    from airflow_provider_lamini.platforms.base import Platform

GROUP = "airflow_provider_lamini.platforms"

_BUILT_IN = {"lamini": "airflow_provider_lamini.platforms.lamini.platform:PLATFORM"}


@cache
def platform(name: str) -> Platform:
    """Return a platform; its modules are imported at the first call.

    :param name: such as ``lamini``
    :raises ValueError: if there is no platform of this name; the message lists the known ones
    """
    if name in _BUILT_IN:
        entry = EntryPoint(name, _BUILT_IN[name], GROUP)
    else:
        found = list(entry_points(group=GROUP, name=name))
        if not found:
            raise ValueError(
                f"There is no platform {name!r}. Known platforms: {', '.join(platform_names())}. Other distributions "
                f"add platforms through the entry point group {GROUP}."
            )
        entry = found[0]
    loaded: Platform = entry.load()
    if loaded.name != name:
        raise ValueError(f"The entry point {entry.value} of platform {name!r} is platform {loaded.name!r}.")
    return loaded


def platform_names() -> list[str]:
    """Return the names of all platforms, the installed ones included."""
    return sorted({*_BUILT_IN, *(entry.name for entry in entry_points(group=GROUP))})


def job_kind(name: str) -> JobKind:
    """Return a kind of job.

    :param name: platform and kind, such as ``lamini/tuning``
    :raises ValueError: if there is no such platform or kind; the message lists the known ones
    """
    platform_name, separator, short_name = name.partition("/")
    if not separator:
        raise ValueError(f"{name!r} is not a kind of job: it must be platform/kind, such as lamini/tuning.")
    kinds = platform(platform_name).job_kinds
    if short_name not in kinds:
        known = ", ".join(f"{platform_name}/{kind}" for kind in sorted(kinds))
        raise ValueError(f"There is no kind of job {name!r}. Known kinds: {known}.")
    return kinds[short_name]
