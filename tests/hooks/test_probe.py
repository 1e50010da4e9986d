"""Testing a connection: one sentence for each way in which it can be wrong."""

from __future__ import annotations

import asyncio
import socket
import time
from importlib import import_module
from importlib.util import find_spec

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS

from airflow_provider_lamini.hooks.single_request import probe
from airflow_provider_lamini.platforms.lamini.platform import PLATFORM

KEY = "lamini-test-key-0123456789"


def test_a_valid_connection_passes(platform, connect):
    hook = connect(host=platform.url)
    assert hook.test_connection() == (
        True,
        f"{platform.url} responds and accepts the key; models downloaded: 2.",
    )
    ((path, headers),) = platform.seen
    assert path == "/v1alpha/downloaded_models/"
    assert headers["Authorization"] == f"Bearer {KEY}"


def test_a_valid_connection_to_emissary_passes_and_a_wrong_key_does_not(platform, connect):
    hook = connect(conn_type="emissary", host=platform.url)
    assert hook.test_connection() == (
        True,
        f"{platform.url} responds and accepts the key; base models: 2.",
    )
    ((path, headers),) = platform.seen
    assert path == "/v1/models"
    assert headers["X-API-Key"] == KEY
    assert "Authorization" not in headers
    refused = connect(conn_type="emissary", host=platform.url, password="another-key-0123456789")
    assert refused.test_connection() == (
        False,
        f"{platform.url} responds, but refuses the key (401): check API key (password).",
    )


def test_a_path_prefix_is_kept(platform, connect):
    assert connect(host=f"{platform.url}/llm/").test_connection()[0]
    assert platform.seen[0][0] == "/llm/v1alpha/downloaded_models/"


def test_a_wrong_key_is_reported_after_one_request(platform, connect):
    hook = connect(host=platform.url, password="another-key-0123456789")
    assert hook.test_connection() == (
        False,
        f"{platform.url} responds, but refuses the key (401): check API key (password).",
    )
    assert len(platform.seen) == 1


@pytest.mark.parametrize(
    ("response", "said"),
    [
        ((200, "text/html", "<html>Sign in</html>"), "does not respond like a Lamini platform"),
        ((200, "application/json", '"hello"'), "does not respond like a Lamini platform"),
        ((404, "text/html", "<html>nothing here</html>"), "has no Lamini API there (404)"),
        ((403, "application/json", "{}"), "refuses the key (403)"),
        ((503, "text/html", "<html>maintenance</html>"), "503"),
        ((500, "application/json", '{"detail": ""}'), "500"),
    ],
)
def test_a_response_of_something_else_is_reported(platform, connect, response, said):
    platform.response = response
    passed, sentence = connect(host=platform.url).test_connection()
    assert not passed
    assert said in sentence
    assert len(platform.seen) == 1
    assert "<html" not in sentence


def test_a_refused_connection_is_reported(connect):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        passed, sentence = connect(host="127.0.0.1", schema="http", port=port).test_connection()
    assert not passed
    assert f"http://127.0.0.1:{port} could not be reached" in sentence
    assert "refused" in sentence


def test_an_unknown_host_is_reported(connect):
    passed, sentence = connect(host="lamini.invalid").test_connection()
    assert not passed
    assert "https://lamini.invalid could not be reached" in sentence
    assert "host name" in sentence


def test_a_self_signed_certificate_is_reported(tls_platform, connect):
    passed, sentence = connect(host=tls_platform.url).test_connection()
    assert not passed
    assert "certificate is not trusted" in sentence
    assert tls_platform.seen == []


def test_a_certificate_is_accepted_with_its_ca_or_without_verification(tls_platform, connect, certificate):
    trusted = connect("trusted", host=tls_platform.url, extra={"ca_path": str(certificate[0])})
    unverified = connect("unverified", host=tls_platform.url, extra={"verify": "false"})
    assert trusted.test_connection()[0]
    assert unverified.test_connection()[0]


