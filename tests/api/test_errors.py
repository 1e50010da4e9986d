"""Errors carry what is needed to act on them, also from one process to another."""

from __future__ import annotations

import copy
import pickle

import pytest

from airflow_provider_lamini.api import errors
from airflow_provider_lamini.platforms.lamini.platform import LAMINI_DIALECT

KINDS = [each for each in vars(errors).values() if isinstance(each, type)]


@pytest.mark.parametrize("kind", KINDS)
def test_each_error_survives_pickling_and_copying(kind):
    error = kind(
        "what happened",
        status=503,
        detail="d",
        operation="o",
        method="POST",
        path="/p",
        request_id="r",
        may_have_started=True,
        attempts=3,
        retry_after=2.5,
    )
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(twin) is kind
        assert str(twin) == "what happened"
        assert vars(twin) == vars(error)


@pytest.mark.parametrize("kind", KINDS)
def test_each_error_is_a_platform_error_and_says_whether_retrying_helps(kind):
    assert issubclass(kind, errors.PlatformError)
    text = (kind.__doc__ or "").lower()
    assert kind is errors.PlatformError or "retry" in text or "again" in text


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, errors.BadRequestError),
        (401, errors.AuthenticationError),
        (403, errors.AuthenticationError),
        (404, errors.NotFoundError),
        (405, errors.NotThePlatformError),
        (408, errors.PlatformTimeoutError),
        (409, errors.BadRequestError),
        (422, errors.InvalidRequestError),
        (429, errors.RateLimitedError),
        (497, errors.DuplicateError),
        (498, errors.JobNotFoundError),
        (499, errors.ProjectNotFoundError),
        (500, errors.UnavailableError),
        (502, errors.UnavailableError),
        (503, errors.UnavailableError),
        (504, errors.UnavailableError),
        (513, errors.ModelLoadingError),
        (524, errors.PlatformTimeoutError),
        (594, errors.ModelNotFoundError),
        (599, errors.UnavailableError),
        (304, errors.ProtocolError),
    ],
)
def test_each_status_has_its_class(status, kind):
    assert LAMINI_DIALECT.error_status(status).error is kind
