"""Which failures are sent again, after how long, and when to stop: the platform's table of errors."""

from __future__ import annotations

import time
from email.utils import formatdate

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_lamini.api import errors
from airflow_provider_lamini.api.retry import parse_retry_after
from airflow_provider_lamini.platforms.lamini.api import batches, version
from airflow_provider_lamini.platforms.lamini.platform import LAMINI_DIALECT

OK = httpx.Response(200, json={"server": "1", "id": "b1"})
TRANSIENT_ERRORS = [408, 429, 500, 502, 503, 504, 513, 524]
FINAL = [400, 401, 403, 404, 409, 418, 422, 497, 498, 499, 501, 594]
REFUSED = [429, 513]
READ_VERSION = version.version()
START = batches.start_completions(model_name="m", prompt=["p"])


@pytest.mark.parametrize("status", TRANSIENT_ERRORS)
def test_a_call_that_reads_is_retried_after_a_transient_failure(driver, settings, responses, status):
    app = responses(httpx.Response(status), httpx.Response(status), OK)
    assert driver.send(settings(), READ_VERSION, app=app).server == "1"
    assert len(app.requests) == 3


@pytest.mark.parametrize("status", FINAL)
def test_a_permanent_failure_is_raised_at_once(driver, settings, responses, fake_time, status):
    app = responses(httpx.Response(status))
    with pytest.raises(LAMINI_DIALECT.error_status(status).error) as caught:
        driver.send(settings(), READ_VERSION, app=app)
    assert len(app.requests) == 1
    assert fake_time.slept == []
    assert caught.value.attempts == 1
    assert caught.value.may_have_started is False


NO_JSON = {"a page": b"<html>Soon back</html>", "nothing": b"", "half": b'{"server": "'}


@pytest.mark.parametrize("content", NO_JSON.values(), ids=NO_JSON)
def test_an_unreadable_response_is_retried_up_to_five_attempts(driver, settings, responses, content):
    app = responses(httpx.Response(200, content=content))
    expected = errors.ProtocolError if content.startswith(b"{") else errors.NotThePlatformError
    with pytest.raises(expected) as caught:
        driver.send(settings(), READ_VERSION, app=app)
    assert caught.value.attempts == len(app.requests) == 5
    app = responses(httpx.Response(200, content=content), OK)
    assert driver.send(settings(), READ_VERSION, app=app).server == "1"


@pytest.mark.parametrize("content", NO_JSON.values(), ids=NO_JSON)
def test_a_call_that_starts_work_is_not_retried_after_an_unreadable_response(
    driver, settings, responses, content
):
    app = responses(httpx.Response(200, content=content), OK)
    with pytest.raises(errors.ProtocolError, match="it may run and bill"):
        driver.send(settings(), START, app=app)
    assert len(app.requests) == 1


def test_unexpected_json_is_not_retried(driver, settings, responses):
    app = responses(httpx.Response(200, json={"server": [1]}, headers={"Content-Type": "text/html"}), OK)
    with pytest.raises(errors.ProtocolError) as caught:
        driver.send(settings(), READ_VERSION, app=app)
    assert type(caught.value) is errors.ProtocolError
    assert len(app.requests) == 1


@pytest.mark.parametrize("status", REFUSED)
def test_a_call_that_starts_work_is_retried_if_the_platform_did_not_start_it(
    driver, settings, responses, status
):
    app = responses(httpx.Response(status), OK)
    assert driver.send(settings(), START, app=app) == "b1"
    assert len(app.requests) == 2


@pytest.mark.parametrize("status", [408, 500, 502, 503, 504, 524, 505, 599])
def test_a_call_that_starts_work_is_not_retried_if_it_may_have_started(driver, settings, responses, status):
    app = responses(httpx.Response(status))
    with pytest.raises(
        LAMINI_DIALECT.error_status(status).error, match="it may run and bill: look there before"
    ) as caught:
        driver.send(settings(), START, app=app)
    assert len(app.requests) == 1
    assert caught.value.may_have_started is True


