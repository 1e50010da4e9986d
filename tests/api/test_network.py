"""Clients against real sockets: lost, cut and slow responses, TLS."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from airflow_provider_lamini.api import errors
from airflow_provider_lamini.api.client import AsyncClient, Client
from airflow_provider_lamini.platforms.lamini.api import batches, version
from tests.support.certificates import Authority
from tests.support.loop_lag import quietest, with_gaps

READ_VERSION = version.version()
START = batches.start_completions(model_name="m", prompt=["p"] * 3)


@pytest.fixture
def driver(driver):
    """Real time runs while a socket is waited for; pauses are still not slept."""
    driver.clock = time.monotonic
    return driver


def test_a_call_that_only_reads_is_retried_after_a_lost_response(poller, settings, raw_server, raw):
    server = raw_server(raw.drop, raw.drop, raw.reply(b'{"server": "7"}'))
    assert poller.send(settings(server.url), READ_VERSION).server == "7"
    assert len(server.requests) == 3


def test_a_call_that_starts_work_is_not_retried_after_a_lost_response(driver, settings, raw_server, raw):
    server = raw_server(raw.drop, raw.reply(b'{"id": "second"}'))
    with pytest.raises(
        errors.UnavailableError, match="lost before the response to POST /v1/batch_completions"
    ) as caught:
        driver.send(settings(server.url), START)
    assert caught.value.may_have_started is True
    assert "look there before submitting again" in str(caught.value)
    assert len(server.requests) == 1


def test_a_call_that_only_reads_is_retried_after_a_truncated_response(poller, settings, raw_server, raw):
    server = raw_server(raw.cut(), raw.reply(b'{"server": "7"}'))
    assert poller.send(settings(server.url), READ_VERSION).server == "7"


def test_a_call_that_starts_work_is_not_retried_after_a_truncated_response(driver, settings, raw_server, raw):
    server = raw_server(raw.cut(b'{"id": "b1"}'))
    with pytest.raises(errors.UnavailableError) as caught:
        driver.send(settings(server.url), START)
    assert caught.value.may_have_started is True
    assert len(server.requests) == 1


def test_a_late_response_is_a_timeout(poller, settings, raw_server, raw):
    server = raw_server(raw.late(0.6, raw.reply()))
    with pytest.raises(errors.PlatformTimeoutError, match=r"did not respond to GET /v1/version within 0.2 s"):
        poller.send(settings(server.url, read_timeout=0.2, retry_budget=0.0), READ_VERSION)


@pytest.mark.parametrize("status", ["200 OK", "500 No"])
def test_a_body_that_trickles_endlessly_is_a_timeout(poller, settings, raw_server, status):
    def trickle(connection):
        connection.sendall(f"HTTP/1.1 {status}\r\nContent-Length: 1000\r\n\r\n".encode())
        for _ in range(200):
            connection.sendall(b" ")
            time.sleep(0.05)

    server = raw_server(trickle)
    began = time.monotonic()
    with pytest.raises(
        errors.PlatformTimeoutError, match=r"did not respond to GET /v1/version within 0\.3 s"
    ):
        poller.send(settings(server.url, read_timeout=0.3, retry_budget=0.0), READ_VERSION)
    assert time.monotonic() - began < 5


@pytest.mark.long
def test_a_large_body_may_take_longer_than_the_timeout(poller, settings, raw_server):
    def steady(connection):
        body = b'{"server": "7"}' + b" " * 16000
        connection.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode())
        for at in range(0, len(body), 1000):
            connection.sendall(body[at : at + 1000])
            time.sleep(0.1)

    server = raw_server(steady)
    assert poller.send(settings(server.url, read_timeout=1.2), READ_VERSION).server == "7"


def test_the_client_waits_for_a_platform_that_is_starting(driver, settings, raw_server, raw, fake_time):
    """A refused connection never reached the platform, so that work is asked for again too."""
    server = raw_server(raw.reply(b'{"id": "b1"}'))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(errors.UnavailableError, match="The connection was refused") as caught:
            driver.send(settings(nobody, retry_budget=0.0), START)
        assert caught.value.may_have_started is False
        with pytest.raises(errors.UnavailableError, match="attempts within"):
            driver.send(settings(nobody, retry_budget=20.0), START)
        assert len(fake_time.slept) >= 3
    assert driver.send(settings(server.url), START) == "b1"


def test_the_error_of_an_unknown_host_is_one_sentence(poller, settings):
    with pytest.raises(errors.UnavailableError) as caught:
        poller.send(settings("http://no-such-host.invalid:81/x", retry_budget=0.0), READ_VERSION)
    assert str(caught.value) == (
        "Its host name is not known; check the address. http://no-such-host.invalid:81 could not be reached."
    )


def test_a_server_that_does_not_speak_http_is_a_lost_connection(poller, settings, raw_server):
    server = raw_server(lambda connection: connection.sendall(b"SSH-2.0-OpenSSH_9.0\r\n"))
    with pytest.raises(errors.PlatformError) as caught:
        poller.send(settings(server.url, retry_budget=0.0), READ_VERSION)
    assert "SSH" not in str(caught.value)


@pytest.mark.long
def test_waiting_for_a_response_does_not_block_the_event_loop(settings, raw_server, raw):
    slow = raw.late(0.3, raw.reply(status="503 No")), raw.late(0.3, raw.reply(b'{"server": "1"}'))
    server = raw_server(*slow * 3)

    async def run():
        async with AsyncClient(settings(server.url)) as client:
            return await with_gaps(client.send(READ_VERSION))

    found, gaps = quietest(lambda: asyncio.run(run()), 0.2)
    assert found.server == "1"
    assert max(gaps) < 0.2
    assert len(gaps) > 50


def test_a_cancelled_call_leaves_the_client_usable(settings, raw_server, raw):
    server = raw_server(raw.late(1.0, raw.reply()), raw.reply(b'{"server": "2"}'))

    async def run():
        async with AsyncClient(settings(server.url, max_connections=1)) as client:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.send(READ_VERSION), 0.2)
            return await client.send(READ_VERSION)

    assert asyncio.run(run()).server == "2"


def test_one_client_may_be_used_from_many_threads(settings, raw_server, raw):
    server = raw_server(raw.reply(b'{"server": "3"}'))
    with Client(settings(server.url, max_connections=4, requests_per_second=1000)) as client:
        found = []
        threads = [
            threading.Thread(target=lambda: found.append(client.send(READ_VERSION).server)) for _ in range(12)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
    assert found == ["3"] * 12


class Tls:
    """A server with a certificate of an authority of its own."""

    def __init__(self, folder, *, ask_client=False, days=1):
        authority = Authority(folder / "ca.pem")
        authority.issue(folder / "server.pem", days=days)
        authority.issue(folder / "client.pem")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "server.pem")
        if ask_client:
            context.load_verify_locations(folder / "ca.pem")
            context.verify_mode = ssl.CERT_REQUIRED

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_):
                """Failed handshakes are what is tested."""

        class Handler(BaseHTTPRequestHandler):
            disable_nagle_algorithm = True

            def do_GET(self):
                self.send_response(200)
                self.send_header("Content-Length", "15")
                self.end_headers()
                self.wfile.write(b'{"server": "s"}')

            def log_message(self, *_):
                """Nothing on the test's output."""

        self.server = Quiet(("127.0.0.1", 0), Handler)
        self.server.socket = context.wrap_socket(
            self.server.socket, server_side=True, do_handshake_on_connect=False
        )
        self.port = self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join(5)


