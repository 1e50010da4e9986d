"""A file that cannot be read as rows is one error with its name and the line; nothing is sent, and nothing is written."""

from __future__ import annotations

import os

import pytest

from tests.bad_input.cases import OWN, Case
from tests.bad_input.files import EMPTY, READERS, FileCase, empty_cases, file_cases, lines, table

CASES = [*file_cases(), *empty_cases()]
WRITERS = [name for name in READERS if "output" in OWN[name] and name != "TrainOperator"]
"""Operators whose results could be input of the next run."""


@pytest.mark.parametrize(
    "case", [pytest.param(each, id=f"{each.what}-{each.case.operator}") for each in CASES]
)
def test_a_broken_file_is_refused_before_anything_is_sent(world, case: FileCase):
    message = world.refuses(case.case)
    (name,) = case.case.files
    assert name in message


@pytest.mark.parametrize("operator", READERS)
@pytest.mark.parametrize(
    ("pattern", "says"),
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
def test_a_path_that_leads_to_no_rows_is_refused_before_anything_is_sent(world, operator, pattern, says):
    os.mkfifo(world.folder / "pipe.jsonl")
    (world.folder / "loop.jsonl").symlink_to("loop.jsonl")
    (world.folder / "dangling.jsonl").symlink_to("nothing.jsonl")
    world.refuses(Case(operator, {READERS[operator][0]: pattern}, (says,)))


@pytest.mark.parametrize("operator", WRITERS)
@pytest.mark.parametrize(
    ("given", "output"),
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
def test_an_output_that_would_become_input_is_refused_before_anything_is_sent(world, operator, given, output):
    _, columns = READERS[operator]
    files = {"r.jsonl": lines(columns), "a/r.jsonl": lines(columns)}
    world.refuses(Case(operator, {"input": given, "output": output}, ("output",), files))


def test_a_second_file_that_is_broken_is_found_before_the_first_is_sent(world):
    files = {"a.jsonl": lines(["prompt"]), "b.jsonl": lines(["prompt"]) + b"{\n"}
    world.refuses(Case("BatchInferenceOperator", {"input": "{here}/*.jsonl"}, ("b.jsonl, line 4",), files))


def test_files_that_have_different_columns_are_told_apart_by_name(world):
    files = {"a.csv": table(["prompt"]), "b.csv": table(["other"])}
    world.refuses(Case("BatchInferenceOperator", {"input": "{here}/*.csv"}, ("b.csv",), files))


def test_a_line_beyond_every_limit_is_refused_by_its_number(world):
    files = {"r.jsonl": b'{"prompt": "a"}\n{"prompt": "' + b"x" * 18_000_000 + b'"}\n'}
    world.refuses(Case("BatchInferenceOperator", {"input": "{here}/r.jsonl"}, ("line 2",), files))


@pytest.mark.parametrize("what", EMPTY)
@pytest.mark.parametrize("operator", [name for name, (_, columns) in READERS.items() if len(columns) == 1])
def test_a_file_without_rows_is_a_run_without_work(world, operator, what):
    name, build = EMPTY[what]
    world.put(name, build(READERS[operator][1]))
    world.settle()
    assert world.run(operator, {"input": f"{{here}}/{name}"})["counts"]["rows"] == 0
    assert world.platform.work == {}


DOCUMENTS = {
    "files of one name": (["{here}/one", "{here}/two"], {"one/a.md": b"a", "two/a.md": b"b"}, "a.md"),
    "folders that sound like a file": ("{here}/one", {"one/a/b.md": b"a", "one/a__b.md": b"b"}, "a__b.md"),
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
@pytest.mark.parametrize("what", DOCUMENTS)
def test_documents_that_cannot_be_sent_are_refused_by_name(world, operator, what):
    given, files, says = DOCUMENTS[what]
    world.refuses(Case(operator, {"files": given}, (says,), files))


def test_a_pipe_among_documents_is_not_waited_for(world):
    os.mkfifo(world.folder / "pipe.md")
    world.refuses(
        Case("MemoryRagBuildOperator", {"files": "{here}/pipe.md"}, ("pipe.md is not a regular file",))
    )
