"""Rules for all operators and the sensor; a new one that breaks a rule fails here."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from tests.bad_input.world import VALID_ARGUMENTS, operator_classes
from tests.support.demo import EXAMPLES

HERE = Path(__file__).parent
OPERATORS = operator_classes()
KNOWN_BEFORE_A_RUN = {"deferrable", "cancel_on_kill", "wait", "poke_interval"}
"""Arguments that are not templates, because Airflow or the Dag author needs them before a run."""
CALLABLES = {"metrics", "check"}
"""Arguments that may contain functions."""

pytestmark = pytest.mark.parametrize("name", OPERATORS)


def arguments_of(name):
    """The arguments of an operator and its bases in this package."""
    ours = [base for base in OPERATORS[name].__mro__ if base.__module__.startswith("airflow_provider_lamini")]
    parameters = [inspect.signature(base.__init__).parameters for base in ours if "__init__" in vars(base)]
    return {argument for signature in parameters for argument in signature} - {"self", "kwargs"}


def make(name, **given):
    return OPERATORS[name](task_id="one", **VALID_ARGUMENTS[name] | given)


NAMES = {"output_folder": "output", "count_only": "dry_run"}
"""Arguments of templated attributes that have another name, because Airflow uses the argument's name itself."""


def test_every_argument_that_can_differ_between_runs_is_a_template(name):
    fields = {NAMES.get(field, field) for field in OPERATORS[name].template_fields}
    assert arguments_of(name) - fields <= KNOWN_BEFORE_A_RUN | CALLABLES
    operator = make(name)
    assert all(hasattr(operator, field) for field in OPERATORS[name].template_fields)


def test_a_dag_can_use_each_part_of_the_result_by_name(name):
    assert make(name).multiple_outputs is True
    assert make(name, multiple_outputs=False).multiple_outputs is False


def test_the_docstring_says_what_is_returned(name):
    assert ":return:" in inspect.getdoc(OPERATORS[name])


def test_a_test_runs_a_dag_with_it(name):
    """Airflow runs all of these Dags in tests."""
    dags = [*HERE.glob("*_dags.py"), *EXAMPLES.glob("*.py")]
    known = OPERATORS[name].__name__
    assert any(f" = {known}" in text or f"{known}(" in text for text in map(Path.read_text, dags))


def test_it_has_at_most_one_base_class_of_this_package(name):
    ours = [base for base in OPERATORS[name].__mro__ if base.__module__.startswith("airflow_provider_lamini")]
    assert len(ours) <= 2
