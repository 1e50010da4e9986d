"""Conversations, parameters, overrides by column and typed output, on each endpoint that takes them."""

from __future__ import annotations

import csv
import json
from enum import Enum
from typing import Literal, Optional

import pytest
from pydantic import BaseModel, Field

from airflow_provider_lamini.exceptions import AnswerError, InvalidArgumentError, TooManyFailedRowsError
from airflow_provider_lamini.operators.chat import LaminiChatOperator
from airflow_provider_lamini.operators.completion import LaminiCompletionOperator
from airflow_provider_lamini.operators.evaluate import LaminiEvaluateOperator
from airflow_provider_lamini.runs.answer_policy import parse_output_type
from tests.support.platforms import posts
from tests.support.tasks import WAITING, maker, run_to_end
from tests.support.upstream import TEXT_MODEL, instance_of, text_for

pytestmark = pytest.mark.any_airflow

ENDPOINTS = ("batch", "completions", "chat")
SYSTEM = {"role": "system", "content": "You are terse."}
QUESTION = {"role": "user", "content": "one two three"}
ANSWER = {"role": "assistant", "content": "three two one"}
PARAMETERS = {"temperature": "0.5", "top_p": 0.9, "seed": "7", "stop": "two"}
SENT = {"temperature": 0.5, "top_p": 0.9, "seed": 7, "stop": ["two"]}


class Mood(Enum):
    GOOD = "good"
    BAD = "bad"


class Review(BaseModel):
    """A shape that every endpoint can decode."""

    mood: Mood
    kind: Literal["bug", "wish"]
    stars: int


class Person(BaseModel):
    name: str
    age: int | None = None


class Minutes(BaseModel):
    """A shape that only a JSON Schema describes."""

    people: list[Person]
    length: float = Field(ge=0)


NESTED = {
    "type": "object",
    "properties": {
        "title": {"type": "string"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "author": {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]},
    },
    "required": ["title", "tags", "author"],
}


@pytest.fixture
def chat(inference):
    """Like ``inference``, on the chat endpoint, one request after the other."""
    return lambda **changes: inference(endpoint="chat", max_in_flight=1, **changes)


@pytest.fixture
def evaluate(platform, out):  # noqa: ARG001 - the connection leads there
    return maker(
        LaminiEvaluateOperator,
        task_id="evaluate",
        input=[{"input": "one two", "output": "two one"}],
        model_name=TEXT_MODEL,
        output=str(out),
        endpoint="chat",
        max_in_flight=1,
        **WAITING,
    )


def asked(engine):
    """What each request asked the engine, without what is the same for all."""
    return [{key: value for key, value in body.items() if key != "model"} for body in engine.bodies]


def messages_of(engine):
    return [body["messages"] for body in engine.bodies]


def test_parameters_and_extra_fields_reach_a_chat(chat, engine, rows):
    run_to_end(chat(input=["one two three"], **PARAMETERS, extra_body={"repetition_penalty": 1.1}))
    (body,) = asked(engine)
    assert {name: body[name] for name in SENT} == SENT
    assert body["repetition_penalty"] == 1.1
    assert [row["output"] for row in rows()] == ["three"]


@pytest.mark.parametrize("endpoint", ["batch", "completions"])
@pytest.mark.parametrize("name", [*PARAMETERS, "system", "messages"])
def test_endpoints_that_take_no_such_parameter_refuse_it(platform, inference, endpoint, name):
    value = {"system": "You are terse.", "messages": "messages"}.get(name) or PARAMETERS[name]
    with pytest.raises(InvalidArgumentError, match=rf"^{name} needs .*chat.*: /v\d/\w+ takes"):
        run_to_end(inference(endpoint=endpoint, **{name: value}))
    assert posts(platform) == {}


