"""Each operator and sensor as a mapped task: ``expand`` and ``expand_kwargs`` give it the same arguments as a plain one."""

from __future__ import annotations

import pytest
from airflow.providers.common.compat.sdk import DAG, TaskDeferred

from tests.bad_input.world import VALID_ARGUMENTS, operator_classes
from tests.support.tasks import execute

pytestmark = pytest.mark.long


OPERATORS = operator_classes()


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
        return task.execute({}) if hasattr(task, "poke") else execute(task)
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
