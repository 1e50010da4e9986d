"""Who answers if a model or a platform is not available, and when nobody else may."""

from __future__ import annotations

import re

import pytest

from airflow_provider_lamini.api.errors import AuthenticationError, BadRequestError, UnavailableError
from airflow_provider_lamini.exceptions import AnswerError, InvalidArgumentError
from airflow_provider_lamini.hooks.connection import InvalidConnectionError
from airflow_provider_lamini.operators.chat import LaminiChatOperator
from airflow_provider_lamini.operators.completion import LaminiCompletionOperator
from tests.support.platforms import connect, posts
from tests.support.tasks import execute, log_lines
from tests.support.upstream import TEXT_MODEL, text_for

OPERATORS = {
    "completion": (LaminiCompletionOperator, "prompt", "/v2/completions"),
    "chat": (LaminiChatOperator, "messages", "/inf/chat/completions"),
}
DOWN = {"conn_type": "lamini", "host": "http://127.0.0.1:1", "extra": {"retry_budget": 0.2}}

pytestmark = [pytest.mark.any_airflow, pytest.mark.parametrize("kind", OPERATORS)]


@pytest.fixture
def ask(kind, platform, monkeypatch):
    """Returns a function that runs the operator. Connection ``down`` leads nowhere, ``spare`` to the platform."""
    connect(monkeypatch, platform, "down", **DOWN)
    connect(monkeypatch, platform, "spare")

    def run(texts="hello there", **given):
        operator, argument, _ = OPERATORS[kind]
        return execute(operator(task_id="ask", **{argument: texts, "model_name": TEXT_MODEL} | given))

    return run


def test_an_outage_is_answered_by_the_other_connection_and_said_in_the_log(ask):
    with log_lines() as lines:
        found = ask(lamini_conn_id="down", fallback_conn_id="spare")
    assert found["output"] == text_for("hello there")
    assert (found["model"], found["fallback"], found["conn_id"]) == (TEXT_MODEL, True, "spare")
    (warning,) = [line for line in lines if "is not available" in line]
    assert (
        f"{TEXT_MODEL} on connection down is not available; asking {TEXT_MODEL} on connection spare"
        in warning
    )
    assert "hello" not in warning


def test_a_model_that_does_not_exist_is_replaced_at_once(ask, kind, platform):
    if kind == "chat":  # its platform answers 404 or 594 by the model
        platform.control.fault(OPERATORS[kind][2], status=594, contains="no/such", times=None)
    found = ask(texts=["one two", "three four"], model_name="no/such", fallback_model=TEXT_MODEL)
    assert found["outputs"] == ["two one", "four three"]
    assert (found["model"], found["fallback"]) == (TEXT_MODEL, True)


def test_5xx_after_all_retries_is_an_outage(ask, kind, platform):
    path = OPERATORS[kind][2]
    platform.control.fault(path, status=503, contains="first/model", times=None)
    found = ask(model_name="first/model", fallback_model=TEXT_MODEL)
    assert found["model"] == TEXT_MODEL
    assert posts(platform)[f"POST {path}"] >= 3  # the first one was asked again before


def test_a_first_model_that_answers_leaves_the_fallback_alone(ask, kind, platform):
    found = ask(fallback_model="never/asked")
    assert (found["model"], found["fallback"]) == (TEXT_MODEL, False)
    assert posts(platform) == {f"POST {OPERATORS[kind][2]}": 1}


def test_without_a_fallback_the_result_is_as_before(ask):
    assert not {"fallback", "conn_id"} & set(ask())


def test_a_chain_of_connections_is_tried_in_its_order(ask, platform, monkeypatch):
    connect(monkeypatch, platform, "down_too", **DOWN)
    with log_lines() as lines:
        found = ask(lamini_conn_id="down", fallback_conn_id=["down_too", "spare"])
    assert (found["conn_id"], found["fallback"], found["model"]) == ("spare", True, TEXT_MODEL)
    asked = [line.partition("asking ")[2].partition(" instead")[0] for line in lines if "; asking" in line]
    assert asked == [f"{TEXT_MODEL} on connection {name}" for name in ("down_too", "spare")]


@pytest.mark.parametrize("named", ["down_too, spare", ["down_too", "spare"]])
def test_a_connection_may_name_its_fallbacks_itself(ask, platform, monkeypatch, named):
    connect(monkeypatch, platform, "down_too", **DOWN)
    connect(monkeypatch, platform, "down", **DOWN | {"extra": {**DOWN["extra"], "fallback_conn_ids": named}})
    found = ask(lamini_conn_id="down")
    assert (found["conn_id"], found["fallback"], found["model"]) == ("spare", True, TEXT_MODEL)


