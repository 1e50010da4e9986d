"""One exchange with the platform as a generator: it says what to send and when to pause, and does neither.

The drivers in ``client`` carry out its steps, one with blocking calls and one on an event loop. What is to be
decided is decided here, once.
"""

from __future__ import annotations

import logging
import ssl
import time
from typing import TYPE_CHECKING, BinaryIO, TypeVar

import httpx

from airflow_provider_lamini.api import failures, redaction
from airflow_provider_lamini.api.request import PreparedCall, platform_headers, same_origin
from airflow_provider_lamini.api.retry import Retries, parse_retry_after
from airflow_provider_lamini.api.transfer import DownloadTarget, Flow, Sleep, Transfer

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_lamini.api.call import Call
    from airflow_provider_lamini.api.settings import ClientSettings


import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
R = TypeVar("R")

log = logging.getLogger(__name__)

_HOPS = 5
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_KEEP_METHOD = frozenset({307, 308})
_TRANSPORT = (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, ssl.SSLError)
"""What sending may raise. On an event loop, TLS errors after the handshake come as they are."""

_WARNINGS_KEPT = 1000
_warned: set[str] = set()


class Exchange:
    """All exchanges with one platform.

    :param settings: how to reach it
    :param http: builds requests; nothing is sent with it here
    :param clock: the time in seconds, from any start
    """

    def __init__(
        self, settings: ClientSettings, http: httpx.Client | httpx.AsyncClient, clock: Callable[[], float]
    ) -> None:
        self._settings = settings
        self._home = platform_headers(settings)
        self._secrets = settings.secrets
        self._http = http
        self._clock = clock
        self._pacer = Pacer(settings.requests_per_second, clock)

    def send(self, call: Call[T]) -> Flow[T]:
        """Send a call, again where that is right, and read its answer.

        :param call: what to send
        :returns: at the generator's end, the answer
        :raises PlatformError: where it failed for good
        """
        outgoing = self._outgoing(call)
        return (yield from self._with_retries(call, lambda number: self._ask(call, outgoing, number)))

    def download(self, call: Call[T], to: BinaryIO) -> Flow[int]:
        """Send a call and write its answer to a file, block by block.

        :param call: what to send
        :param to: a file open for writing bytes; what an attempt wrote that broke off is taken back
        :returns: at the generator's end, how many bytes were written
        :raises PlatformError: where it failed for good, or broke off and ``to`` cannot be rewound
        """
        outgoing, target = self._outgoing(call), DownloadTarget(to)
        return (
            yield from self._with_retries(call, lambda number: self._save(call, outgoing, number, target))
        )

    def _outgoing(self, call: Call[T]) -> PreparedCall:
        return PreparedCall(
            call,
            self._settings,
            home=self._home,
            secrets=self._secrets,
            http=self._http,
            clock=self._clock,
        )

    def _with_retries(self, call: Call[T], attempt: Callable[[int], Flow[R]]) -> Flow[R]:
        started = began = self._clock()
        retries: Retries | None = None
        number = 1
        try:
            while True:
                try:
                    return (yield from attempt(number))
                except failures.AttemptFailed as failed:
                    # Made late: most calls go well, and one look in ten would be spent on it.
                    retries = retries or Retries(self._settings, call.retry, self._clock)
                    pause = retries.pause_after(failed, began)
                    log.info("%s Trying again in %.1f s.", failed.what, pause)
                yield Sleep(pause)
                number, began = number + 1, self._clock()
        except failures.AttemptFailed as failed:
            raise failed.as_error(call, number, self._clock() - started) from None

    def _ask(self, call: Call[T], outgoing: PreparedCall, number: int) -> Flow[T]:
        fetch = yield from self._attempt(call, outgoing, number, None)
        try:
            return call.parse(redaction.without(fetch.body, outgoing.secrets))
        except (ValueError, RecursionError) as error:
            failed = failures.of_content(call, fetch, error, lambda text: self._shown(text, call, outgoing))
        raise failed

    def _save(self, call: Call[T], outgoing: PreparedCall, number: int, target: DownloadTarget) -> Flow[int]:
        target.rewind()
        try:
            yield from self._attempt(call, outgoing, number, target)
        except failures.AttemptFailed as failed:
            if target.spoiled:
                raise failed.for_good("A part is written already and cannot be taken back.") from None
            raise
        return target.short_name

    def _attempt(
        self, call: Call[T], outgoing: PreparedCall, number: int, target: DownloadTarget | None
    ) -> Flow[Transfer]:
        """Send once, redirects followed; return a good answer, else raise."""
        wait = self._pacer.seconds_to_wait()
        if wait:
            yield Sleep(wait)
        started, fetch = self._clock(), None
        try:
            fetch = yield from self._follow(call, outgoing, target)
        finally:
            log.debug(
                "%s %s -> %s in %.3f s, attempt %d",
                call.method,
                call.path,
                fetch.status if fetch else "no answer",
                self._clock() - started,
                number,
            )
        if fetch.has_header(b"x-warning"):
            self._warn(self._shown(fetch.headers["x-warning"], call, outgoing))
        if fetch.ok:
            return fetch
        raise self._refusal(call, outgoing, fetch)

    def _follow(self, call: Call[T], outgoing: PreparedCall, target: DownloadTarget | None) -> Flow[Transfer]:
        there: httpx.URL | None = None
        for _ in range(_HOPS + 1):
            fetch = outgoing.fetch(there, target)
            try:
                yield fetch
            except _TRANSPORT as error:
                raise failures.of_transport(call, error, self._settings.origin, outgoing.timeout) from None
            if fetch.status not in _REDIRECTS:
                return fetch
            there = self._redirected(call, fetch, there or outgoing.url, anywhere=target is not None)
        raise failures.of_answer(
            call, fetch.status, "it redirects in circles", request_id=None, redirected=True
        )

    def _redirected(self, call: Call[T], fetch: Transfer, url: httpx.URL, *, anywhere: bool) -> httpx.URL:
        """Return where to go. Only a download may lead away from the platform, and without the key."""
        try:
            there = url.join(fetch.headers.get("location", ""))
        except httpx.InvalidURL:
            there = url
        reading = call.method in ("GET", "HEAD")
        home = same_origin(there, url)
        if there != url and (reading or fetch.status in _KEEP_METHOD) and (home or (anywhere and reading)):
            return there
        shown = f"{there.scheme}://{there.host}{f':{there.port}' if there.port else ''}"
        reason = f"it redirects to {shown}; if the platform is there, make that the connection's address"
        if home:
            reason = "it redirects without end or to another method; check the connection's address"
        raise failures.of_answer(
            call, fetch.status, reason, request_id=failures.request_id(fetch.headers), redirected=True
        )

    def _refusal(self, call: Call[T], outgoing: PreparedCall, fetch: Transfer) -> failures.AttemptFailed:
        said = failures.detail_of(fetch.body, fetch.headers.get("content-type", ""))
        return failures.of_status(
            call,
            fetch.status,
            self._settings.dialect.error_status(fetch.status),
            detail=self._shown(said, call, outgoing),
            request_id=failures.request_id(fetch.headers),
            retry_after=parse_retry_after(fetch.headers.get("retry-after"), time.time()),
        )

    def _warn(self, text: str) -> None:
        """Log what the platform wants a person to know, each text once per process."""
        if text and text not in _warned:
            if len(_warned) >= _WARNINGS_KEPT:
                _warned.clear()
            _warned.add(text)
            log.warning("The platform at %s warns: %s", self._settings.origin, text)

    def _shown(self, text: str, call: Call[object], outgoing: PreparedCall) -> str:
        """A text of the platform's without what was sent to it."""
        line = redaction.shown(text, secrets=outgoing.secrets, sent=call.json, dialect=self._settings.dialect)
        for part in outgoing.parts:
            line = redaction.unless_in(part, line)
        return line


class Pacer:
    """Spreads requests evenly. May be used from several threads.

    :param per_second: requests at most; ``None`` sets no bound
    :param clock: the time in seconds, from any start
    """

    def __init__(self, per_second: float | None, clock: Callable[[], float]) -> None:
        self._interval = 1.0 / per_second if per_second else 0.0
        self._clock = clock
        self._next = clock()
        self._lock = threading.Lock()

    def seconds_to_wait(self) -> float:
        """Take the next free place and return how many seconds it is away."""
        if not self._interval:
            return 0.0
        with self._lock:
            now = self._clock()
            place = max(now, self._next)
            self._next = place + self._interval
        return place - now
