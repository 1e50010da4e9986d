"""An index is kept the same as a folder with as little work as possible, whatever happens to the task."""

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
from airflow_provider_lamini.runs.lamini.index_refresh import IndexRefresh
from tests.support.knowledge_platform import RAG
from tests.support.tasks import WAITING, begin, log_lines, maker, run_to_end, wake
from tests.support.tuning_platform import LinkedTask

TRAIN, ADD, STATUS = f"POST {RAG}/train", f"POST {RAG}/add-index", f"POST {RAG}/status"
SLOW = ("CREATED", *["TRAINING MODEL"] * 1000)
NIGHTS = [LinkedTask(run_id=f"night-{number}") for number in range(5)]


@pytest.fixture
def docs(tmp_path):
    folder = tmp_path / "docs"
    (folder / "more").mkdir(parents=True)
    (folder / "a.md").write_text("alpha")
    (folder / "more" / "b.txt").write_text("beta")
    return folder


@pytest.fixture
def refresh(knowledge, docs, tmp_path):  # noqa: ARG001 - the operator talks to it
    """Returns a function that makes a new operator of the same arguments each time."""
    return maker(
        LaminiMemoryRagRefreshOperator,
        task_id="refresh",
        files=str(docs),
        model_name="base-model",
        manifest=str(tmp_path / "rag" / "index.json"),
        **WAITING,
    )


@pytest.fixture
def night(refresh):
    """Returns a function that refreshes to the end and returns what the task returned."""

    def of(number, **given):
        return run_to_end(refresh(**given), NIGHTS[number]).result

    return of


def numbers(result):
    return [
        result[name] for name in ("action", "index_id", "files", "added", "changed", "removed", "replaced")
    ]


