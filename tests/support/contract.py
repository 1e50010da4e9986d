"""The structure of a platform's API, and its validation of requests and responses."""

from __future__ import annotations

import json
from dataclasses import dataclass
from email import message_from_bytes
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import httpx
import pytest
from jsonschema import Draft202012Validator

from airflow_provider_lamini.api.client import Client
from airflow_provider_lamini.api.settings import ClientSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_lamini.api.call import Call, Json
    from airflow_provider_lamini.api.dialect import Dialect

T = TypeVar("T")

STRUCTURES = Path(__file__).resolve().parents[1] / "contract"


@dataclass(frozen=True)
class Contract:
    """A platform's API: its structure, and an example of each call of this package.

    :param platform: the platform's name, and the structure's file name
    :param dialect: how the platform speaks HTTP
    :param calls: the examples
    """

    platform: str
    dialect: Dialect
    calls: Sequence[Call[Any]]

    @cached_property
    def structure(self) -> dict[str, Any]:
        """The OpenAPI document."""
        document: dict[str, Any] = json.loads((STRUCTURES / f"{self.platform}.json").read_text())
        return document

    @cached_property
    def operations(self) -> dict[str, tuple[str, str, dict[str, Any]]]:
        """Method, path and description of each operation, by its id."""
        return {
            operation["operationId"]: (
                method.upper(),
                path,
                {
                    **operation,
                    "parameters": [self.resolve(each) for each in operation.get("parameters", [])],
                },
            )
            for path, methods in self.structure["paths"].items()
            for method, operation in methods.items()
        }

    def resolve(self, described: dict[str, Any]) -> dict[str, Any]:
        """Return what a reference refers to, and anything else unchanged."""
        if "$ref" not in described:
            return described
        _, *steps = described["$ref"].split("/")
        found = self.structure
        for step in steps:
            found = found[step]
        return found

    def validate(self, value: object, schema: dict[str, Any]) -> None:
        """Validate a value with a schema of the structure."""
        components = self.structure["components"]
        Draft202012Validator({**self.resolve(schema), "components": components}).validate(value)

    def fields(self, schema: dict[str, Any]) -> set[str]:
        """Return the names of the fields of a schema."""
        return set(self._properties(schema))

    def field(self, schema: dict[str, Any], name: str) -> dict[str, Any]:
        """Return the schema of a field that is an object or null."""
        described = self._properties(schema)[name]
        variants = [each for each in described.get("anyOf", [described]) if each.get("type") != "null"]
        return self.resolve(variants[0])

    def _properties(self, schema: dict[str, Any]) -> dict[str, dict[str, Any]]:
        resolved = self.resolve(schema)
        inherited = [self._properties(each) for each in resolved.get("allOf", [])]
        return {
            name: each for part in (*inherited, resolved.get("properties", {})) for name, each in part.items()
        }

    def as_sent(self, call: Call[Any]) -> httpx.Request:
        """Send a call to a platform that responds with 404, and return the request."""

        def note(request: httpx.Request) -> httpx.Response:
            request.read()
            seen.append(request)
            return httpx.Response(404)

        seen: list[httpx.Request] = []
        config = ClientSettings(dialect=self.dialect, base_url="http://platform.test/prefix", key="k")
        with (
            Client(config, transport=httpx.MockTransport(note)) as client,
            pytest.raises(Exception, match="404"),
        ):
            client.send(call)
        return seen[0]

    def body_as_sent(self, call: Call[Any]) -> tuple[str, Any]:
        """Return the media type and the decoded body of a call; without a body, the media type is empty."""
        request = self.as_sent(call)
        media = request.headers.get("content-type", "").split(";")[0]
        if not request.content:
            return "", None
        if media == "application/json":
            return media, json.loads(request.content)
        described = self.operations[call.operation][2]["requestBody"]["content"][media]["schema"]
        lists = {name for name, each in described["properties"].items() if each["type"] == "array"}
        return media, {
            name: texts if name in lists else texts[0]
            for name, texts in _parts(request).items()
            if name in lists or len(texts) == 1
        }


def _parts(request: httpx.Request) -> dict[str, list[str]]:
    """Return the parts of a form as texts, by name."""
    head = f"Content-Type: {request.headers['content-type']}\r\n\r\n".encode()
    parts: dict[str, list[str]] = {}
    for part in message_from_bytes(head + request.content).walk():
        payload = part.get_payload(decode=True)
        if isinstance(payload, bytes) and not part.is_multipart():
            name = str(part.get_param("name", header="content-disposition"))
            parts.setdefault(name, []).append(payload.decode())
    return parts


def samples(contract: Contract, schema: dict[str, Any]) -> list[Any]:
    """Return valid values for a schema: each value of an enumeration and each variant occurs in one of them.

    The first value has every field.

    :param contract: the platform's API
    :param schema: a schema of its structure
    """
    resolved = contract.resolve(schema)
    if "anyOf" in resolved:
        return [value for variant in resolved["anyOf"] for value in samples(contract, variant)]
    if "enum" in resolved:
        return list(resolved["enum"])
    kinds = resolved.get("type", "object")
    if isinstance(kinds, list):
        return [value for kind in kinds for value in samples(contract, {**resolved, "type": kind})]
    if kinds == "array":
        return [samples(contract, resolved["items"]), []]
    if kinds == "object":
        return _objects(contract, resolved)
    return [resolved.get("example", _PLAIN[kinds])]


_PLAIN = {"string": "a text", "integer": 7, "number": 0.5, "boolean": True, "null": None}


def _objects(contract: Contract, schema: dict[str, Any]) -> list[Any]:
    """Return one object with all fields, then one more for each further value of a field."""
    fields = {name: samples(contract, each) for name, each in schema.get("properties", {}).items()}
    more = schema.get("additionalProperties")
    if isinstance(more, dict):
        fields |= {f"key {number}": [value] for number, value in enumerate(samples(contract, more))}
    full = {name: values[0] for name, values in fields.items()}
    return [full, *({**full, name: value} for name, values in fields.items() for value in values[1:])]


STRUCTURE: dict[str, Any] = json.loads((STRUCTURES / "lamini.json").read_text(encoding="utf-8"))


def check(response: httpx.Response, path: str) -> Any:
    """Validate a response with the structure of Lamini's API, and return its body.

    :param response: the response
    :param path: the path as in the structure, with its variables
    """
    method = response.request.method.lower()
    described = STRUCTURE["paths"][path][method]["responses"]
    assert str(response.status_code) in described, (response.status_code, response.text)
    schema = described[str(response.status_code)]["content"]["application/json"]["schema"]
    body = response.json()
    Draft202012Validator({**schema, "components": STRUCTURE["components"]}).validate(body)
    return body


STATES = [
    "CREATED",
    "LOADING DATA",
    "TRAINING_MODEL",
    "partially completed",
    "timed_out",
    "CANCELED",
    "Brand New",
]
"""Status words as the platform spells them in different places; the last one is unknown."""


def read(call: Call[T], response: bytes | Json) -> T:
    """Return what a call parses from a response, without a platform.

    :param call: the call
    :param response: the body, or a value to encode as the body
    """
    return call.parse(response if isinstance(response, bytes) else json.dumps(response).encode())
