"""An invalid argument raises one error that names it; nothing is sent, and nothing is written."""

from __future__ import annotations

import pytest

from tests.bad_input.cases import Case, argument_cases

CASES = argument_cases()


@pytest.mark.long
@pytest.mark.parametrize(
    "case", [pytest.param(case, id=f"{number}-{case.title}") for number, case in enumerate(CASES)]
)
def test_an_invalid_argument_is_rejected_before_anything_is_sent(world, case: Case):
    world.assert_rejected(case)
