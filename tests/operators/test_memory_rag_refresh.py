"""An index is kept in step with a folder with as little work as possible, whatever happens to the task."""

from __future__ import annotations

import asyncio
import json

import pytest

from airflow_provider_lamini.api.errors import AuthenticationError, UnavailableError
from airflow_provider_lamini.corpus.index_manifest import ManifestChangedError, ManifestFile
from airflow_provider_lamini.exceptions import (
    InvalidArgumentError,
    JobCancelledError,
    JobFailedError,
    JobLostError,
    JobTimedOutError,
)
from airflow_provider_lamini.operators.memory_rag_refresh import LaminiMemoryRagRefreshOperator
from tests.support.knowledge_platform import RAG
from tests.support.tasks import WAITING, begin, log_lines, maker, resume, run_to_end
from tests.support.tuning_platform import LinkedTask

pytestmark = pytest.mark.any_airflow

TRAIN, ADD, STATUS = f"POST {RAG}/train", f"POST {RAG}/add-index", f"POST {RAG}/status"
SLOW = ("CREATED", *["TRAINING MODEL"] * 1000)
RUNS = [LinkedTask(run_id=f"run-{number}") for number in range(5)]


@pytest.fixture
def docs(tmp_path):
    folder = tmp_path / "docs"
    (folder / "more").mkdir(parents=True)
    (folder / "a.md").write_text("alpha")
    (folder / "more" / "b.txt").write_text("beta")
    return folder


@pytest.fixture
def refresh(knowledge, docs, tmp_path):  # noqa: ARG001 - the operator sends requests to it
    """Returns a function that takes arguments and returns a factory of operators."""
    return maker(
        LaminiMemoryRagRefreshOperator,
        task_id="refresh",
        files=str(docs),
        model_name="base-model",
        manifest=str(tmp_path / "rag" / "index.json"),
        **WAITING,
    )


@pytest.fixture
def refresh_in_run(refresh):
    """Returns a function that runs the task to its end in the run of this number, and returns its result."""

    def refresh_once(number, **given):
        return run_to_end(refresh(**given), RUNS[number]).result

    return refresh_once


def numbers(result):
    return [
        result[name] for name in ("action", "index_id", "files", "added", "changed", "removed", "replaced")
    ]


def test_the_first_run_builds_the_index(knowledge, refresh_in_run, tmp_path):
    assert refresh_in_run(0) == {
        "index_id": "1",
        "action": "built",
        "reason": "there was no index",
        "files": 2,
        "added": 2,
        "changed": 0,
        "removed": 0,
        "replaced": None,
        "model_name": "base-model",
        "manifest": str(tmp_path / "rag" / "index.json"),
    }
    assert knowledge.indexes["1"].files == {"a.md": b"alpha", "more__b.txt": b"beta"}


def test_a_run_without_changes_only_checks_that_the_index_exists(knowledge, refresh_in_run):
    refresh_in_run(0)
    knowledge.request_counts.clear()
    assert numbers(refresh_in_run(1)) == ["unchanged", "1", 2, 0, 0, 0, None]
    assert dict(knowledge.request_counts) == {STATUS: 1}


def test_new_texts_are_added_to_the_existing_index(knowledge, refresh_in_run, docs):
    refresh_in_run(0)
    (docs / "c.md").write_text("gamma")
    (docs / "more" / "d.rst").write_text("delta")
    (docs / "empty.txt").write_text("\n")
    result = refresh_in_run(1)
    assert numbers(result) == ["added", "1", 5, 3, 0, 0, None]
    assert result["reason"] == "3 files are new"
    assert knowledge.indexes["1"].texts == ["gamma", "delta"]
    assert numbers(refresh_in_run(2)) == ["unchanged", "1", 5, 0, 0, 0, None]
    assert knowledge.request_counts[ADD] == 2
    assert knowledge.request_counts[TRAIN] == 1