@pytest.mark.parametrize("name", [*PARAMETERS, "system"])
def test_a_completion_refuses_them_as_well(platform, name):
    value = {**PARAMETERS, "system": "You are terse."}[name]
    operator = LaminiCompletionOperator(task_id="c", prompt="p", model_name=TEXT_MODEL, **{name: value})
    with pytest.raises(InvalidArgumentError, match=f"^{name} needs a chat endpoint"):
        run_to_end(lambda: operator)
    assert posts(platform) == {}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"temperature": "hot"}, "temperature must be a number of at least 0, not 'hot'"),
        ({"temperature": -1}, "temperature must be"),
        ({"top_p": 0}, "top_p must be a number above 0 and up to 1, not 0"),
        ({"top_p": 1.5}, "top_p must be"),
        ({"seed": 1.5}, "seed must be a whole number"),
        ({"seed": True}, "seed must be"),
        ({"stop": ""}, "stop must be a text, or a list of texts"),
        ({"stop": ["a", 1]}, "stop must be"),
        ({"extra_body": {"stream": True}}, "extra_body must not have 'stream'"),
        ({"extra_body": {"n": 2}}, "extra_body must not have 'n'"),
        ({"extra_body": {"temperature": 1}}, "pass the argument temperature instead"),
        ({"extra_body": {"max_tokens": 5}}, "pass the argument max_new_tokens instead"),
        ({"extra_body": {"response_format": {}}}, "pass the argument output_type instead"),
        ({"extra_body": "x"}, "extra_body is a text that is not JSON"),
        ({"overrides": {"mood": "m"}}, "overrides has 'mood'"),
        ({"overrides": {"seed": ""}}, "overrides: the column of seed"),
        ({"last_answer": "keep"}, "last_answer must be one of drop, send"),
        ({"messages": ""}, "messages must be a text"),
        ({"system": "Hi {nobody}"}, "no column 'nobody'"),
        ({"system": "Hi { prompt }"}, "The system prompt has { prompt }"),
        ({"system": "{prompt:.2f}"}, "Did you mean {prompt}?"),
        ({"system": "{tags[0]}"}, "The system prompt has {tags[0]}, which looks like a placeholder"),
        ({"system": "{{nobody}}"}, "double braces belong to Jinja"),
        (
            {"system": "prompts/summary.txt"},
            "system: the file 'prompts/summary.txt' is not in the Dag's folder",
        ),
        ({"system": "summary.j2"}, "system: the file 'summary.j2' is not"),
        ({"check": "no.such.check"}, "check: 'no.such.check' cannot be imported"),
        ({"check": 5}, "check must be a callable"),
        ({"strict_output": "maybe"}, "strict_output must be true or false"),
        ({"messages": "talk", "prompt": "Summarize {x}"}, "prompt and messages exclude each other"),
        ({"fail_on_length": "maybe"}, "fail_on_length must be true or false"),
        (
            {"accept_answers": ["timeout"]},
            "accept_answers must be one of empty, filtered, refused, tool_calls",
        ),
        ({"accept_answers": 5}, "accept_answers must be a list of empty"),
    ],
)
def test_a_wrong_argument_is_refused_before_anything_is_sent(platform, chat, arguments, message):
    with pytest.raises(InvalidArgumentError) as caught:
        run_to_end(chat(input=[{"prompt": "one"}], **arguments))
    assert message in str(caught.value)
    assert posts(platform) == {}


@pytest.mark.parametrize("endpoint", ["batch", "completions"])
def test_other_endpoints_take_only_their_own_extra_fields(platform, inference, engine, endpoint):
    run_to_end(inference(endpoint=endpoint, input=["one two three"], extra_body={"max_tokens": 5}))
    assert asked(engine)[0]["max_tokens"] == 1  # the prompt counts, too
    sent = dict(posts(platform))
    for extra in ({"top_k": 5}, {"max_tokens": "many"}, {"max_tokens": 0}):
        with pytest.raises(InvalidArgumentError, match="extra_body"):
            run_to_end(inference(endpoint=endpoint, extra_body=extra, on_other_run="replace"))
    assert posts(platform) == sent


CONVERSATIONS = [
    ([QUESTION], [QUESTION]),
    ([SYSTEM, QUESTION], [SYSTEM, QUESTION]),
    ([SYSTEM, QUESTION, ANSWER], [SYSTEM, QUESTION]),
    ([QUESTION, ANSWER, QUESTION], [QUESTION, ANSWER, QUESTION]),
    ([QUESTION, {**ANSWER, "weight": 0}, QUESTION, ANSWER], [QUESTION, ANSWER, QUESTION]),
    ([{**QUESTION, "name": "ann"}], [{**QUESTION, "name": "ann"}]),
    ([{**QUESTION, "content": [{"type": "text", "text": "one two three"}]}], [QUESTION]),
    ([{**QUESTION, "tool_calls": None}], [QUESTION]),
    ({"messages": [QUESTION]}, [QUESTION]),
]


