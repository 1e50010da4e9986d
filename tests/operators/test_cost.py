"""What runs and chats cost, by the prices of their connection."""

from __future__ import annotations

import json

import pytest

from airflow_provider_lamini.exceptions import BudgetExceededError
from airflow_provider_lamini.hooks.connection import InvalidConnectionError
from airflow_provider_lamini.operators.chat import LaminiChatOperator
from airflow_provider_lamini.operators.emissary.batch_inference import EmissaryBatchInferenceOperator
from airflow_provider_lamini.rows.answers.prices import MAX_PRICE
from airflow_provider_lamini.rows.tokens import TOKENS
from tests.support import emissary_platform
from tests.support.platforms import connect, posts
from tests.support.tasks import log_lines, maker, run_to_end
from tests.support.upstream import text_for

pytestmark = pytest.mark.any_airflow

PROMPTS = ["one", "one two", "one two three"]
"""The engine counts words, and answers with as many."""
PRICES = {"*": {"input": 1000, "output": 3000}}
"""A word costs 0.001, one of an answer 0.003."""


@pytest.fixture
def chats(inference):
    """Makes inference over a few conversations, which reports tokens."""
    return lambda **arguments: inference(**{"input": PROMPTS, "endpoint": "chat", **arguments})


@pytest.fixture
def priced(platform, monkeypatch):
    """Gives the connection prices."""
    return lambda prices=PRICES: connect(monkeypatch, platform, extra={"retry_budget": 2, "prices": prices})


@pytest.mark.parametrize("usage", [None, {}])
def test_answers_without_tokens_have_no_cost(emissary, out, monkeypatch, usage):
    monkeypatch.setattr(emissary_platform, "USAGE", usage)
    emissary.new("deployment", ("Deployed",), name="live")
    fields = {"conn_type": "emissary", "host": emissary.url, "password": emissary.key}
    monkeypatch.setenv("AIRFLOW_CONN_PRICED", json.dumps(fields | {"extra": {"prices": PRICES}}))
    arguments = {"input": PROMPTS, "output": str(out), "model_name": "live", "emissary_conn_id": "priced"}
    with log_lines() as lines:
        infer = maker(EmissaryBatchInferenceOperator, task_id="infer", **arguments)
        sums = run_to_end(infer()).result["counts"]["sums"]
    assert "cost" not in sums
    assert sums["rows_without_cost"] == 3
    assert [line for line in lines if "cost" in line] == [
        "At the connection's prices, the cost of the tokens is not known for 3 rows."
    ]


@pytest.mark.parametrize("endpoint", ["chat", "completions"])
def test_a_row_with_an_answer_without_tokens_has_no_cost(emissary, out, monkeypatch, endpoint):
    counted = emissary_platform.USAGE
    monkeypatch.setattr(emissary_platform, "USAGE", None)
    emissary.new("deployment", ("Deployed",), name="live")
    fields = {"conn_type": "emissary", "host": emissary.url, "password": emissary.key}
    monkeypatch.setenv("AIRFLOW_CONN_PRICED", json.dumps(fields | {"extra": {"prices": PRICES}}))

    def accept_the_second(_):
        accepted = emissary_platform.USAGE is not None
        monkeypatch.setattr(emissary_platform, "USAGE", counted)
        return accepted

    arguments = {"model_name": "live", "emissary_conn_id": "priced", "endpoint": endpoint, "output": str(out)}
    infer = maker(EmissaryBatchInferenceOperator, task_id="infer", **arguments)
    sums = run_to_end(infer(input=["one"], row_retries=1, check=accept_the_second)).result["counts"]["sums"]
    tokens = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    assert sums == {**tokens, "rows_without_cost": 1}


def test_a_run_has_its_cost_in_the_manifest_the_log_the_report_and_the_lineage(chats, priced, out):
    priced()
    with log_lines() as lines:
        ended = run_to_end(chats())
    assert ended.result["counts"]["sums"]["cost"] == pytest.approx(0.024)
    assert json.loads((out / "manifest.json").read_text())["counts"]["sums"]["cost"] == pytest.approx(0.024)
    assert "At the connection's prices, the tokens cost 0.024." in lines
    assert "| cost | 0.024 |" in (out / "report.md").read_text()


def test_each_model_has_its_own_price(chats, priced, platform, out):
    first, second = platform.models[:2]
    priced({first: {"input": 1000, "output": 0}})
    given = [{"prompt": "a b", "own": first}, {"prompt": "a b c", "own": second}]
    with log_lines() as lines:
        sums = run_to_end(chats(input=given, overrides={"model_name": "own"})).result["counts"]["sums"]
    assert (sums["cost"], sums["rows_without_cost"]) == (pytest.approx(0.002), 1)
    said = "0.002, without 1 row whose cost is not known"
    assert any(said in line for line in lines)
    assert said in (out / "report.md").read_text()


def test_a_run_whose_model_has_no_price_says_so(chats, priced, out):
    priced({"another model": {"input": 1000, "output": 0}})
    with log_lines() as lines:
        sums = run_to_end(chats()).result["counts"]["sums"]
    assert ("cost" in sums, sums["rows_without_cost"]) == (False, 3)
    assert "At the connection's prices, the cost of the tokens is not known for 3 rows." in lines
    assert "| cost | not known for 3 rows |" in (out / "report.md").read_text()


def test_without_prices_there_is_no_cost(chats):
    sums = run_to_end(chats()).result["counts"]["sums"]
    assert set(sums) == {"prompt_tokens", "completion_tokens", "total_tokens"}


