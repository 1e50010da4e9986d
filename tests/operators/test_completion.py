"""One prompt, or a few, completed within a task."""

from __future__ import annotations

import json

import pytest

from airflow_provider_lamini.api.errors import (
    AuthenticationError,
    ModelLoadingError,
    ModelNotFoundError,
    UnavailableError,
)
from airflow_provider_lamini.exceptions import AnswerError, InvalidArgumentError
from tests.support.platforms import connect, posts
from tests.support.tasks import log_lines, maker, run_to_end
from tests.support.upstream import TEXT_MODEL, instance_of, text_for

PATH = "/v2/completions"


@pytest.fixture
def complete(platform):  # noqa: ARG001 - the connection points to the platform
    """Returns a function that takes arguments and returns a factory of operators."""
    from airflow_provider_lamini.operators.completion import LaminiCompletionOperator

    return maker(LaminiCompletionOperator, task_id="complete", prompt="Say it again", model_name=TEXT_MODEL)


def test_one_prompt_returns_one_output(platform, complete):
    assert run_to_end(complete()).result == {
        "model": TEXT_MODEL,
        "output": text_for("Say it again"),
        "finish_reason": "stop",
    }
    assert posts(platform) == {f"POST {PATH}": 1}


def test_a_list_returns_outputs_in_its_order(platform, complete, engine):
    prompts = [f"prompt number {number}" for number in range(20)]
    assert run_to_end(complete(prompt=prompts, max_in_flight="3")).result == {
        "model": TEXT_MODEL,
        "outputs": [text_for(prompt) for prompt in prompts],
        "finish_reasons": ["stop"] * 20,
    }
    assert posts(platform) == {f"POST {PATH}": 20}
    assert engine.most_at_once <= 3


def test_a_list_of_one_prompt_returns_a_list(complete):
    assert run_to_end(complete(prompt=["one two"])).result["outputs"] == ["two one"]


@pytest.mark.parametrize("as_text", [False, True])
def test_an_output_type_returns_objects(complete, as_text):
    kind = {"mood": ["good", "bad"], "words": "int"}
    found = run_to_end(complete(output_type=json.dumps(kind) if as_text else kind)).result
    properties = {"mood": {"enum": ["good", "bad"]}, "words": {"type": "integer"}}
    assert found["output"] == instance_of({"type": "object", "properties": properties}, "Say it again")


def test_a_token_limit_truncates_the_output_and_says_so(complete):
    found = run_to_end(complete(max_new_tokens="2")).result
    assert (found["output"], found["finish_reason"]) == ("again it", "length")


def test_an_output_that_does_not_match_the_type_fails_the_task(platform, complete):
    with pytest.raises(AnswerError) as caught:
        run_to_end(complete(prompt=["one", "two"], output_type={"said": "str"}, max_new_tokens=1))
    message = str(caught.value)
    assert message.startswith("2 of 2 prompts got no usable answer (counted from 0): 0: ")
    assert "max_new_tokens may be too small" in message
    assert posts(platform) == {f"POST {PATH}": 2}


def test_the_error_names_only_a_few_of_many_failures(complete):
    prompts = [f"prompt {number}" for number in range(10)]
    with pytest.raises(AnswerError, match=r"10 of 10 prompts .* 2: .*; and 7 more\.") as caught:
        run_to_end(complete(prompt=prompts, output_type={"said": "str"}, max_new_tokens=1))
    assert len(str(caught.value)) < 700
    assert "prompt 1" not in str(caught.value)


def test_a_prompt_that_fails_on_the_platform_is_named_by_number(platform, complete):
    platform.control.row_fault("secret", times=None)
    with pytest.raises(UnavailableError) as caught, log_lines() as lines:
        run_to_end(complete(prompt=["a", "b", "the secret"], max_in_flight=1))
    assert not any("secret" in line for line in [*lines, str(caught.value)])
    assert "Request 3 of 3 failed." in lines


@pytest.mark.parametrize(
    ("status", "error"), [(500, UnavailableError), (594, ModelNotFoundError), (513, ModelLoadingError)]
)
def test_a_failure_of_the_platform_fails_the_task_and_a_retry_sends_all_prompts(
    platform, complete, status, error
):
    platform.control.fault(PATH, status=status, times=None)
    make = complete(prompt=["one", "two"])
    with pytest.raises(error), log_lines() as lines:
        run_to_end(make)
    assert any(line.endswith("of 2 failed.") for line in lines)
    platform.control.clear_faults()
    assert run_to_end(make).result["outputs"] == ["one", "two"]


def test_a_temporary_failure_is_retried(platform, complete):
    platform.control.fault(PATH, status=429, times=1, headers={"Retry-After": "0.1"})
    assert run_to_end(complete()).result["output"] == text_for("Say it again")
    assert posts(platform) == {f"POST {PATH}": 2}


def test_a_wrong_key_is_reported_clearly(platform, complete, monkeypatch):
    connect(monkeypatch, platform, password="not-the-key-0123456789")
    with pytest.raises(AuthenticationError, match="the key is missing or wrong") as caught:
        run_to_end(complete())
    assert "not-the-key" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("prompt", ""),
        ("prompt", "prompts/a.txt"),
        ("prompt", []),
        ("prompt", None),
        ("prompt", {"prompt": "a"}),
        ("prompt", ["a", " "]),
        ("prompt", ["a", True]),
        ("prompt", ["a"] * 101),
        ("model_name", ""),
        ("output_type", {"a": "text"}),
        ("output_type", "str"),
        ("output_type", {}),
        ("max_new_tokens", 0),
        ("max_in_flight", "many"),
        ("lamini_conn_id", ""),
    ],
)
def test_an_invalid_argument_fails_before_anything_is_sent_and_is_named(platform, complete, name, value):
    with pytest.raises(InvalidArgumentError) as caught:
        run_to_end(complete(**{name: value}))
    assert name in str(caught.value)
    assert len(str(caught.value)) < 300
    assert posts(platform) == {}


def test_parsing_a_dag_validates_nothing(complete):
    complete(prompt=None, model_name=None, output_type="{{ params.kind }}", max_new_tokens="{{ 1 + 1 }}")()
