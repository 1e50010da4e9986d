"""One conversation, or a few, answered within a task."""

from __future__ import annotations

import pytest

from airflow_provider_lamini.api.errors import AuthenticationError, BadRequestError, UnavailableError
from airflow_provider_lamini.exceptions import AnswerError, InvalidArgumentError
from tests.support.platforms import connect, posts
from tests.support.tasks import log_lines, maker, run_to_end
from tests.support.upstream import TEXT_MODEL, instance_of, text_for

PATH = "/inf/chat/completions"
CONVERSATION = [
    {"role": "user", "content": "who are you"},
    {"role": "assistant", "content": "a model"},
    {"role": "user", "content": "since when then"},
]


@pytest.fixture
def chat(platform):  # noqa: ARG001 - the connection points to the platform
    """Returns a function that takes arguments and returns a factory of operators."""
    from airflow_provider_lamini.operators.chat import LaminiChatOperator

    return maker(LaminiChatOperator, task_id="chat", messages="how are you", model_name=TEXT_MODEL)


def test_one_message_returns_one_answer_and_the_tokens(platform, chat):
    assert run_to_end(chat()).result == {
        "model": TEXT_MODEL,
        "output": text_for("how are you"),
        "finish_reason": "stop",
        "tokens": {"prompt_tokens": 3, "completion_tokens": 3, "total_tokens": 6},
    }
    assert posts(platform) == {f"POST {PATH}": 1}


def test_a_conversation_returns_one_answer(chat, engine):
    found = run_to_end(chat(messages=CONVERSATION)).result
    assert found["output"] == text_for("since when then")
    assert engine.bodies[-1]["messages"] == CONVERSATION


def test_a_list_of_texts_and_conversations_returns_answers_in_its_order(platform, chat):
    found = run_to_end(chat(messages=["one two", CONVERSATION, "three four"])).result
    assert found == {
        "model": TEXT_MODEL,
        "outputs": ["two one", text_for("since when then"), "four three"],
        "finish_reasons": ["stop"] * 3,
        "tokens": {"prompt_tokens": 7, "completion_tokens": 7, "total_tokens": 14},
    }
    assert posts(platform) == {f"POST {PATH}": 3}


def test_the_system_prompt_comes_first(chat, engine):
    run_to_end(chat(messages=[CONVERSATION, "one"], system="You are terse.", max_in_flight=1))
    system = {"role": "system", "content": "You are terse."}
    assert [body["messages"] for body in engine.bodies] == [
        [system, *CONVERSATION],
        [system, {"role": "user", "content": "one"}],
    ]


def test_an_output_type_returns_objects(chat):
    found = run_to_end(chat(output_type={"mood": ["good", "bad"], "loud": "bool"})).result
    properties = {"mood": {"enum": ["good", "bad"]}, "loud": {"type": "boolean"}}
    assert found["output"] == instance_of({"type": "object", "properties": properties}, "how are you")


def test_arguments_reach_the_platform(chat, engine):
    found = run_to_end(chat(temperature="0.5", max_new_tokens="2", cache_ttl="120")).result
    assert (found["output"], found["finish_reason"]) == ("you are", "length")
    assert engine.bodies[-1]["temperature"] == 0.5
    assert engine.bodies[-1]["max_tokens"] == 2


def test_the_number_of_concurrent_requests_is_limited(chat, engine):
    engine.tokens_per_second = 100
    run_to_end(chat(messages=[f"one two {number}" for number in range(12)], max_in_flight=3))
    assert engine.most_at_once <= 3


def test_an_answer_that_does_not_match_the_type_fails_the_task(chat):
    with pytest.raises(AnswerError, match=r"1 of 1 prompt .* max_new_tokens may be too small"):
        run_to_end(chat(output_type={"said": "str"}, max_new_tokens=1))


def test_a_refused_conversation_fails_the_task(platform, chat):
    platform.control.fault(PATH, status=400, times=1, skip=1)
    with pytest.raises(BadRequestError), log_lines() as lines:
        run_to_end(chat(messages=["the secret one", "the secret two"], max_in_flight=1))
    assert "Request 2 of 2 failed." in lines
    assert not any("secret" in line for line in lines)


def test_a_retry_sends_all_conversations(platform, chat):
    platform.control.fault(PATH, status=503, times=None)
    make = chat(messages=["one two", "three four"])
    with pytest.raises(UnavailableError):
        run_to_end(make)
    platform.control.clear_faults()
    assert run_to_end(make).result["outputs"] == ["two one", "four three"]


def test_a_wrong_key_is_reported_clearly(platform, chat, monkeypatch):
    connect(monkeypatch, platform, password="not-the-key-0123456789")
    with pytest.raises(AuthenticationError, match="the key is missing or wrong") as caught:
        run_to_end(chat())
    assert "not-the-key" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("messages", ""),
        ("messages", []),
        ("messages", None),
        ("messages", "prompts/a.txt"),
        ("system", "prompts/a.j2"),
        ("messages", {"role": "user", "content": "a"}),
        ("messages", [{"role": "user"}]),
        ("messages", [{"role": "", "content": "a"}]),
        ("messages", [{"role": "user", "content": [5]}]),
        ("messages", [{"role": "user", "content": "a"}, "b"]),
        ("messages", ["a", []]),
        ("messages", ["a", None]),
        ("messages", ["a"] * 101),
        ("model_name", None),
        ("system", ""),
        ("temperature", -0.1),
        ("temperature", "warm"),
        ("temperature", float("nan")),
        ("max_new_tokens", "0"),
        ("cache_ttl", -1),
        ("max_in_flight", 0),
        ("output_type", {"a": []}),
    ],
)
def test_an_invalid_argument_fails_before_anything_is_sent_and_is_named(platform, chat, name, value):
    with pytest.raises(InvalidArgumentError) as caught:
        run_to_end(chat(**{name: value}))
    assert name in str(caught.value)
    assert len(str(caught.value)) < 300
    assert posts(platform) == {}


def test_parsing_a_dag_validates_nothing(chat):
    chat(messages=None, model_name=None, output_type="{{ params.kind }}", temperature="{{ 1 + 1 }}")()