def test_the_first_run_builds_the_index(knowledge, night, tmp_path):
    assert night(0) == {
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


def test_a_run_without_changes_only_checks_that_the_index_exists(knowledge, night):
    night(0)
    knowledge.asked.clear()
    assert numbers(night(1)) == ["unchanged", "1", 2, 0, 0, 0, None]
    assert dict(knowledge.asked) == {STATUS: 1}


def test_new_texts_are_added_to_the_existing_index(knowledge, night, docs):
    night(0)
    (docs / "c.md").write_text("gamma")
    (docs / "more" / "d.rst").write_text("delta")
    (docs / "empty.txt").write_text("\n")
    result = night(1)
    assert numbers(result) == ["added", "1", 5, 3, 0, 0, None]
    assert result["reason"] == "3 files are new"
    assert knowledge.indexes["1"].texts == ["gamma", "delta"]
    assert numbers(night(2)) == ["unchanged", "1", 5, 0, 0, 0, None]
    assert knowledge.asked[ADD] == 2
    assert knowledge.asked[TRAIN] == 1


def test_a_long_text_is_added_in_pieces(knowledge, night, docs):
    night(0)
    paragraphs = [f"{number} " + "word " * 30 for number in range(5)]
    (docs / "c.md").write_text("\n\n".join(paragraphs))
    night(1, piece_size="200")
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
def test_a_change_that_cannot_be_added_leads_to_a_rebuild(knowledge, night, docs, change, expected):
    night(0)
    change(docs)
    result = night(1)
    assert (result["action"], result["index_id"], result["replaced"]) == ("rebuilt", "2", "1")
    assert (result["added"], result["changed"], result["removed"], result["reason"]) == expected
    assert knowledge.asked[ADD] == 0
    names = {str(path.relative_to(docs)).replace("/", "__") for path in docs.rglob("*.*")}
    assert set(knowledge.indexes["2"].files) == names
    assert numbers(night(2))[:2] == ["unchanged", "2"]


def test_writing_the_same_content_again_changes_nothing(night, docs):
    night(0)
    (docs / "a.md").write_text("alpha")
    assert night(1)["action"] == "unchanged"


def test_other_suffixes_may_be_texts(knowledge, night, docs):
    night(0)
    (docs / "c.LOG").write_text("gamma")
    assert night(1, text_suffixes=[".log"])["action"] == "added"
    assert knowledge.indexes["1"].texts == ["gamma"]


def test_the_manifest_may_be_in_the_folder(night, docs):
    night(0, manifest=f"{docs}/index.json")
    assert night(1, manifest=f"{docs}/index.json")["action"] == "unchanged"


def test_another_model_leads_to_a_rebuild(night):
    night(0)
    result = night(1, model_name="other")
    assert (result["action"], result["reason"]) == ("rebuilt", "the model was base-model")
    assert night(2, model_name="other")["action"] == "unchanged"


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
def test_a_lost_or_failed_index_is_rebuilt(knowledge, night, harm, reason):
    night(0)
    harm(knowledge)
    result = night(1)
    assert (result["action"], result["reason"]) == ("rebuilt", reason)
    assert night(2)["action"] == "unchanged"


def test_force_new_rebuilds(night):
    night(0)
    assert (night(1, force_new=True)["reason"], night(2)["action"]) == ("force_new is set", "unchanged")


def test_the_old_index_stays_in_use_until_the_new_one_is_ready(knowledge, night, docs, tmp_path):
    night(0)
    (docs / "a.md").write_text("omega")
    knowledge.script = [("CREATED", "FAILED"), ("COMPLETED",)]
    with pytest.raises(JobFailedError, match="Memory RAG job 2 ended as FAILED"):
        night(1)
    manifest = ManifestFile(str(tmp_path / "rag" / "index.json")).content
    assert manifest.index_id == "1"
    assert manifest.building is None
    assert numbers(night(1)) == ["rebuilt", "3", 2, 0, 1, 0, "1"]


def test_a_retry_attaches_to_the_running_build(knowledge, refresh, night):
    knowledge.script = [SLOW]
    begin(refresh(), NIGHTS[0])
    knowledge.indexes["1"].states = ["COMPLETED"]
    assert numbers(night(0)) == ["built", "1", 2, 2, 0, 0, None]
    assert knowledge.asked[TRAIN] == 1


def test_a_killed_task_leaves_the_build_to_the_next_try(knowledge, refresh, night):
    knowledge.script = [SLOW]
    deferral = begin(refresh(), NIGHTS[0])
    with log_lines() as lines:
        asyncio.run(deferral.make_trigger().on_kill())
    assert any("Job 1 (Memory RAG) cannot be cancelled" in line for line in lines)
    knowledge.indexes["1"].states = ["COMPLETED"]
    assert night(0)["index_id"] == "1"
    assert knowledge.asked[TRAIN] == 1


@pytest.mark.parametrize(
    ("state", "error"),
    [("FAILED", JobFailedError), ("CANCELLED", JobCancelledError), ("TIMED OUT", JobTimedOutError)],
)
def test_a_failed_build_fails_the_task_and_a_retry_builds_again(knowledge, night, state, error):
    knowledge.script = [("CREATED", state), ("COMPLETED",)]
    with pytest.raises(error):
        night(0)
    assert numbers(night(0)) == ["built", "2", 2, 2, 0, 0, None]


def test_the_next_run_also_attaches_to_a_build_of_the_same_files(knowledge, refresh, night, docs):
    knowledge.script = [SLOW, ("COMPLETED",)]
    begin(refresh(), NIGHTS[0])
    begin(refresh(), NIGHTS[1])
    assert knowledge.asked[TRAIN] == 1
    (docs / "a.md").write_text("omega")
    assert numbers(night(2)) == ["built", "2", 2, 2, 0, 0, None]


def test_files_that_arrive_during_the_build_are_added_by_the_next_run(refresh, night, docs):
    make = refresh()
    deferral = begin(make, NIGHTS[0])
    (docs / "late.md").write_text("late")
    assert wake(make, deferral, deferral.wait(), NIGHTS[0])["files"] == 2
    assert numbers(night(1)) == ["added", "1", 3, 1, 0, 0, None]


def test_a_try_after_the_work_was_done_returns_the_same_result(knowledge, refresh, night, docs):
    make = refresh()
    deferral = begin(make, NIGHTS[0])
    event = deferral.wait()
    first = wake(make, deferral, event, NIGHTS[0])
    assert wake(make, deferral, event, NIGHTS[0]) == first
    assert night(0) == first
    (docs / "c.md").write_text("gamma")
    added = night(1)
    assert night(1) == added
    assert knowledge.asked[TRAIN] == knowledge.asked[ADD] == 1


def test_a_retry_adds_only_the_remaining_files(knowledge, night, docs):
    night(0)
    for name in "cde":
        (docs / f"{name}.md").write_text(name * 3)
    knowledge.not_now["ddd"] = 401
    with pytest.raises(AuthenticationError, match="not now"):
        night(1)
    assert numbers(night(1)) == ["added", "1", 5, 3, 0, 0, None]
    assert knowledge.indexes["1"].texts == ["ccc", "ddd", "eee"]


@pytest.mark.parametrize("status", [400, 422])
def test_a_refused_text_leads_to_a_rebuild_at_once(knowledge, night, docs, status):
    night(0)
    for name in "cd":
        (docs / f"{name}.md").write_text(name * 3)
    knowledge.not_now["ddd"] = status
    result = night(1)
    assert numbers(result) == ["rebuilt", "2", 4, 2, 0, 0, "1"]
    assert result["reason"] == "the platform refuses to add d.md"
    assert night(2)["action"] == "unchanged"


def test_a_lost_answer_to_an_addition_leads_to_a_rebuild(knowledge, night, docs):
    """Nobody knows whether the text is in the index, so only a new index certainly matches the folder."""
    night(0)
    (docs / "c.md").write_text("gamma")
    knowledge.lose.append(f"{RAG}/add-index")
    with pytest.raises(UnavailableError):
        night(1)
    result = night(1)
    assert (result["action"], result["reason"]) == ("rebuilt", "adding c.md was interrupted")
    assert len(knowledge.indexes["2"].files) == 3


def test_a_text_that_is_already_in_the_index_is_not_an_error(knowledge, night, docs):
    night(0)
    (docs / "c.md").write_text("gamma")
    knowledge.fail[f"{RAG}/add-index"] = [(497, "duplicate")]
    assert numbers(night(1)) == ["added", "1", 3, 1, 0, 0, None]


def test_a_lost_answer_does_not_lead_to_a_second_build(knowledge, night):
    knowledge.lose.append(f"{RAG}/train")
    with pytest.raises(UnavailableError):
        night(0)
    with pytest.raises(JobLostError, match="on_unknown_submission='submit'"):
        night(0)
    assert numbers(night(0, on_unknown_submission="submit"))[:2] == ["built", "2"]


def test_without_waiting_the_next_run_finds_the_index(knowledge, night, docs):
    knowledge.script = [SLOW]
    assert numbers(night(0, wait=False)) == ["built", "1", 2, 2, 0, 0, None]
    assert night(1, wait=False)["action"] == "unchanged"
    (docs / "c.md").write_text("gamma")
    knowledge.indexes["1"].states = ["TRAINING MODEL", "TRAINING MODEL", "COMPLETED"]
    assert numbers(night(2)) == ["added", "1", 3, 1, 0, 0, None]


def test_without_waiting_a_failed_index_is_rebuilt_by_the_next_run(knowledge, night):
    knowledge.script = [("CREATED", "FAILED"), ("COMPLETED",)]
    night(0, wait=False)
    assert numbers(night(1)) == ["rebuilt", "2", 2, 0, 0, 0, "1"]


def test_two_tasks_at_once_do_not_overwrite_each_other(refresh, night, docs, tmp_path, monkeypatch):
    night(0)
    (docs / "c.md").write_text("gamma")

    manifest = str(tmp_path / "rag" / "index.json")
    send_text = IndexRefresh._send_text

    def send_text_while_the_other_task_writes(self, document):
        ManifestFile(manifest).change(index_id="9")
        return send_text(self, document)

    monkeypatch.setattr(IndexRefresh, "_send_text", send_text_while_the_other_task_writes)
    with pytest.raises(ManifestChangedError, match="max_active_runs=1"):
        run_to_end(refresh(), NIGHTS[1])
    assert ManifestFile(manifest).content.index_id == "9"


def test_an_empty_folder_is_rejected_and_the_index_kept(knowledge, night, docs):
    night(0)
    for path in docs.rglob("*.*"):
        path.unlink()
    with pytest.raises(InvalidArgumentError, match="no documents"):
        night(1)
    assert knowledge.asked[TRAIN] == 1


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
def test_a_wrong_argument_fails_before_anything_is_sent(knowledge, night, wrong):
    with pytest.raises(InvalidArgumentError):
        night(0, **wrong)
    assert not knowledge.asked


def test_a_file_that_is_not_a_manifest_is_not_overwritten(knowledge, night, tmp_path):
    other = tmp_path / "rag" / "index.json"
    other.parent.mkdir()
    other.write_text(json.dumps({"mine": 1}))
    with pytest.raises(InvalidArgumentError, match="not the manifest of an index"):
        night(0)
    assert json.loads(other.read_text()) == {"mine": 1}
    assert not knowledge.asked
