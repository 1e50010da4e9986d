"""The asset events of each operator and sensor say what the task has made, and nothing that is not for others."""

from __future__ import annotations

import json

import pytest
from airflow.providers.common.compat.sdk import Asset

from airflow_provider_lamini.runs.lineage import TaskLineage
from airflow_provider_lamini.runs.outlets import event_extra
from tests.bad_input.world import operator_classes
from tests.support.tasks import TI, outlet_events

pytestmark = pytest.mark.long


OPERATORS = operator_classes()
ASSET = Asset("lamini://models/support")
OTHER = Asset("lamini://models/other")
ANSWERS = {"CompletionOperator", "ChatOperator"}
"""Their results are answers, and have no ids."""
MAXIMUM_BYTES = 20_000


def extra_of(world, name, known=None, **arguments):
    """Run a task with an outlet.

    :return: the task's result, and the ``extra`` of the outlet's event
    """
    operator = world.make(name, {"outlets": [ASSET, OTHER]} | arguments)
    events = outlet_events()
    events[ASSET].extra.update(known or {})
    result = type(operator).execute.__wrapped__(operator, {"ti": TI, "outlet_events": events})
    assert known or events[OTHER].extra == events[ASSET].extra
    return result, events[ASSET].extra


@pytest.mark.parametrize("name", OPERATORS)
def test_the_extra_names_what_the_task_has_made(world, name):
    world.note_files()
    result, extra = extra_of(world, name)
    ids = {
        field: value
        for field, value in result.items()
        if field.endswith(("_id", "_name")) and value is not None and not isinstance(value, list)
    }
    uris = {field: result[field] for field in ("manifest", "report", "scores") if result.get(field)}
    assert extra.items() >= {**ids, **uris}.items()
    assert extra["platform"] == ("emissary" if name.startswith("Emissary") else "lamini")
    if "counts" in result:
        assert (extra["counts"]["rows"], extra["counts"]["ok"]) == (1, 1)
        assert extra["output"] == result["output"]
    if name in ANSWERS:
        counts = {"rows": 1, "ok": 1, "failed": 0, "retried": 0, "reused": 0}
        assert extra == {"platform": "lamini", "model": "m", "counts": counts}
    text = json.dumps(extra)
    assert len(text) < MAXIMUM_BYTES
    assert "a b" not in text
    assert "a-key-for-tests" not in text


def test_what_the_author_has_put_into_an_extra_stays(world):
    world.note_files()
    _, extra = extra_of(world, "BatchInferenceOperator", {"model": "ours", "team": "support"})
    assert (extra["model"], extra["team"], extra["counts"]["ok"]) == ("ours", "support", 1)


def test_a_task_without_outlets_needs_no_events(world):
    world.note_files()
    assert world.run("BatchInferenceOperator", {})["counts"]["ok"] == 1


def test_an_extra_has_a_bound_and_no_answers():
    long = "x" * 10_000
    result = {
        "job_id": long,
        "model_name": "m",
        "output": "an answer",
        "outputs": [long],
        "history": "https://user:opensesame@store.test/history.jsonl?token=opensesame",
        "metrics": {str(number): number for number in range(1000)},
        "name": {"a": 1},
        "checkpoint": None,
    }
    lineage = TaskLineage(
        platform="lamini",
        model=long,
        job_ids=tuple(str(number) for number in range(1000)),
        counts={"rows": 3},
        usage={"total_tokens": 7},
    )
    extra = event_extra(lineage, result)
    assert len(json.dumps(extra)) < MAXIMUM_BYTES
    assert "opensesame" not in json.dumps(extra)
    assert extra.pop("history").startswith("https://")
    assert (len(extra.pop("job_ids")), len(extra.pop("model"))) == (100, 2000)
    assert extra == {
        "platform": "lamini",
        "model_name": "m",
        "counts": {"rows": 3},
        "usage": {"total_tokens": 7},
    }
