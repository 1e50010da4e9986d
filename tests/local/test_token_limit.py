"""A limit of tokens per minute with a platform that counts the tokens of its answers."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from airflow_provider_lamini.api.client import Client
from airflow_provider_lamini.api.settings import ClientSettings
from airflow_provider_lamini.platforms.emissary.api import inference
from airflow_provider_lamini.platforms.emissary.platform import EMISSARY_DIALECT
from airflow_provider_lamini.platforms.lamini.api import batches, chat
from airflow_provider_lamini.platforms.lamini.platform import LAMINI_DIALECT
from tests.support.upstream import TEXT_MODEL

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.local_platform import LocalPlatform

MESSAGES = [{"role": "user", "content": "one two three four five six seven eight"}]


class Slept:
    """Sleeps by moving its clock, which stands still otherwise."""

    def __init__(self) -> None:
        self.now = time.monotonic()
        self.seconds = 0.0

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.seconds += seconds


@pytest.fixture
def slept() -> Slept:
    return Slept()


@pytest.fixture
def client(platform: LocalPlatform, slept: Slept) -> Iterator[Client]:
    settings = ClientSettings(
        base_url=platform.url, key=platform.key, dialect=LAMINI_DIALECT, tokens_per_minute=60
    )
    with Client(settings, sleep=slept.sleep, clock=slept.clock) as opened:
        yield opened


def test_a_chat_pays_for_its_answer_too(client: Client, slept: Slept) -> None:
    counted = 0
    for _ in range(10):
        usage = client.send(chat.complete(model=TEXT_MODEL, messages=MESSAGES)).usage
        assert usage is not None
        counted += usage.total_tokens
    # All but the last are charged in full, and a bucket of 60 tokens was full at first; it refills by one a second.
    charged = counted - usage.total_tokens + len(MESSAGES[0]["content"] + "user") / 4
    assert slept.seconds == pytest.approx(charged - 60)


def test_emissarys_answers_are_charged_as_well(platform: LocalPlatform, slept: Slept) -> None:
    settings = ClientSettings(
        base_url=f"{platform.url}/emissary", key=platform.key, dialect=EMISSARY_DIALECT, tokens_per_minute=60
    )
    call = inference.chat(model=TEXT_MODEL, messages=MESSAGES, max_tokens=50)
    with Client(settings, sleep=slept.sleep, clock=slept.clock) as client:
        used = [client.send(call).usage for _ in range(10)]
    counted = sum(usage.total_tokens for usage in used[:-1] if usage is not None)
    assert slept.seconds == pytest.approx(counted + len(MESSAGES[0]["content"] + "user") / 4 - 60)


def test_a_batch_larger_than_a_minutes_tokens_is_submitted_and_the_next_one_waits(
    client: Client, slept: Slept
) -> None:
    start = batches.start_completions(model_name=TEXT_MODEL, prompt=["four" * 10] * 30)
    client.send(start)
    assert slept.seconds == 0
    client.send(start)
    assert slept.seconds == pytest.approx(300)
