"""Names of files and objects are not parsed as URLs: every path, manifest, result and message has the whole name."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from airflow_provider_lamini.exceptions import InvalidArgumentError
from airflow_provider_lamini.results import merge_shards, read_outputs, read_shards
from airflow_provider_lamini.rows.storage.locate import locate
from airflow_provider_lamini.rows.storage.uris import redacted_uri
from tests.support.object_store import object_store  # noqa: F401 - a fixture
from tests.support.tasks import log_lines

if TYPE_CHECKING:
    from pathlib import Path

NAMES = [
    "team#1",
    "what?",
    "100%",
    "a%20b",
    "a b",
    "a+b",
    "a&b=c",
    "caf\u00e9",
    "cafe\u0301",
    "a;b",
    "~x",
    "a:b",
    "#",
]
"""All of them are different folders, although two of them look the same on a screen."""


def bases(tmp_path: Path) -> dict[str, str]:
    """A folder for each kind of path."""
    return {"path": str(tmp_path), "file": f"file://{tmp_path}", "object": "memory://bucket/deep"}


@pytest.fixture(params=["path", "file", "object"])
def base(request, tmp_path, object_store) -> str:  # noqa: F811, ARG001
    """A folder for inputs and outputs."""
    return bases(tmp_path)[request.param]


def texts(folder: str) -> list[object]:
    return [row["output"] for row in read_outputs(folder)]


def test_folders_with_similar_names_have_their_own_results(world, base):
    for name in NAMES:
        world.run(
            "BatchInferenceOperator",
            {
                "input": [name],
                "output": f"{base}/{name}/day",
                "endpoint": "completions",
                "on_other_run": "replace",
            },
        )
    for name in NAMES:
        assert texts(f"{base}/{name}/day") == [name]


@pytest.mark.parametrize("name", NAMES)
def test_the_whole_name_is_in_the_result_the_manifest_and_the_log(world, base, name):
    with log_lines() as lines:
        result = world.run(
            "BatchInferenceOperator",
            {"input": ["a"], "output": f"{base}/{name}", "endpoint": "completions"},
        )
    folder = f"{base}/{name}".removeprefix("file://")
    assert result["output"] == folder
    assert result["manifest"] == f"{folder}/manifest.json"
    store, path = locate(result["manifest"])
    assert json.loads(store.read(path))["output"] == folder
    assert any(folder in line for line in lines)
    assert texts(result["output"]) == ["a"]


@pytest.mark.parametrize("name", NAMES)
def test_an_input_file_can_have_any_name(world, base, name):
    store, path = locate(f"{base}/in/{name}.jsonl")
    store.write(path, b'{"prompt": "right"}\n', durable=False)
    store.write(f"{path.rpartition('/')[0]}/other.jsonl", b'{"prompt": "wrong"}\n', durable=False)
    result = world.run(
        "BatchInferenceOperator",
        {"input": f"{base}/in/{name}.jsonl", "output": f"{base}/out", "endpoint": "completions"},
    )
    assert f"/in/{name}.jsonl" in result["input"]
    assert texts(result["output"]) == ["right"]


def test_shards_with_unusual_names_are_merged(world, base):
    results = [
        world.run(
            "BatchInferenceOperator",
            {"input": [name], "output": f"{base}/{name}", "endpoint": "completions"},
        )
        for name in NAMES
    ]
    merged = merge_shards(results, base)
    assert [row["output"] for row in read_shards(merged["output"])] == NAMES


def test_the_error_has_the_whole_name(world, base):
    with pytest.raises(InvalidArgumentError, match=r"Issue #12\.jsonl does not exist"):
        world.run("BatchInferenceOperator", {"input": f"{base}/Issue #12.jsonl"})


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("s3://bucket/a#b?c", "s3://bucket/a#b?c"),
        ("s3://conn@bucket/a@b", "s3://conn@bucket/a@b"),
        ("s3://user:secret@bucket/a", "s3://user@bucket/a"),
        ("s3://user:se@cret@bucket/a?b", "s3://user@bucket/a?b"),
        ("https://host/a.csv?sig=secret", "https://host/a.csv"),
        ("https://user:secret@host?sig=secret", "https://user@host"),
        ("memory://bucket/a.jsonl?x=1&token=secret#secret", "memory://bucket/a.jsonl"),
        ("s3://bucket", "s3://bucket"),
        ("/a/team#1", "/a/team#1"),
    ],
)
def test_only_secrets_are_redacted(uri, shown):
    assert redacted_uri(uri) == shown