@pytest.mark.parametrize(("given", "sent"), CONVERSATIONS)
@pytest.mark.parametrize("form", ["list", "jsonl", "csv", "parquet"])
def test_a_column_with_a_conversation_sends_it(chat, engine, tmp_path, form, given, sent):  # noqa: PLR0917
    source = tmp_path / f"input.{form}"
    if form == "csv":
        with source.open("w", newline="") as file:
            csv.writer(file).writerows([["id", "talk"], ["1", json.dumps(given)]])
    elif form == "parquet":
        pyarrow = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        parquet.write_table(pyarrow.Table.from_pylist([{"id": "1", "talk": given}]), source)
    else:
        source.write_text(json.dumps({"id": "1", "talk": given}) + "\n")
    rows = [{"id": "1", "talk": given}] if form == "list" else str(source)
    run_to_end(chat(input=rows, messages="talk", passthrough=["id"]))
    assert messages_of(engine) == [sent]


def test_a_last_answer_can_be_sent_to_be_continued(chat, engine):
    run_to_end(chat(input=[{"talk": [QUESTION, ANSWER]}], messages="talk", last_answer="send"))
    assert messages_of(engine) == [[QUESTION, ANSWER]]


BATCH_FILE = [
    {
        "custom_id": f"request-{number}",
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {
            "model": "gpt-4o-mini",
            "messages": [SYSTEM, {"role": "user", "content": f"one two {number}"}],
            "max_tokens": 2,
            "temperature": 0.25,
            "logit_bias": {"5": 1},
            "stream": False,
        },
    }
    for number in range(3)
]


def test_an_openai_batch_file_is_understood(chat, engine, tmp_path, rows):
    source = tmp_path / "batch.jsonl"
    source.write_text("".join(json.dumps(line) + "\n" for line in BATCH_FILE))
    run_to_end(chat(input=str(source), messages="body", passthrough=["custom_id"], temperature=1))
    assert [row["output"] for row in rows()] == [f"{number} two" for number in range(3)]
    assert [row["custom_id"] for row in rows()] == ["request-0", "request-1", "request-2"]
    for number, body in enumerate(engine.bodies):
        assert body == {
            "model": TEXT_MODEL,
            "messages": BATCH_FILE[number]["body"]["messages"],
            "max_tokens": 2,
            "temperature": 0.25,
            "logit_bias": {"5": 1},
        }


@pytest.mark.parametrize(
    "parts",
    [
        [{"type": "text", "text": "one "}, {"type": "text", "text": "two"}],
        [{"type": "input_text", "text": "one two"}],
        ["one ", {"type": "text", "text": "two"}],
    ],
    ids=["texts", "of another API", "a plain text"],
)
def test_parts_that_are_texts_are_one_text(chat, engine, parts):
    run_to_end(chat(input=[{"talk": [{"role": "user", "content": parts}]}], messages="talk"))
    assert [body["messages"] for body in engine.bodies] == [[{"role": "user", "content": "one two"}]]


BAD_CONVERSATIONS = [
    ([], "has no messages"),
    ([ANSWER], "has only the model's answer"),
    (["one"], "message 0 that is not an object"),
    ([{"content": "x"}], "message 0 without a 'role'"),
    ([{"from": "human", "value": "x"}], "rename 'from' to 'role' and 'value' to 'content'"),
    ([{"role": "user"}], "message 0 whose 'content' is not a text"),
    ([{"role": "user", "content": None}], "whose 'content' is not a text"),
    ([{"role": "user", "content": 5}], "whose 'content' is not a text"),
    ([{"role": "user", "content": [{"type": "image_url"}]}], "parts that are not texts"),
    ("not json", "is a text that is not JSON"),
    ("5", "must be a list of messages"),
    (5, "must be a list of messages"),
    ({"input": "x", "model": "m"}, "the bodies of embeddings and responses"),
    ({"conversations": [{"from": "human", "value": "x"}]}, "rename 'conversations'"),
    ({"messages": [QUESTION], "stream": True}, "asks for a stream"),
    ({"messages": [QUESTION], "n": 3}, "asks for several answers"),
    ({"messages": [QUESTION], "temperature": "hot"}, "has 'temperature', which must be a number"),
    ({"messages": [QUESTION], "system": "Be brief."}, "make it the first message, with the role 'system'"),
    ([{"role": "User", "content": "x"}], "message 0 whose 'role' must be 'user'"),
    ([{"role": "human", "content": "x"}], "message 0 whose 'role' must be 'user'"),
    ([QUESTION, {"role": "ai", "content": "x"}], "message 1 whose 'role' must be 'assistant'"),
    ([QUESTION, {"role": "model", "content": "x"}], "message 1 whose 'role' must be 'assistant'"),
]


