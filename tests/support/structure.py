"""Answers of a platform held against the structure of its API."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema

if TYPE_CHECKING:
    import httpx

STRUCTURE: dict[str, Any] = json.loads(
    (Path(__file__).resolve().parents[1] / "contract" / "lamini.json").read_text(encoding="utf-8")
)


def check(answer: httpx.Response, path: str) -> Any:
    """Hold an answer against the structure of its path, and give its body.

    :param answer: the answer
    :param path: the path as the structure writes it, with its variables
    """
    method = answer.request.method.lower()
    described = STRUCTURE["paths"][path][method]["responses"]
    assert str(answer.status_code) in described, (answer.status_code, answer.text)
    schema = described[str(answer.status_code)]["content"]["application/json"]["schema"]
    body = answer.json()
    jsonschema.validate(body, schema | {"components": STRUCTURE["components"]})
    return body
