"""A list that a template has rendered to text is not a prompt: where one text may be sent, it is refused."""

from __future__ import annotations

import json

import pytest

from airflow_provider_lamini.exceptions import InvalidArgumentError
from tests.bad_input.test_inputs import sent

CONVERSATION = [{"role": "user", "content": "it's a"}]
TEXTS = {
    "Python's texts": str(["a", "it's b"]),
    "JSON's texts": json.dumps(["a", "b"], indent=1),
    "Python's rows": str([{"prompt": "a", "n": None}]),
    "JSON's rows": json.dumps([{"prompt": "a", "n": None}]),
    "Python's pages": str([["a"], ["b"]]),
    "a conversation of Python": f" {CONVERSATION}\n",
    "a conversation of JSON": json.dumps(CONVERSATION),
}
SINGLE = {
    "completion": ("CompletionOperator", "prompt"),
    "chat": ("ChatOperator", "messages"),
    "embedding": ("EmbeddingOperator", "input"),
    "classification": ("ClassifyOperator", "input"),
}


def run(world, operator, value):
    name, argument = SINGLE[operator]
    world.run(name, {argument: value, **({"output": None} if argument == "input" else {})})


@pytest.mark.parametrize("kind", TEXTS)
@pytest.mark.parametrize("operator", SINGLE)
def test_the_text_of_a_list_is_refused_with_the_remedy(world, operator, kind):
    remedy = rf"{SINGLE[operator][1]} is the text of a list.*render_template_as_native_obj.*pass a list with this text"
    with pytest.raises(InvalidArgumentError, match=remedy):
        run(world, operator, TEXTS[kind])
    assert sent(world) == []


@pytest.mark.parametrize("operator", ["completion", "embedding", "classification"])
def test_in_a_list_it_is_sent(world, operator):
    run(world, operator, [TEXTS["JSON's texts"]])
    assert sent(world) == [TEXTS["JSON's texts"]]


@pytest.mark.parametrize("operator", SINGLE)
@pytest.mark.parametrize(
    "text",
    [
        "[1, 2]",
        "[]",
        "[INST] a [/INST]",
        "['a'",
        "[a] and [b]",
        "Sort ['b', 'a']",
        "[" * 100_000 + "]" * 100_000,
    ],
)
def test_other_texts_in_brackets_are_sent(world, operator, text):
    run(world, operator, text)
    assert sent(world) == [text]


@pytest.mark.parametrize(
    "text", [str(CONVERSATION), json.dumps(CONVERSATION), json.dumps({"messages": CONVERSATION})]
)
def test_the_text_of_a_conversation_is_none(world, text):
    for value in (text, ["a", text]):
        with pytest.raises(InvalidArgumentError, match=r"is the text of a (list|conversation)"):
            run(world, "chat", value)
    assert sent(world) == []
