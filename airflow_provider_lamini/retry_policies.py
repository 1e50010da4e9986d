"""Retry policies for Airflow 3.3 and newer: which errors of this provider's tasks are retried, and when."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow.sdk.definitions.retry_policy import ExceptionRetryPolicy

_ERRORS = "airflow_provider_lamini.api.errors"
_FAILURES = "airflow_provider_lamini.exceptions"
_FINAL = {
    f"{_ERRORS}.AuthenticationError": "The platform refuses the key of the connection.",
    f"{_ERRORS}.BadRequestError": "The platform refuses the request.",
    f"{_ERRORS}.DuplicateError": "The name is taken.",
    f"{_ERRORS}.InvalidRequestError": "The platform refuses an argument.",
    f"{_ERRORS}.JobNotFoundError": "The platform has no such job.",
    f"{_ERRORS}.ModelNotFoundError": "The platform has no such model.",
    f"{_ERRORS}.NotFoundError": "The platform has no such path or object.",
    f"{_ERRORS}.ProjectNotFoundError": "The platform has no such project.",
    f"{_ERRORS}.ResponseTooLargeError": "The response is as large the next time.",
    f"{_ERRORS}.UnsupportedError": "The platform cannot do this.",
    f"{_FAILURES}.BudgetExceededError": "The tokens are used up.",
    f"{_FAILURES}.KeyRefusedError": "The platform refuses the key of the connection. The job may still run and bill.",
    f"{_FAILURES}.TooManyFailedRowsError": "Rows that failed for good fail again.",
    f"{_FAILURES}.UnreadableRecordError": "The record of what was submitted cannot be read.",
}
_BUSY: list[type[BaseException] | str] = [
    f"{_ERRORS}.{name}"
    for name in ("NotThePlatformError", "PlatformTimeoutError", "RateLimitedError", "UnavailableError")
]


def platform_retry_policy(
    busy_delay: timedelta = timedelta(minutes=5), loading_delay: timedelta = timedelta(minutes=10)
) -> ExceptionRetryPolicy:
    """Return a policy for the ``retry_policy`` of a task or of ``default_args``.

    A refused key or request, something that the platform does not have, and a budget that is used up fail at once: a retry
    cannot help. A platform that is down or overloaded, or still loads a model, gets more time. All other errors are retried
    as the task says. ``retries`` limits the number in any case.

    :param busy_delay: time until the retry after an outage or too many requests
    :param loading_delay: time until the retry while the platform loads a model
    :raises RuntimeError: before Airflow 3.3, which has no retry policies
    """
    try:
        from airflow.sdk.definitions.retry_policy import ExceptionRetryPolicy, RetryAction, RetryRule
    except ImportError as error:
        raise RuntimeError(
            "Retry policies need Airflow 3.3 or newer; use retries and retry_delay."
        ) from error
    rules = [
        RetryRule(exception=exception, action=RetryAction.FAIL, reason=reason)
        for exception, reason in _FINAL.items()
    ]
    rules += [
        RetryRule(
            exception=f"{_ERRORS}.ModelLoadingError",
            retry_delay=loading_delay,
            reason="The platform is loading the model.",
        ),
        RetryRule(
            exception=_BUSY,
            retry_delay=busy_delay,
            reason="The platform is down or overloaded.",
        ),
    ]
    return ExceptionRetryPolicy(rules)
