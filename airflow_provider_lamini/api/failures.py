"""What a failed attempt means: its class of error, whether it is transient, whether the platform started the work."""

from __future__ import annotations

import json
import re
import socket
import ssl
from typing import TYPE_CHECKING

import httpx
import msgspec

from airflow_provider_lamini.api import errors
from airflow_provider_lamini.api.call import Retry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_provider_lamini.api.call import Call, Json
    from airflow_provider_lamini.api.dialect import ErrorStatus
    from airflow_provider_lamini.api.transfer import Transfer

_ADVICE: dict[type[errors.PlatformError], str] = {
    errors.AuthenticationError: "Check the key of the connection.",
    errors.NotFoundError: "Check the connection's address, with its path prefix, and the id.",
    errors.NotThePlatformError: (
        "Check the connection's host, port and path prefix: something other than the platform may answer there."
    ),
    errors.InvalidRequestError: "Correct the argument.",
    errors.RateLimitedError: "Set requests_per_second or tokens_per_minute, send less at a time, or allow a longer retry_budget.",
    errors.PlatformTimeoutError: "Ask for less at a time, or allow a longer read_timeout or retry_budget.",
}
_REQUEST_ID_HEADERS = ("x-request-id", "request-id", "x-correlation-id")
_REQUEST_ID = re.compile(r"[\w.:/+=-]{1,100}", re.ASCII)
_EXPIRED = 10
"""OpenSSL's code for an expired certificate."""
_NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError)


class AttemptFailed(Exception):  # noqa: N818 - it never leaves this package
    """One attempt to send a call failed.

    :param kind: class of the error that is raised if there is no further attempt
    :param what: what happened, a sentence
    :param transient: whether the next attempt may succeed
    :param not_started: whether the platform certainly did not start the work
    :param status: HTTP status of the response, if there was one
    :param detail: the platform's own text, redacted
    :param request_id: the platform's id of the request
    :param retry_after: seconds that the platform asked to wait
    :param unreadable: whether the response had a successful status, but was not JSON
    :param advice: one sentence: what the user can do. If empty, the advice for the class of error.
    """

    def __init__(
        self,
        kind: type[errors.PlatformError],
        what: str,
        *,
        transient: bool,
        not_started: bool,
        status: int | None = None,
        detail: str = "",
        request_id: str | None = None,
        retry_after: float | None = None,
        unreadable: bool = False,
        advice: str = "",
    ) -> None:
        super().__init__(what)
        self.kind = kind
        self.what = what
        self.transient = transient
        self.not_started = not_started
        self.status = status
        self.detail = detail
        self.request_id = request_id
        self.retry_after = retry_after
        self.unreadable = unreadable
        self.advice = advice or _ADVICE.get(kind, "")

    @property
    def loading(self) -> bool:
        """Whether a model is still being loaded."""
        return self.kind is errors.ModelLoadingError

    def permanent(self, why: str) -> AttemptFailed:
        """Return the same failure as one that is not retried.

        :param why: a sentence
        """
        self.transient = False
        self.what = f"{self.what} {why}"
        return self

    def as_error(self, call: Call[object], attempts: int, seconds: float) -> errors.PlatformError:
        """Return the error for the caller.

        :param call: what was sent
        :param attempts: how many times
        :param seconds: in how much time
        """
        starts_work = call.retry is Retry.ONLY_IF_NOT_STARTED
        may_have_started = starts_work and not self.not_started
        sentences = [self.advice, self.what] if self.advice else [self.what]
        if attempts > 1:
            sentences.append(f"All {attempts} attempts within {seconds:.0f} s failed.")
        if may_have_started:
            sentences.append(
                "It is not known whether the platform started the work; it may run and bill: look there before "
                "submitting again."
            )
        elif starts_work:
            sentences.append("Nothing was started.")
        return self.kind(
            " ".join(sentences),
            status=self.status,
            detail=self.detail,
            operation=call.operation,
            method=call.method,
            path=call.path,
            request_id=self.request_id,
            may_have_started=may_have_started,
            attempts=attempts,
            retry_after=self.retry_after,
        )


def of_status(
    call: Call[object],
    status: int,
    known: ErrorStatus,
    *,
    detail: str,
    request_id: str | None,
    retry_after: float | None,
) -> AttemptFailed:
    """Describe a response with a status other than success.

    :param call: what was sent
    :param status: the response's status
    :param known: what the status means on this platform
    :param detail: the platform's own text, redacted
    :param request_id: the platform's id of the request
    :param retry_after: seconds that the platform asked to wait
    """
    what = f"The platform answered {call.method} {call.path} with {status}"
    what += f" ({known.meaning})" if known.meaning else ""
    advice = known.advice
    if detail and known.error is errors.UnsupportedError:
        advice = _sentence(detail)  # the platform's text says what to install or to set
    elif detail:
        what += f": {detail}"
    return AttemptFailed(
        known.error,
        _sentence(what),
        transient=known.transient,
        not_started=known.not_started,
        status=status,
        detail=detail,
        request_id=request_id,
        retry_after=retry_after,
        advice=advice,
    )


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else text + "."


