"""One exchange with the platform as a generator: it yields what to send and how long to sleep, and does neither.

The two clients drive it, one with blocking calls and one on an event loop. All decisions are made here, once.
"""

from __future__ import annotations

import logging
import ssl
import time
from typing import TYPE_CHECKING, BinaryIO, TypeVar, cast

import httpx

from airflow_provider_lamini.api import failures, redaction
from airflow_provider_lamini.api.outage import OutageLog
from airflow_provider_lamini.api.pacing import Pacer, estimate_tokens, token_budget
from airflow_provider_lamini.api.request import PreparedCall, platform_headers, same_origin
from airflow_provider_lamini.api.retry import Retries, parse_retry_after
from airflow_provider_lamini.api.traffic import TRAFFIC
from airflow_provider_lamini.api.transfer import DownloadTarget, Flow, Sleep, TooLargeError, Transfer

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_lamini.api.call import Call
    from airflow_provider_lamini.api.pacing import TokenBudget
    from airflow_provider_lamini.api.settings import ClientSettings

T = TypeVar("T")
R = TypeVar("R")

log = logging.getLogger(__name__)

_MAX_REDIRECTS = 5
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_KEEP_METHOD = frozenset({307, 308})
_TRANSPORT_ERRORS = (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, ssl.SSLError)
"""What sending may raise. On an event loop, TLS errors after the handshake are not wrapped."""

_MAX_WARNINGS = 1000
_warned: set[str] = set()