def test_a_long_text_is_added_in_chunks(knowledge, refresh_in_run, docs):
    refresh_in_run(0)
    paragraphs = [f"{number} " + "word " * 30 for number in range(5)]
    (docs / "c.md").write_text("\n\n".join(paragraphs))
    refresh_in_run(1, piece_size="200")
    assert knowledge.indexes["1"].texts == [paragraph.strip() for paragraph in paragraphs]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda docs: (docs / "a.md").write_text("omega"), (0, 1, 0, "a.md is changed")),
        (lambda docs: (docs / "a.md").unlink(), (0, 0, 1, "a.md is gone")),
        (lambda docs: (docs / "a.md").rename(docs / "z.md"), (1, 0, 1, "a.md is gone")),
        (lambda docs: (docs / "c.pdf").write_bytes(b"%PDF"), (1, 0, 0, "c.pdf is new and not a plain text")),
        (lambda docs: (docs / "c.md").write_bytes(b"\xff\xfe"), (1, 0, 0, "c.md is new and not in UTF-8")),
    ],
)
def test_a_change_that_cannot_be_added_leads_to_a_rebuild(knowledge, refresh_in_run, docs, change, expected):
    refresh_in_run(0)
    change(docs)
    result = refresh_in_run(1)
    assert (result["action"], result["index_id"], result["replaced"]) == ("rebuilt", "2", "1")
    assert (result["added"], result["changed"], result["removed"], result["reason"]) == expected
    assert knowledge.request_counts[ADD] == 0
    names = {str(path.relative_to(docs)).replace("/", "__") for path in docs.rglob("*.*")}
    assert set(knowledge.indexes["2"].files) == names
    assert numbers(refresh_in_run(2))[:2] == ["unchanged", "2"]


def test_writing_the_same_content_again_changes_nothing(refresh_in_run, docs):
    refresh_in_run(0)
    (docs / "a.md").write_text("alpha")
    assert refresh_in_run(1)["action"] == "unchanged"


def test_other_suffixes_can_be_texts(knowledge, refresh_in_run, docs):
    refresh_in_run(0)
    (docs / "c.LOG").write_text("gamma")
    assert refresh_in_run(1, text_suffixes=[".log"])["action"] == "added"
    assert knowledge.indexes["1"].texts == ["gamma"]


def test_the_manifest_can_be_in_the_folder(refresh_in_run, docs):
    refresh_in_run(0, manifest=f"{docs}/index.json")
    assert refresh_in_run(1, manifest=f"{docs}/index.json")["action"] == "unchanged"


def test_another_model_leads_to_a_rebuild(refresh_in_run):
    refresh_in_run(0)
    result = refresh_in_run(1, model_name="other")
    assert (result["action"], result["reason"]) == ("rebuilt", "the model was base-model")
    assert refresh_in_run(2, model_name="other")["action"] == "unchanged"


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (lambda knowledge: knowledge.indexes.clear(), "the platform no longer has index 1"),
        (
            lambda knowledge: setattr(knowledge.indexes["1"], "states", ["FAILED"]),
            "index 1 ended as FAILED",
        ),
    ],
)
def test_a_lost_or_failed_index_is_rebuilt(knowledge, refresh_in_run, harm, reason):
    refresh_in_run(0)
    harm(knowledge)
    result = refresh_in_run(1)
    assert (result["action"], result["reason"]) == ("rebuilt", reason)
    assert refresh_in_run(2)["action"] == "unchanged"


def test_force_new_rebuilds(refresh_in_run):
    refresh_in_run(0)
    assert (refresh_in_run(1, force_new=True)["reason"], refresh_in_run(2)["action"]) == (
        "force_new is set",
        "unchanged",
    )


def test_the_old_index_stays_in_use_until_the_new_one_is_ready(knowledge, refresh_in_run, docs, tmp_path):
    refresh_in_run(0)
    (docs / "a.md").write_text("omega")
    knowledge.script = [("CREATED", "FAILED"), ("COMPLETED",)]
    with pytest.raises(JobFailedError, match="Memory RAG job 2 ended as FAILED"):
        refresh_in_run(1)
    manifest = ManifestFile(str(tmp_path / "rag" / "index.json")).content
    assert manifest.index_id == "1"
    assert manifest.building is None
    assert numbers(refresh_in_run(1)) == ["rebuilt", "3", 2, 0, 1, 0, "1"]


def test_a_retry_attaches_to_the_running_build(knowledge, refresh, refresh_in_run):
    knowledge.script = [SLOW]
    begin(refresh(), RUNS[0])
    knowledge.indexes["1"].states = ["COMPLETED"]
    assert numbers(refresh_in_run(0)) == ["built", "1", 2, 2, 0, 0, None]
    assert knowledge.request_counts[TRAIN] == 1


