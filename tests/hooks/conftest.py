"""A platform small enough for tests of the hook, on loopback, and connections to it."""

from __future__ import annotations

import json
import ssl
import threading
import warnings
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec

import pytest

KEY = "lamini-test-key-0123456789"
MODELS = [{"model_name": "smollm2", "status": "available"}, {"model_name": "minilm", "status": "available"}]
BASE_MODELS = [{"name": "smollm2", "type": "chat"}, {"name": "minilm", "type": "embeddings"}]
PROBES = {
    "/v1alpha/downloaded_models/": ("Authorization", f"Bearer {KEY}", MODELS),
    "/v1/models": ("X-API-Key", KEY, BASE_MODELS),
}
"""Where the list of models is, how the key is sent there, and the list: for Lamini, and for Emissary."""


@dataclass
class Platform:
    """A server that knows one key and one list of models.

    :param url: its address
    :param seen: path and headers of each request
    :param response: what to send instead of the list: status, media type, body
    :param released: until it is set, nothing is answered
    :param drip: whether to answer a byte now and then, for ever
    """

    url: str = ""
    port: int = 0
    seen: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    response: tuple[int, str, str] | None = None
    released: threading.Event = field(default_factory=threading.Event)
    drip: bool = False

    def handle(self, request: BaseHTTPRequestHandler) -> None:
        self.seen.append((request.path, dict(request.headers)))
        self.released.wait(30)
        status, media, body = self.response or self._list(request)
        request.send_response(status)
        request.send_header("Content-Type", media)
        request.send_header("Content-Length", str(len(body.encode())))
        request.end_headers()
        request.wfile.write(body.encode())

    def _list(self, request: BaseHTTPRequestHandler) -> tuple[int, str, str]:
        for path, (header, key, models) in PROBES.items():
            if request.path.endswith(path):
                if request.headers.get(header) != key:
                    return 401, "application/json", json.dumps({"detail": f"Invalid key {KEY[:6]}"})
                return 200, "application/json", json.dumps(models)
        return 404, "application/json", json.dumps({"detail": "Not Found"})


def serve(platform: Platform, tls: ssl.SSLContext | None = None):
    class Handler(BaseHTTPRequestHandler):
        disable_nagle_algorithm = True

        def do_GET(self):
            if platform.drip:
                self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
                while not platform.released.wait(0.05):
                    self.wfile.write(b"x")
            platform.handle(self)

        def log_message(self, *_):
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_):
            """A client that goes away is not an error of the server's."""

    server = Server(("127.0.0.1", 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    platform.port = server.server_address[1]
    platform.url = f"{'https' if tls else 'http'}://127.0.0.1:{platform.port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield platform
    finally:
        platform.released.set()
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def platform():
    """A platform on loopback that answers at once."""
    one = Platform()
    one.released.set()
    yield from serve(one)


@pytest.fixture
def silent_platform():
    """A platform on loopback that accepts requests and answers none."""
    yield from serve(Platform())


@pytest.fixture
def dripping_platform():
    """A platform on loopback that sends a byte now and then and never ends."""
    yield from serve(Platform(drip=True))


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """A certificate for 127.0.0.1 that nobody has signed but itself, and its key."""
    from datetime import UTC, datetime, timedelta
    from ipaddress import IPv4Address

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    folder = tmp_path_factory.mktemp("tls")
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return folder / "cert.pem", folder / "key.pem"


@pytest.fixture
def tls_platform(certificate):
    """A platform on loopback behind a certificate that nobody trusts."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    one = Platform()
    one.released.set()
    yield from serve(one, context)


HAS_WEB_STACK = find_spec("airflow.www") is not None


@pytest.fixture(scope="session")
def web_stack():
    """The web stack of Airflow 2 is loaded, where there is one: at its first import it warns of itself."""
    if HAS_WEB_STACK:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import airflow.www.views  # noqa: F401
            import flask_appbuilder.fieldwidgets  # noqa: F401


@pytest.fixture
def connect(monkeypatch):
    """Defines a connection in the environment and returns a hook on it."""
    from airflow_provider_lamini.hooks.emissary import EmissaryHook
    from airflow_provider_lamini.hooks.lamini import LaminiHook

    hooks = {"lamini": LaminiHook, "emissary": EmissaryHook}

    def define(conn_id=None, *, conn_type="lamini", **fields):
        conn_id = conn_id or f"{conn_type}_default"
        given = {"conn_type": conn_type, "password": KEY, **fields}
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(given))
        return hooks[conn_type](conn_id)

    return define