@pytest.mark.parametrize("status", [400, 401, 404, 422, 497, 498, 499, 501, 594])
def test_a_refusal_says_that_nothing_was_started(driver, settings, responses, status):
    with pytest.raises(LAMINI_DIALECT.error_status(status).error, match="Nothing was started") as caught:
        driver.send(settings(), START, app=responses(httpx.Response(status)))
    assert caught.value.may_have_started is False


NEVER_SENT = [
    httpx.ConnectError("x"),
    httpx.ConnectTimeout("x"),
    httpx.PoolTimeout("x"),
    httpx.ProxyError("x"),
]
IN_DOUBT = [
    httpx.ReadTimeout("x"),
    httpx.WriteTimeout("x"),
    httpx.ReadError("x"),
    httpx.WriteError("x"),
    httpx.RemoteProtocolError("x"),
]


@pytest.mark.parametrize("failure", NEVER_SENT + IN_DOUBT, ids=lambda each: type(each).__name__)
def test_a_call_that_only_reads_is_retried_after_a_lost_connection(driver, settings, responses, failure):
    app = responses(failure, OK)
    assert driver.send(settings(), READ_VERSION, app=app).server == "1"


@pytest.mark.parametrize("failure", NEVER_SENT, ids=lambda each: type(each).__name__)
def test_a_call_that_starts_work_is_retried_if_the_request_was_never_sent(
    driver, settings, responses, failure
):
    app = responses(failure, OK)
    assert driver.send(settings(), START, app=app) == "b1"


@pytest.mark.parametrize("failure", IN_DOUBT, ids=lambda each: type(each).__name__)
def test_a_call_that_starts_work_is_not_retried_if_the_request_may_have_arrived(
    driver, settings, responses, failure
):
    app = responses(failure, OK)
    with pytest.raises((errors.UnavailableError, errors.PlatformTimeoutError)) as caught:
        driver.send(settings(), START, app=app)
    assert caught.value.may_have_started is True
    assert len(app.requests) == 1


@pytest.mark.parametrize(
    "failure",
    [httpx.LocalProtocolError("x"), httpx.DecodingError("x"), httpx.UnsupportedProtocol("x")],
    ids=lambda each: type(each).__name__,
)
def test_permanent_failures_are_not_retried(driver, settings, responses, failure):
    app = responses(failure)
    with pytest.raises(errors.ProtocolError):
        driver.send(settings(), READ_VERSION, app=app)
    assert len(app.requests) == 1


def test_pauses_grow_within_bounds_and_end_with_the_budget(driver, settings, responses, fake_time):
    app = responses(httpx.Response(503))
    with pytest.raises(errors.UnavailableError, match=r"All .* attempts within 300 s failed") as caught:
        driver.send(settings(retry_budget=300), READ_VERSION, app=app)
    slept = fake_time.slept
    assert sum(slept) == pytest.approx(300)
    for place, pause in enumerate(slept[:-1]):
        assert min(30, 2**place) / 2 <= pause <= min(30, 2**place)
    assert caught.value.attempts == len(app.requests) == len(slept) + 1


def test_pauses_of_many_clients_differ(driver, settings, responses, fake_time):
    """Jitter: what failed together does not come back together."""
    firsts = set()
    for _ in range(8):
        fake_time.slept.clear()
        driver.send(settings(), READ_VERSION, app=responses(httpx.Response(503), OK))
        firsts.add(fake_time.slept[0])
    assert len(firsts) > 4


def test_a_budget_of_zero_means_one_attempt(driver, settings, responses, fake_time):
    for status in (503, 513):
        app = responses(httpx.Response(status))
        with pytest.raises(errors.PlatformError):
            driver.send(settings(retry_budget=0.0, model_loading_budget=0.0), READ_VERSION, app=app)
        assert len(app.requests) == 1
    assert fake_time.slept == []


def test_the_time_that_attempts_take_counts_against_the_budget(driver, settings, fake_time):
    def app(request):
        seen.append(request)
        fake_time.now += 120
        raise httpx.ReadTimeout("slow")

    seen = []
    with pytest.raises(errors.PlatformTimeoutError, match="within 120 s"):
        driver.send(settings(retry_budget=300), READ_VERSION, app=app)
    assert len(seen) == 3


