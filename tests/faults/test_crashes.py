"""Tasks that are killed somewhere and tried again: nothing is paid for twice, lost or doubled.

The longer version, with its table, is ``make faults``.
"""

from __future__ import annotations

import sys
from random import Random
from typing import TYPE_CHECKING

import pytest

from tests.support.crash.cases import CASES, CONTROL
from tests.support.crash.life import Kill, Trouble
from tests.support.crash.plans import NAMED, random_life, validate_input

if TYPE_CHECKING:
    from tests.support.crash.life import Harness, Life
    from tests.support.crash.plans import InputSummary

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(sys.platform != "linux", reason="forks and kills as Linux does"),
]

SEED = 20_260_101
ON_2_11 = {"batch inference", "tuning that fails and is resumed", "Memory RAG build"}
MOST_KILLS = {"batch inference": 16, "tuning": 9, "Memory RAG build": 8}
"""Of the other kinds of tasks, fewer; the rest is left to ``make faults``."""

STEPS = {
    "batch inference": {
        "execute: the task begins",
        "execute: _ledger.json (plan, intend) is whole, not yet named",
        "execute: POST /v1/batch_completions is about to be sent",
        "execute: POST /v1/batch_completions is answered",
        "execute: POST /v1/batch_completions is read",
        "execute: _ledger.json (record_job_id) is written",
        "execute: the task is about to defer",
        "execute: the deferral is on its way",
        "wait: the trigger runs",
        "wait: the event is on its way",
        "wake: the task wakes up",
        "wake: GET /v1/batch_completions/*/result is read",
        "wake: part-N.jsonl is about to be written",
        "wake: part-N.jsonl is whole, not yet named",
        "wake: part-N.jsonl is written",
        "wake: manifest.json is whole, not yet named",
        "wake: manifest.json is written",
        "wake: the result is on its way",
        "again: the task begins",
    },
    "tuning": {
        "execute: the task state (intent) is about to be written",
        "execute: POST /v1/local-data is answered",
        "execute: POST /v1/train is about to be sent",
        "execute: POST /v1/train is answered",
        "execute: the task state (id) is about to be written",
        "execute: the task state (id) is written",
        "execute: the deferral is on its way",
        "wake: the task reads the result",
        "wake: loss_history.jsonl is whole, not yet named",
        "wake: the result is on its way",
    },
    "tuning that fails and is resumed": {
        "execute: submission-*.json (intent) is written",
        "execute: submission-*.json (id) is whole, not yet named",
        "wake: the task decides on a bad end",
        "wake: POST /v1/train/jobs/*/resume is about to be sent",
        "wake: POST /v1/train/jobs/*/resume is read",
        "wake: submission-*.json (id) is written",
    },
    "Memory RAG build": {
        "execute: the task state (intent) is written",
        "execute: POST /alpha/memory-rag/train is about to be sent",
        "execute: POST /alpha/memory-rag/train is answered",
        "execute: POST /alpha/memory-rag/train is read",
        "execute: the deferral is on its way",
        "wake: the task reads the result",
        "again: the task begins",
    },
    "Memory RAG refresh, rebuilt": {"execute: index.json (id) is written"},
    "Memory RAG refresh, added": {"execute: POST /alpha/memory-rag/add-index is read"},
    "classifier training": {"execute: POST /v2/classifier/initialize is answered"},
    "dataset upload": {"execute: POST /v1/local-data is answered"},
    "model download": {"execute: POST /v1alpha/downloaded_models is answered"},
    "embedding, Parquet": {"wake: part-N.parquet is whole, not yet named"},
    'batch inference, endpoint="completions"': {"execute: part-N.jsonl is written"},
    "classification at scale": {"execute: part-N.jsonl is written"},
    "evaluation of two models": {"wake: scores.jsonl is written", "wake: report.md is written"},
    "batch inference, waiting in its worker": {"execute: POST /v1/batch_completions is answered"},
}
"""Steps that must occur, whatever the code has come to look like: at these, first of all, tasks are killed."""

_known: dict[str, InputSummary] = {}


def known(harness: Harness, name: str) -> InputSummary:
    """The steps of a kind of task, and proof that it ends well without a crash."""
    if name not in _known:
        _known[name], lives = validate_input(harness, CASES[name])
        assert_well(lives)
    return _known[name]


def assert_well(lives: list[Life]) -> None:
    """Nothing was duplicated, lost or doubled."""
    bad = [life.story() for life in lives if life.wrong]
    assert not bad, "\n" + "\n".join(bad)


def on_this_airflow(names) -> list[str]:
    """Kinds of tasks that are tried here: all on Airflow 3.3, the main ones before."""
    from airflow import __version__

    return [name for name in names if not __version__.startswith("2.") or name in ON_2_11]


def test_every_kind_of_task_has_steps_that_are_known():
    assert set(STEPS) == set(CASES)


@pytest.mark.parametrize("name", on_this_airflow(CASES))
def test_a_task_that_is_killed_at_a_step_ends_well(harness, name):
    """Each of the steps that must occur is a point to die at, and some of the others."""
    steps = known(harness, name)
    assert STEPS[name] <= steps.names, sorted(steps.names)
    first = dict(steps.once)
    others = sorted(set(first) - STEPS[name])
    Random(SEED).shuffle(others)
    chosen = [*sorted(STEPS[name]), *others][: max(MOST_KILLS.get(name, 2), len(STEPS[name]))]
    lives = [harness.live(CASES[name], first[step], NAMED) for step in chosen]
    assert_well(lives)
    # A step after the first waking may be passed in another process than before.
    assert sum(life.kills for life in lives) >= 0.8 * len(lives)


@pytest.mark.parametrize("name", on_this_airflow(["batch inference", "tuning", "classification at scale"]))
def test_a_task_that_is_killed_again_and_again_at_random_ends_well(harness, name):
    random = Random(f"{SEED} {name}")
    steps = known(harness, name)
    assert_well([random_life(harness, steps, random) for _ in range(3)])


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("name", on_this_airflow(["batch inference", "tuning", "Memory RAG build"]))
def test_a_submission_whose_connection_breaks_is_not_repeated_unasked(harness, name, when):
    """Before or after the platform has done the work."""
    assert_well([harness.live(CASES[name], {}, Trouble(fault=when))])


def test_a_platform_that_dies_while_a_task_is_deferred_costs_nothing(harness):
    life = harness.live(CASES["batch inference"], {}, Trouble(restart=1, slow=True))
    assert_well([life])
    assert (life.repeated, life.tries) == (0, 1)


def test_a_task_without_a_place_for_a_record_is_caught_by_this_harness(harness):
    """The harness sees a second paid job where there is one: without a record a retry submits again, as the log says."""
    life = harness.live(CONTROL, {0: Kill(step=("the deferral is on its way", 0))})
    assert life.duplicates == 1


def test_an_unknown_build_waits_for_a_person(harness):
    """The platform cannot say whether an index is being built: the task fails, and goes on when somebody has looked."""
    life = harness.live(
        CASES["Memory RAG build"], {0: Kill(step=("POST /alpha/memory-rag/train is answered", 0))}
    )
    assert_well([life])
    assert (life.asked, life.unknown, life.repeated) == (1, 1, 1)