class Exchange:
    """All exchanges with one platform.

    :param settings: how to reach it
    :param http: builds requests; it sends nothing here
    :param clock: monotonic time in seconds
    """

    def __init__(
        self, settings: ClientSettings, http: httpx.Client | httpx.AsyncClient, clock: Callable[[], float]
    ) -> None:
        self._settings = settings
        self._platform_headers = platform_headers(settings)
        self._secrets = settings.secrets
        self._http = http
        self._clock = clock
        self._pacer = Pacer(settings.requests_per_second, clock)
        self._tokens = None
        if settings.tokens_per_minute is not None:
            self._tokens = token_budget(settings.base_url, settings.key, settings.tokens_per_minute, clock)
        self._limited = self._tokens is not None or settings.requests_per_second is not None
        self._outage = OutageLog(log, clock)

    def send(self, call: Call[T]) -> Flow[T]:
        """Send a call, with retries, and parse its response.

        :param call: what to send
        :returns: when the generator ends, the result
        :raises PlatformError: if it failed after all retries
        """
        prepared = self._prepare(call)
        estimate = self._estimate(call)
        return (
            yield from self._with_retries(
                call, estimate, lambda number: self._request(call, prepared, number, estimate)
            )
        )

    def download(self, call: Call[T], to: BinaryIO, max_bytes: int) -> Flow[int]:
        """Send a call and write its response to a file, block by block.

        :param call: what to send
        :param to: a file open for writing bytes; it is rewound before a retry
        :param max_bytes: maximum size of the response
        :returns: when the generator ends, how many bytes were written
        :raises PlatformError: if it failed after all retries, or was interrupted and ``to`` cannot be rewound
        """
        prepared, target = self._prepare(call), DownloadTarget(to, max_bytes)
        return (
            yield from self._with_retries(
                call, self._estimate(call), lambda number: self._save(call, prepared, number, target)
            )
        )

    def _prepare(self, call: Call[T]) -> PreparedCall:
        return PreparedCall(
            call,
            self._settings,
            platform_headers=self._platform_headers,
            secrets=self._secrets,
            http=self._http,
            clock=self._clock,
        )

    def _estimate(self, call: Call[T]) -> float:
        """The tokens that a call takes from the budget before it is sent; 0 without a budget."""
        return 0.0 if self._tokens is None or not call.prompt_fields else estimate_tokens(call)

    def _with_retries(self, call: Call[T], estimate: float, attempt: Callable[[int], Flow[R]]) -> Flow[R]:
        first_started = started = self._clock()
        retries: Retries | None = None
        number = 1
        try:
            while True:
                if self._limited:
                    yield from self._hold_back(estimate)
                    started = self._clock()
                try:
                    result = yield from attempt(number)
                except failures.AttemptFailed as failed:
                    if self._tokens is not None and failed.not_started:
                        self._tokens.give_back(estimate)
                    # Created late: most calls succeed, and this would add a tenth to the cost of a poll.
                    retries = retries or Retries(self._settings, call.retry, self._clock)
                    pause = retries.pause_after(failed, started)
                    self._outage.failed(failed)
                    TRAFFIC.add(self._settings.platform, call.operation, paused=pause)
                else:
                    self._outage.answered()
                    return result
                yield Sleep(pause)
                number, started = number + 1, self._clock()
        except failures.AttemptFailed as failed:
            TRAFFIC.add(self._settings.platform, call.operation, failures=1)
            raise failed.as_error(call, number, self._clock() - first_started) from None

    def _hold_back(self, estimate: float) -> Flow[None]:
        """Wait until the connection's limits allow one more request."""
        wait = 0.0 if self._tokens is None else self._tokens.take(estimate)
        try:
            if wait:
                yield Sleep(wait)
            wait = self._pacer.seconds_to_wait()
            if wait:
                yield Sleep(wait)
        except BaseException:  # the wait was cancelled
            if self._tokens is not None:
                self._tokens.give_back(estimate)
            raise

    @staticmethod
    def _settle(budget: TokenBudget, call: Call[T], transfer: Transfer, estimate: float) -> None:
        """Charge what the platform counted instead of the estimate."""
        if call.tokens_used is None or transfer.streamed:
            return
        used = call.tokens_used(transfer.body)
        if used is not None:
            budget.give_back(estimate - used)

    def _request(self, call: Call[T], prepared: PreparedCall, number: int, estimate: float) -> Flow[T]:
        try:
            transfer = yield from self._attempt(call, prepared, number, None)
        except failures.AttemptFailed as refused:
            found = None
            if call.of_refusal is not None and refused.status is not None:
                found = call.of_refusal(refused.status, refused.detail)
            if found is None:
                raise
            return found
        if self._tokens is not None:
            self._settle(self._tokens, call, transfer, estimate)
        try:
            if transfer.streamed:
                return cast("T", transfer.reader_result())
            return call.parse(redaction.remove_secrets(transfer.body, prepared.secrets))
        except (ValueError, RecursionError) as error:
            failed = failures.of_content(
                call, transfer, error, lambda text: self._redact(text, call, prepared)
            )
        raise failed

    def _save(self, call: Call[T], prepared: PreparedCall, number: int, target: DownloadTarget) -> Flow[int]:
        target.rewind()
        try:
            yield from self._attempt(call, prepared, number, target)
        except failures.AttemptFailed as failed:
            if target.spoiled:
                raise failed.permanent(
                    "A part of the file was already written, and the file cannot be rewound."
                ) from None
            raise
        return target.size

    def _attempt(
        self, call: Call[T], prepared: PreparedCall, number: int, target: DownloadTarget | None
    ) -> Flow[Transfer]:
        """Send once, following redirects; return a successful response, else raise."""
        started, transfer = self._clock(), None
        TRAFFIC.add(self._settings.platform, call.operation, requests=1)
        try:
            transfer = yield from self._follow(call, prepared, target)
        finally:
            log.debug(
                "%s %s -> %s in %.3f s, attempt %d",
                call.method,
                call.path,
                transfer.status if transfer else "no response",
                self._clock() - started,
                number,
            )
        if transfer.has_header(b"x-warning"):
            self._warn(self._redact(transfer.headers["x-warning"], call, prepared))
        if transfer.ok:
            return transfer
        raise self._refusal(call, prepared, transfer)

    def _follow(self, call: Call[T], prepared: PreparedCall, target: DownloadTarget | None) -> Flow[Transfer]:
        redirect_url: httpx.URL | None = None
        for _ in range(_MAX_REDIRECTS + 1):
            transfer = prepared.transfer(redirect_url, target)
            try:
                yield transfer
            except TooLargeError as error:
                raise failures.of_size(call, transfer, error.limit) from None
            except _TRANSPORT_ERRORS as error:
                raise failures.of_transport(call, error, self._settings.origin, prepared.timeout) from None
            if transfer.status not in _REDIRECTS:
                return transfer
            redirect_url = self._redirect_url(
                call, transfer, redirect_url or prepared.url, anywhere=target is not None
            )
        raise failures.of_redirect(call, transfer.status, "it redirects endlessly", request_id=None)

    def _redirect_url(
        self, call: Call[T], transfer: Transfer, url: httpx.URL, *, anywhere: bool
    ) -> httpx.URL:
        """Return where a redirect leads. Only a download may leave the platform, and without the key."""
        try:
            target = url.join(transfer.headers.get("location", ""))
        except httpx.InvalidURL:
            target = url
        reading = call.method in ("GET", "HEAD")
        same = same_origin(target, url)
        if (
            target != url
            and (reading or transfer.status in _KEEP_METHOD)
            and (same or (anywhere and reading))
        ):
            return target
        origin = f"{target.scheme}://{target.host}{f':{target.port}' if target.port else ''}"
        reason = f"it redirects to {origin}; if that is the platform, make it the connection's address"
        if same:
            reason = "it redirects to itself or with another method; check the connection's address"
        raise failures.of_redirect(
            call, transfer.status, reason, request_id=failures.request_id(transfer.headers)
        )

    def _refusal(self, call: Call[T], prepared: PreparedCall, transfer: Transfer) -> failures.AttemptFailed:
        text = failures.detail_of(transfer.body, transfer.headers.get("content-type", ""))
        return failures.of_status(
            call,
            transfer.status,
            self._settings.dialect.error_status(transfer.status),
            detail=self._redact(text, call, prepared),
            request_id=failures.request_id(transfer.headers),
            retry_after=parse_retry_after(transfer.headers.get("retry-after"), time.time()),
        )

    def _warn(self, text: str) -> None:
        """Log a warning of the platform, each text once per process."""
        if text and text not in _warned:
            if len(_warned) >= _MAX_WARNINGS:
                _warned.clear()
            _warned.add(text)
            log.warning("The platform at %s warns: %s", self._settings.origin, text)

    def _redact(self, text: str, call: Call[object], prepared: PreparedCall) -> str:
        """Remove secrets and what was sent from a text of the platform."""
        line = redaction.redact(
            text, secrets=prepared.secrets, sent=call.json, dialect=self._settings.dialect
        )
        for part in prepared.parts:
            line = redaction.redact_file(part, line)
        return line
