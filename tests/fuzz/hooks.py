"""What schemathesis checks in the answers: no internal error, and no error without a description."""

from __future__ import annotations

import schemathesis

EXPECTED = frozenset({501, 503, 507, 513, 594})
"""Statuses above 500 that say something: cannot train, busy, disk full, model loading, model not found."""


@schemathesis.check
def no_internal_error(
    ctx: schemathesis.CheckContext,  # noqa: ARG001 - the interface
    response: schemathesis.Response,
    case: schemathesis.Case,  # noqa: ARG001 - the interface
) -> None:
    """Fail for a status that means that the platform did not foresee the request."""
    assert response.status_code < 500 or response.status_code in EXPECTED, response.text


@schemathesis.check
def no_empty_error(
    ctx: schemathesis.CheckContext,  # noqa: ARG001 - the interface
    response: schemathesis.Response,
    case: schemathesis.Case,
) -> None:
    """Fail for an error without a description. Answers to HEAD have no body."""
    if response.status_code >= 400 and case.method.upper() != "HEAD":
        body = response.json()
        assert body.get("detail") or body.get("error"), response.text