@pytest.mark.parametrize(("value", "message"), BAD_CONVERSATIONS)
def test_what_is_no_conversation_is_refused_with_its_row(platform, chat, value, message):
    rows = [{"talk": [QUESTION]}, {"talk": value}]
    with pytest.raises(InvalidArgumentError) as caught:
        run_to_end(chat(input=rows, messages="talk"))
    assert "row 1" in str(caught.value)
    assert message in str(caught.value)
    assert posts(platform) == {}


def test_an_empty_list_of_stops_is_none(chat, engine, rows):
    run_to_end(chat(input=[{"talk": {"messages": [QUESTION], "stop": []}}], messages="talk"))
    assert "stop" not in engine.bodies[0]
    assert rows()[0]["error"] is None


def test_a_bad_conversation_or_parameter_may_fail_alone(chat, engine, rows):
    given = [
        {"talk": [QUESTION], "heat": "0.5"},
        {"talk": "not json", "heat": None},
        {"talk": [QUESTION], "heat": "hot"},
        {"talk": None, "heat": None},
        {"talk": [{"role": "user", "content": " "}], "heat": None},
    ]
    run_to_end(
        chat(
            input=given,
            messages="talk",
            overrides={"temperature": "heat"},
            on_bad_row="error",
            max_failed_rows=None,
            row_retries=0,
        )
    )
    assert messages_of(engine) == [[QUESTION]]
    assert [row["output"] is None for row in rows()] == [False, True, True, True, True]
    assert "is a text that is not JSON" in rows()[1]["error"]
    assert "the row's temperature, must be a number" in rows()[2]["error"]
    assert "ends with an empty message" in rows()[4]["error"]


def test_a_response_format_of_a_row_contradicts_an_output_type(chat, engine):
    rows = [{"body": {"messages": [QUESTION], "response_format": {"type": "json_object"}}}]
    run_to_end(chat(input=rows, messages="body"))
    assert "response_format" in engine.bodies[0]
    with pytest.raises(
        InvalidArgumentError, match="has a 'response_format', and the operator has an output_type"
    ):
        run_to_end(chat(input=rows, messages="body", output_type={"a": "str"}, on_other_run="replace"))


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize(
    ("prompt", "column"), [("prompt",) * 2, ("messages",) * 2, ("{messages}", "messages")]
)
@pytest.mark.parametrize(
    "value",
    [[SYSTEM, QUESTION], {"model": "gpt", "messages": [QUESTION]}, json.dumps([SYSTEM, QUESTION], indent=1)],
)
def test_a_conversation_never_becomes_the_json_text_of_a_prompt(inference, endpoint, prompt, column, value):
    with pytest.raises(InvalidArgumentError, match=rf"has a conversation\. Pass messages='{column}'"):
        run_to_end(inference(endpoint=endpoint, prompt=prompt, input=[{column: value}]))


def test_rows_that_hold_conversations_are_recognized_where_a_prompt_is_missing(inference):
    with pytest.raises(InvalidArgumentError, match="pass messages='messages' with endpoint='chat'"):
        run_to_end(inference(input=[{"messages": [QUESTION]}]))
    with pytest.raises(InvalidArgumentError, match="OpenAI batch file: pass messages='body'"):
        run_to_end(inference(input=BATCH_FILE))


def test_a_template_may_still_have_a_list_of_objects(inference, rows):
    run_to_end(inference(prompt="Summarize: {talk}", input=[{"talk": [QUESTION]}]))
    assert rows()[0]["output"] == text_for("Summarize: " + json.dumps([QUESTION], separators=(",", ":")))


