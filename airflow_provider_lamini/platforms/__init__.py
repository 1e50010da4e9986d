"""The platforms. Each is a package of its own; it is imported when it is first used, and no other one with it.

Other distributions add platforms through the entry point group ``airflow_provider_lamini.platforms``: the entry's name
is the platform's name, and its object is a :class:`~airflow_provider_lamini.platforms.base.Platform`.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_lamini.jobs.kinds import JobKind
    from airflow_provider_lamini.platforms.base import Platform

GROUP = "airflow_provider_lamini.platforms"

_BUILT_IN = {
    "lamini": "airflow_provider_lamini.platforms.lamini.platform",
    "emissary": "airflow_provider_lamini.platforms.emissary.platform",
}
"""Module of each platform of this package; it has the platform as ``PLATFORM``."""


@cache
def platform(name: str) -> Platform:
    """Return a platform; its modules are imported at the first call.

    :param name: such as ``lamini``
    :raises ValueError: if there is no platform of this name; the message lists the known ones
    """
    if name in _BUILT_IN:
        built_in: Platform = import_module(_BUILT_IN[name]).PLATFORM
        return built_in
    from importlib.metadata import entry_points

    for entry in entry_points(group=GROUP, name=name):
        loaded: Platform = entry.load()
        if loaded.name != name:
            raise ValueError(f"Entry point {entry.value} of platform {name!r} has the name {loaded.name!r}.")
        return loaded
    raise ValueError(
        f"There is no platform {name!r}. Known platforms: {', '.join(platform_names())}. Other distributions add "
        f"platforms through the entry point group {GROUP}."
    )


def platform_names() -> tuple[str, ...]:
    """Return the names of all platforms, including those of other distributions, in order.

    This reads the entry points of all installed distributions.
    """
    from importlib.metadata import entry_points  # costs 5 ms, and Airflow imports this package at every start

    return tuple(sorted({*_BUILT_IN, *(entry.name for entry in entry_points(group=GROUP))}))


def is_platform(name: str) -> bool:
    """Say whether there is a platform of this name."""
    return first_platform([name]) is not None


def first_platform(names: Sequence[str]) -> str | None:
    """Return the first of some names that is a platform's; ``None`` if there is none.

    Those of this package come first, because to know the others all installed distributions are read.

    :param names: such as ``lamini``
    """
    built_in = next((name for name in names if name in _BUILT_IN), None)
    if built_in is not None:
        return built_in
    known = platform_names()
    return next((name for name in names if name in known), None)


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