def test_a_loading_model_has_slow_retries_and_its_own_budget(driver, settings, responses, fake_time):
    app = responses(httpx.Response(513))
    with pytest.raises(errors.ModelLoadingError, match=r"model_loading_budget.*Nothing was started"):
        driver.send(settings(retry_budget=10, model_loading_budget=1800), START, app=app)
    slept = fake_time.slept
    assert sum(slept) == pytest.approx(1800)
    assert 4 <= slept[0] <= 5
    assert all(pause <= 60 for pause in slept)
    assert min(slept[10:-1]) >= 48
    assert len(app.requests) < 60


def test_a_loading_model_does_not_use_the_retry_budget(driver, settings, responses, fake_time):
    app = responses(*[httpx.Response(513)] * 12, httpx.Response(503), httpx.Response(503), OK)
    assert driver.send(settings(retry_budget=10), READ_VERSION, app=app).server == "1"
    assert fake_time.now > 1300


def test_retry_after_in_seconds_takes_precedence(driver, settings, responses, fake_time):
    app = responses(
        httpx.Response(429, headers={"Retry-After": "17"}),
        httpx.Response(503, headers={"Retry-After": "2"}),
        OK,
    )
    driver.send(settings(), READ_VERSION, app=app)
    assert fake_time.slept == [17.0, 2.0]


def test_retry_after_as_a_date_takes_precedence(driver, settings, responses, fake_time):
    when = formatdate(time.time() + 40, usegmt=True)
    driver.send(
        settings(), READ_VERSION, app=responses(httpx.Response(503, headers={"Retry-After": when}), OK)
    )
    (pause,) = fake_time.slept
    assert 37 <= pause <= 40


def test_retry_after_is_limited_by_a_maximum_and_by_the_budget(driver, settings, responses, fake_time):
    refusal = httpx.Response(429, headers={"Retry-After": "86400"})
    driver.send(settings(retry_budget=1000), READ_VERSION, app=responses(refusal, OK))
    assert fake_time.slept == [300.0]
    fake_time.slept.clear()
    app = responses(refusal)
    with pytest.raises(errors.RateLimitedError) as caught:
        driver.send(settings(retry_budget=50), READ_VERSION, app=app)
    assert fake_time.slept == [50.0]
    assert len(app.requests) == 2
    assert caught.value.retry_after == 86400


@pytest.mark.parametrize("value", ["0", "soon", "-5", "", "Thu, 01 Jan 1970 00:00:00 GMT", "NaN", "inf"])
def test_an_empty_retry_after_is_ignored(driver, settings, responses, fake_time, value):
    driver.send(
        settings(), READ_VERSION, app=responses(httpx.Response(503, headers={"Retry-After": value}), OK)
    )
    (pause,) = fake_time.slept
    assert 0.5 <= pause <= 1.0


def test_retry_after_also_applies_to_a_loading_model(driver, settings, responses, fake_time):
    app = responses(httpx.Response(513, headers={"Retry-After": "90"}), OK)
    driver.send(settings(), START, app=app)
    assert fake_time.slept == [90.0]


@given(st.text(max_size=40) | st.integers().map(str) | st.floats().map(str) | st.datetimes().map(str))
def test_any_retry_after_is_parsed_as_a_time_or_ignored(value):
    found = parse_retry_after(value, time.time())
    assert found is None or (found >= 0 and found < float("inf"))


@given(st.integers(0, 10**6))
def test_retry_after_in_both_forms_means_the_same(seconds):
    now = 1_700_000_000.0
    assert parse_retry_after(str(seconds), now) == seconds
    assert parse_retry_after(formatdate(now + seconds, usegmt=True), now) == seconds
    assert parse_retry_after(formatdate(now - seconds - 1, usegmt=True), now) == 0


def test_no_retry_after_is_none():
    assert parse_retry_after(None, 0.0) is None