def test_the_system_prompt_is_that_of_conversations_without_one(chat, engine):
    own = {"role": "developer", "content": "Be kind."}
    rows = [{"talk": [QUESTION]}, {"talk": [own, QUESTION]}]
    run_to_end(chat(input=rows, messages="talk", system="You are terse."))
    assert messages_of(engine) == [[SYSTEM, QUESTION], [own, QUESTION]]


def test_the_system_prompt_may_have_columns(chat, engine):
    rows = [{"prompt": "one", "shop": "Bean"}, {"prompt": "two", "shop": 7}]
    run_to_end(chat(input=rows, system="You work for {shop}."))
    assert [messages[0] for messages in messages_of(engine)] == [
        {"role": "system", "content": f"You work for {shop}."} for shop in ("Bean", "7")
    ]
    assert [messages[1]["content"] for messages in messages_of(engine)] == ["one", "two"]


def test_a_system_prompt_without_columns_keeps_its_braces(chat, engine):
    run_to_end(chat(input=["one"], system='Answer as \\{"a": 1\\}.'))
    assert messages_of(engine)[0][0]["content"] == 'Answer as {"a": 1}.'


def test_a_system_prompt_may_have_columns_with_any_name(chat, engine):
    rows = [{"prompt": "one", "Price (USD)": "7", "2024": "y"}]
    run_to_end(chat(input=rows, system='{Price (USD)} in {2024}: {"a": 1}.'))
    assert messages_of(engine)[0][0]["content"] == '7 in y: {"a": 1}.'


@pytest.mark.parametrize("form", ["list", "csv"])
def test_a_row_sets_its_own_parameters_by_column(chat, engine, tmp_path, form):
    rows = [
        {"prompt": "a b", "heat": "0.1", "limit": "1", "persona": "Be Ann.", "end": ""},
        {"prompt": "c d", "heat": "", "limit": "", "persona": "", "end": "c"},
    ]
    if form == "csv":
        with (tmp_path / "in.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    run_to_end(
        chat(
            input=rows if form == "list" else str(tmp_path / "in.csv"),
            temperature=0.7,
            max_new_tokens=9,
            overrides={"temperature": "heat", "max_new_tokens": "limit", "system": "persona", "stop": "end"},
        )
    )
    first, second = asked(engine)
    assert (first["temperature"], first["max_tokens"], first.get("stop")) == (0.1, 1, None)
    assert first["messages"][0] == {"role": "system", "content": "Be Ann."}
    assert (second["temperature"], second["max_tokens"], second["stop"]) == (0.7, 9, ["c"])
    assert second["messages"] == [{"role": "user", "content": "c d"}]


def test_completions_take_the_tokens_of_a_row_and_batches_nothing(inference, rows):
    given = [{"prompt": "a b c", "limit": 1}, {"prompt": "a b c", "limit": None}]
    run_to_end(inference(endpoint="completions", input=given, overrides={"max_new_tokens": "limit"}))
    assert [row["output"] for row in rows()] == ["c", "c b a"]
    with pytest.raises(InvalidArgumentError, match="the rows of a job share all parameters"):
        run_to_end(inference(input=given, overrides={"max_new_tokens": "limit"}, on_other_run="replace"))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "a", "heat": "hot"}, "column 'heat', the row's temperature, must be a number"),
        ({"prompt": "a", "heat": True}, "column 'heat', the row's temperature, must be a number"),
        ({"prompt": "a", "heat": [1]}, "column 'heat', the row's temperature, must be a number"),
    ],
)
def test_a_parameter_of_a_row_is_validated_before_anything_is_sent(platform, chat, row, message):
    with pytest.raises(InvalidArgumentError) as caught:
        run_to_end(chat(input=[{"prompt": "a", "heat": 1}, row], overrides={"temperature": "heat"}))
    assert message in str(caught.value)
    assert "row 1" in str(caught.value)
    assert "hot" not in str(caught.value)
    assert posts(platform) == {}


def test_an_override_needs_its_column(platform, chat):
    with pytest.raises(InvalidArgumentError, match="no column 'heat'"):
        run_to_end(chat(overrides={"temperature": "heat"}))
    assert posts(platform) == {}


