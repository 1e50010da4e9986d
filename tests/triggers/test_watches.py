"""A watch whose connection lookup fails."""

from __future__ import annotations

import asyncio
import time

import pytest

from airflow_provider_lamini.api.settings import ClientSettings
from airflow_provider_lamini.jobs.polling import PollPlan
from airflow_provider_lamini.jobs.state import PollHistory
from airflow_provider_lamini.jobs.watch import Watch
from airflow_provider_lamini.platforms.lamini.kinds import BATCH_COMPLETIONS
from airflow_provider_lamini.platforms.lamini.platform import LAMINI_DIALECT


class DeadlockError(BaseException):
    """Some versions of Airflow raise a BaseException like this one in a connection lookup."""


def wait_for_jobs(lookup):
    """Wait for three jobs at the same time."""

    async def run():
        watch = Watch(lookup)
        plan = PollPlan(submitted_at=time.time(), deadline=time.time() + 60, min_interval=0.05)
        try:
            await asyncio.gather(
                *(watch.add(BATCH_COMPLETIONS, f"job{n}", plan, PollHistory()) for n in range(3))
            )
        finally:
            await watch.close()

    asyncio.run(asyncio.wait_for(run(), 5))


@pytest.mark.parametrize("error", [LookupError("nowhere"), DeadlockError("nowhere"), OSError("nowhere")])
def test_no_error_of_the_lookup_leaves_a_trigger_waiting_forever(error):
    async def lookup():
        raise error

    with pytest.raises(type(error), match="nowhere"):
        wait_for_jobs(lookup)


@pytest.mark.parametrize("error", [LookupError("gone"), DeadlockError("gone")])
def test_a_connection_that_is_deleted_while_its_key_is_refused_ends_the_waits(platform, error):
    settings = ClientSettings(dialect=LAMINI_DIALECT, base_url=platform.url, key="a-key-of-yesterday")
    lookups = [settings]

    async def lookup():
        if lookups:
            return lookups.pop()
        raise error

    with pytest.raises(type(error), match="gone"):
        wait_for_jobs(lookup)
