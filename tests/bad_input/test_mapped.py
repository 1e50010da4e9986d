"""Each operator and sensor as a mapped task: ``expand`` and ``expand_kwargs`` give it the same arguments as a plain one."""

from __future__ import annotations

import re
import shutil

import pytest
from airflow.providers.common.compat.sdk import DAG, TaskDeferred

from airflow_provider_lamini.operators.results_to_table import ResultsToTableOperator
from tests.bad_input.world import VALID_ARGUMENTS, operator_classes, public_operators
from tests.support.databases import CONN_ID, sqlite
from tests.support.tasks import execute
from tests.test_golden import GOLDEN

pytestmark = pytest.mark.long


OPERATORS = operator_classes()
OTHERS = {ResultsToTableOperator}
"""Operators that need no platform; they have tests of their own here and in ``loop_dags.py``."""


def expanded(operator, arguments):
    """The only task that ``expand`` makes: its first argument is mapped."""
    (name, value), *others = arguments.items()
    mapped = operator.partial(task_id="task", **dict(others)).expand(**{name: [value]})
    return mapped.unmap({name: value})


def expanded_by_kwargs(operator, arguments):
    """The only task that ``expand_kwargs`` makes: all arguments are mapped."""
    mapped = operator.partial(task_id="task").expand_kwargs([arguments])
    return mapped.unmap(arguments)


CHANGING = {"seconds", "submitted_at", "deadline"}
"""Fields of results and of triggers that are times."""
NAME = re.compile(r"airflow-[0-9a-f]+-\d+-[0-9a-f]+")
"""Names of objects on a platform that a task makes up."""


def comparable(value):
    """A value without times and made-up names."""
    if isinstance(value, dict):
        return {key: comparable(item) for key, item in value.items() if key not in CHANGING}
    if isinstance(value, list | tuple):
        return [comparable(item) for item in value]
    return NAME.sub("NAME", value) if isinstance(value, str) else value


def outcome_of(world, task):
    """What a task returns, or which trigger it waits for, and what it sends. After that, the world is as it was."""
    try:
        outcome = execute(task)
    except TaskDeferred as deferred:
        outcome = deferred.trigger.serialize()
    sent = [dict(world.request_counts), world.platform.bodies, world.emissary.bodies]
    outcome, sent = comparable(outcome), comparable(sent)
    world.reset()
    for path in world.paths.values():
        if path.is_file():
            path.unlink()
        elif path.name == "out":
            shutil.rmtree(path, ignore_errors=True)
    return outcome, sent


@pytest.mark.parametrize("expand", [expanded, expanded_by_kwargs])
@pytest.mark.parametrize("name", OPERATORS)
def test_a_mapped_operator_does_what_a_plain_one_does(world, name, expand):
    world.note_files()
    arguments = {key: world.fill_in(value) for key, value in VALID_ARGUMENTS[name].items()}
    with DAG("mapped", schedule=None):
        mapped = expand(OPERATORS[name], arguments)
    plain = world.make(name, {})
    fields = type(plain).template_fields
    assert {field: getattr(mapped, field) for field in fields} == {
        field: getattr(plain, field) for field in fields
    }
    outcome, sent = outcome_of(world, plain)
    assert sent[0]
    assert outcome_of(world, mapped) == (outcome, sent)


def test_no_operator_and_no_sensor_is_forgotten():
    """Those with a platform are in many tests through `operator_classes`."""
    assert set(public_operators()) == {*OPERATORS.values(), *OTHERS}
    assert OPERATORS.keys() == VALID_ARGUMENTS.keys()


@pytest.mark.parametrize("expand", [expanded, expanded_by_kwargs])
def test_a_mapped_task_loads_results_into_its_table(tmp_path, monkeypatch, expand):
    pytest.importorskip("airflow.providers.sqlite")
    database = sqlite(tmp_path)
    database.run("CREATE TABLE answers (id INTEGER, answer TEXT)")
    database.connect(monkeypatch)
    arguments = {
        "results": str(GOLDEN / "output"),
        "conn_id": CONN_ID,
        "table": "answers",
        "columns": {"id": "id", "answer": "output"},
        "key": ["id"],
        "failed_rows": "load",
    }
    with DAG("mapped", schedule=None):
        mapped = expand(ResultsToTableOperator, arguments)
    assert execute(mapped)["loaded"] == 2
    assert sorted(database.rows("SELECT id, answer FROM answers")) == [(7, "fine"), (8, None)]
