"""An index is built once over the selected files, whatever happens to the task."""

from __future__ import annotations

import asyncio
import json

import pytest

from airflow_provider_lamini.api.errors import BadRequestError, ModelNotFoundError, UnavailableError
from airflow_provider_lamini.exceptions import (
    InvalidArgumentError,
    JobCancelledError,
    JobFailedError,
    JobLostError,
    JobTimedOutError,
    WaitTimeoutError,
)
from airflow_provider_lamini.operators.memory_rag_build import LaminiMemoryRagBuildOperator
from airflow_provider_lamini.runs.lamini.memory_rag import IndexBuild
from tests.support.knowledge_platform import RAG
from tests.support.tasks import WAITING, begin, log_lines, maker, resume, run_to_end
from tests.support.tuning_platform import LinkedTask

pytestmark = pytest.mark.any_airflow

TRAIN = f"{RAG}/train"
FILES = {"a.md": b"# Alpha", "b.txt": b"beta", "more/c.pdf": b"%PDF-1.4 \xff\0"}
SLOW = ("CREATED", *["TRAINING MODEL"] * 1000)


@pytest.fixture
def docs(tmp_path):
    folder = tmp_path / "docs"
    for name, content in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture
def build(knowledge, docs, tmp_path):  # noqa: ARG001 - the operator sends requests to it
    """Returns a function that takes arguments and returns a factory of operators."""
    return maker(
        LaminiMemoryRagBuildOperator,
        task_id="build",
        files=str(docs),
        model_name="base-model",
        state_path=str(tmp_path / "state"),
        **WAITING,
    )


@pytest.mark.parametrize("deferrable", [True, False])
def test_an_index_is_built_over_all_files_of_a_folder(knowledge, build, deferrable):
    ended = run_to_end(build(deferrable=deferrable))
    assert ended.result == {
        "index_id": "1",
        "model_name": "base-model",
        "status": "COMPLETED",
        "files": 3,
        "bytes": sum(map(len, FILES.values())),
    }
    assert knowledge.sent(TRAIN)[0]["model_name"] == "base-model"
    assert knowledge.indexes["1"].files == {name.replace("/", "__"): data for name, data in FILES.items()}
    assert len(ended.deferrals) == deferrable


def test_the_trigger_carries_only_ids(build):
    trigger = begin(build()).trigger
    assert (trigger["job_ids"], trigger["kind"], trigger["progress"]) == (["1"], "lamini/memory_rag", None)


def test_files_can_be_globs_on_object_storage(knowledge, build, docs):
    run_to_end(build(files=[f"file://{docs}/*.md", f"{docs}/more/*"]))
    assert sorted(knowledge.indexes["1"].files) == ["a.md", "c.pdf"]


def test_without_waiting_the_id_is_returned_at_once(knowledge, build):
    knowledge.script = [SLOW]
    ended = run_to_end(build(wait=False))
    assert (ended.result["index_id"], ended.result["status"], ended.deferrals) == ("1", None, [])


@pytest.mark.parametrize(
    ("state", "error"),
    [("FAILED", JobFailedError), ("CANCELLED", JobCancelledError), ("TIMED OUT", JobTimedOutError)],
)
def test_a_failed_build_fails_the_task_and_a_retry_builds_again(knowledge, build, state, error):
    knowledge.script = [("CREATED", state), ("COMPLETED",)]
    with pytest.raises(error, match=f"Memory RAG job 1 ended as {state}. It no longer runs"):
        run_to_end(build())
    assert run_to_end(build()).result["index_id"] == "2"


def test_the_log_has_the_end_of_the_platforms_log_of_a_failed_build(knowledge, build):
    knowledge.script = [("FAILED",)]
    knowledge.log = ["reading", "broken.pdf cannot be read"]
    with log_lines() as lines, pytest.raises(JobFailedError):
        run_to_end(build())
    assert "The platform's log of the build ends with: reading; broken.pdf cannot be read" in lines


def test_a_partly_completed_build_fails_the_task(knowledge, build):
    knowledge.script = [("PARTIALLY COMPLETED",)]
    with pytest.raises(JobFailedError, match="PARTIALLY COMPLETED"):
        run_to_end(build())


def test_an_unknown_status_is_not_an_end(knowledge, build):
    knowledge.script = [("CREATED", "PONDERING", "COMPLETED")]
    assert run_to_end(build()).result["status"] == "COMPLETED"


def test_a_retry_attaches_to_the_running_build(knowledge, build):
    knowledge.script = [("CREATED",) * 2 + ("COMPLETED",)]
    begin(build())
    ended = run_to_end(build())
    assert (ended.result["index_id"], len(knowledge.indexes)) == ("1", 1)
    assert ended.result["files"] == 3


def test_a_file_counts_as_changed_only_if_its_content_differs(build, docs):
    run_to_end(build())
    (docs / "a.md").touch()
    assert run_to_end(build()).result["index_id"] == "1"
    (docs / "a.md").write_bytes(b"# Other")
    with log_lines() as lines:
        assert run_to_end(build()).result["index_id"] == "2"
    assert any("cannot be cancelled and may still bill" in line for line in lines)


