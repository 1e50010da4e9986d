"""What a refresh decides: a pure comparison of a manifest with files."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_lamini.corpus.documents import DocumentVersion
from airflow_provider_lamini.corpus.index_manifest import IndexManifest
from airflow_provider_lamini.runs.lamini.refresh_plan import plan_refresh


def stamped(**sums):
    return {f"{name}.md": DocumentVersion(1, digest) for name, digest in sums.items()}


def manifest(**changed):
    given = {"platform": "here", "model_name": "m", "index_id": "1", "files": stamped(a="1", b="2")}
    return IndexManifest(**given | changed)


def plan(known, there, **changed):
    given = {"platform": "here", "model_name": "m", "problem": lambda _: None}
    return plan_refresh(known, there, **given | changed)


SAME = stamped(a="1", b="2")


@pytest.mark.parametrize("known", [None, manifest(index_id=None, files={})])
def test_without_an_index_one_is_built(known):
    assert plan(known, SAME).action == "built"


def test_files_that_are_as_they_were_need_nothing():
    assert plan(manifest(), SAME).action == "unchanged"


def test_new_files_are_added():
    found = plan(manifest(), stamped(a="1", b="2", c="3"))
    assert (found.action, found.reason, found.added) == ("added", "c.md is new", ["c.md"])


@pytest.mark.parametrize(
    ("there", "reason"),
    [
        (stamped(a="1"), "b.md is gone"),
        (stamped(a="1", b="9"), "b.md is changed"),
        (stamped(a="8", b="9", c="3"), "2 files are changed"),
        (stamped(a="9"), "a.md is changed; b.md is gone"),
    ],
)
def test_changed_and_missing_files_need_a_new_index(there, reason):
    found = plan(manifest(), there)
    assert (found.action, found.reason) == ("rebuilt", reason)


@pytest.mark.parametrize(
    ("known", "changed", "reason"),
    [
        (manifest(), {"platform": "there"}, "the connection leads to another platform"),
        (manifest(), {"model_name": "other"}, "the model was m"),
        (manifest(adding="c.md"), {}, "adding c.md was interrupted"),
    ],
)
def test_another_platform_or_model_and_an_interrupted_addition_need_a_new_index(known, changed, reason):
    found = plan(known, SAME, **changed)
    assert (found.action, found.reason) == ("rebuilt", reason)


def test_a_new_file_that_cannot_be_added_needs_a_new_index():
    there = stamped(a="1", b="2", c="3", d="4")
    problems = {"d.md": "d.md is new and no plain text"}
    found = plan(manifest(), there, problem=problems.get)
    assert (found.action, found.reason) == ("rebuilt", "d.md is new and no plain text")


files = st.dictionaries(st.sampled_from("abcd"), st.sampled_from("12")).map(lambda sums: stamped(**sums))


@given(files, files)
def test_the_action_fits_the_difference(known, there):
    found = plan(manifest(files=known), there)
    added, removed = there.keys() - known.keys(), known.keys() - there.keys()
    changed = {name for name in there.keys() & known.keys() if there[name] != known[name]}
    assert (set(found.added), set(found.changed), set(found.removed)) == (added, changed, removed)
    expected = "rebuilt" if changed or removed else "added" if added else "unchanged"
    assert found.action == expected
