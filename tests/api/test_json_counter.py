"""Counting the rows of a result while it arrives gives what parsing the whole result gives."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_lamini.api.json_counter import MAX_DEPTH, JsonCounter
from airflow_provider_lamini.api.redaction import RedactingReader
from airflow_provider_lamini.platforms.lamini.api import batches
from tests.support.growth import LINEAR, growth_of

OUTPUTS = st.one_of(
    st.text(),
    st.none(),
    st.sampled_from(['\\"', "\\", '"},{', "null,[", "finish_reason"]),
    st.dictionaries(
        st.text(), st.one_of(st.text(), st.integers(), st.lists(st.integers(), max_size=3)), max_size=3
    ),
)
SEPARATORS = st.sampled_from([(",", ":"), (", ", ": "), (" ,\n ", " :\t")])


def counted(call, content, block):
    reader = call.reader()
    for start in range(0, len(content), block):
        reader.feed(content[start : start + block])
    return reader.result()


@given(
    st.lists(st.tuples(OUTPUTS, st.sampled_from([None, "stop", "length"])), max_size=8),
    st.integers(1, 40),
    SEPARATORS,
    st.booleans(),
    st.dictionaries(st.text(), st.lists(st.text(), max_size=2), max_size=2),
)
def test_the_progress_of_a_batch_is_the_same_as_that_of_the_whole_result(
    rows, block, separators, swapped, more
):
    body = {"outputs": [row[0] for row in rows], "finish_reason": [row[1] for row in rows]}
    if swapped:
        body = dict(reversed(body.items()))
    content = json.dumps(more | body, separators=separators).encode()
    call = batches.completions_progress("b1")
    assert counted(call, content, block) == call.parse(content)


@pytest.mark.parametrize(
    "output", ['{"finish_reason": ["x"]}', '{"finish_reason": "x"}', '"\\"finish_reason\\": [null]}"', "1"]
)
def test_an_output_that_looks_like_finish_reasons_is_none(output):
    reasons = '"finish_reason": ["stop", null]'
    for body in (
        f'{{"outputs": [{output}, {output}], {reasons}}}',
        f'{{{reasons}, "outputs": [{output}, {output}]}}',
        f'{{{reasons}, "outputs": [{output}, {output}], "more": {output}}}',
    ):
        assert batches.completions_progress("b1").parse(body.encode()) == batches.BatchProgress(2, 1)


@given(
    st.one_of(
        st.lists(
            st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=2, max_size=2), max_size=6
        ),
        st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=6),
    ),
    st.integers(1, 40),
    SEPARATORS,
)
def test_vectors_are_counted_as_in_the_whole_result(vectors, block, separators):
    content = json.dumps({"model": "[1]", "embedding": vectors}, separators=separators).encode()
    call = batches.embeddings_progress("b1")
    assert counted(call, content, block) == call.parse(content)


@pytest.mark.parametrize("block", [1, 7, 1000])
@pytest.mark.parametrize(
    "content",
    [
        b"<html>",
        b"[1, 2]",
        b'{"outputs": ["a"',
        b'{"outputs": ["a"]',
        b'{"outputs": ["a"]}}',
        b'{"outputs": ["a"]} {}',
        b'{"detail": "no"}',
        b'{"outputs": "' + b"\\" * 2001 + b'"}',
        b'{"outputs": ' + b"[" * (MAX_DEPTH + 1),
    ],
)
def test_what_is_no_result_is_refused(content, block):
    with pytest.raises(ValueError, match=r"\w"):
        counted(batches.completions_progress("b1"), content, block)


DENSE = {
    "strings": b'"a",',
    "nulls": b"null,",
    "escapes": b'"' + b"\\\\" * 50 + b'",',
    "commas": b",",
    "spaces": b" ",
    "objects": b'{"a":[1]},',
    "quotes": b'"',
}


@pytest.mark.parametrize("piece", DENSE.values(), ids=DENSE)
def test_counting_takes_linear_time(piece):
    block = piece * (65_536 // len(piece))

    def count(blocks):
        counter = JsonCounter(("outputs",))
        counter.feed(b'{"outputs":[')
        for _ in range(blocks):
            counter.feed(block)

    assert growth_of(lambda: count(4), lambda: count(8)) <= LINEAR


@pytest.mark.parametrize("block", [1, 5, 64])
def test_a_secret_that_two_blocks_share_is_removed_before_a_body_is_read(block):
    class Reader:
        def __init__(self):
            self.content = b""

        def feed(self, block):
            self.content += block

        def result(self):
            return self.content

    reader = RedactingReader(Reader(), ["a-secret-of-20-chars", "short"])
    content = b'["a-secret-of-20-chars", "a-secret-of-20-char", "short", "a-secret-of-20-chars"]'
    for start in range(0, len(content), block):
        reader.feed(content[start : start + block])
    assert reader.result() == b'["***", "a-secret-of-20-char", "short", "***"]'
