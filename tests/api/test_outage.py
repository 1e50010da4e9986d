"""What the log says while requests fail: one warning, then a line a minute, and one line when it is over."""

from __future__ import annotations

import logging
import re

import httpx
import pytest

from airflow_provider_lamini.api import errors
from airflow_provider_lamini.platforms.lamini.api import version

READ_VERSION = version.version()


def ok():
    return httpx.Response(200, json={"server": "1"})


class App:
    """A platform that is down until a moment of the tests' clock.

    :param time: the clock
    :param until: the moment
    :param status: what it answers while it is down
    """

    def __init__(self, time, until, status=503):
        self.time, self.until, self.status = time, until, status

    def __call__(self, _):
        return ok() if self.time.now >= self.until else httpx.Response(self.status)


@pytest.fixture
def lines(caplog):
    """Returns a function that returns level and text of the lines about outages."""
    caplog.set_level(logging.INFO)
    return lambda: [
        (record.levelname, record.getMessage())
        for record in caplog.records
        if record.name.startswith("airflow_provider_lamini")
    ]


def test_a_short_outage_is_one_warning_and_one_line_when_it_is_over(driver, settings, fake_time, lines):
    driver.send(settings(), READ_VERSION, READ_VERSION, app=App(fake_time, 1010.0))
    (warned, text), (told, end) = lines()
    assert (warned, told) == ("WARNING", "INFO")
    assert text == (
        "Requests fail and are retried: the platform answers 503. Check it if this lasts. The platform answered "
        "GET /v1/version with 503 (the platform is not available)."
    )
    assert re.fullmatch(r"The platform answers again, after [12]\d s\.", end)
    assert end.endswith(" s.")


def test_a_long_outage_is_a_line_a_minute(driver, settings, fake_time, lines):
    driver.send(settings(retry_budget=3600), READ_VERSION, app=App(fake_time, 1600.0))
    levels = [level for level, _ in lines()]
    assert levels[0] == "WARNING"
    assert set(levels[1:]) == {"INFO"}
    assert 7 <= len(levels) <= 12
    assert lines()[1][1].startswith(
        "Requests have failed for 1 min and are retried: the platform answers 503."
    )


def test_requests_that_fail_now_and_then_are_at_most_a_warning_a_minute(driver, settings, fake_time, lines):
    answers = iter([response for _ in range(50) for response in (httpx.Response(429), ok())])
    driver.send(settings(), *[READ_VERSION] * 50, app=lambda _: next(answers))
    warnings = [text for level, text in lines() if level == "WARNING"]
    assert 1 <= len(warnings) <= 1 + (fake_time.now - 1000) / 60
    assert warnings[0].startswith(
        "Requests fail and are retried: the platform answers 429. Set requests_per_second or tokens_per_minute"
    )
    assert len(lines()) <= 2 * len(warnings)


def test_a_platform_that_is_not_reached_is_told_with_what_to_check(driver, settings, lines):
    with pytest.raises(errors.UnavailableError):
        driver.send(settings("http://127.0.0.1:9", retry_budget=3), READ_VERSION)
    ((level, text),) = lines()
    assert level == "WARNING"
    assert text.startswith(
        "Requests fail and are retried: The connection was refused; check that the platform runs"
    )


def test_what_is_not_retried_is_no_outage(driver, settings, lines):
    with pytest.raises(errors.BadRequestError):
        driver.send(settings(), READ_VERSION, app=lambda _: httpx.Response(400))
    assert lines() == []