@pytest.fixture
def tls(tmp_path):
    servers = []

    def start(**options):
        servers.append(Tls(tmp_path, **options))
        return f"https://127.0.0.1:{servers[-1].port}"

    yield start
    for server in servers:
        server.close()


def test_an_untrusted_certificate_fails_without_retries(driver, settings, tls, fake_time):
    with pytest.raises(errors.UnavailableError, match="Its certificate is not trusted") as caught:
        driver.send(settings(tls()), START)
    assert caught.value.may_have_started is False
    assert fake_time.slept == []


def test_an_expired_certificate_is_named_as_such(driver, settings, tls, tmp_path):
    url = tls(days=-1)
    with pytest.raises(errors.UnavailableError, match=r"^Its certificate has expired; have it renewed\."):
        driver.send(settings(url, verify=str(tmp_path / "ca.pem")), START)


def test_a_ca_bundle_makes_a_certificate_trusted(poller, settings, tls, tmp_path):
    url = tls()
    assert poller.send(settings(url, verify=str(tmp_path / "ca.pem")), READ_VERSION).server == "s"


def test_verify_off_trusts_any_certificate(poller, settings, tls):
    assert poller.send(settings(tls(), verify=False), READ_VERSION).server == "s"


def test_a_client_certificate_is_presented_on_request(poller, settings, tls, tmp_path):
    url, bundle = tls(ask_client=True), str(tmp_path / "ca.pem")
    mine = str(tmp_path / "client.pem")
    assert poller.send(settings(url, verify=bundle, client_cert=mine), READ_VERSION).server == "s"
    assert (
        poller.send(settings(url, verify=bundle, client_cert=mine, client_key=mine), READ_VERSION).server
        == "s"
    )
    assert poller.send(settings(url, verify=False, client_cert=mine), READ_VERSION).server == "s"


