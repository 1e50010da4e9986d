"""Listing and downloading models."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.local_platform import wait_until
from tests.support.upstream import EMBEDDING_MODEL, TEXT_MODEL

if TYPE_CHECKING:
    import httpx

PATHS = ["/v1alpha/downloaded_models", "/v1alpha/downloaded_models/"]


@pytest.mark.parametrize("path", PATHS)
def test_models_are_listed_with_and_without_a_trailing_slash(http: httpx.Client, path: str) -> None:
    response = http.get(path)
    assert response.status_code == 200
    models = {model["model_name"]: model for model in response.json()}
    assert models[TEXT_MODEL]["model_type"] == "transformer"
    assert models[EMBEDDING_MODEL]["model_type"] == "embedding"
    assert {model["status"] for model in models.values()} == {"available"}


@pytest.mark.parametrize("path", PATHS)
def test_a_served_model_is_available(http: httpx.Client, path: str) -> None:
    response = http.post(path, json={"hf_model_name": TEXT_MODEL})
    assert response.status_code == 200
    assert response.json() | {"is_public": True} == {
        "model_name": TEXT_MODEL,
        "model_type": "transformer",
        "is_public": True,
        "status": "available",
    }


@pytest.mark.parametrize("name", ["someone/else", "someone/else/model.gguf", "/no/such/file.gguf", "x"])
def test_a_model_that_cannot_be_fetched_is_accepted_and_then_fails(http: httpx.Client, name: str) -> None:
    response = http.post(PATHS[0], json={"hf_model_name": name})
    assert response.status_code == 200
    assert response.json()["status"] in {"requested", "downloading", "failed"}

    def entry() -> dict[str, str]:
        return next(model for model in http.get(PATHS[0]).json() if model["model_name"] == name)

    wait_until(lambda: entry()["status"] == "failed")
    assert "not served by the upstream engine" in entry()["prev_download_error"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "hf_model_name"),
        ({"hf_model_name": ""}, "hf_model_name"),
        ({"hf_model_name": "a/b", "model_type": "video"}, "model_type"),
    ],
)
def test_an_invalid_download_request_returns_422(
    http: httpx.Client, body: dict[str, str], field: str
) -> None:
    response = http.post(PATHS[1], json=body)
    assert response.status_code == 422
    assert response.json()["detail"][0]["loc"] == ["body", field]
