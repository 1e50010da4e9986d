"""What an error says: the platform's reason, short, in one line, and nothing that was sent."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from airflow_provider_lamini.api import errors
from airflow_provider_lamini.api.call import Call, Retry
from airflow_provider_lamini.api.client import AsyncClient, Client
from airflow_provider_lamini.api.redaction import MAX_LENGTH, redact
from airflow_provider_lamini.api.settings import ClientSettings
from airflow_provider_lamini.platforms.lamini.api import batches, chat, completions, training, version
from airflow_provider_lamini.platforms.lamini.platform import LAMINI_DIALECT

READ_VERSION = version.version()
START = batches.start_completions(model_name="m", prompt=["p"])
SECRET = "The patient Erika Mustermann, born 1964, has been given"


@pytest.fixture
def failure(driver, settings, responses):
    """Send a call with this response; return the error."""

    def fail(response, call=READ_VERSION):
        with pytest.raises(errors.PlatformError) as caught:
            driver.send(settings(retry_budget=0.0, model_loading_budget=0.0), call, app=responses(response))
        return caught.value

    return fail


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({"detail": "the model is unknown"}, "the model is unknown"),
        ({"detail": ""}, ""),
        ({"detail": None}, ""),
        ({}, ""),
        ([], ""),
        (None, ""),
        (5, ""),
        ("just words", "just words"),
        ({"message": "said elsewhere"}, "said elsewhere"),
        ({"error": {"message": "as OpenAI says it", "type": "x"}}, "as OpenAI says it"),
        ({"detail": {"message": "nested"}}, "nested"),
        ({"detail": ["one", "two"]}, "one; two"),
        ({"detail": "two\nlines\x00 and\tmore"}, "two lines and more"),
        (
            {
                "detail": [
                    {"loc": ["body", "prompt", 3], "msg": "too long", "type": "v", "input": SECRET},
                    {"loc": ["query", "job_id"], "msg": "not a number", "type": "v", "ctx": {"x": SECRET}},
                ]
            },
            "prompt.3: too long; query.job_id: not a number",
        ),
        ({"detail": [{"loc": "model_name", "msg": "missing"}]}, "model_name: missing"),
        ({"detail": [{"loc": None, "msg": None}, 7, None]}, ""),
    ],
)
def test_the_platforms_reason_is_found_in_every_form(failure, body, detail):
    error = failure(httpx.Response(422, json=body))
    assert error.detail == detail
    assert detail in str(error)
    assert SECRET not in str(error)


@pytest.mark.parametrize(
    ("content", "content_type", "detail"),
    [
        (b"<html><h1>502 Bad Gateway</h1></html>", "text/html; charset=utf-8", "a web page instead of JSON"),
        (b"  <!DOCTYPE html><p>x", "", "a web page instead of JSON"),
        (b"upstream connect error", "text/plain", "upstream connect error"),
        (b"\x00\xff\x13binary", "application/octet-stream", ""),
        (b"", "application/json", ""),
        (b'{"detail": "cut', "application/json", ""),
    ],
)
def test_a_body_that_is_not_json_gives_a_short_neutral_reason(failure, content, content_type, detail):
    error = failure(httpx.Response(502, content=content, headers={"content-type": content_type}))
    assert error.detail.startswith(detail) if detail else "web page" not in error.detail
    assert "<" not in str(error)
    assert isinstance(error, errors.UnavailableError)


def test_an_error_names_call_status_and_request(failure):
    response = httpx.Response(404, json={"detail": "no such batch"}, headers={"X-Request-Id": "req-7"})
    error = failure(response, batches.completions_result("b9"))
    assert (error.status, error.method, error.request_id) == (404, "GET", "req-7")
    assert error.path == "/v1/batch_completions/b9/result"
    assert error.operation == "batch_completion_result_v1_batch_completions__id__result_get"
    assert str(error).startswith(
        "Check the connection's address, with its path prefix, and the id. "
        "The platform answered GET /v1/batch_completions/b9/result with 404 (no such path or object): no such batch."
    )


@pytest.mark.parametrize(
    "response",
    [
        httpx.Response(400, json={"detail": f"key secret-key-123 may not, said of {SECRET}"}),
        httpx.Response(400, json={"detail": f"value was {SECRET[:30]!r}..."}),
        httpx.Response(400, text=f"cannot parse: {SECRET}"),
        httpx.Response(
            422, json={"detail": [{"loc": ["body", "x"], "msg": f"bad: {SECRET}", "input": SECRET}]}
        ),
        httpx.Response(200, json={"outputs": [SECRET, SECRET], "finish_reason": "secret-key-123"}),
        httpx.Response(200, json={"outputs": SECRET, "finish_reason": {SECRET: "secret-key-123"}}),
        httpx.Response(200, json={SECRET: "secret-key-123"}),
        httpx.Response(200, text=SECRET),
    ],
)
@pytest.mark.parametrize(
    "call",
    [
        completions.complete(model_name="m", prompt=SECRET),
        completions.complete(model_name="m", prompt=["x", SECRET, "y"]),
        chat.complete(model="m", messages=[{"role": "user", "content": SECRET}]),
        training.train(model_name="m", data=[{"input": SECRET, "output": "y"}]),
    ],
    ids=["prompt", "prompts", "chat", "rows"],
)
def test_errors_contain_neither_the_key_nor_what_was_sent(failure, response, call):
    error = failure(response, call)
    for text in (str(error), error.detail, repr(vars(error))):
        assert "secret-key-123" not in text
        assert "Mustermann" not in text


def test_errors_may_contain_the_name_of_a_model(failure):
    call = completions.complete(model_name="meta-llama/Llama-3.2-3B-Instruct", prompt="p")
    response = httpx.Response(594, json={"detail": "meta-llama/Llama-3.2-3B-Instruct is not here"})
    error = failure(response, call)
    assert isinstance(error, errors.ModelNotFoundError)
    assert error.detail == "meta-llama/Llama-3.2-3B-Instruct is not here"


def test_a_long_reason_is_shortened(failure):
    error = failure(httpx.Response(400, json={"detail": "word " * 10_000}))
    assert len(error.detail) == MAX_LENGTH
    assert error.detail.endswith("...")


@given(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=24, max_size=200),
    st.text(max_size=60),
    st.text(max_size=60),
    st.integers(0, 100),
)
def test_no_long_piece_of_a_prompt_passes_the_redaction(prompt, before, after, start):
    piece = prompt[start % (len(prompt) - 23) :]
    line = redact(
        before + piece + after, secrets=(), sent={"prompt": ["other", prompt]}, dialect=LAMINI_DIALECT
    )
    flat = " ".join("".join(char if char.isprintable() else " " for char in piece).split())
    assert all(flat[place : place + 24] not in line for place in range(len(flat) - 23))


def test_an_endless_error_body_is_not_read_completely(failure):
    def blocks():
        for _ in range(1000):
            taken.append(1)
            yield b"x" * 65536

    class Endless(httpx.SyncByteStream, httpx.AsyncByteStream):
        def __iter__(self):
            return blocks()

        async def __aiter__(self):
            for block in blocks():
                yield block

    taken = []
    error = failure(lambda _: httpx.Response(500, stream=Endless()))
    assert isinstance(error, errors.UnavailableError)
    assert len(taken) < 5


@pytest.mark.parametrize(
    ("response", "words"),
    [
        (httpx.Response(200, html="<p>Welcome to the login page</p>"), "it is a web page"),
        (httpx.Response(200, content=b"<html>"), "it is a web page"),
        (httpx.Response(200, content=b""), "it is empty"),
        (httpx.Response(204), "it is empty"),
        (httpx.Response(200, content=b'{"id": "x'), "JSON"),
        (httpx.Response(200, content=b"\xff\xfe"), "JSON"),
        (httpx.Response(200, json={"job": 1}), "id: Field required"),
        (httpx.Response(200, json=["b1"]), "object"),
        (httpx.Response(200, json={"id": ""}), "id: "),
    ],
)
def test_an_invalid_successful_response_is_a_protocol_error(failure, response, words):
    """And the work that was asked for may well have begun."""
    error = failure(response, START)
    assert isinstance(error, errors.ProtocolError)
    assert words in str(error)
    assert error.may_have_started is True
    assert "Welcome" not in str(error)
    if isinstance(error, errors.NotThePlatformError):
        assert str(error).startswith("Check the connection's host, port and path prefix")


DEEP = b"[" * 100_000
STATUSES = st.integers(100, 199).map(lambda _: 200) | st.integers(200, 599)


@pytest.mark.parametrize(
    "call",
    [
        READ_VERSION,
        START,
        batches.completions_result("b"),
        batches.completions_progress("b"),
        training.list_jobs(),
    ],
    ids=lambda call: call.operation,
)
@hypothesis_settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    status=STATUSES,
    content=st.binary(max_size=200),
    kind=st.sampled_from(["", "text/html", "application/json"]),
)
@example(status=200, content=DEEP, kind="")
@example(status=422, content=DEEP, kind="application/json")
@example(status=422, content=b'{"detail": [{"loc": [["a"]], "msg": [1]}]}', kind="")
@example(status=200, content=b'{"outputs": 5, "finish_reason": [[]]}', kind="")
def test_garbage_always_raises_a_platform_error(call, status, content, kind):
    config = ClientSettings(
        dialect=LAMINI_DIALECT,
        base_url="http://platform.test",
        key="k",
        retry_budget=0.0,
        model_loading_budget=0.0,
    )

    def app(_):
        return httpx.Response(status, content=content, headers={"content-type": kind, "location": "/"})

    async def run():
        async with AsyncClient(config, transport=httpx.MockTransport(app)) as client:
            await client.send(call)

    def block():
        with Client(config, transport=httpx.MockTransport(app)) as client:
            client.send(call)

    outcomes = []
    for attempt in (block, lambda: asyncio.run(run())):
        try:
            attempt()
        except errors.PlatformError as error:
            outcomes.append((type(error), str(error)))
        else:
            outcomes.append((None, ""))
    assert outcomes[0] == outcomes[1]


def test_an_error_of_our_own_code_is_not_a_platform_error(driver, settings):
    def read(_):
        raise KeyError("a mistake in a reader")

    call = Call(operation="o", method="GET", path="/", parse=read, retry=Retry.SAFE)
    with pytest.raises(KeyError):
        driver.send(settings(), call, app=lambda _: httpx.Response(200))
