"""Metrics through Airflow's Stats, and spans through OpenTelemetry. docs/metrics.md names them.

Everything is reported once per step of a task or per wake-up of a trigger, never per row, and only with names that this
package and the platforms have chosen.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

from opentelemetry.trace import get_tracer

from airflow_provider_lamini.api.traffic import TRAFFIC

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from opentelemetry.trace import Tracer

    from airflow_provider_lamini.rows.counts import Counts

PREFIX = "airflow_provider_lamini"
"""The first part of all names."""

DIRECT = "requests"
"""The kind of rows that are sent as direct requests, without a job."""


def report_requests() -> None:
    """Report the requests of this process since the last report."""
    for (platform, operation), traffic in TRAFFIC.take().items():
        tags = {"platform": platform, "operation": operation}
        _count("requests", traffic.requests, tags)
        _count("retries", traffic.retries, tags)
        _count("failures", traffic.failures, tags)
        if traffic.retries:
            _stats().timing(f"{PREFIX}.retry_pause", timedelta(seconds=traffic.paused), tags=tags)


def report_rows(platform: str, kind: str, before: Counts | None, after: Counts) -> None:
    """Report rows that were finished.

    :param platform: the platform's name
    :param kind: the short name of the jobs' kind, or `DIRECT`
    :param before: the rows that were reported already; ``None`` for none
    :param after: these and the new ones
    """
    tags = {"platform": platform, "kind": kind}
    for outcome in ("ok", "failed", "reused"):
        earlier = 0 if before is None else getattr(before, outcome)
        _count(f"rows_{outcome}", getattr(after, outcome) - earlier, tags)
    for name in ("prompt_tokens", "completion_tokens"):
        earlier = 0.0 if before is None else before.sums.get(name, 0.0)
        _count(name, int(after.sums.get(name, 0.0) - earlier), tags)


@contextmanager
def waiting(kind: str, jobs: int) -> Iterator[None]:
    """Measure a wait for jobs, in a worker or in the triggerer.

    :param kind: name of the jobs' kind, such as ``acme/tuning``
    :param jobs: number of the jobs
    """
    platform, _, short_name = kind.partition("/")
    began = time.monotonic()
    # It does not become the current span: a trigger may be closed in another context than it has begun in.
    span = _tracer().start_span(
        f"{PREFIX}.wait", attributes={"platform": platform, "kind": short_name, "jobs": jobs}
    )
    try:
        yield
    finally:
        span.end()
        seconds = timedelta(seconds=time.monotonic() - began)
        _stats().timing(f"{PREFIX}.wait", seconds, tags={"platform": platform, "kind": short_name})
        report_requests()


@contextmanager
def span(name: str, **attributes: str | int) -> Iterator[None]:
    """Open a span, a child of Airflow's span for the task, during the block.

    :param name: its name without the prefix
    :param attributes: its attributes
    """
    with _tracer().start_as_current_span(f"{PREFIX}.{name}", attributes=attributes):
        yield


def _count(name: str, count: int, tags: Mapping[str, str]) -> None:
    if count > 0:
        _stats().incr(f"{PREFIX}.{name}", count, tags=dict(tags))


def _stats() -> Any:
    """Airflow's metrics; they go nowhere unless Airflow's configuration says so."""
    from airflow.providers.common.compat.sdk import Stats

    return Stats


@cache
def _tracer() -> Tracer:
    return get_tracer(PREFIX)
