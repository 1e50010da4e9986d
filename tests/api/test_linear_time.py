"""Every function that works on a text from outside takes linear time: twice the text, at most 2.5 times the time."""

from __future__ import annotations

import json
from contextlib import suppress
from io import BytesIO

import pytest

from airflow_provider_lamini.api import failures, redaction, schema
from airflow_provider_lamini.api.dialect import Dialect
from airflow_provider_lamini.api.retry import parse_retry_after
from airflow_provider_lamini.corpus import documents
from airflow_provider_lamini.platforms.lamini.api import (
    batches,
    completions,
    training,
    training_list,
)
from airflow_provider_lamini.rows.answers import lenient
from airflow_provider_lamini.rows.prompts.template import PromptTemplate
from airflow_provider_lamini.rows.sources.source import open_source
from tests.support.growth import LINEAR, growth_of

pytestmark = pytest.mark.faults

DIALECT = Dialect()
STARTED_AT = 1_700_000_000.0


def text_of(piece):
    return lambda size: (piece * (size // len(piece) + 1))[:size]


TEXTS = {
    "spaces": text_of(" "),
    "letters": text_of("a"),
    "digits": text_of("9"),
    "lines": text_of("\r\n"),
    "quotes": text_of('"'),
    "commas": text_of('",'),
    "backslashes": text_of("\\"),
    "braces": text_of("{"),
    "brackets": text_of("["),
    "objects": text_of('{"a":1},'),
    "escaped objects": text_of('},{\\"'),
    "tokens": text_of("hf_aaaaaaaaaaaaaaaa "),
    "half tokens": text_of("hf_"),
    "bearers": text_of("bearer "),
    "users": text_of("://a"),
    "ats": text_of("a@://"),
    "tags": text_of("<a "),
    "sentences": text_of("a. "),
    "thoughts": text_of("<think>"),
    "fences": text_of("```"),
    "words": text_of("current status: a "),
}


def quietly(function):
    def call(text):
        with suppress(ValueError, RecursionError):
            function(text)

    return call


def streamed(call):
    def read(text):
        reader = call.reader()
        content = b'{"outputs":["' + text.encode()
        for start in range(0, len(content), 65_536):
            reader.feed(content[start : start + 65_536])
        reader.result()

    return read


def sent(text):
    return redaction.redact(
        text,
        secrets=["a-secret-of-20-chars"],
        sent={"prompt": [text, text[: len(text) // 2]]},
        dialect=DIALECT,
    )


def from_file(folder, suffix):
    def read(text):
        path = folder / f"rows{suffix}"
        path.write_text(f"prompt\n{text}" if suffix == ".csv" else text, newline="")
        list(open_source(str(path)).read())

    return read


def train_job(history):
    return training.TrainJob(job_id="1", status="RUNNING", history=history)


FUNCTIONS = {
    "remove_tokens": redaction.remove_tokens,
    "remove_secrets": lambda text: redaction.remove_secrets(text.encode(), ["a-secret-of-20-chars"]),
    "redact": sent,
    "redact_file": lambda text: redaction.redact_file(failures_part(text), text[:300]),
    "detail_of": lambda text: failures.detail_of(text.encode(), "text/plain"),
    "detail_of JSON": lambda text: failures.detail_of(
        json.dumps({"detail": [{"msg": text}] * 9}).encode(), ""
    ),
    "retry-after": lambda text: parse_retry_after(text, STARTED_AT),
    "retry-after date": lambda text: parse_retry_after(f"Mon, 01 Jan 2024 {text}", STARTED_AT),
    "decode": lambda text: schema.decode(text.encode()),
    "completions": lambda text: completions.read_completions(text.encode()),
    "batch progress": streamed(batches.completions_progress("1")),
    "vectors": streamed(batches.embeddings_progress("1")),
    "list of jobs": lambda text: training_list.list_all({"1"}, str).parse(
        b'[{"job_id": 1}, {"a": "' + text.encode()
    ),
    "object in an output": lenient.object_in,
    "last step": lambda text: train_job(text).last_step(),
    "steps": lambda text: train_job(text).steps(),
    "prompt template": PromptTemplate.parse,
    "text splitter": lambda text: list(documents.pieces(text, 2000)),
}


def failures_part(text):
    from airflow_provider_lamini.api.call import FilePart

    return FilePart("name", lambda: BytesIO(text.encode()))


def slowest_growth(function):
    """The worst growth for any text."""

    def growth(text):
        half, whole = text(60_000), text(120_000)
        return growth_of(lambda: function(half), lambda: function(whole))

    return max((growth(text), name) for name, text in TEXTS.items())


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
def test_a_function_of_a_text_takes_linear_time(function):
    growth, text = slowest_growth(quietly(function))
    assert growth <= LINEAR, text


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_reading_rows_takes_linear_time(tmp_path, suffix):
    growth, text = slowest_growth(quietly(from_file(tmp_path, suffix)))
    assert growth <= LINEAR, text
