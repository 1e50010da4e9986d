"""The limit of tokens per minute, the same from the client that blocks and from the one that does not."""

from __future__ import annotations

import asyncio
import logging

import httpx
import pytest

from airflow_provider_lamini.api.client import AsyncClient, Client
from airflow_provider_lamini.api.errors import RateLimitedError
from airflow_provider_lamini.api.pacing import TokenBudget, estimate_tokens, token_budget
from airflow_provider_lamini.platforms.emissary.api import inference
from airflow_provider_lamini.platforms.lamini.api import batches, chat, completions, version

MINUTE = 600
"""Tokens per minute in these tests: 10 per second."""


def complete(tokens):
    """A completion whose prompt has so many tokens by estimate."""
    return completions.complete(model_name="m", prompt="four" * tokens)


def answered(used=None):
    usage = {} if used is None else {"usage": {"total_tokens": used}}
    return httpx.Response(200, json={"outputs": "o", "choices": [{"message": {"content": "o"}}], **usage})


def say(tokens):
    """A message that has so many tokens by estimate, its role included."""
    return chat.complete(model="m", messages=[{"role": "user", "content": "four" * (tokens - 1)}])


@pytest.fixture
def budget(fake_time):
    return TokenBudget(MINUTE, fake_time.clock)


def test_a_full_bucket_lets_a_minutes_tokens_pass_at_once(driver, settings, responses, fake_time):
    app = responses(answered())
    driver.send(settings(tokens_per_minute=MINUTE), *[complete(200)] * 3, app=app)
    assert len(app.requests) == 3
    assert fake_time.slept == []


def test_then_each_request_waits_until_the_bucket_holds_its_tokens(driver, settings, responses, fake_time):
    calls = [complete(600), complete(50), complete(100)]
    driver.send(settings(tokens_per_minute=MINUTE), *calls, app=responses(answered()))
    assert fake_time.slept == [pytest.approx(5), pytest.approx(10)]


def test_the_bucket_never_holds_more_than_a_minutes_tokens(budget, fake_time):
    fake_time.now += 3600
    assert budget.take(600) == 0
    assert budget.take(1) == pytest.approx(0.1)


def test_a_request_above_a_minutes_tokens_waits_for_a_full_bucket_and_leaves_a_debt(budget):
    assert budget.take(300) == 0
    assert budget.take(6000) == pytest.approx(30)
    assert budget.take(10) == pytest.approx(30 + 540 + 1)


def test_requests_that_wait_keep_their_order(budget, fake_time):
    waits = [budget.take(600), budget.take(100), budget.take(10)]
    assert waits == [0, pytest.approx(10), pytest.approx(11)]
    fake_time.now += 11
    assert budget.take(10) == pytest.approx(1)


@pytest.mark.parametrize("case", [(500, 10), (100, 0), (None, 0)])
def test_what_the_platform_counts_replaces_the_estimate(driver, settings, responses, fake_time, case):
    """The prompts have 200 tokens by estimate, so that 400 are left for the second request."""
    used, wait = case
    calls = [say(200), say(200)]
    driver.send(settings(tokens_per_minute=MINUTE), *calls, app=responses(answered(used)))
    assert sum(fake_time.slept) == pytest.approx(wait)


@pytest.mark.parametrize("usage", [{"total_tokens": 1e300}, {"total_tokens": -5}, {}, None])
def test_an_absurd_count_of_the_platform_changes_nothing(driver, settings, responses, fake_time, usage):
    response = httpx.Response(200, json={"choices": [{"text": "o"}], "usage": usage})
    calls = [inference.complete(model="m", prompt="four" * 300)] * 3
    driver.send(settings(tokens_per_minute=MINUTE), *calls, app=responses(response))
    assert fake_time.slept == [pytest.approx(30)]


def test_what_carries_no_prompt_never_waits(driver, settings, responses, fake_time):
    calls = [complete(6000), batches.completions_result("1"), version.version()]
    app = responses(answered())
    driver.send(settings(tokens_per_minute=MINUTE), *calls, app=app)
    assert fake_time.slept == []
    assert len(app.requests) == 3


