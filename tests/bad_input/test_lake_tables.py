"""Folders of Delta and Iceberg tables, which keep files that do not count any more."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_provider_lamini.exceptions import InvalidArgumentError
from airflow_provider_lamini.rows.storage.locate import locate
from tests.bad_input.files import parquet
from tests.bad_input.test_inputs import OPERATORS, columns_of, run, sent
from tests.support.object_store import object_store  # noqa: F401 - a fixture

DELTA = {
    "files": ["t/a.parquet", "t/removed.parquet"],
    "partitions": ["t/dt=1/lang=en/a.parquet", "t/dt=2/lang=en/a.parquet"],
    "random folders": ["t/x7/a.parquet", "t/9q/a.parquet"],
}
PATTERNS = {
    "files": ["t", "t/*.parquet", "t/**/*.parquet", "t/*", "**/*.parquet", "t/{a,removed}.parquet"],
    "partitions": ["t", "t/*/*/*.parquet", "t/**/*", "t/dt=1/lang=en/*.parquet"],
    "random folders": ["t/**/*.parquet", "t/x7/*"],
}


def fill(base, names, columns):
    for name in names:
        store, path = locate(f"{base}/{name}")
        store.write(path, parquet(columns, ["a"]) if name.endswith("parquet") else b"{}", durable=False)


def base_of(world, place):
    return "memory://bucket/in" if place == "store" else str(Path(world.folder) / "in")


@pytest.mark.parametrize("place", ["local", "store"])
@pytest.mark.parametrize(("form", "pattern"), [(form, each) for form in PATTERNS for each in PATTERNS[form]])
def test_the_files_of_a_delta_table_are_refused(world, object_store, form, pattern, place):  # noqa: F811, ARG001
    base = base_of(world, place)
    fill(base, [*DELTA[form], "t/_delta_log/00000000000000000000.json"], ["prompt"])
    with pytest.raises(InvalidArgumentError, match=r"in/t is a Delta table.*file_uris\(\)"):
        run(world, "completions", f"{base}/{pattern}")
    assert not world.work


def test_the_keys_of_a_whole_delta_table_are_refused(world):
    base = base_of(world, "local")
    names = [*DELTA["partitions"], "t/_delta_log/00000000000000000000.json"]
    fill(base, names, ["prompt"])
    with pytest.raises(InvalidArgumentError, match="in/t is a Delta table"):
        run(world, "completions", [f"{base}/{name}" for name in names])
    run(world, "completions", [f"{base}/{name}" for name in names[:-1]])  # as file_uris() gives them
    assert sent(world) == ["a", "a"]


@pytest.mark.parametrize("pattern", ["t", "t/data/*.parquet", "t/**/*.parquet", "t/data/dt=1/*"])
@pytest.mark.parametrize("place", ["local", "store"])
def test_the_files_of_an_iceberg_table_are_refused(world, object_store, pattern, place):  # noqa: F811, ARG001
    base = base_of(world, place)
    names = ["t/data/a.parquet", "t/data/dt=1/b.parquet", "t/metadata/00000-x.metadata.json"]
    fill(base, names, ["prompt"])
    with pytest.raises(InvalidArgumentError, match=r"in/t looks like an Iceberg table.*to_arrow\(\)"):
        run(world, "completions", f"{base}/{pattern}")
    assert not world.work


@pytest.mark.parametrize("operator", OPERATORS)
def test_no_operator_reads_the_files_of_a_table(world, operator):
    fill(world.folder, ["t/a.parquet", "t/_delta_log/0.json"], columns_of(operator))
    with pytest.raises(InvalidArgumentError, match="is a Delta table"):
        run(world, operator, "{here}/t/*.parquet")
    assert sent(world) == []


def test_folders_that_only_resemble_tables_are_read(world):
    fill(world.folder, ["p/data/a.parquet", "p/metadata/notes.json", "q/metadata/x.parquet"], ["prompt"])
    run(world, "completions", "{here}/*/*/*.parquet")
    assert sent(world) == ["a", "a"]


def test_a_table_is_looked_for_once_in_a_store(world, object_store):  # noqa: F811
    fill("memory://bucket/in", [f"t/dt={day}/a.parquet" for day in range(20)], ["prompt"])
    run(world, "completions", "memory://bucket/in/t/*/*.parquet", chunk_size=2)
    looked = object_store.calls_of("info", "_delta_log")
    assert len(looked) == len(set(looked)) == 2