def test_a_killed_task_leaves_the_build_to_the_next_try(knowledge, refresh, refresh_in_run):
    knowledge.script = [SLOW]
    deferral = begin(refresh(), RUNS[0])
    with log_lines() as lines:
        asyncio.run(deferral.make_trigger().on_kill())
    assert any("Memory RAG job 1 cannot be cancelled" in line for line in lines)
    knowledge.indexes["1"].states = ["COMPLETED"]
    assert refresh_in_run(0)["index_id"] == "1"
    assert knowledge.request_counts[TRAIN] == 1


@pytest.mark.parametrize(
    ("state", "error"),
    [("FAILED", JobFailedError), ("CANCELLED", JobCancelledError), ("TIMED OUT", JobTimedOutError)],
)
def test_a_failed_build_fails_the_task_and_a_retry_builds_again(knowledge, refresh_in_run, state, error):
    knowledge.script = [("CREATED", state), ("COMPLETED",)]
    with pytest.raises(error):
        refresh_in_run(0)
    assert numbers(refresh_in_run(0)) == ["built", "2", 2, 2, 0, 0, None]


def test_the_next_run_also_attaches_to_a_build_of_the_same_files(knowledge, refresh, refresh_in_run, docs):
    knowledge.script = [SLOW, ("COMPLETED",)]
    begin(refresh(), RUNS[0])
    begin(refresh(), RUNS[1])
    assert knowledge.request_counts[TRAIN] == 1
    (docs / "a.md").write_text("omega")
    assert numbers(refresh_in_run(2)) == ["built", "2", 2, 2, 0, 0, None]


def test_the_record_is_in_the_manifest_whatever_state_path_says(knowledge, refresh, refresh_in_run, tmp_path):
    knowledge.script = [SLOW]
    with log_lines() as lines:
        begin(refresh(state_path=str(tmp_path / "state")), RUNS[0])
    manifest = tmp_path / "rag" / "index.json"
    assert f"state_path is not used: the record of a build is in {manifest}." in lines
    assert json.loads(manifest.read_text())["building"]["submission"]["job_id"] == "1"
    assert not (tmp_path / "state").exists()
    knowledge.indexes["1"].states = ["COMPLETED"]
    assert refresh_in_run(1)["index_id"] == "1"
    assert knowledge.request_counts[TRAIN] == 1


def test_files_that_arrive_during_the_build_are_added_by_the_next_run(refresh, refresh_in_run, docs):
    make = refresh()
    deferral = begin(make, RUNS[0])
    (docs / "late.md").write_text("late")
    assert resume(make, deferral, deferral.wait(), RUNS[0])["files"] == 2
    assert numbers(refresh_in_run(1)) == ["added", "1", 3, 1, 0, 0, None]


def test_a_try_after_the_work_was_done_returns_the_same_result(knowledge, refresh, refresh_in_run, docs):
    make = refresh()
    deferral = begin(make, RUNS[0])
    event = deferral.wait()
    first = resume(make, deferral, event, RUNS[0])
    assert resume(make, deferral, event, RUNS[0]) == first
    assert refresh_in_run(0) == first
    (docs / "c.md").write_text("gamma")
    added = refresh_in_run(1)
    assert refresh_in_run(1) == added
    assert knowledge.request_counts[TRAIN] == knowledge.request_counts[ADD] == 1


def test_a_retry_adds_only_the_remaining_files(knowledge, refresh_in_run, docs):
    refresh_in_run(0)
    for name in "cde":
        (docs / f"{name}.md").write_text(name * 3)
    knowledge.refuse_once["ddd"] = 401
    with pytest.raises(AuthenticationError, match="not now"):
        refresh_in_run(1)
    assert numbers(refresh_in_run(1)) == ["added", "1", 5, 3, 0, 0, None]
    assert knowledge.indexes["1"].texts == ["ccc", "ddd", "eee"]


@pytest.mark.parametrize("status", [400, 422])
def test_a_refused_text_leads_to_a_rebuild_at_once(knowledge, refresh_in_run, docs, status):
    refresh_in_run(0)
    for name in "cd":
        (docs / f"{name}.md").write_text(name * 3)
    knowledge.refuse_once["ddd"] = status
    result = refresh_in_run(1)
    assert numbers(result) == ["rebuilt", "2", 4, 2, 0, 0, "1"]
    assert result["reason"] == "the platform refuses to add d.md"
    assert refresh_in_run(2)["action"] == "unchanged"


