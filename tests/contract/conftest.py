"""The structure of each platform's API, and one example of each call that we can build."""

from __future__ import annotations

import pytest

from airflow_provider_lamini.platforms.emissary.platform import EMISSARY_DIALECT
from airflow_provider_lamini.platforms.lamini.platform import LAMINI_DIALECT
from tests.contract import emissary_calls, lamini_calls
from tests.support.contract import Contract

LAMINI = Contract("lamini", LAMINI_DIALECT, lamini_calls.CALLS)
EMISSARY = Contract("emissary", EMISSARY_DIALECT, emissary_calls.CALLS)


def example_of(call):
    """The response that Lamini's structure gives as an example, cut to as many outputs as the call has prompts."""
    content = LAMINI.operations[call.operation][2]["responses"]["200"]["content"]["application/json"]
    example, prompt = content.get("example"), (call.json or {}).get("prompt")
    several = isinstance(prompt, list)
    if example and "outputs" in example and prompt is not None:
        return {**example, "outputs": example["outputs"][: len(prompt) if several else 1]}
    return None if several and "embedding" in (example or {}) else example


def pytest_generate_tests(metafunc):
    contracts = (LAMINI, EMISSARY)
    if "each_call" in metafunc.fixturenames:
        calls = [
            (contract, number, call) for contract in contracts for number, call in enumerate(contract.calls)
        ]
        metafunc.parametrize(
            ("contract", "each_call"),
            [(contract, call) for contract, _, call in calls],
            ids=[f"{contract.platform}-{number}-{call.operation}" for contract, number, call in calls],
        )
    elif "contract" in metafunc.fixturenames:
        metafunc.parametrize("contract", contracts, ids=[contract.platform for contract in contracts])
    if "call_with_example" in metafunc.fixturenames:
        calls = [call for call in LAMINI.calls if example_of(call) is not None]
        metafunc.parametrize(
            "call_with_example", calls, ids=[f"{n}-{call.operation}" for n, call in enumerate(calls)]
        )


@pytest.fixture(scope="session")
def example():
    return example_of
