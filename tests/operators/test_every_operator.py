"""Rules for all operators and the sensor; a new one that breaks a rule fails here."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from tests.bad_input.world import GOOD, operator_classes
from tests.support.demo import EXAMPLES

HERE = Path(__file__).parent
OPERATORS = operator_classes()
HOW_IT_WAITS = {"deferrable", "cancel_on_kill", "wait", "poke_interval"}
"""Arguments that Airflow, or the Dag's author, must know before a run, so they are not templates."""
CODE = {"metrics"}
"""Arguments that may hold a function."""

pytestmark = pytest.mark.parametrize("name", OPERATORS)


def arguments_of(name):
    """The arguments of an operator and its bases in this package."""
    ours = [each for each in OPERATORS[name].__mro__ if each.__module__.startswith("airflow_provider_lamini")]
    parameters = [inspect.signature(each.__init__).parameters for each in ours if "__init__" in vars(each)]
    return {argument for signature in parameters for argument in signature} - {"self", "kwargs"}


def made(name, **given):
    return OPERATORS[name](task_id="one", **GOOD[name] | given)


def test_every_argument_that_may_differ_between_runs_is_a_template(name):
    fields = {field.removesuffix("_folder") for field in OPERATORS[name].template_fields}
    assert arguments_of(name) - fields <= HOW_IT_WAITS | CODE
    operator = made(name)
    assert all(hasattr(operator, field) for field in OPERATORS[name].template_fields)


def test_a_dag_may_use_each_part_of_the_result_by_name(name):
    assert made(name).multiple_outputs is True
    assert made(name, multiple_outputs=False).multiple_outputs is False


def test_the_docstring_says_what_is_returned(name):
    assert ":return:" in inspect.getdoc(OPERATORS[name])


def test_it_is_part_of_a_dag_that_a_test_runs(name):
    """Tests run all these Dags with Airflow."""
    dags = [*HERE.glob("*_dags.py"), *EXAMPLES.glob("*.py")]
    assert any(f" = Lamini{name}" in text or f"Lamini{name}(" in text for text in map(Path.read_text, dags))


def test_it_is_at_most_two_classes_deep(name):
    ours = [each for each in OPERATORS[name].__mro__ if each.__module__.startswith("airflow_provider_lamini")]
    assert len(ours) <= 2
