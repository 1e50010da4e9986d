"""With ``freeze_gc``, waiting triggers are excluded from garbage collection."""

from __future__ import annotations

import gc
from contextlib import ExitStack

import pytest

from airflow_provider_lamini.triggers.job import FREEZE_STEP, WaitingTriggers, freeze_gc
from tests.support.forks import warm_python


@pytest.fixture
def freezes(monkeypatch):
    """Turns ``freeze_gc`` on and records each freeze."""
    calls = []
    monkeypatch.setattr(gc, "freeze", lambda: calls.append("freeze"))
    monkeypatch.setenv("AIRFLOW__AIRFLOW_PROVIDER_LAMINI__FREEZE_GC", "True")
    freeze_gc.cache_clear()
    yield calls
    freeze_gc.cache_clear()


def start(triggers, count):
    """Make this many more triggers wait."""
    stack = ExitStack()
    for _ in range(count):
        stack.enter_context(triggers.counted())
    return stack


def test_a_few_waiting_triggers_cause_no_freeze(freezes):
    with start(WaitingTriggers(), FREEZE_STEP - 1):
        assert freezes == []


def test_each_further_step_of_waiting_triggers_causes_a_freeze(freezes):
    triggers = WaitingTriggers()
    with start(triggers, FREEZE_STEP):
        assert len(freezes) == 1
        with start(triggers, FREEZE_STEP - 1):
            assert len(freezes) == 1
            with start(triggers, 1):
                assert len(freezes) == 2


def test_triggers_that_come_and_go_cause_no_further_freeze(freezes):
    triggers = WaitingTriggers()
    for _ in range(5):
        with start(triggers, FREEZE_STEP):
            pass
    assert len(freezes) == 1


def test_a_trigger_that_fails_is_no_longer_counted(freezes):
    triggers = WaitingTriggers()
    for _ in range(FREEZE_STEP):
        with pytest.raises(OSError, match="gone"), triggers.counted():
            raise OSError("gone")
    assert freezes == []


LOAD = """
import gc, sys
gc.unfreeze()  # of Python 3.12, and of the process that this is a fork of
from airflow_provider_lamini.triggers import job
job._import_all("lamini/tuning")
frozen = gc.get_freeze_count()
print(frozen > len(sys.modules), frozen)
"""


def test_the_modules_of_a_wait_are_frozen_only_if_the_option_is_on(monkeypatch):
    monkeypatch.delenv("AIRFLOW__AIRFLOW_PROVIDER_LAMINI__FREEZE_GC", raising=False)
    with warm_python("from airflow.providers.common.compat.sdk import conf") as python:
        assert python.run(LOAD).splitlines()[-1] == "False 0"
        frozen = python.run(LOAD, AIRFLOW__AIRFLOW_PROVIDER_LAMINI__FREEZE_GC="True").splitlines()[-1]
        assert frozen.startswith("True")