def test_https_to_a_plain_http_server_is_reported(platform, connect):
    passed, sentence = connect(host="127.0.0.1", port=platform.port).test_connection()
    assert not passed
    assert "http://" in sentence


@pytest.mark.parametrize("name", ["ca_path", "client_cert"])
def test_a_missing_file_is_reported_by_its_field(connect, name):
    passed, sentence = connect(host="https://127.0.0.1:1", extra={name: "/nowhere/a.pem"}).test_connection()
    assert not passed
    assert sentence.startswith(f"{name} ")
    assert "No such file" in sentence


@pytest.mark.skipif(find_spec("socksio") is not None, reason="the package for SOCKS is there")
def test_a_proxy_that_needs_a_missing_package_is_reported(connect):
    extra = {"proxy": "socks5://127.0.0.1:2"}
    passed, sentence = connect(host="https://127.0.0.1:1", extra=extra).test_connection()
    assert not passed
    assert sentence.startswith("proxy cannot be used: ")


@pytest.mark.parametrize("kind", ["silent_platform", "dripping_platform"])
def test_an_endless_response_times_out(request, connect, kind):
    """The time is for all of it: a server that sends a byte now and then does not stretch it."""
    slow = request.getfixturevalue(kind)
    started = time.monotonic()
    passed, sentence = probe(PLATFORM, connect(host=slow.url).settings(), seconds=0.5)
    assert time.monotonic() - started < 3
    assert not passed
    assert sentence.startswith(f"{slow.url} did not respond within 0.5 s")


def test_a_connection_without_host_or_key_is_reported_without_its_id(connect):
    """Airflow tests a form's connection under an id that it made up."""
    assert connect("tmp1", host="").test_connection() == (
        False,
        "Platform URL (host) is empty: set it to the platform's URL, such as https://api.lamini.ai.",
    )
    passed, sentence = connect("tmp2", host="api.lamini.ai", password="").test_connection()
    assert not passed
    assert sentence.startswith("API key (password) is empty: set it to the platform's key.")


def test_the_form_of_airflow_2_which_hides_a_saved_key_from_its_test_says_so(connect):
    _, sentence = connect("tmp3", host="api.lamini.ai", password="").test_connection()
    assert sentence.endswith("Airflow 2 does not show its key to the test.") is not AIRFLOW_V_3_0_PLUS


def test_a_connection_can_be_tested_inside_a_running_event_loop(platform, connect):
    async def inside():
        return connect(host=platform.url).test_connection()

    assert asyncio.run(inside())[0]


# Airflow 3 warns of its own model's way to hooks.
@pytest.mark.filterwarnings("ignore:ProvidersManager.hooks is deprecated")
@pytest.mark.usefixtures("airflow_db", "web_stack")
@pytest.mark.parametrize("home", ["airflow.models", "airflow.providers.common.compat.sdk"])
@pytest.mark.parametrize("conn_type", ["lamini", "emissary"])
def test_airflow_tests_the_connection_through_its_own_method(platform, connect, home, conn_type):
    """The ways of the button in the web form: in the API server, and in a worker."""
    connect("through_airflow", conn_type=conn_type, host=platform.url)
    cls = import_module(home).Connection
    if not hasattr(cls, "test_connection"):
        pytest.skip("in Airflow 3.0 and 3.1, only the API server tests a connection")
    passed, sentence = cls(
        conn_id="through_airflow", conn_type=conn_type, host=platform.url, password=KEY
    ).test_connection()
    assert passed, sentence


def test_no_sentence_contains_the_key(platform, connect):
    for body in (f'{{"detail": "key {KEY} is wrong"}}', f"<html>{KEY}</html>", f'"{KEY}"'):
        for status in (200, 400, 401, 404, 422, 500):
            platform.response = (status, "application/json", body)
            assert KEY not in connect(host=platform.url).test_connection()[1]
