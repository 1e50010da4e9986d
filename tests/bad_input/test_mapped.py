"""Each operator and sensor as a mapped task: ``expand`` and ``expand_kwargs`` give it the same arguments as a plain one."""

from __future__ import annotations

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


def outcome_of(task):
    """What a task returns, or which trigger it waits for."""
    try:
        return execute(task)
    except TaskDeferred as deferred:
        return deferred.trigger.serialize()[0]


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
    outcome_of(mapped)
    requests = dict(world.request_counts)
    assert requests


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
