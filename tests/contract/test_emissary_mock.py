"""Every operation against a server that knows only the API's document: it checks requests and responds with samples."""

from __future__ import annotations

import io
import json
import re
from collections import Counter
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from jsonschema import ValidationError

from airflow_provider_lamini.api.client import Client
from airflow_provider_lamini.api.errors import BadRequestError, NotThePlatformError
from airflow_provider_lamini.api.settings import ClientSettings
from airflow_provider_lamini.platforms.emissary.api import checkpoints, datasets
from airflow_provider_lamini.platforms.emissary.platform import EMISSARY_DIALECT
from tests.contract.conftest import EMISSARY
from tests.support.contract import samples
from tests.support.serving import served

KEY = "a-key-that-stays-here"


class Document:
    """Answers as the document of the API says, and counts the operations."""

    def __init__(self):
        self.operations = Counter()
        self.requests = []
        self.redirect = self.file = None

    def respond(self, method, path, headers, content):
        """The status and the body of a response."""
        self.requests.append((path, dict(headers.items())))
        if self.redirect is not None:
            return 302, None
        if self.file is not None:
            return 200, self.file
        if headers.get("X-API-Key") != KEY:
            return 401, {"status": 401, "error": "Unauthorized"}
        # The longest template first, so that a fixed segment is not taken for an id.
        for operation, (its_method, template, described) in sorted(
            EMISSARY.operations.items(), key=lambda item: item[1][1].count("{")
        ):
            if its_method == method and re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path):
                return self._succeed(operation, described, headers, content)
        return 404, {"status": 404, "error": "Not found", "code": "object_not_found"}

    def _succeed(self, operation, described, headers, content):
        media = headers.get("Content-Type", "").split(";")[0]
        body = described.get("requestBody")
        if body and (content or body["required"]):
            assert media in body["content"], (operation, media)
            if media == "application/json":
                try:
                    EMISSARY.validate(json.loads(content), body["content"][media]["schema"])
                except ValidationError as error:
                    return 400, {"status": 400, "error": error.message}
        self.operations[operation] += 1
        (status,) = (status for status in described["responses"] if status.startswith("2"))
        content = described["responses"][status].get("content")
        return int(status), content and samples(EMISSARY, content["application/json"]["schema"])[0]


def serve(document):
    class Handler(BaseHTTPRequestHandler):
        disable_nagle_algorithm = True

        def do_GET(self):
            content = self.rfile.read(int(self.headers["Content-Length"] or 0))
            status, body = document.respond(self.command, self.path.split("?")[0], self.headers, content)
            self.send_response(status)
            if document.redirect is not None:
                self.send_header("Location", document.redirect)
            content = b"" if body is None else json.dumps(body).encode()
            if status != 204:
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_DELETE = do_GET  # noqa: N815 - as the base class expects them

        def log_message(self, *_):
            pass

    return served(ThreadingHTTPServer(("127.0.0.1", 0), Handler))


@pytest.fixture
def document():
    return Document()


@pytest.fixture
def client(document):
    with serve(document) as address:
        settings = ClientSettings(
            dialect=EMISSARY_DIALECT, base_url=f"http://{address}", key=KEY, retry_budget=0
        )
        with Client(settings) as client:
            yield client


def test_every_operation_is_answered(document, client):
    for call in EMISSARY.calls:
        client.send(call)
    assert set(document.operations) == set(EMISSARY.operations)
    assert sum(document.operations.values()) == len(EMISSARY.calls)


def test_the_server_refuses_what_the_document_does_not_allow(client):
    """So that its responses to our requests mean something."""
    (call,) = [call for call in EMISSARY.calls if call.operation == "unDeployFromEngine"]
    with pytest.raises(BadRequestError, match="is a required property"):
        client.send(replace(call, json={"name": "live"}))


@pytest.mark.parametrize(
    "call",
    [datasets.dataset("ms-1", "ds-1"), checkpoints.list_all("ms-1", "tr-1")],
    ids=lambda c: c.operation,
)
def test_the_key_does_not_follow_to_another_host(document, client, call):
    elsewhere = Document()
    with serve(elsewhere) as address:
        document.redirect = f"http://{address}/files/rows.jsonl"
        with pytest.raises(NotThePlatformError, match="redirects to"):
            client.send(call)
        assert not elsewhere.requests, "a request other than a download does not leave the platform"
    assert document.requests[0][1]["X-API-Key"] == KEY


def test_a_download_from_another_host_carries_no_key(document, client):
    """As if the platform redirected to where a dataset's file is."""
    elsewhere = Document()
    elsewhere.file = ["row"]
    with serve(elsewhere) as address:
        document.redirect = f"http://{address}/files/rows.jsonl"
        to = io.BytesIO()
        client.download(datasets.dataset("ms-1", "ds-1"), to)
    assert to.getvalue() == b'["row"]'
    ((path, headers),) = elsewhere.requests
    assert path == "/files/rows.jsonl"
    assert KEY not in str(headers)