def test_a_lost_response_to_an_addition_leads_to_a_rebuild(knowledge, refresh_in_run, docs):
    """Nobody knows whether the text is in the index, so only a new index certainly matches the folder."""
    refresh_in_run(0)
    (docs / "c.md").write_text("gamma")
    knowledge.lose.append(f"{RAG}/add-index")
    with pytest.raises(UnavailableError):
        refresh_in_run(1)
    result = refresh_in_run(1)
    assert (result["action"], result["reason"]) == ("rebuilt", "adding c.md was interrupted")
    assert len(knowledge.indexes["2"].files) == 3


def test_a_text_that_is_already_in_the_index_is_not_an_error(knowledge, refresh_in_run, docs):
    refresh_in_run(0)
    (docs / "c.md").write_text("gamma")
    knowledge.fail[f"{RAG}/add-index"] = [(497, "duplicate")]
    assert numbers(refresh_in_run(1)) == ["added", "1", 3, 1, 0, 0, None]


def test_a_lost_response_does_not_lead_to_a_second_build(knowledge, refresh_in_run):
    knowledge.lose.append(f"{RAG}/train")
    with pytest.raises(UnavailableError):
        refresh_in_run(0)
    with pytest.raises(JobLostError, match="on_unknown_submission='submit'"):
        refresh_in_run(0)
    assert numbers(refresh_in_run(0, on_unknown_submission="submit"))[:2] == ["built", "2"]


def test_without_waiting_the_next_run_finds_the_index(knowledge, refresh_in_run, docs):
    knowledge.script = [SLOW]
    assert numbers(refresh_in_run(0, wait=False)) == ["built", "1", 2, 2, 0, 0, None]
    assert refresh_in_run(1, wait=False)["action"] == "unchanged"
    (docs / "c.md").write_text("gamma")
    knowledge.indexes["1"].states = ["TRAINING MODEL", "TRAINING MODEL", "COMPLETED"]
    assert numbers(refresh_in_run(2)) == ["added", "1", 3, 1, 0, 0, None]


def test_without_waiting_a_failed_index_is_rebuilt_by_the_next_run(knowledge, refresh_in_run):
    knowledge.script = [("CREATED", "FAILED"), ("COMPLETED",)]
    refresh_in_run(0, wait=False)
    assert numbers(refresh_in_run(1)) == ["rebuilt", "2", 2, 0, 0, 0, "1"]


def test_two_simultaneous_tasks_do_not_overwrite_each_other(
    knowledge, refresh, refresh_in_run, docs, tmp_path
):
    refresh_in_run(0)
    (docs / "c.md").write_text("gamma")

    manifest = str(tmp_path / "rag" / "index.json")
    add_text = knowledge._add_text

    def add_text_while_the_other_task_writes(body):
        ManifestFile(manifest).change(index_id="9")
        return add_text(body)

    knowledge._add_text = add_text_while_the_other_task_writes
    with pytest.raises(ManifestChangedError, match="max_active_runs=1"):
        run_to_end(refresh(), RUNS[1])
    assert ManifestFile(manifest).content.index_id == "9"


def test_an_empty_folder_is_rejected_and_the_index_kept(knowledge, refresh_in_run, docs):
    refresh_in_run(0)
    for path in docs.rglob("*.*"):
        path.unlink()
    with pytest.raises(InvalidArgumentError, match="no documents"):
        refresh_in_run(1)
    assert knowledge.request_counts[TRAIN] == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"manifest": ""},
        {"manifest": None},
        {"manifest": "/somewhere/"},
        {"piece_size": 10},
        {"piece_size": "much"},
        {"text_suffixes": ".md"},
        {"text_suffixes": ["md"]},
        {"text_suffixes": [5]},
        {"files": "/nowhere"},
        {"model_name": " "},
    ],
)
def test_an_invalid_argument_fails_before_anything_is_sent(knowledge, refresh_in_run, wrong):
    with pytest.raises(InvalidArgumentError):
        refresh_in_run(0, **wrong)
    assert not knowledge.request_counts


def test_a_file_that_is_not_a_manifest_is_not_overwritten(knowledge, refresh_in_run, tmp_path):
    other = tmp_path / "rag" / "index.json"
    other.parent.mkdir()
    other.write_text(json.dumps({"mine": 1}))
    with pytest.raises(InvalidArgumentError, match="not the manifest of an index"):
        refresh_in_run(0)
    assert json.loads(other.read_text()) == {"mine": 1}
    assert not knowledge.request_counts
