"""The trigger of asset watchers: it reports each job of a kind that has ended, once. Airflow 3 and newer."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

from airflow.triggers.base import TriggerEvent

from airflow_provider_lamini.compat import event_trigger_class
from airflow_provider_lamini.triggers.job import load_kind

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from airflow_provider_lamini.jobs.kinds import JobKind
    from airflow_provider_lamini.jobs.known_jobs import KnownJobs
    from airflow_provider_lamini.jobs.state import JobStatus
    from airflow_provider_lamini.jobs.watch import Watch

VERSION = 1
"""Version of the arguments and of the payload."""


class JobEventTrigger(event_trigger_class()):  # type: ignore[misc]  # the class differs between Airflow versions
    """For an ``AssetWatcher``: fires once for each job of a kind that has ended, whoever has started it.

    Jobs that ended before the watcher's first poll are not reported. Which jobs are known is kept in Airflow's asset state
    store (3.3 and newer), so a job that ends while no triggerer runs is reported when one runs again. Before 3.3, it is not.
    A job is reported twice only if the triggerer dies between the event and the next entry in the store.

    All watchers and waiting tasks of one triggerer on the same connection share one client, and all watchers of one kind
    the same requests for the list of jobs.

    The event's payload has ``platform``, ``kind``, ``job_id``, ``state`` (such as ``succeeded``), ``status`` (the platform's
    own word) and ``version``.

    :param platform: the platform's name
    :param kind: the kind of the jobs; the platform must have a list of them
    :param conn_id: the connection to the platform
    :param states: the states that are reported, of ``succeeded``, ``partly succeeded``, ``failed``, ``cancelled``, ``timed out``
    :param scope: what the platform lists jobs of, such as a project, if it does not list all at once
    :param poll_interval: seconds between polls
    :param version: version of these arguments
    :raises TypeError: for arguments of a newer version
    :raises ValueError: for a state that no job ends in
    """

    def __init__(
        self,
        *,
        platform: str,
        kind: str,
        conn_id: str,
        states: Sequence[str] = ("succeeded",),
        scope: str = "",
        poll_interval: float = 60.0,
        version: int = VERSION,
    ) -> None:
        from airflow_provider_lamini.jobs.state import ENDED, JobState

        # A TypeError: of the errors that a trigger's constructor may raise, Airflow handles only this one.
        if version > VERSION:
            raise TypeError(
                f"JobEventTrigger got arguments of version {version}, and this triggerer knows version {VERSION}: update its "
                "airflow-provider-lamini."
            )
        if isinstance(states, str) or not {*states} <= ENDED:
            ended = ", ".join(state.value for state in JobState if state.ended)
            raise ValueError(f"states must be a list of some of: {ended}.")
        if not poll_interval > 0:
            raise ValueError("poll_interval must be a number of seconds above 0.")
        super().__init__()
        self.platform = platform
        self.kind = kind
        self.conn_id = conn_id
        self.states = sorted(states)
        self.scope = scope
        self.poll_interval = poll_interval

    def serialize(self) -> tuple[str, dict[str, object]]:
        """Return the trigger's class and arguments. Watchers with equal ones are one trigger."""
        arguments: dict[str, object] = {
            "version": VERSION,
            "platform": self.platform,
            "kind": self.kind,
            "conn_id": self.conn_id,
            "states": self.states,
            "scope": self.scope,
            "poll_interval": self.poll_interval,
        }
        return f"{type(self).__module__}.{type(self).__qualname__}", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Poll the list of jobs, and yield an event for each one that has ended since the poll before."""
        name = f"{self.platform}/{self.kind}"
        await load_kind(name)
        from airflow_provider_lamini.hooks.telemetry import report_requests
        from airflow_provider_lamini.hooks.watches import shared_watch
        from airflow_provider_lamini.platforms import job_kind, platform

        kind = job_kind(name)
        if (kind.polled_as or kind).list_statuses is None:
            raise ValueError(f"The platform has no list of {kind.noun}s, so they cannot be watched.")
        known: KnownJobs | None = None
        async with shared_watch(platform(self.platform), self.conn_id) as watch:
            while True:
                statuses = await self._poll(watch, kind)
                report_requests()  # a watcher never ends
                if statuses is not None:
                    first = known is None
                    known = known or await self._restore()
                    for status in known.new(statuses):
                        if status.state in self.states:
                            self.log.info("%s %s ended as %s.", kind.subject, status.job_id, status.raw)
                            yield TriggerEvent(self._payload(status))
                        known.add(status)
                        await self._save(known)
                    if first:
                        await self._save(known)
                await asyncio.sleep(self.poll_interval * random.uniform(0.9, 1.1))

    async def _poll(self, watch: Watch, kind: JobKind) -> Mapping[str, JobStatus] | None:
        """All jobs, or nothing if the poll has failed: a watcher must survive whatever one poll meets."""
        try:
            return await watch.list_all(kind, self.scope, max_age=0.8 * self.poll_interval)
        except Exception as error:  # noqa: BLE001 - the next poll may succeed
            self.log.warning("Could not list the %ss; will retry: %s", kind.noun, error)
            return None

    @property
    def _store_key(self) -> str:
        return f"airflow_provider_lamini/ended/{self.platform}/{self.kind}/{self.conn_id}/{self.scope}"

    async def _restore(self) -> KnownJobs:
        from airflow_provider_lamini.jobs.known_jobs import KnownJobs

        try:
            store = self.asset_state_store
            return KnownJobs.from_text(None if store is None else await store.aget(self._store_key))
        except Exception as error:  # noqa: BLE001 - without its store, a watcher works as before Airflow 3.3
            self.log.warning("Could not read which jobs are known; starting with those that run: %s", error)
            return KnownJobs.from_text(None)

    async def _save(self, known: KnownJobs) -> None:
        text = known.to_text()
        if getattr(self, "asset_state_store", None) is None or text is None:
            return
        try:
            await self.asset_state_store.aset(self._store_key, text)
        except Exception as error:  # noqa: BLE001 - the events go on; a restart may repeat one
            self.log.warning("Could not store which jobs are known: %s", error)

    def _payload(self, status: JobStatus) -> dict[str, object]:
        return {
            "version": VERSION,
            "platform": self.platform,
            "kind": self.kind,
            "job_id": status.job_id,
            "state": status.state.value,
            "status": status.raw,
        }
