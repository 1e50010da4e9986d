"""What goes over the wire, the same from the client that blocks and from the one that does not."""

from __future__ import annotations

import json
import logging

import httpx
import pytest

from airflow_provider_lamini import __version__
from airflow_provider_lamini.api.call import Call, Retry
from airflow_provider_lamini.api.errors import NotFoundError, ProtocolError
from airflow_provider_lamini.platforms.lamini.api import completions, memory_rag, models, version

OK = httpx.Response(200, json={"server": "1.0"})


def test_a_request_carries_the_key_the_version_and_the_extra_headers(driver, settings, responses):
    app = responses(OK)
    found = driver.send(settings(headers={"X-Team": "blue"}), version.version(), app=app)
    assert found.server == "1.0"
    (request,) = app.requests
    assert str(request.url) == "http://platform.test/v1/version"
    assert request.headers["authorization"] == "Bearer secret-key-123"
    assert request.headers["lamini-version"] == __version__
    assert request.headers["x-team"] == "blue"


def test_an_empty_key_sends_no_authorization(driver, settings, responses):
    app = responses(OK)
    driver.send(settings(key=""), version.version(), app=app)
    assert "authorization" not in app.requests[0].headers


@pytest.mark.parametrize("base", ["http://host.test/a/b", "http://host.test/a/b/"])
def test_a_path_prefix_of_the_platform_is_kept(driver, settings, responses, base):
    app = responses(httpx.Response(200, json=[]))
    driver.send(settings(base), models.list_downloaded(), app=app)
    assert app.requests[0].url.raw_path == b"/a/b/v1alpha/downloaded_models/"


def test_an_id_with_special_characters_stays_one_segment_of_the_path(driver, settings, responses):
    app = responses(httpx.Response(200, json={}))
    driver.send(settings("http://host.test/p"), completions.streaming_result("a/../b?c#d e"), app=app)
    assert app.requests[0].url.raw_path == b"/p/v3/streaming_completions/a%2F..%2Fb%3Fc%23d%20e/result"


def test_query_parameters_are_added_to_the_url(driver, settings, responses):
    app = responses(httpx.Response(200, json={"status": "CREATED"}))
    assert driver.send(settings(), memory_rag.status_by_query("a&b"), app=app) == "CREATED"
    assert app.requests[0].url.query == b"job_id=a%26b"


def test_a_body_is_sent_as_json_in_utf_8(driver, settings, responses):
    app = responses(httpx.Response(200, json={"outputs": "x", "finish_reason": "stop"}))
    driver.send(settings(), completions.complete(model_name="m", prompt="Größe 🙂"), app=app)
    (request,) = app.requests
    assert request.headers["content-type"] == "application/json"
    assert json.loads(request.content) == {"model_name": "m", "prompt": "Größe 🙂"}


@pytest.mark.parametrize("value", [float("nan"), "half a pair: \ud800"])
def test_a_body_that_is_not_valid_json_fails_before_anything_is_sent(driver, settings, responses, value):
    call = Call(
        operation="some_op", method="POST", path="/x", parse=bytes, retry=Retry.SAFE, json={"prompt": value}
    )
    app = responses(OK)
    with pytest.raises(ValueError, match="body of some_op cannot be encoded as JSON") as caught:
        driver.send(settings(), call, app=app)
    assert "half a pair" not in str(caught.value)
    assert app.requests == []


def test_a_call_may_have_its_own_timeout(driver, settings, responses):
    app = responses(OK)
    call = Call(operation="o", method="GET", path="/x", parse=bytes, retry=Retry.SAFE, timeout=7.0)
    driver.send(settings(connect_timeout=3.0, read_timeout=5.0), version.version(), call, app=app)
    first, second = (request.extensions["timeout"] for request in app.requests)
    assert (first["connect"], first["read"]) == (3.0, 5.0)
    assert (second["connect"], second["read"]) == (3.0, 7.0)


def test_requests_are_spaced_evenly_including_retries(driver, settings, responses, fake_time):
    app = responses(OK, OK, httpx.Response(503), OK)
    calls = [version.version()] * 3
    driver.send(settings(requests_per_second=2), *calls, app=app)
    assert len(app.requests) == 4
    assert fake_time.slept[:2] == [pytest.approx(0.5), pytest.approx(0.5)]
    assert fake_time.now - 1000 >= 1.5


