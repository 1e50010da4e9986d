from __future__ import annotations

import gc
from contextlib import ExitStack

import pytest

from airflow_provider_lamini.triggers.gc_tuning import STEP, Crowd


@pytest.fixture
def frozen(monkeypatch):
    """Each time that the collector was told to leave out all that there is."""
    times = []
    monkeypatch.setattr(gc, "freeze", lambda: times.append("frozen"))
    return times


def joined(crowd, count):
    """So many triggers that wait."""
    together = ExitStack()
    for _ in range(count):
        together.enter_context(crowd.joined())
    return together


def test_few_triggers_change_nothing(frozen):
    with joined(Crowd(), STEP - 1):
        assert frozen == []


def test_the_collector_is_spared_each_further_step(frozen):
    crowd = Crowd()
    with joined(crowd, STEP):
        assert len(frozen) == 1
        with joined(crowd, STEP - 1):
            assert len(frozen) == 1
            with joined(crowd, 1):
                assert len(frozen) == 2


def test_triggers_that_come_and_go_are_never_more_than_there_were(frozen):
    crowd = Crowd()
    for _ in range(5):
        with joined(crowd, STEP):
            pass
    assert len(frozen) == 1


def test_a_trigger_that_fails_leaves_too(frozen):
    crowd = Crowd()
    for _ in range(STEP):
        with pytest.raises(OSError, match="gone"), crowd.joined():
            raise OSError("gone")
    assert frozen == []