def test_a_batch_counts_when_it_is_submitted(driver, settings, responses, fake_time):
    start = batches.start_completions(model_name="m", prompt=["four" * 100] * 6)
    driver.send(
        settings(tokens_per_minute=MINUTE),
        start,
        complete(10),
        app=responses(httpx.Response(200, json={"id": "1", "outputs": "o"})),
    )
    assert fake_time.slept == [pytest.approx(1)]


def test_a_refused_request_costs_no_tokens_and_its_wait_no_retry_budget(
    driver, settings, responses, fake_time
):
    limited = settings(tokens_per_minute=MINUTE, retry_budget=20)
    app = responses(answered(), httpx.Response(429, headers={"Retry-After": "1"}), answered())
    driver.send(limited, complete(600), complete(600), app=app)
    assert fake_time.slept == [pytest.approx(60), 1.0]


def test_the_error_of_a_rate_limit_names_both_limits(driver, settings, responses):
    with pytest.raises(RateLimitedError, match="Set requests_per_second or tokens_per_minute"):
        driver.send(settings(retry_budget=0), complete(1), app=responses(httpx.Response(429)))


def test_all_clients_of_a_process_share_the_budget_of_a_key(driver, settings, responses, fake_time):
    app = responses(answered())
    for key in ("first-key-1", "first-key-1", "other-key-2"):
        driver.send(settings(key=key, tokens_per_minute=MINUTE), complete(600), app=app)
    assert fake_time.slept == [pytest.approx(60)]


def test_a_cancelled_wait_takes_no_tokens(settings, responses, fake_time):
    async def run():
        asleep = asyncio.Event()

        async def sleep(_):
            asleep.set()
            await asyncio.Event().wait()

        async with AsyncClient(
            settings(tokens_per_minute=MINUTE),
            transport=httpx.MockTransport(app),
            sleep=sleep,
            clock=fake_time.clock,
        ) as client:
            await client.send(complete(600))
            waiting = asyncio.create_task(client.send(complete(500)))
            await asleep.wait()
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            assert waiting.cancelled()

    app = responses(answered())
    asyncio.run(run())
    assert len(app.requests) == 1
    shared = token_budget("http://platform.test", "secret-key-123", MINUTE, fake_time.clock)
    assert shared.take(10) == pytest.approx(1)


@pytest.mark.parametrize("case", [(None, 600, 10), (0.01, 100, 510)])
def test_a_signal_ends_a_blocking_wait_and_takes_no_tokens(settings, responses, fake_time, case):
    """Also that for the limit of requests, which follows the one for tokens."""

    def interrupted(_):
        raise KeyboardInterrupt

    per_second, first, then = case
    limits = settings(tokens_per_minute=MINUTE, requests_per_second=per_second)
    transport = httpx.MockTransport(responses(answered()))
    with Client(limits, transport=transport, sleep=interrupted, clock=fake_time.clock) as client:
        client.send(complete(first))
        with pytest.raises(KeyboardInterrupt):
            client.send(complete(500))
    shared = token_budget("http://platform.test", "secret-key-123", MINUTE, fake_time.clock)
    assert shared.take(then) == pytest.approx(1)


def test_a_long_wait_is_logged_once_a_minute(budget, caplog):
    with caplog.at_level(logging.INFO, "airflow_provider_lamini"):
        for _ in range(10):
            budget.take(600)
    assert caplog.messages == [
        "The connection's tokens_per_minute are used up; the next request is sent in 60 s."
    ]


def test_without_a_limit_nothing_is_estimated(driver, settings, responses, monkeypatch):
    monkeypatch.setattr("airflow_provider_lamini.api.exchange.estimate_tokens", None)
    driver.send(settings(), complete(10), app=responses(answered()))


def test_the_estimate_is_a_quarter_of_the_characters_of_all_prompts():
    assert estimate_tokens(complete(7)) == 7
    assert estimate_tokens(batches.start_embeddings(prompt=["four", "ünïcödé!"])) == 3
    assert (
        estimate_tokens(chat.complete(model="model", messages=[{"role": "user", "content": "four" * 3}])) == 4
    )
    assert estimate_tokens(inference.compare(model="model", input="four", target="four")) == 2
