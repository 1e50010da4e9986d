"""The retry policy decides by the cause of an error."""

from __future__ import annotations

import sys
from datetime import timedelta
from importlib.util import find_spec

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_lamini import exceptions
from airflow_provider_lamini.api import errors
from airflow_provider_lamini.retry_policies import platform_retry_policy

HAS_POLICIES = find_spec("airflow.sdk") is not None


BUSY, LOADING = timedelta(minutes=2), timedelta(minutes=10)
DECISIONS = {
    errors.AuthenticationError: ("fail", None),
    errors.BadRequestError: ("fail", None),
    errors.DuplicateError: ("fail", None),
    errors.InvalidRequestError: ("fail", None),
    errors.JobNotFoundError: ("fail", None),
    errors.ModelNotFoundError: ("fail", None),
    errors.NotFoundError: ("fail", None),
    errors.ProjectNotFoundError: ("fail", None),
    errors.ResponseTooLargeError: ("fail", None),
    errors.UnsupportedError: ("fail", None),
    errors.ModelLoadingError: ("retry", LOADING),
    errors.NotThePlatformError: ("retry", BUSY),
    errors.PlatformTimeoutError: ("retry", BUSY),
    errors.RateLimitedError: ("retry", BUSY),
    errors.UnavailableError: ("retry", BUSY),
    errors.PlatformError: ("default", None),
    errors.ProtocolError: ("default", None),
    errors.UndecodableError: ("default", None),
    exceptions.BudgetExceededError: ("fail", None),
    exceptions.TooManyFailedRowsError: ("fail", None),
    exceptions.AnswerError: ("default", None),
    exceptions.JobCancelledError: ("default", None),
    exceptions.JobError: ("default", None),
    exceptions.JobFailedError: ("default", None),
    exceptions.JobLostError: ("default", None),
    exceptions.JobTimedOutError: ("default", None),
    exceptions.StorageError: ("default", None),
    exceptions.TaskKilledError: ("default", None),
    exceptions.WaitTimeoutError: ("default", None),
    ValueError: ("default", None),
}
"""What becomes of each error. Airflow itself never retries those that derive from ``AirflowFailException``."""


@pytest.mark.skipif(not HAS_POLICIES, reason="Airflow 2 has no retry policies")
@pytest.mark.parametrize("error", DECISIONS)
def test_an_error_is_retried_if_and_when_that_helps(error):
    decision = platform_retry_policy(busy_delay=BUSY).evaluate(error("what happened"), 1, 3)
    assert (decision.action.value, decision.retry_delay) == DECISIONS[error]


def test_the_policy_knows_every_error():
    ours = [
        each for module in (errors, exceptions) for each in vars(module).values() if isinstance(each, type)
    ]
    known = {
        each
        for each in ours
        if each.__module__ in (errors.__name__, exceptions.__name__)
        and not issubclass(each, AirflowFailException)
    }
    assert known <= set(DECISIONS)


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