CHANGES = [
    {"temperature": 0.1},
    {"top_p": 0.1},
    {"seed": 1},
    {"stop": "x"},
    {"system": "Be kind."},
    {"system": "Be {kind}."},
    {"extra_body": {"top_k": 3}},
    {"overrides": {"seed": "number"}},
    {"last_answer": "send", "messages": "talk"},
    {"messages": "talk"},
    {"strict_output": True, "output_type": {"a": "str"}},
    {"fail_on_length": True},
    {"check": "builtins.bool"},
]


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_everything_that_decides_the_results_belongs_to_the_fingerprint(platform, chat, change):
    rows = [{"prompt": "a b", "kind": "kind", "number": 5, "talk": [QUESTION]}]
    before = {"output_type": {"a": "str"}} if "output_type" in change else {}
    run_to_end(chat(input=rows, **before))
    sent = dict(posts(platform))
    with pytest.raises(InvalidArgumentError, match="settings"):
        run_to_end(chat(input=rows, **(before | change)))
    assert posts(platform) == sent


def test_the_same_arguments_go_on_where_a_try_ended(platform, chat):
    rows = [{"prompt": "a b", "number": 5}]
    arguments = {"input": rows, "system": "Be {number}.", "overrides": {"seed": "number"}, **PARAMETERS}
    run_to_end(chat(**arguments))
    sent = dict(posts(platform))
    assert run_to_end(chat(**arguments)).result["counts"]["ok"] == 1
    assert posts(platform) == sent


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("kind", [Review, "tests.operators.review_model.Review", Review.model_json_schema()])
def test_a_flat_model_is_decoded_on_every_endpoint(inference, rows, endpoint, kind):
    run_to_end(inference(endpoint=endpoint, input=["one two"], output_type=kind))
    (row,) = rows()
    assert row["error"] is None
    assert row["output"]["mood"] in ("good", "bad")
    assert row["output"]["kind"] in ("bug", "wish")
    assert type(row["output"]["stars"]) is int


@pytest.mark.parametrize(
    "kind", [Review, {"tags": list[str], "n": int}, {"mood": Mood, "kind": Literal["a", "b"]}], ids=repr
)
def test_rendering_templates_calls_no_class_of_an_output_type(inference, kind):
    task = inference(output_type=kind)()
    before = parse_output_type(task.output_type)
    task.render_template_fields({})
    assert parse_output_type(task.output_type) == before


@pytest.mark.parametrize("kind", [Mood, Literal["good", "bad"]], ids=["an enum", "Literal"])
def test_allowed_values_of_python_are_those_of_a_list(kind):
    assert parse_output_type({"mood": kind}) == parse_output_type({"mood": ["good", "bad"]})


@pytest.mark.parametrize("kind", [int | None, Optional[int], int | str], ids=repr)  # noqa: UP045 - both spellings
def test_several_types_are_refused_with_what_to_pass(kind):
    with pytest.raises(InvalidArgumentError, match=r"a field that may be .*pydantic model.*'anyOf'"):
        parse_output_type({"n": kind})


@pytest.mark.parametrize(
    "kind", [NESTED, Minutes, {"tags": "list[str]"}, {"tags": list[str]}, json.dumps(NESTED)], ids=repr
)
def test_nested_objects_and_lists_are_decoded_by_a_chat_and_refused_elsewhere(inference, chat, engine, kind):
    for endpoint in ("batch", "completions"):
        with pytest.raises(InvalidArgumentError, match="output_type needs a chat endpoint"):
            run_to_end(inference(endpoint=endpoint, output_type=kind))
    assert engine.bodies == []
    result = run_to_end(chat(input=["one two"], output_type=kind, max_failed_rows=1)).result
    assert engine.bodies[0]["response_format"]["type"] == "json_schema"
    assert result["counts"]["rows"] == 1


def test_an_answer_of_a_nested_shape_is_validated(chat, rows):
    run_to_end(chat(input=["one two"], output_type=NESTED))
    assert rows()[0]["output"] == instance_of(NESTED, "one two")


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize(
    "kind", [{"tags": ["str"]}, '{"tags": ["str"]}', {"tags": [str]}, {"a": "int", "tags": ["string"]}]
)
def test_a_list_of_a_type_is_refused_with_both_readings(platform, inference, endpoint, kind):
    with pytest.raises(InvalidArgumentError) as caught:
        run_to_end(inference(endpoint=endpoint, output_type=kind))
    assert "'tags' may mean a list of str values, or the word 'str" in str(caught.value)
    assert "write 'list[str]'" in str(caught.value)
    assert posts(platform) == {}


