"""The toy platform's API: one function per operation."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from airflow_provider_lamini.api.call import Call, Json, Retry

if TYPE_CHECKING:
    from collections.abc import Sequence


def _call(method: str, path: str, body: Json = None) -> Call[Any]:
    retry = Retry.SAFE if method == "GET" else Retry.ONLY_IF_NOT_STARTED
    return Call(operation=path, method=method, path=path, json=body, parse=json.loads, retry=retry)


def ping() -> Call[dict[str, str]]:
    return _call("GET", "/ping")


def start_run(recipe: str, mark: str) -> Call[str]:
    return _call("POST", "/runs", {"recipe": recipe, "mark": mark}).map(lambda answer: answer["run"])


def run(run_id: str) -> Call[dict[str, Any]]:
    return _call("GET", f"/runs/{run_id}")


def runs() -> Call[list[dict[str, Any]]]:
    return _call("GET", "/runs").map(lambda answer: answer["runs"])


def stop_run(run_id: str) -> Call[object]:
    return _call("POST", f"/runs/{run_id}/stop")


def start_bulk(lines: Sequence[str]) -> Call[str]:
    return _call("POST", "/bulk", {"lines": list(lines)}).map(lambda answer: answer["bulk"])


def bulk(bulk_id: str) -> Call[dict[str, Any]]:
    return _call("GET", f"/bulk/{bulk_id}")