def test_a_missing_client_certificate_fails_without_retries(driver, settings, tls, tmp_path, fake_time):
    """The server's alert may be read, or the connection may be gone before that."""
    url, bundle = tls(ask_client=True), str(tmp_path / "ca.pem")
    with pytest.raises(errors.UnavailableError, match=r"client certificate|was lost") as caught:
        driver.send(settings(url, verify=bundle), START)
    assert "client certificate" in str(caught.value) or caught.value.may_have_started
    assert fake_time.slept == []


def test_https_to_a_server_without_tls_fails_without_retries(driver, settings, raw_server, raw, fake_time):
    def answer_in_plain_words(connection):
        connection.recv(1000)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

    server = raw_server(raw.reply())
    server.serve = answer_in_plain_words
    with pytest.raises(errors.UnavailableError, match="It does not use TLS there") as caught:
        driver.send(settings(server.url.replace("http:", "https:")), START)
    assert caught.value.may_have_started is False
    assert fake_time.slept == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"verify": "/no/such/bundle.pem"}, "verify must be the path of a CA bundle"),
        ({"client_cert": "/no/such/cert.pem"}, "client_cert and client_key cannot be used: No such file"),
    ],
)
@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_the_error_names_an_unusable_certificate_file(settings, options, words, kind):
    with pytest.raises(ValueError, match=words):
        kind(settings(**options))


def test_the_error_names_a_bundle_without_certificates(settings, tmp_path):
    (tmp_path / "empty.pem").write_text("nothing")
    with pytest.raises(ValueError, match=r"verify must be the path of a CA bundle.*empty\.pem"):
        Client(settings(verify=str(tmp_path / "empty.pem")))


def test_requests_use_the_configured_proxy(poller, settings, raw_server, raw):
    proxy = raw_server(raw.reply(b'{"server": "via"}'))
    found = poller.send(settings("http://platform.invalid/p", proxy=proxy.url), READ_VERSION)
    assert found.server == "via"
    assert proxy.requests[0][0].startswith("GET http://platform.invalid/p/v1/version HTTP/1.1")


def test_a_request_refused_by_the_proxy_did_not_reach_the_platform(driver, settings, raw_server, raw):
    proxy = raw_server(raw.reply(status="407 Proxy Authentication Required"))
    with pytest.raises(errors.UnavailableError, match="The proxy refused") as caught:
        driver.send(settings("https://platform.invalid", proxy=proxy.url, retry_budget=0.0), START)
    assert caught.value.may_have_started is False