def of_redirect(call: Call[object], status: int, reason: str, *, request_id: str | None) -> AttemptFailed:
    """Describe a redirect that is not followed, so that the platform did not start the work.

    :param call: what was sent
    :param status: the response's status
    :param reason: where it leads
    :param request_id: the platform's id of the request
    """
    return AttemptFailed(
        errors.NotThePlatformError,
        _not_allowed(call, reason),
        transient=False,
        not_started=True,
        status=status,
        detail=reason,
        request_id=request_id,
    )


def _not_allowed(call: Call[object], reason: str) -> str:
    return f"The response to {call.method} {call.path} is not what the API allows: {reason}."


def of_size(call: Call[object], transfer: Transfer, limit: int) -> AttemptFailed:
    """Describe a response that is too large to be read.

    :param call: what was sent
    :param transfer: the response
    :param limit: maximum size in bytes
    """
    if transfer.writes_file:
        advice = "Allow more with max_bytes, if that is what you want to download."
    elif call.max_bytes is None:
        advice = "Use a smaller chunk_size, or raise max_result_mb of the connection."
    else:
        advice = "Check what responds at the connection's address."
    size = f"{limit / 1_000_000:,.6g} MB"
    return AttemptFailed(
        errors.ResponseTooLargeError,
        f"The response to {call.method} {call.path} is too large: more than {size}. It was not read to its end.",
        transient=False,
        not_started=False,
        status=transfer.status,
        detail=f"it is larger than {size}",
        request_id=request_id(transfer.headers),
        advice=advice,
    )


def of_content(
    call: Call[object], transfer: Transfer, error: Exception, redact: Callable[[str], str]
) -> AttemptFailed:
    """Describe the body of a successful response that cannot be parsed.

    A body that is not JSON may come from a proxy in between, which is transient; other JSON than expected is permanent, and
    so is a single value that JSON does not allow.

    :param call: what was sent
    :param transfer: the response
    :param error: what parsing it raised
    :param redact: removes secrets and data from a text
    """
    kind, content = errors.ProtocolError, transfer.body
    unreadable = not _is_json(content)
    reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
    if unreadable and not content.strip():
        kind, reason = errors.NotThePlatformError, "it is empty"
    elif unreadable and _is_nearly_json(content):
        kind, unreadable = errors.UndecodableError, False
    elif unreadable and _is_page(content, transfer.headers.get("content-type", "")):
        kind, reason = errors.NotThePlatformError, "it is a web page"
    reason = redact(reason)
    return AttemptFailed(
        kind,
        _not_allowed(call, reason),
        transient=unreadable,
        not_started=False,
        status=transfer.status,
        detail=reason,
        request_id=request_id(transfer.headers),
        unreadable=unreadable,
    )


def request_id(headers: httpx.Headers) -> str | None:
    """Return the platform's id of a request; ``None`` if it sent none.

    :param headers: the response's
    """
    for name in _REQUEST_ID_HEADERS:
        if _REQUEST_ID.fullmatch(headers.get(name, "")):
            return headers[name]
    return None


def _is_page(content: bytes, content_type: str) -> bool:
    return "html" in content_type.lower() or content.lstrip().startswith(b"<")


def _is_json(content: bytes) -> bool:
    try:
        msgspec.json.decode(content)
    except (msgspec.MsgspecError, ValueError):
        return False
    except RecursionError:
        return True
    return True


def _is_nearly_json(content: bytes) -> bool:
    """Whether single values make the difference to JSON."""
    if not content.lstrip().startswith((b"{", b"[")):
        return False
    try:
        json.loads(content.decode(errors="surrogateescape"))
    except (ValueError, RecursionError):
        return False
    return True


