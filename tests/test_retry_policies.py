"""The retry policy decides by the cause of an error."""

from __future__ import annotations

import sys
from datetime import timedelta
from importlib.util import find_spec

import pytest

from airflow_provider_lamini.api import errors
from airflow_provider_lamini.exceptions import JobFailedError, TooManyFailedRowsError
from airflow_provider_lamini.retry_policies import platform_retry_policy

HAS_POLICIES = find_spec("airflow.sdk") is not None


@pytest.mark.skipif(not HAS_POLICIES, reason="Airflow 2 has no retry policies")
@pytest.mark.parametrize(
    ("error", "action", "delay"),
    [
        (errors.AuthenticationError("401"), "fail", None),
        (errors.BadRequestError("400"), "fail", None),
        (errors.ModelNotFoundError("594"), "fail", None),
        (TooManyFailedRowsError("2 of 10 rows failed"), "fail", None),
        (errors.ModelLoadingError("513"), "retry", timedelta(minutes=10)),
        (errors.RateLimitedError("429"), "retry", timedelta(minutes=2)),
        (errors.UnavailableError("503"), "retry", timedelta(minutes=2)),
        (JobFailedError("FAILED"), "default", None),
        (ValueError("of somebody else"), "default", None),
    ],
)
def test_an_error_is_retried_if_and_when_that_helps(error, action, delay):
    decision = platform_retry_policy(busy_delay=timedelta(minutes=2)).evaluate(error, 1, 3)
    assert (decision.action.value, decision.retry_delay) == (action, delay)


@pytest.mark.skipif(not HAS_POLICIES, reason="Airflow 2 has no retry policies")
def test_airflow_can_serialize_the_policy_of_a_task():
    from airflow.sdk.definitions.retry_policy import ExceptionRetryPolicy

    policy = platform_retry_policy()
    read = ExceptionRetryPolicy.deserialize(policy.serialize())
    assert read.evaluate(errors.AuthenticationError("401"), 1, 3).action.value == "fail"


def test_an_airflow_without_retry_policies_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "airflow.sdk.definitions.retry_policy", None)
    with pytest.raises(RuntimeError, match=r"need Airflow 3\.3"):
        platform_retry_policy()
