"""Tasks that are killed and retried: no work is paid for twice, and no row is lost or written twice.

``make faults`` does the same at all steps and prints a table.
"""

from __future__ import annotations

import sys
from random import Random
from typing import TYPE_CHECKING

import pytest

from tests.support.crash.cases import CASES, CONTROL, STEPS
from tests.support.crash.life import Kill, Trouble
from tests.support.crash.plans import NAMED, random_life, survey

if TYPE_CHECKING:
    from tests.support.crash.life import Harness, Life
    from tests.support.crash.plans import Survey

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(sys.platform != "linux", reason="needs fork and /proc"),
]

SEED = 20_260_101
ON_2_11 = {"batch inference", "tuning that fails and is resumed", "Memory RAG build"}
KILLS = {
    "batch inference": 8,
    "batch inference, a chunk in pieces": 4,
    "embedding, a job that fails because of a row": 2,
    "batch inference, an input that grows": 2,
    "batch inference, extended after its end": 2,
    "tuning": 5,
    "Memory RAG build": 2,
    "Emissary dataset upload": 4,
    "Emissary training": 6,
    "Emissary deployment": 6,
    "Emissary batch inference": 8,
}
"""The number of steps to kill at; 1 for the other kinds. ``make faults`` kills at all of them."""
KILLS_ON_2_11 = 5
"""Their largest number on Airflow 2, where only the ways differ in which a task begins, waits and resumes."""

_known: dict[str, Survey] = {}


def known(harness: Harness, name: str) -> Survey:
    """Return the steps of a kind of task. Without a crash, the task must succeed."""
    if name not in _known:
        _known[name], lives = survey(harness, CASES[name])
        assert_correct(lives)
    return _known[name]


def assert_correct(lives: list[Life]) -> None:
    """Assert that no work was repeated, and that no row was lost or written twice."""
    wrong = [life.story() for life in lives if life.wrong]
    assert not wrong, "\n" + "\n".join(wrong)


def on_this_airflow(names) -> list[str]:
    """Select kinds of tasks: all on Airflow 3, three on Airflow 2."""
    from airflow import __version__

    return [name for name in names if not __version__.startswith("2.") or name in ON_2_11]


def kills_at(name: str) -> list[str]:
    """The steps of a kind of task to kill at."""
    most = KILLS.get(name, 1)
    return STEPS[name][: most if len(on_this_airflow(CASES)) == len(CASES) else min(most, KILLS_ON_2_11)]


def test_every_kind_of_task_has_required_steps():
    assert set(STEPS) == set(CASES)


@pytest.mark.parametrize("name", on_this_airflow(CASES))
def test_a_task_that_is_killed_at_a_step_succeeds(harness, name):
    steps = known(harness, name)
    assert set(STEPS[name]) <= steps.names, sorted(steps.names)
    kills = dict(steps.once)
    lives = [harness.live(CASES[name], kills[step], NAMED) for step in kills_at(name)]
    assert_correct(lives)
    # A step after the first resume may happen in another process than in the first life.
    assert sum(life.kills for life in lives) >= 0.8 * len(lives)


@pytest.mark.any_airflow
@pytest.mark.parametrize("name", ["batch inference", "tuning", "classification at scale"])
def test_a_task_that_is_killed_repeatedly_at_random_succeeds(harness, name):
    random = Random(f"{SEED} {name}")
    steps = known(harness, name)
    assert_correct([random_life(harness, steps, random) for _ in range(2)])


@pytest.mark.any_airflow
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("name", ["batch inference", "tuning", "Memory RAG build"])
def test_a_submission_whose_connection_breaks_is_not_repeated(harness, name, when):
    """The connection breaks before or after the platform did the work."""
    assert_correct([harness.live(CASES[name], {}, Trouble(fault=when))])


@pytest.mark.any_airflow
def test_a_platform_that_is_killed_while_a_task_is_deferred_repeats_no_work(harness):
    life = harness.live(CASES["batch inference"], {}, Trouble(restart=1, slow=True))
    assert_correct([life])
    assert (life.repeated, life.tries) == (0, 1)


@pytest.mark.any_airflow
def test_the_harness_notices_the_second_job_of_a_task_without_a_record(harness):
    """Without a record, a retry submits the job again, as the log says."""
    life = harness.live(CONTROL, {0: Kill(step=("the deferral is in flight", 0))})
    assert life.duplicates == 1


def test_an_unknown_build_waits_for_a_user_to_decide(harness):
    """The platform cannot tell whether an index is being built. The task fails until a user decides."""
    life = harness.live(
        CASES["Memory RAG build"], {0: Kill(step=("POST /alpha/memory-rag/train is answered", 0))}
    )
    assert_correct([life])
    assert (life.decisions, life.unknown, life.repeated) == (1, 1, 1)