def test_a_warning_of_the_platform_is_logged_once(driver, settings, responses, caplog):
    """The text differs per client, as the memory of what was logged belongs to the process."""
    text = f"your client is old ({driver.kind})\r\n"
    app = responses(httpx.Response(200, json={}, headers={"X-Warning": text.strip()}))
    with caplog.at_level(logging.WARNING, "airflow_provider_lamini"):
        driver.send(settings(), version.version(), version.version(), app=app)
        driver.send(settings(), version.version(), app=app)
    assert [record.getMessage() for record in caplog.records] == [
        f"The platform at http://platform.test warns: your client is old ({driver.kind})"
    ]


def test_a_warning_of_a_refusal_is_logged_too_and_never_shows_the_key(driver, settings, responses, caplog):
    headers = {"X-Warning": f"key secret-key-123 expires soon ({driver.kind})"}
    app = responses(httpx.Response(404, headers=headers))
    with caplog.at_level(logging.WARNING, "airflow_provider_lamini"), pytest.raises(NotFoundError):
        driver.send(settings(), version.version(), app=app)
    assert "expires soon" in caplog.text
    assert "secret-key-123" not in caplog.text


def test_each_attempt_is_a_debug_line_without_key_and_prompt(driver, settings, responses, caplog):
    app = responses(httpx.Response(503), httpx.Response(200, json={"outputs": "o"}))
    with caplog.at_level(logging.DEBUG, "airflow_provider_lamini"):
        driver.send(settings(), completions.complete(model_name="m", prompt="my secret wish"), app=app)
    lines = [record.getMessage() for record in caplog.records if record.levelno == logging.DEBUG]
    assert len(lines) == 2
    assert lines[0].startswith("POST /v2/completions -> 503 in ")
    assert lines[0].endswith("attempt 1")
    assert lines[1].endswith("attempt 2")
    assert "secret" not in caplog.text


def test_a_redirect_within_the_platform_is_followed_with_method_body_and_key(driver, settings):
    def app(request):
        seen.append(request)
        if request.url.path.endswith("/"):
            return httpx.Response(200, json={"model_name": "m", "status": "available"})
        return httpx.Response(307, headers={"Location": "/v1alpha/downloaded_models/"})

    seen = []
    found = driver.send(settings(), models.download("org/m", trailing_slash=False), app=app)
    assert found.status == "available"
    assert [request.method for request in seen] == ["POST", "POST"]
    assert seen[0].content == seen[1].content != b""
    assert seen[1].headers["authorization"] == "Bearer secret-key-123"


@pytest.mark.parametrize("status", [301, 302, 307, 308])
@pytest.mark.parametrize(
    "target",
    ["https://platform.test/x", "http://other.test/x", "http://platform.test:81/x", "//other.test/x"],
)
def test_a_redirect_to_another_host_is_not_followed_and_the_error_names_it(
    driver, settings, responses, status, target
):
    app = responses(httpx.Response(status, headers={"Location": target}))
    with pytest.raises(ProtocolError, match=r"it redirects to http.*connection's address") as caught:
        driver.send(settings(headers={"X-Token": "t"}), version.version(), app=app)
    assert len(app.requests) == 1
    assert caught.value.status == status


@pytest.mark.parametrize("status", [301, 302, 303])
def test_a_redirect_that_would_turn_a_post_into_a_get_is_an_error(driver, settings, responses, status):
    app = responses(httpx.Response(status, headers={"Location": "/elsewhere"}))
    with pytest.raises(ProtocolError, match="another method") as caught:
        driver.send(settings(), completions.start_streaming(model_name="m", prompt="p"), app=app)
    assert len(app.requests) == 1
    assert caught.value.may_have_started is False


@pytest.mark.parametrize("location", ["/v1/version", "/v1/version?again", "http://[", ""])
def test_endless_redirects_are_an_error(driver, settings, responses, location):
    app = responses(httpx.Response(307, headers={"Location": location}))
    with pytest.raises(ProtocolError, match="redirects"):
        driver.send(settings(), version.version(), app=app)
    assert len(app.requests) <= 6