def of_transport(call: Call[object], error: Exception, origin: str, timeout: float) -> AttemptFailed:
    """Describe a failure without a response.

    :param call: what was sent
    :param error: what httpx raised
    :param origin: scheme, host and port of the platform
    :param timeout: the timeout, in seconds
    """
    request = f"{call.method} {call.path}"
    if isinstance(error, _NEVER_SENT) or _client_refused(error):
        return _unreachable(error, origin)
    if isinstance(error, httpx.DecodingError):
        what = f"The response to {request} cannot be decompressed: {error}."
        return AttemptFailed(errors.ProtocolError, what, transient=False, not_started=False)
    if isinstance(error, httpx.TimeoutException):
        what = f"{origin} did not respond to {request} within {timeout:g} s."
        return AttemptFailed(errors.PlatformTimeoutError, what, transient=True, not_started=False)
    if isinstance(error, httpx.RemoteProtocolError | httpx.NetworkError | ssl.SSLError):
        what = f"The connection to {origin} was lost before the response to {request} was complete."
        return AttemptFailed(errors.UnavailableError, what, transient=True, not_started=False)
    what = f"{request} of {origin} failed: {type(error).__name__}."
    return AttemptFailed(errors.ProtocolError, what, transient=False, not_started=False)


def _client_refused(error: Exception) -> bool:
    """Whether the server refused the client's certificate, which TLS 1.3 reports only after the handshake."""
    reasons = [cause.reason or "" for cause in _causes(error) if isinstance(cause, ssl.SSLError)]
    return any(
        "ALERT" in reason and ("CERTIFICATE" in reason or "UNKNOWN_CA" in reason) for reason in reasons
    )


def _unreachable(error: Exception, origin: str) -> AttemptFailed:
    transient = True
    if isinstance(error, httpx.ConnectTimeout):
        reason = "connecting timed out; check the address, and any proxy or firewall in between"
    elif isinstance(error, httpx.PoolTimeout):
        reason = "no connection became free in time; max_connections limits them"
    elif isinstance(error, httpx.ProxyError):
        reason = "the proxy refused; check the connection's proxy"
    elif _client_refused(error):
        reason = "it requires a client certificate, or another one than client_cert"
        transient = False
    else:
        reason, transient = _why_no_connection(error)
    what = f"{reason[0].upper()}{reason[1:]}. {origin} could not be reached."
    return AttemptFailed(errors.UnavailableError, what, transient=transient, not_started=True, detail=reason)


def _why_no_connection(error: Exception) -> tuple[str, bool]:
    """Return the reason, and whether it is transient."""
    reason = "the connection failed"
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return _certificate_problem(cause), False
        if isinstance(cause, ssl.SSLError) and cause.reason == "WRONG_VERSION_NUMBER":
            return "it does not use TLS there; perhaps the address begins with http://", False
        if isinstance(cause, ssl.SSLError):
            return f"TLS failed ({cause.reason or 'the connection was closed'})", True
        if isinstance(cause, socket.gaierror):
            return "its host name is not known; check the address", True
        if isinstance(cause, ConnectionRefusedError):
            return "the connection was refused; check that the platform runs, and the port", True
        if isinstance(cause, OSError) and cause.strerror:
            reason = cause.strerror
    return reason, True


def _certificate_problem(error: ssl.SSLCertVerificationError) -> str:
    if error.verify_code == _EXPIRED:
        return "its certificate has expired; have it renewed"
    return f"its certificate is not trusted ({error.verify_message}); verify may name a CA bundle"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield the error and its causes, also those inside exception groups."""
    for _ in range(16):
        if error is None:
            return
        yield error
        if isinstance(error, BaseExceptionGroup):
            for member in error.exceptions:
                yield from _causes(member)
        error = error.__cause__ or error.__context__


def detail_of(content: bytes, content_type: str) -> str:
    """Return the platform's own text from the body of an error, not redacted yet.

    From a validation error, it takes fields and reasons, not the values that were sent; from a web page, nothing.

    :param content: the body
    :param content_type: its media type
    """
    try:
        value: Json = msgspec.json.decode(content)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return _plain(content, content_type)
    for name in ("detail", "error", "message"):
        if isinstance(value, dict) and value.get(name):
            value = value[name]
    if isinstance(value, list):
        return "; ".join(filter(None, (_finding(item) for item in value[:5])))
    return value if isinstance(value, str) else ""


def _finding(item: Json) -> str:
    if not isinstance(item, dict):
        return item if isinstance(item, str) else ""
    message = item.get("msg") or item.get("message")
    location = item.get("loc")
    steps = location if isinstance(location, list) else [location]
    field = ".".join(str(step) for step in steps if isinstance(step, str | int) and step != "body")
    return ": ".join(part for part in (field, message if isinstance(message, str) else "") if part)


def _plain(content: bytes, content_type: str) -> str:
    text = content[:4000].decode("utf-8", errors="ignore").strip()
    if _is_page(content, content_type):
        return "a web page instead of JSON, perhaps from a proxy in between"
    return text if all(char.isprintable() or char.isspace() for char in text) else ""
