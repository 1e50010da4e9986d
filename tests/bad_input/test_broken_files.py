"""A file that cannot be read raises one error that names it and the line; nothing is sent, and nothing is written."""

from __future__ import annotations

import os

import pytest

from tests.bad_input.cases import ARGUMENTS, Case
from tests.bad_input.files import ALL_FILES, EMPTY, READERS, FileCase, empty_cases, file_cases, lines, table

CASES = [*file_cases(), *empty_cases()]
WRITERS = [name for name in READERS if "output" in ARGUMENTS[name] and name != "TrainOperator"]
"""The operators whose output could match their own input."""


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=f"{case.defect}-{case.case.operator}") for case in CASES]
)
def test_a_broken_file_is_rejected_before_anything_is_sent(world, case: FileCase):
    message = world.assert_rejected(case.case)
    (name,) = case.case.files
    assert name in message


@pytest.mark.parametrize("operator", [*ALL_FILES, "ClassifierTrainOperator"])
@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("{here}/*.jsonl", "No file matches"),
        ("{here}/*/r.csv", "No file matches"),
        ("{here}/[", "No file matches"),
        ("{here}/missing.parquet", "does not exist"),
        ("{here}/../../missing.jsonl", "does not exist"),
        ("{here}/docs", "is a folder"),
        ("{here}/docs/page.md/rows.jsonl", "does not exist"),
        ("{here}/docs/*", "page.md"),
        ("{here}/pipe.jsonl", "not a regular file"),
        ("{here}/loop.jsonl", "loop.jsonl is a symbolic link"),
        ("{here}/dangling.jsonl", "does not exist"),
    ],
)
def test_a_path_without_rows_is_rejected_before_anything_is_sent(world, operator, pattern, text):
    os.mkfifo(world.folder / "pipe.jsonl")
    (world.folder / "loop.jsonl").symlink_to("loop.jsonl")
    (world.folder / "dangling.jsonl").symlink_to("nothing.jsonl")
    world.assert_rejected(Case(operator, {READERS[operator][0]: pattern}, (text,)))


@pytest.mark.parametrize("operator", WRITERS)
@pytest.mark.parametrize(
    ("pattern", "output"),
    [
        ("{here}/r.jsonl", "{here}"),
        ("{here}/r.jsonl", "{here}/r.jsonl"),
        ("{here}/r.jsonl", "{here}/r.jsonl/out"),
        ("{here}/*.jsonl", "{here}"),
        ("{here}/**/*.jsonl", "{here}/out"),
        ("{here}/**/*.jsonl", "{here}/docs/deep/out"),
        ("{here}/*/*.jsonl", "{here}/out"),
        ("{here}/../*/**/*.jsonl", "{here}/out"),
    ],
)
def test_an_output_that_matches_the_input_is_rejected_before_anything_is_sent(
    world, operator, pattern, output
):
    _, columns = READERS[operator]
    files = {"r.jsonl": lines(columns), "a/r.jsonl": lines(columns)}
    world.assert_rejected(Case(operator, {"input": pattern, "output": output}, ("output",), files))


def test_a_broken_second_file_is_found_before_the_first_is_sent(world):
    files = {"a.jsonl": lines(["prompt"]), "b.jsonl": lines(["prompt"]) + b"{\n"}
    world.assert_rejected(
        Case("BatchInferenceOperator", {"input": "{here}/*.jsonl"}, ("b.jsonl, line 4",), files)
    )


def test_the_error_names_a_file_with_other_columns_than_the_first(world):
    files = {"a.csv": table(["prompt"]), "b.csv": table(["other"])}
    world.assert_rejected(Case("BatchInferenceOperator", {"input": "{here}/*.csv"}, ("b.csv",), files))


def test_the_error_has_the_number_of_a_line_above_the_size_limit(world):
    files = {"r.jsonl": b'{"prompt": "a"}\n{"prompt": "' + b"x" * 18_000_000 + b'"}\n'}
    world.assert_rejected(Case("BatchInferenceOperator", {"input": "{here}/r.jsonl"}, ("line 2",), files))


@pytest.mark.parametrize("defect", EMPTY)
@pytest.mark.parametrize("operator", ["BatchInferenceOperator", "EmbeddingOperator", "ClassifyOperator"])
def test_a_file_without_rows_succeeds_without_requests(world, operator, defect):
    name, build = EMPTY[defect]
    world.put(name, build(READERS[operator][1]))
    world.note_files()
    assert world.run(operator, {"input": f"{{here}}/{name}"})["counts"]["rows"] == 0
    assert world.platform.work == {}


DOCUMENTS = {
    "files of one name": (["{here}/one", "{here}/two"], {"one/a.md": b"a", "two/a.md": b"b"}, "a.md"),
    "paths that map to the same name": ("{here}/one", {"one/a/b.md": b"a", "one/a__b.md": b"b"}, "a__b.md"),
    "empty documents": ("{here}/one", {"one/a.md": b"", "one/b.md": b""}, "empty"),
    "hidden documents": ("{here}/one", {"one/.a.md": b"a", "one/.b/c.md": b"b"}, "no documents"),
    "a line break in a name": ("{here}/one", {"one/a\nb.md": b"a"}, "a\\nb.md"),
    "a name that is not UTF-8": ("{here}/one", {os.fsdecode(b"one/caf\xe9.md"): b"a"}, "caf\\udce9.md"),
    "a pattern without files": ("{here}/one/*.pdf", {"one/a.md": b"a"}, "no documents"),
    "a missing file among others": (
        ["{here}/one/a.md", "{here}/one/b.md"],
        {"one/a.md": b"a"},
        "b.md does not exist",
    ),
    "a path that climbs out": (
        "{here}/one/../../../../nothing-of-the-kind",
        {"one/a.md": b"a"},
        "does not exist",
    ),
}


@pytest.mark.parametrize("operator", ["MemoryRagBuildOperator", "MemoryRagRefreshOperator"])
@pytest.mark.parametrize("defect", DOCUMENTS)
def test_the_error_names_documents_that_cannot_be_sent(world, operator, defect):
    pattern, files, text = DOCUMENTS[defect]
    world.assert_rejected(Case(operator, {"files": pattern}, (text,), files))


def test_a_pipe_among_the_documents_does_not_block(world):
    os.mkfifo(world.folder / "pipe.md")
    world.assert_rejected(
        Case("MemoryRagBuildOperator", {"files": "{here}/pipe.md"}, ("pipe.md is not a regular file",))
    )
