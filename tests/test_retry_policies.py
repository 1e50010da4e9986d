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
from airflow_provider_lamini.rows.errors import RowError
from airflow_provider_lamini.rows.storage.objects import StoreClientError
from tests.test_docs_site import public_errors, rows_of_errors

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
    exceptions.KeyRefusedError: ("fail", None),
    exceptions.TooManyFailedRowsError: ("fail", None),
    exceptions.UnreadableRecordError: ("fail", None),
    exceptions.AnswerError: ("default", None),
    exceptions.JobCancelledError: ("default", None),
    exceptions.JobError: ("default", None),
    exceptions.JobFailedError: ("default", None),
    exceptions.JobLostError: ("default", None),
    exceptions.JobTimedOutError: ("default", None),
    exceptions.StorageError: ("default", None),
    exceptions.TaskKilledError: ("default", None),
    exceptions.WaitTimeoutError: ("default", None),
    StoreClientError: ("default", None),
    ValueError: ("default", None),
}
"""What becomes of each error. Airflow itself never retries those that derive from ``AirflowFailException``."""


@pytest.mark.skipif(not HAS_POLICIES, reason="Airflow 2 has no retry policies")
@pytest.mark.parametrize("error", DECISIONS)
def test_an_error_is_retried_if_and_when_that_helps(error):
    decision = platform_retry_policy(busy_delay=BUSY).evaluate(error("what happened"), 1, 3)
    assert (decision.action.value, decision.retry_delay) == DECISIONS[error]


def decided_by_the_policy():
    """The errors that reach the policy: Airflow never asks it about those that derive from ``AirflowFailException``."""
    return {
        name: error for name, error in public_errors().items() if not issubclass(error, AirflowFailException)
    }


def test_the_policy_knows_every_error():
    # Errors of rows become other errors in a task, or another process works in the folder.
    known = {error for error in decided_by_the_policy().values() if not issubclass(error, RowError)}
    assert known <= set(DECISIONS)


@pytest.mark.skipif(not HAS_POLICIES, reason="Airflow 2 has no retry policies")
def test_the_policy_does_what_the_page_about_errors_says():
    policy, pages = platform_retry_policy(), rows_of_errors()
    for name, error in decided_by_the_policy().items():
        action = policy.evaluate(error.__new__(error), 1, 3).action.value
        if issubclass(error, RowError):
            assert action == "default", name
        elif len(pages[name]) == 3:
            assert (action == "fail") is (pages[name][2] == "fails again"), name


@pytest.mark.skipif(not HAS_POLICIES, reason="Airflow 2 has no retry policies")
def test_airflow_can_serialize_the_policy_of_a_task():
    from airflow.sdk.definitions.retry_policy import ExceptionRetryPolicy

    policy = platform_retry_policy()
    read = ExceptionRetryPolicy.deserialize(policy.serialize())
    assert read.evaluate(errors.AuthenticationError("401"), 1, 3).action.value == "fail"


@pytest.mark.skipif(not HAS_POLICIES, reason="Airflow 2 has no retry policies")
def test_the_next_policy_of_a_chain_decides_only_about_errors_without_a_rule():
    pytest.importorskip("airflow.providers.common.compat._retry_policy", reason="from common.compat 1.23 on")
    from airflow.providers.common.compat.sdk import ChainRetryPolicy
    from airflow.sdk.definitions.retry_policy import ExceptionRetryPolicy, RetryAction, RetryRule

    rule = RetryRule(exception=Exception, action=RetryAction.FAIL, reason="as the next policy says")
    chain = ChainRetryPolicy([platform_retry_policy(busy_delay=BUSY), ExceptionRetryPolicy([rule])])
    known = chain.evaluate(errors.UnavailableError("503"), 1, 3)
    assert (known.action, known.retry_delay) == (RetryAction.RETRY, BUSY)
    unknown = chain.evaluate(exceptions.JobFailedError("FAILED"), 1, 3)
    assert unknown.action == RetryAction.FAIL
    assert "as the next policy says" in unknown.reason


def test_an_airflow_without_retry_policies_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "airflow.sdk.definitions.retry_policy", None)
    with pytest.raises(RuntimeError, match=r"need Airflow 3\.3"):
        platform_retry_policy()
