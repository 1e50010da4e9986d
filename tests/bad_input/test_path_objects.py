"""Paths can be objects: another task's ``ObjectStoragePath``, or ``Path(...) / name``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_lamini.exceptions import InvalidArgumentError
from tests.bad_input.world import VALID_ARGUMENTS

if TYPE_CHECKING:
    from pathlib import Path

KINDS = {"pathlib": lambda path: path, "Airflow": lambda path: ObjectStoragePath(f"file://{path}")}
ARGUMENTS = {
    "BatchInferenceOperator": ("input", "rows.jsonl"),
    "EvaluateOperator": ("input", "pairs.jsonl"),
    "EvaluateClassifierOperator": ("input", "pairs.jsonl"),
    "UploadDatasetOperator": ("input", "pairs.jsonl"),
    "ClassifierTrainOperator": ("examples", "classes.jsonl"),
    "MemoryRagBuildOperator": ("files", "docs"),
    "MemoryRagRefreshOperator": ("manifest", "new/manifest.json"),
    "TrainOperator": ("state_path", "state"),
}
"""Maps an operator to an argument that takes a path, and a path for it."""


@pytest.fixture
def folder(world) -> Path:
    """The folder with the files."""
    world.put("rows.jsonl", b'{"prompt": "a"}\n')
    world.put("pairs.jsonl", b'{"input": "a", "output": "b"}\n')
    world.put("classes.jsonl", b'{"text": "buy", "class": "spam"}\n{"text": "hi", "class": "ham"}\n')
    world.note_files()
    return world.folder


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("operator", ARGUMENTS)
def test_a_path_object_works_like_its_path(world, folder, operator, kind):
    argument, name = ARGUMENTS[operator]
    arguments = {argument: KINDS[kind](folder / name)}
    if "output" in VALID_ARGUMENTS[operator]:
        arguments["output"] = KINDS[kind](folder / "out")
    world.run(operator, arguments)
    assert world.platform.work
    assert (folder / name).exists()
    assert (folder / "out").exists() == ("output" in arguments)


def test_documents_can_be_a_list_of_path_objects(world, folder):
    world.run("MemoryRagBuildOperator", {"files": [make(folder / "docs") for make in KINDS.values()]})
    (sent,) = world.platform.sent("/alpha/memory-rag/train")
    assert list(sent["files"]) == ["page.md"]


def test_an_error_about_a_path_object_names_its_connection(world):
    with pytest.raises(InvalidArgumentError, match="nightly_bucket"):
        world.run(
            "BatchInferenceOperator",
            {"input": ObjectStoragePath("memory://b/x.jsonl", conn_id="nightly_bucket")},
        )