@pytest.mark.parametrize("given", [{"fallback_model": "other"}, {"fallback_conn_id": "down_too"}])
def test_what_a_task_names_replaces_the_fallbacks_of_its_connection(ask, platform, monkeypatch, given):
    connect(monkeypatch, platform, "down_too", **DOWN)
    connect(
        monkeypatch, platform, "down", **DOWN | {"extra": {**DOWN["extra"], "fallback_conn_ids": "spare"}}
    )
    with pytest.raises(UnavailableError):
        ask(lamini_conn_id="down", **given)
    assert posts(platform) == {}


@pytest.mark.parametrize(
    ("named", "words"),
    [
        ("loop", f"fallback_conn_ids of connection loop name {TEXT_MODEL} on loop, which is tried already"),
        ("a,,b", "fallback_conn_ids must be names with commas between them"),
        ([7], "fallback_conn_ids must be names with commas between them"),
        ([f"c{number}" for number in range(11)], "has 11 entries; 1 to 10 are allowed"),
    ],
)
def test_wrong_fallbacks_of_a_connection_are_named_before_anything_is_sent(
    ask, platform, monkeypatch, named, words
):
    connect(monkeypatch, platform, "loop", extra={"fallback_conn_ids": named})
    with pytest.raises((InvalidArgumentError, InvalidConnectionError), match=re.escape(words)):
        ask(lamini_conn_id="loop")
    assert posts(platform) == {}


def test_of_two_chains_one_entry_of_each_makes_a_fallback(ask, kind, platform):
    if kind == "chat":
        platform.control.fault(OPERATORS[kind][2], status=594, contains="no/such", times=None)
    models = ["no/such-b", TEXT_MODEL]
    found = ask(model_name="no/such", fallback_model=models, fallback_conn_id=["spare", "lamini_default"])
    assert (found["model"], found["conn_id"]) == (TEXT_MODEL, "lamini_default")
    assert posts(platform)[f"POST {OPERATORS[kind][2]}"] == 3


def test_a_chain_of_models_uses_one_connection(ask, kind, platform):
    if kind == "chat":
        platform.control.fault(OPERATORS[kind][2], status=594, contains="no/such", times=None)
    found = ask(model_name="no/such", fallback_model=["no/such-b", TEXT_MODEL], fallback_conn_id="spare")
    assert (found["model"], found["conn_id"]) == (TEXT_MODEL, "spare")


def test_chains_of_different_lengths_are_refused(ask, platform):
    with pytest.raises(InvalidArgumentError, match="has 2 entries and fallback_conn_id 3"):
        ask(fallback_model=["a", "b"], fallback_conn_id=["spare", "down", "lamini_default"])
    assert posts(platform) == {}


@pytest.mark.parametrize("status", [408, 501])
def test_a_platform_that_is_too_slow_or_cannot_do_it_is_replaced(ask, kind, platform, status):
    platform.control.fault(OPERATORS[kind][2], status=status, contains="no/such", times=None)
    found = ask(model_name="no/such", fallback_model=TEXT_MODEL)
    assert (found["model"], found["fallback"]) == (TEXT_MODEL, True)


@pytest.mark.parametrize(("status", "error"), [(400, BadRequestError), (401, AuthenticationError)])
def test_a_refusal_is_no_outage(ask, kind, platform, status, error):
    path = OPERATORS[kind][2]
    platform.control.fault(path, status=status, times=1)
    with pytest.raises(error):
        ask(fallback_model="never/asked")
    assert posts(platform) == {f"POST {path}": 1}


def test_an_answer_that_does_not_fit_is_no_outage(ask, kind, platform):
    with pytest.raises(AnswerError):
        ask(check=lambda _: False, fallback_model="never/asked")
    assert posts(platform) == {f"POST {OPERATORS[kind][2]}": 1}


def test_if_the_fallback_is_down_too_its_error_is_raised(ask, monkeypatch, platform):
    connect(monkeypatch, platform, "down_too", **DOWN)
    with pytest.raises(UnavailableError), log_lines() as lines:
        ask(lamini_conn_id="down", fallback_conn_id="down_too")
    assert any("asking" in line for line in lines)


@pytest.mark.parametrize("given", [{"fallback_model": TEXT_MODEL}, {"fallback_conn_id": "lamini_default"}])
def test_a_fallback_to_the_same_is_refused_before_anything_is_sent(ask, platform, given):
    with pytest.raises(InvalidArgumentError, match="fallback_model and fallback_conn_id name"):
        ask(**given)
    assert posts(platform) == {}


def test_a_wrong_connection_of_the_fallback_is_found_before_it_is_needed(ask, platform, monkeypatch):
    connect(monkeypatch, platform, "broken", password="")
    with pytest.raises(InvalidConnectionError, match="broken"):
        ask(fallback_conn_id="broken")
    assert posts(platform) == {}