def test_changed_arguments_fail_the_task_if_the_user_says_so(build):
    run_to_end(build())
    with pytest.raises(InvalidArgumentError, match="with other arguments"):
        run_to_end(build(model_name="other", on_changed_input="fail"))
    assert run_to_end(build(force_new="True")).result["index_id"] == "2"


def test_a_vanished_build_is_submitted_again_by_the_retry(knowledge, build, tmp_path):
    """Otherwise the status request right after attaching would fail every retry."""
    begin(build())
    knowledge.indexes.clear()
    (record,) = (tmp_path / "state").glob("submission-*.json")
    known = json.loads(record.read_text())
    # Right after a submission, a platform may not know the job yet; this one was submitted long ago.
    record.write_text(json.dumps(known | {"submitted_at": known["submitted_at"] - 3600}))
    with pytest.raises(JobLostError, match="A retry submits a new job"):
        run_to_end(build())
    assert run_to_end(build()).result["index_id"] == "1"


def test_a_lost_response_does_not_lead_to_a_second_build(knowledge, build):
    knowledge.lose.append(TRAIN)
    with pytest.raises(UnavailableError) as caught:
        run_to_end(build())
    assert caught.value.may_have_started
    with pytest.raises(JobLostError, match="on_unknown_submission='submit'"):
        run_to_end(build())
    assert len(knowledge.indexes) == 1
    assert run_to_end(build(on_unknown_submission="submit")).result["index_id"] == "2"


@pytest.mark.parametrize(("status", "error"), [(400, BadRequestError), (594, ModelNotFoundError)])
def test_a_refusal_leaves_no_record(knowledge, build, status, error):
    knowledge.fail[TRAIN] = [(status, "no such model")]
    with pytest.raises(error, match=r"no such model.* Nothing was started"):
        run_to_end(build())
    assert run_to_end(build()).result["index_id"] == "1"


def test_a_file_that_vanishes_before_it_is_sent_starts_no_build_and_a_retry_sends_the_rest(
    knowledge, build, docs, monkeypatch
):
    prepare = IndexBuild.prepare

    def remove_a_file_and_prepare(self, mark):
        (docs / "a.md").unlink()
        return prepare(self, mark)

    with monkeypatch.context() as patch:
        patch.setattr(IndexBuild, "prepare", remove_a_file_and_prepare)
        with pytest.raises(FileNotFoundError):
            run_to_end(build())
    assert knowledge.request_counts == {}
    assert run_to_end(build()).result["files"] == 2


def test_a_dangling_link_is_ignored(build, docs):
    (docs / "a.md").unlink()
    (docs / "a.md").symlink_to(docs / "gone")
    assert run_to_end(build()).result["files"] == 2


@pytest.mark.parametrize(
    "wrong",
    [
        {"files": "/nowhere/at/all"},
        {"files": []},
        {"files": 5},
        {"model_name": ""},
        {"model_name": None},
        {"timeout": "soon"},
        {"on_unknown_submission": "guess"},
        {"force_new": "perhaps"},
        {"lamini_conn_id": ""},
    ],
)
def test_an_invalid_argument_fails_before_anything_is_sent(knowledge, build, wrong):
    with pytest.raises(InvalidArgumentError):
        run_to_end(build(**wrong))
    assert not knowledge.request_counts


def test_the_log_of_a_killed_task_says_that_the_build_keeps_running(knowledge, build):
    knowledge.script = [SLOW]
    make = build()
    deferral = begin(make)
    with log_lines() as lines:
        asyncio.run(deferral.make_trigger().on_kill())
    operator = make()
    operator.on_kill()  # this process has no job
    assert any("Memory RAG job 1 cannot be cancelled" in line for line in lines)


def test_after_the_timeout_a_retry_attaches(knowledge, build):
    knowledge.script = [SLOW]
    with pytest.raises(WaitTimeoutError, match="may still run and bill"):
        run_to_end(build(timeout=1))
    knowledge.indexes["1"].states = ["COMPLETED"]
    assert run_to_end(build()).result["index_id"] == "1"


def test_an_event_is_evaluated_in_a_new_process(build):
    deferral = begin(build())
    assert resume(build(), deferral, deferral.wait())["index_id"] == "1"


def test_the_log_warns_if_there_is_no_place_for_a_record(build):
    with log_lines() as lines:
        assert run_to_end(build(state_path=None)).result == {
            "index_id": "1",
            "model_name": "base-model",
            "status": "COMPLETED",
        }
    assert any("no place for a submission record" in line for line in lines)


def test_each_mapped_task_has_its_own_index(build):
    for number in range(2):
        ended = run_to_end(build(), LinkedTask(map_index=number))
        assert ended.result["index_id"] == str(number + 1)


def test_the_log_has_only_the_names_of_files(knowledge, build):
    with log_lines() as lines:
        run_to_end(build())
    assert not [line for line in lines if "Alpha" in line or "beta" in line or knowledge.key in line]
