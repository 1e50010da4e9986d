"""Who a task is, and how it runs its work."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field, replace
from uuid import UUID

import pytest

from airflow_provider_lamini.exceptions import InvalidArgumentError, WaitTimeoutError
from airflow_provider_lamini.jobs.event import JobEvent
from airflow_provider_lamini.runs.outcome import Done, WaitFor
from airflow_provider_lamini.runs.task import TaskIdentity, WaitOptions
from tests.support.task_runs import MemoryHook, task_run
from tests.support.tasks import TI, TaskInstance, log_lines

WAIT = WaitFor(kind="lamini/tuning", job_ids=["7"], submitted_at=5.0)
LOOP, NO_REGION = UUID(int=9), UUID(int=0)


@dataclass(frozen=True)
class RegionTaskInstance(TaskInstance):
    """A task instance of Airflow 3.4, which gives every task a region; only one in a loop has an iteration."""

    region_id: UUID = NO_REGION
    region_index: int = -1
    iteration: int | None = None

    @property
    def identity(self):
        return task_run(self).identity


@dataclass
class Work:
    """Work that comes to given outcomes, one after the other."""

    outcomes: list = field(default_factory=list)
    events: list = field(default_factory=list)
    closed: int = 0

    def advance(self, event):
        self.events.append(event)
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def on_deadline(self, event):
        return f"Jobs {', '.join(event.pending)} run on."

    def close(self):
        self.closed += 1


def options(**values):
    return WaitOptions(
        **{"deferrable": True, "poll_interval": 0.5, "timeout": 60.0, "cancel_on_kill": False} | values
    )


# ---- identity -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mapped", [False, True])
def test_the_iterations_of_a_loop_are_different_tasks(mapped):
    """All iterations have map index -1. Each expansion of a mapped task in a loop has a region, and the same map indexes."""
    iterations = [
        RegionTaskInstance(map_index=5, region_id=UUID(int=number + 1), region_index=5, iteration=number)
        if mapped
        else RegionTaskInstance(region_id=LOOP, region_index=number, iteration=number)
        for number in range(3)
    ]
    identities = [ti.identity for ti in iterations]
    assert len(set(identities)) == 3
    assert len({str(identity.as_dict()) for identity in identities}) == 3
    assert len({identity.request_key for identity in identities}) == 3
    assert identities[1].as_dict()["region_index"] == iterations[1].region_index


def test_the_mapped_tasks_of_one_iteration_are_different_tasks():
    mapped = [
        RegionTaskInstance(map_index=number, region_id=LOOP, region_index=number, iteration=2)
        for number in range(3)
    ]
    assert len({ti.identity.request_key for ti in mapped}) == 3


def test_a_task_outside_loops_has_no_region_in_its_identity():
    assert task_run(TI).identity.as_dict() == {
        "dag": "nightly",
        "task": "infer",
        "run": "run-1",
        "map_index": -1,
    }


@pytest.mark.parametrize("map_index", [-1, 0, 5])
@pytest.mark.parametrize("region", [NO_REGION, UUID(int=7)])
def test_the_region_of_a_task_outside_loops_does_not_change_its_identity(map_index, region):
    """A task that was mapped before an upgrade to Airflow 3.4 gets a region when its instances are cleared; else none."""
    before = replace(TI, map_index=map_index)
    upgraded = RegionTaskInstance(map_index=map_index, region_id=region, region_index=map_index)
    assert upgraded.identity == task_run(before).identity
    assert upgraded.identity.as_dict() == task_run(before).identity.as_dict()


def test_every_try_has_the_same_identity():
    assert TaskIdentity.of(TI) == TaskIdentity.of(TI.retried()) == TaskIdentity.of(TI.cleared())
    assert TaskIdentity.of(replace(TI, map_index=1)) != TaskIdentity.of(TI)


def test_retries_share_the_request_and_a_clear_is_a_new_one():
    first = TaskIdentity.of(TI).request_key
    assert TaskIdentity.of(TI.retried()).request_key == first
    cleared = TI.cleared()
    assert TaskIdentity.of(cleared).request_key != first
    assert TaskIdentity.of(cleared.retried()).request_key == TaskIdentity.of(cleared).request_key


def test_a_retry_follows_until_the_last_try():
    assert TaskIdentity.of(TI).retry_follows
    assert not TaskIdentity.of(TI.retried()).retry_follows
    assert not TaskIdentity.of(replace(TI, max_tries=0)).retry_follows


# ---- waiting --------------------------------------------------------------------------------------------


def test_options_are_read_from_rendered_templates():
    parsed = WaitOptions.parse(
        deferrable="true", poll_interval="2", timeout="60", cancel_on_kill="no", defer_after="3"
    )
    assert parsed == options(poll_interval=2.0, defer_after=3.0)


def test_a_wrong_option_is_named():
    with pytest.raises(InvalidArgumentError, match="timeout"):
        WaitOptions.parse(
            deferrable=True, poll_interval=1, timeout="soon", cancel_on_kill=True, defer_after=0
        )
    with pytest.raises(InvalidArgumentError, match="defer_after"):
        WaitOptions.parse(
            deferrable=True, poll_interval=1, timeout=1, cancel_on_kill=True, defer_after="never"
        )


def test_work_that_is_done_at_once_returns_its_result():
    work = Work([Done("result")])
    assert task_run().run(work) == Done("result")
    assert (work.events, work.closed) == ([None], 1)


def test_a_deferrable_task_returns_what_its_trigger_must_wait_for():
    task, work = task_run(), Work([WAIT])
    assert task.run(work) == WAIT
    assert work.closed == 1
    trigger = task.trigger(WAIT)
    assert (trigger.conn_id, trigger.kind, trigger.job_ids) == ("mine", "lamini/tuning", ["7"])
    assert trigger.deadline == task.started_at + 60


def test_a_resumed_task_keeps_its_deadline():
    assert task_run(started_at=100.0).deadline == 160.0
    assert abs(task_run().deadline - time.time() - 60) < 5


def test_the_event_reaches_the_work():
    event, work = JobEvent(deadline=5.0), Work([Done(1)])
    task_run().run(work, event)
    assert work.events == [event]


def test_the_deadline_ends_the_task_and_the_work_says_what_happens_to_the_jobs():
    work = Work()
    event = JobEvent(deadline=5.0, timed_out=True, pending=("7",), last_error="503")
    with pytest.raises(
        WaitTimeoutError, match=r"timeout of 60 s has passed. Jobs 7 run on. The last poll failed: 503"
    ):
        task_run().run(work, event)
    assert (work.events, work.closed) == ([], 1)


def test_work_that_fails_is_closed_and_so_is_the_hook():
    work, hook = Work([ValueError("broken")]), MemoryHook()
    with pytest.raises(ValueError, match="broken"), task_run(hook=hook) as task:
        task.run(work)
    assert work.closed == 1
    assert hook.closed


# ---- logs -----------------------------------------------------------------------------------------------


def test_clients_of_object_stores_are_quiet_only_while_a_task_runs():
    client = logging.getLogger("azure.core.pipeline.policies.http_logging_policy")
    assert client.isEnabledFor(logging.INFO) or logging.getLogger().level > logging.INFO
    with task_run():
        assert not client.isEnabledFor(logging.INFO)
        assert client.isEnabledFor(logging.WARNING)
    assert logging.getLogger("azure").level == logging.NOTSET


def test_a_level_that_somebody_has_set_for_a_client_stays(monkeypatch):
    client = logging.getLogger("botocore")
    monkeypatch.setattr(client, "level", logging.DEBUG)
    with task_run():
        assert client.level == logging.DEBUG
    assert client.level == logging.DEBUG


# ---- killed ---------------------------------------------------------------------------------------------


def test_a_kill_before_anything_runs_only_stops_the_task():
    task = task_run()
    with log_lines() as lines:
        task.kill()
    assert task.killed
    assert lines == []


def test_a_kill_names_the_jobs_that_keep_running():
    task = task_run()
    task.run(Work([WAIT]))
    with log_lines() as lines:
        task.kill()
    assert lines == ["cancel_on_kill is off: 1 job keeps running and bills (7)."]