def test_that_word_alone_can_be_asked_for(inference, rows):
    kind = {"type": "object", "properties": {"w": {"enum": ["str"]}}, "required": ["w"]}
    run_to_end(inference(input=["one"], output_type=kind))
    assert rows()[0]["output"] == {"w": "str"}


def check_that_it_has_two(output):
    return "two" in output or "there is no two"


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("check", [check_that_it_has_two, "tests.operators.review_model.has_two"])
def test_a_check_decides_about_each_row(inference, rows, error_rows, endpoint, check):
    ended = run_to_end(
        inference(endpoint=endpoint, input=["one two", "one"], check=check, max_failed_rows=1, row_retries=1)
    )
    assert [row["output"] for row in rows()] == ["two one", None]
    assert [row["error"] for row in error_rows()] == ["there is no two"]
    assert ended.result["counts"]["failures"] == {"check_failed": 1}
    assert ended.result["counts"]["retried"] == 1


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_an_output_that_was_cut_fails_its_row_if_it_should(inference, rows, endpoint):
    given = {"endpoint": endpoint, "input": ["one two", "one"], "max_new_tokens": 1, "row_retries": 0}
    ended = run_to_end(inference(**given, fail_on_length=True, max_failed_rows=1))
    assert [row["output"] for row in rows()] == [None, "one"]
    assert ended.result["counts"]["failures"] == {"truncated": 1}
    with pytest.raises(TooManyFailedRowsError):
        run_to_end(inference(**given, fail_on_length="true", on_other_run="replace"))


@pytest.mark.usefixtures("platform")
def test_a_chat_operator_takes_the_same(engine):
    chat = maker(LaminiChatOperator, task_id="chat", messages="one two three", model_name=TEXT_MODEL)
    found = run_to_end(chat(**PARAMETERS, extra_body={"top_k": 5})).result
    assert found["output"] == "three"
    assert {name: engine.bodies[0][name] for name in SENT} == SENT
    assert engine.bodies[0]["top_k"] == 5
    assert run_to_end(chat(output_type=NESTED)).result["output"] == instance_of(NESTED, "one two three")
    with pytest.raises(AnswerError, match="too long"):
        run_to_end(chat(check=lambda output: "too long" if len(output) > 3 else None))
    with pytest.raises(AnswerError, match="token limit"):
        run_to_end(chat(max_new_tokens=1, fail_on_length=True))


def test_an_evaluation_refuses_what_only_looks_like_a_column(evaluate, engine):
    with pytest.raises(InvalidArgumentError, match=r"The system prompt has \{score:\.2f\}, which looks like"):
        run_to_end(evaluate(system="{score:.2f}"))
    assert engine.bodies == []


def test_an_evaluation_takes_the_same(evaluate, engine):
    run_to_end(evaluate(system="You are terse.", **{**PARAMETERS, "stop": "nothing"}))
    assert messages_of(engine) == [[SYSTEM, {"role": "user", "content": "one two"}]]
    assert engine.bodies[0]["seed"] == 7


def test_an_evaluation_of_conversations_takes_their_last_answer_as_right(evaluate, engine):
    rows = [
        {"messages": [SYSTEM, QUESTION, ANSWER]},
        {"messages": [QUESTION, {**ANSWER, "content": "wrong"}]},
    ]
    ended = run_to_end(evaluate(input=rows, messages="messages"))
    assert messages_of(engine) == [[SYSTEM, QUESTION], [QUESTION]]
    assert ended.result["metrics"]["model"]["exact_match"] == 0.5


def test_an_evaluation_may_have_the_right_answer_in_a_column(evaluate):
    rows = [{"messages": [QUESTION], "right": "three two one"}]
    ended = run_to_end(evaluate(input=rows, messages="messages", answer="right"))
    assert ended.result["metrics"]["model"]["exact_match"] == 1


def test_an_evaluation_needs_a_right_answer_in_each_conversation(platform, evaluate):
    rows = [{"messages": [QUESTION, ANSWER]}, {"messages": [QUESTION]}]
    with pytest.raises(InvalidArgumentError, match=r"row 1 .*does not end with the right answer"):
        run_to_end(evaluate(input=rows, messages="messages"))
    assert posts(platform) == {}
