"""Places may be path objects: another task's ``ObjectStoragePath``, or ``Path(...) / name``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_lamini.exceptions import InvalidArgumentError
from tests.bad_input.world import GOOD

if TYPE_CHECKING:
    from pathlib import Path

KINDS = {"pathlib": lambda path: path, "Airflow": lambda path: ObjectStoragePath(f"file://{path}")}
PLACES = {
    "BatchInferenceOperator": ("input", "rows.jsonl"),
    "EvaluateOperator": ("input", "pairs.jsonl"),
    "EvaluateClassifierOperator": ("input", "pairs.jsonl"),
    "UploadDatasetOperator": ("input", "pairs.jsonl"),
    "ClassifierTrainOperator": ("examples", "classes.jsonl"),
    "MemoryRagBuildOperator": ("files", "docs"),
    "MemoryRagRefreshOperator": ("manifest", "new/manifest.json"),
    "TrainOperator": ("state_path", "state"),
}
"""For some operators an argument that names a place, and the place."""


@pytest.fixture
def places(world) -> Path:
    """The folder that has the places."""
    world.put("rows.jsonl", b'{"prompt": "a"}\n')
    world.put("pairs.jsonl", b'{"input": "a", "output": "b"}\n')
    world.put("classes.jsonl", b'{"text": "buy", "class": "spam"}\n{"text": "hi", "class": "ham"}\n')
    world.settle()
    return world.folder


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("operator", PLACES)
def test_a_path_object_is_the_place_that_it_names(world, places, operator, kind):
    argument, name = PLACES[operator]
    given = {argument: KINDS[kind](places / name)}
    if "output" in GOOD[operator]:
        given["output"] = KINDS[kind](places / "out")
    world.run(operator, given)
    assert world.platform.work
    assert (places / name).exists()
    assert (places / "out").exists() == ("output" in given)


def test_documents_may_be_a_list_of_path_objects(world, places):
    world.run("MemoryRagBuildOperator", {"files": [make(places / "docs") for make in KINDS.values()]})
    (sent,) = world.platform.sent("/alpha/memory-rag/train")
    assert list(sent["files"]) == ["page.md"]


def test_a_path_object_names_its_connection_too(world):
    with pytest.raises(InvalidArgumentError, match="nightly_bucket"):
        world.run(
            "BatchInferenceOperator",
            {"input": ObjectStoragePath("memory://b/x.jsonl", conn_id="nightly_bucket")},
        )
