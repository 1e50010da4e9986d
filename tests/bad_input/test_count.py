"""There are enough cases, and none of the operators is left out."""

from __future__ import annotations

from collections import Counter

from tests.bad_input.cases import OWN, argument_cases
from tests.bad_input.files import READERS, empty_cases, file_cases
from tests.bad_input.world import GOOD, operator_classes

LEAST = 200
LEAST_EACH = 10


def test_there_are_cases_for_every_operator():
    cases = [*argument_cases(), *(each.case for each in (*file_cases(), *empty_cases()))]
    counts = Counter(case.operator for case in cases)
    assert len(cases) >= LEAST
    assert set(counts) == set(operator_classes())
    assert min(counts.values()) >= LEAST_EACH
    assert set(GOOD) == set(operator_classes())


def test_every_argument_that_can_be_templated_has_a_case_somewhere():
    known = {name for values in OWN.values() for name in values}
    fields = {name for each in operator_classes().values() for name in each.template_fields}
    assert {"output" if name == "output_folder" else name for name in fields} <= known


def test_every_operator_that_reads_rows_reads_the_broken_files():
    reads = {
        name for name, each in operator_classes().items() if {"input", "examples"} & set(each.template_fields)
    }
    assert set(READERS) == reads
