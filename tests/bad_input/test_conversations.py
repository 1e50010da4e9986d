"""Conversations where a text is needed: as lists, and as the texts that a CSV file or a database has instead."""

from __future__ import annotations

import csv
import io
import json

import pytest

from airflow_provider_lamini.exceptions import InvalidArgumentError
from tests.bad_input.test_inputs import OPERATORS, columns_of, row, run, sent

SYSTEM = {"role": "system", "content": "Be brief."}
QUESTION = {"role": "user", "content": "Where is my [parcel]?"}
CALL = {"role": "assistant", "tool_calls": [{"id": "1"}]}
SHARE_GPT = [{"from": "human", "value": "Hello"}, {"from": "gpt", "value": "Hi"}]
CONVERSATIONS = {
    "a list": [SYSTEM, QUESTION],
    "a body": {"messages": [QUESTION], "temperature": 0},
    "a call of a tool": [QUESTION, CALL],
    "ShareGPT": SHARE_GPT,
    "a body of ShareGPT": {"conversations": SHARE_GPT},
}
OTHERS = {
    "a text in brackets": "[sic] the role of a user",
    "other JSON": json.dumps([{"role": "user"}, {"from": "a", "to": "b"}]),
    "an object": json.dumps({"role": "user", "content": "a"}),
    "an empty list": "[]",
    "broken JSON": '[{"role": "user", "content": "a"}',
    "a conversation and a text": json.dumps([QUESTION]) + " Summarize.",
}


def put_csv(world, columns, *values) -> str:
    file = io.StringIO()
    writer = csv.DictWriter(file, columns)
    writer.writeheader()
    writer.writerows(row(columns, value) for value in values)
    world.put("r.csv", file.getvalue().encode())
    return "{here}/r.csv"


@pytest.mark.parametrize("kind", CONVERSATIONS)
@pytest.mark.parametrize("operator", OPERATORS)
def test_a_conversation_is_not_sent_as_json(world, operator, kind):
    columns, value = columns_of(operator), CONVERSATIONS[kind]
    with pytest.raises(InvalidArgumentError, match=r"has a conversation\..*write a template around it"):
        run(world, operator, [row(columns, value)], prompt=columns[0])
    with pytest.raises(
        InvalidArgumentError, match=r"has a conversation\..*write a template around it"
    ) as caught:
        run(world, operator, put_csv(world, columns, json.dumps(value)), prompt=f"{{{columns[0]}}}")
    assert ("Rename 'from'" in str(caught.value)) == ("ShareGPT" in kind)
    assert sent(world) == []


@pytest.mark.parametrize("operator", OPERATORS)
def test_a_conversation_among_texts_is_a_bad_row(world, operator):
    columns = columns_of(operator)
    value = put_csv(world, columns, "a", json.dumps([QUESTION]), "b")
    run(world, operator, value, prompt=columns[0], on_bad_row="error", max_failed_rows=1)
    assert sent(world) == ["a", "b"]


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize("operator", ["completions", "batch", "upload"])
def test_other_texts_in_brackets_are_sent(world, operator, kind):
    columns = columns_of(operator)
    run(world, operator, put_csv(world, columns, OTHERS[kind]), prompt=columns[0])
    assert sent(world) == [OTHERS[kind]]


def test_a_list_as_python_writes_it_is_named(world):
    with pytest.raises(
        InvalidArgumentError, match=r"has a conversation\. Write it as JSON\. Pass messages='prompt'"
    ):
        run(world, "chat", put_csv(world, ["prompt"], str([QUESTION])))


@pytest.mark.parametrize("value", [[SYSTEM, QUESTION], json.dumps([SYSTEM, QUESTION])])
def test_a_system_prompt_makes_no_text_of_a_conversation(world, value):
    with pytest.raises(InvalidArgumentError, match="has a conversation"):
        run(world, "chat", [{"prompt": value}], system="Be kind.")


@pytest.mark.parametrize("value", [[SYSTEM, QUESTION], {"messages": [QUESTION]}])
def test_the_text_of_a_conversation_is_sent_as_one(world, value):
    run(world, "chat", put_csv(world, ["talk"], json.dumps(value)), prompt=None, messages="talk")
    ((_, body),) = world.platform.bodies
    assert body["messages"] == (value if isinstance(value, list) else value["messages"])