def test_a_batch_reports_no_tokens_and_so_no_cost(inference, priced):
    priced()
    assert run_to_end(inference(input=PROMPTS)).result["counts"]["sums"] == {}


def test_costs_of_all_tries_are_summed(chats, priced):
    priced()
    given = {"input": ["a b"] * 25, "chunk_size": 5, "max_in_flight": 1}
    with pytest.raises(BudgetExceededError):
        run_to_end(chats(max_total_tokens=1, **given))
    assert run_to_end(chats(**given)).result["counts"]["sums"]["cost"] == pytest.approx(0.2)


def test_a_row_without_a_known_cost_counts_once_however_often_it_is_paused(
    engine, chats, priced, platform, out
):
    first, second = platform.models[:2]
    priced({first: {"input": 1000, "output": 0}})
    long, accepted = "one two three four", []
    given = {
        "input": [{"prompt": "one"}, {"prompt": long, "own": second}, {"prompt": "one"}],
        "overrides": {"model_name": "own"},
        "chunk_size": 1,
        "row_retries": 1,
        "check": lambda output: output != text_for(long) or bool(accepted),
    }
    engine.tokens_per_second = (
        4  # so that a short chunk ends, and with it the budget, before the long row is answered
    )
    for budget, used, rows in ((1, 10, 1), (11, 20, 2)):
        with pytest.raises(BudgetExceededError):
            run_to_end(chats(max_total_tokens=budget, **given))
        totals = json.loads((out / "_ledger.json").read_text())["totals"]
        assert (totals["rows"], totals["sums"]["total_tokens"]) == (rows, used)
        assert totals["sums"]["rows_without_cost"] == 1
    accepted.append("yes")
    engine.tokens_per_second = 100_000
    sums = run_to_end(chats(**given)).result["counts"]["sums"]
    assert sums["cost"] == pytest.approx(0.002)
    assert (sums["total_tokens"], sums["rows_without_cost"]) == (28, 1)


@pytest.mark.parametrize("tokens", [1e13, -1, 10**400, "1e999"])
def test_a_number_of_tokens_that_is_none_counts_as_unknown(emissary, out, monkeypatch, tokens):
    usage = {"prompt_tokens": tokens, "completion_tokens": tokens, "total_tokens": tokens}
    monkeypatch.setattr(emissary_platform, "USAGE", usage)
    emissary.new("deployment", ("Deployed",), name="live")
    prices = {"*": {"input": MAX_PRICE, "output": MAX_PRICE}}
    fields = {"conn_type": "emissary", "host": emissary.url, "password": emissary.key}
    monkeypatch.setenv("AIRFLOW_CONN_PRICED", json.dumps(fields | {"extra": {"prices": prices}}))
    arguments = {"model_name": "live", "emissary_conn_id": "priced", "output": str(out), "row_usage": True}
    infer = maker(EmissaryBatchInferenceOperator, task_id="infer", **arguments)
    counts = run_to_end(infer(input=["one"])).result["counts"]
    assert (counts["ok"], counts["sums"]) == (1, dict.fromkeys(TOKENS, 0) | {"rows_without_cost": 1})


def test_a_chat_has_its_cost(platform, priced):
    priced()
    chat = maker(LaminiChatOperator, task_id="chat", messages=PROMPTS, model_name=platform.models[0])
    found = run_to_end(chat()).result
    assert (found["tokens"]["total_tokens"], found["cost"]) == (12, pytest.approx(0.024))


def test_a_chat_that_a_fallback_answers_has_the_price_of_its_connection(platform, priced, monkeypatch):
    priced()
    extra = {"prices": {platform.models[1]: {"input": 0, "output": 1}}}
    connect(monkeypatch, platform, "other", extra=extra)
    chat = maker(LaminiChatOperator, task_id="chat", messages="a b", model_name="no-such-model")
    fallback = {"fallback_model": platform.models[1], "fallback_conn_id": "other"}
    assert run_to_end(chat(**fallback)).result["cost"] == pytest.approx(0.000002)


@pytest.mark.parametrize(
    ("prices", "problem"),
    [
        ({"a": 5}, "must have input and output for each model"),
        ({"a": {"input": 1}}, "must have input and output for each model"),
        ({"a": {"input": 1, "output": 2, "cached": 3}}, "must have input and output for each model"),
        ({"a": {"input": -1, "output": 2}}, "of a: input must be a number from 0 to 1,000,000"),
        ({"a": {"input": 1e308, "output": 2}}, "of a: input must be a number from 0 to 1,000,000"),
        ({"a": {"input": 1, "output": 1_000_001}}, "of a: output must be a number from 0 to 1,000,000"),
        ('{"a": {"input": 1, "output": Infinity}}', "of a: output must be a number from 0 to 1,000,000"),
        ({"a": {"input": 1, "output": "2"}}, "of a: output must be a number from 0 to"),
        ({"a": {"input": True, "output": 2}}, "of a: input must be a number from 0 to"),
        ({"a": {"input": 10**400, "output": 2}}, "of a: input must be a number from 0 to"),
        ('{"a": {"input": NaN, "output": 2}}', "of a: input must be a number from 0 to"),
        ("[1]", "must be a JSON object"),
        ("{", "must be a JSON object"),
    ],
)
def test_wrong_prices_are_refused_before_anything_is_sent(chats, priced, platform, prices, problem):
    priced(prices)
    with pytest.raises(InvalidConnectionError, match=f"prices {problem}"):
        run_to_end(chats())
    assert posts(platform) == {}
