"""Texts in which nothing can be read, wherever a blank text counts as none, and conversations in texts."""

from __future__ import annotations

import io
import json

import pytest

from airflow_provider_lamini.rows.texts import (
    all_visible,
    any_blank,
    any_conversation,
    are_plain,
    is_blank,
    is_conversation,
)

INVISIBLE = [
    "",
    " \t\r\n",
    "\x00",
    "\x1b",
    "\u00a0",
    "\u00ad",
    "\u034f",
    "\u061c",
    "\u180e",
    "\u200b",
    "\u200e\u200f",
    "\u2060 \ufeff",
    "\u2800",
    "\u3164",
    "\ufe0f",
    "\U000e0020",
]
VISIBLE = [
    "a",
    " a ",
    "\u200ba",
    "0",
    "-",
    ".",
    "\u0301",
    "\U0001f469\u200d\U0001f680",
    "\u202eabc",
    "\u0e01",
    "null",
]


@pytest.mark.parametrize("text", INVISIBLE, ids=ascii)
def test_a_text_without_a_visible_character_is_blank(text):
    assert is_blank(text)
    assert any_blank(["a", text])
    assert not all_visible(["a", text])


@pytest.mark.parametrize("text", VISIBLE, ids=ascii)
def test_any_other_text_is_not(text):
    assert not is_blank(text)
    assert not any_blank([text, "a"])


@pytest.mark.parametrize("value", [None, 0, 1.5, False, [], {}, [""], {"a": ""}, [" "]], ids=repr)
def test_another_value_is_not_blank(value):
    assert not is_blank(value)
    assert not any_blank([value])


@pytest.mark.parametrize("value", [{"messages": []}, [{"role": "user"}], 1, None, []], ids=repr)
def test_what_may_be_a_conversation_or_no_text_is_not_certainly_visible(value):
    assert not all_visible(["a", value])


@pytest.mark.parametrize("kind", ["string", "large_string", "string_view", "binary", "dictionary"])
@pytest.mark.parametrize("text", ["", "\u200b", " \u3164"], ids=ascii)
def test_parquet_finds_a_blank_text_of_each_type(tmp_path, kind, text):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    from airflow_provider_lamini.rows.sources.source import open_source

    values = pa.array(["a", text])
    values = values.dictionary_encode() if kind == "dictionary" else values.cast(getattr(pa, kind)())
    file = io.BytesIO()
    parquet.write_table(pa.table({"prompt": values}), file)
    path = tmp_path / "r.parquet"
    path.write_bytes(file.getvalue())
    (batch,) = open_source(str(path)).batches(columns=["prompt"])
    assert batch.has_blank("prompt")


MESSAGES = [{"role": "user", "content": "Hi"}]


@pytest.mark.parametrize(
    "value",
    [
        MESSAGES,
        {"messages": MESSAGES},
        [{"from": "human", "value": "Hi"}],
        [{"role": "assistant", "tool_calls": []}],
        json.dumps(MESSAGES),
        f"\n {json.dumps({'conversations': MESSAGES})}",
        str(MESSAGES),
    ],
    ids=str,
)
def test_a_value_that_is_a_conversation_is_recognized(value):
    assert is_conversation(value)
    assert any_conversation(["a text", value])
    assert not are_plain(["a text", value])


@pytest.mark.parametrize(
    "value",
    [
        "a role",
        "[1]",
        '{"role": "user"}',
        '[{"role": "user"}]',
        "[{'role': ",
        [],
        {},
        [{"role": "user"}],
        None,
    ],
    ids=str,
)
def test_another_value_is_not(value):
    assert not is_conversation(value)
    assert not any_conversation([value])
