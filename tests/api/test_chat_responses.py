"""Chat responses whose content is a list of parts."""

from __future__ import annotations

import json

import pytest

from airflow_provider_lamini.platforms.lamini.api import chat

PARTS = {
    "texts": ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "ab", None),
    "a refusal": ([{"type": "refusal", "refusal": "I cannot"}], "", "I cannot"),
    "no text": ([{"type": "text", "text": None}], "", None),
    "nothing": ([], "", None),
}


@pytest.mark.parametrize("name", PARTS)
def test_a_response_in_parts_is_read(name):
    content, text, refusal = PARTS[name]
    message = {"role": "assistant", "content": content}
    body = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    found = chat._parse_response(json.dumps(body).encode())
    assert (found.content, found.refusal) == (text, refusal)
