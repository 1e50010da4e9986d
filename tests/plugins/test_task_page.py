"""The page of a task: operators run against a local platform, and what they leave is stored in Airflow's database."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from airflow_provider_lamini.exceptions import TooManyFailedRowsError
from airflow_provider_lamini.links import task_page
from airflow_provider_lamini.operators.batch_inference import LaminiBatchInferenceOperator
from airflow_provider_lamini.operators.completion import LaminiCompletionOperator
from airflow_provider_lamini.operators.embedding import LaminiEmbeddingOperator
from airflow_provider_lamini.operators.emissary.train import EmissaryTrainOperator
from airflow_provider_lamini.operators.evaluate import LaminiEvaluateOperator
from airflow_provider_lamini.operators.memory_rag_refresh import LaminiMemoryRagRefreshOperator
from airflow_provider_lamini.plugins import files
from airflow_provider_lamini.plugins import task as task_module
from airflow_provider_lamini.rows.output.reading import MAX_READ, first_rows
from airflow_provider_lamini.rows.storage.folder import OutputFolder
from airflow_provider_lamini.runs.task_record import KEY as RECORD
from airflow_provider_lamini.runs.task_record import MAX_JOBS, TaskRecord
from tests.support.local_platform import Control
from tests.support.scripted_tuning import BASE, KEY, VECTORS
from tests.support.tasks import WAITING, begin, run_to_end
from tests.support.tuning_platform import LinkedTask

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from uuid import UUID

    from tests.plugins.conftest import Pages
    from tests.support.emissary_api import EmissaryClient
    from tests.support.scripted_tuning import TunablePlatform

RUN = "manual__2026-11-27T10:00:00+00:00"
SCRIPT = "<script>parent.stolen = 1</script><img src=x onerror=alert(1)>"


@dataclass(frozen=True, slots=True)
class Mapped(LinkedTask):
    """A mapped task instance."""

    dag_id: str = "nightly"
    task_id: str = "infer"
    run_id: str = RUN
    map_index: int = 2


def address(ti: LinkedTask, rest: str = "") -> str:
    return f"api/dags/{ti.dag_id}/runs/{ti.run_id}/tasks/{ti.task_id}/{ti.map_index}{rest}"


@pytest.fixture
def store(pages: Pages) -> Iterator[Any]:  # noqa: ARG001 - it makes the database
    """Stores a task instance with its XComs, as Airflow does."""
    from airflow.models.dagrun import DagRun
    from airflow.models.taskinstance import TaskInstance
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session
    from airflow.utils.types import DagRunType
    from sqlalchemy import delete, insert, select

    def save(
        ti: LinkedTask, result: Any = None, state: str = "success", region_id: UUID | None = None
    ) -> LinkedTask:
        xcoms = ti.xcoms if result is None else {**ti.xcoms, "return_value": result}
        names = {name: getattr(ti, name) for name in ("dag_id", "task_id", "run_id")}
        fields = {
            "operator": "AnOperator",
            "start_date": datetime.now(UTC),
            "duration": 12.5,
            "state": state,
            "pool": "default_pool",
            "try_number": 1,
        }
        index = "region_index" if hasattr(TaskInstance, "region_index") else "map_index"
        fields[index] = ti.map_index if region_id is None else 0
        if region_id is not None:
            fields["region_id"] = region_id
        with create_session() as session:
            run = session.scalar(select(DagRun).where(DagRun.dag_id == ti.dag_id, DagRun.run_id == ti.run_id))
            if run is None:
                run = DagRun(
                    dag_id=ti.dag_id,
                    run_id=ti.run_id,
                    run_type=DagRunType.MANUAL,
                    run_after=datetime.now(UTC),
                )
                session.add(run)
                session.flush()
            (ti_id,) = session.execute(
                insert(TaskInstance.__table__).values(**names, **fields)
            ).inserted_primary_key
            for key, value in xcoms.items():
                if hasattr(XComModel, "set_for_attempt"):  # since Airflow 3.4
                    XComModel.set_for_attempt(
                        task_instance_id=ti_id, key=key, value=value, serialize=False, session=session
                    )
                else:
                    place = {**names, "map_index": ti.map_index, "dag_run_id": run.id}
                    session.add(XComModel(key=key, value=value, **place))
        return ti

    yield save
    with create_session() as session:
        for model in (TaskInstance, DagRun):  # the XComs go with their task instances
            session.execute(delete(model))


def infer(output: Path, **arguments: Any) -> Any:
    defaults = {"task_id": "infer", "model_name": BASE, "output": str(output), "chunk_size": 4}
    return lambda: LaminiBatchInferenceOperator(**{**defaults, **WAITING, **arguments})


@pytest.mark.parametrize("rest", ["", "/jobs"])
def test_a_task_page_needs_a_login_and_the_rights_to_its_task_and_xcoms(pages: Pages, store: Any, rest: str):
    ti = store(Mapped(xcoms={}))
    assert pages.get(address(ti, rest), role=None).status_code == 401
    assert pages.get(address(ti, rest), role="").status_code == 403
    assert pages.get(address(ti, rest), role="viewer").status_code == 200


def test_each_permission_is_needed(pages: Pages, store: Any, monkeypatch: pytest.MonkeyPatch):
    from airflow.api_fastapi.app import get_auth_manager
    from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity

    ti = store(Mapped(xcoms={}))
    asked: list[tuple[Any, ...]] = []
    refused: list[DagAccessEntity] = []

    def is_authorized_dag(*, method: str, user: Any, access_entity: Any = None, details: Any = None) -> bool:
        asked.append((method, access_entity, details.id, user.get_id()))
        return access_entity not in refused

    monkeypatch.setattr(get_auth_manager(), "is_authorized_dag", is_authorized_dag)
    assert pages.get(address(ti)).status_code == 200
    wanted = (DagAccessEntity.TASK_INSTANCE, DagAccessEntity.XCOM)
    assert set(asked) == {("GET", entity, "nightly", "a-admin") for entity in wanted}
    for entity in wanted:
        refused[:] = [entity]
        assert pages.get(address(ti)).status_code == 403


def test_a_run_shows_its_counts_reasons_jobs_failed_rows_and_first_results(
    pages: Pages, platform: TunablePlatform, store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("AIRFLOW__AIRFLOW_PROVIDER_LAMINI__PAGE_ROWS", "5")
    with closing(Control(platform.url, KEY)) as control:
        control.row_fault("broken", times=None)
    rows = [
        {"id": f"n{number}", "text": "broken" if number == 3 else f"{SCRIPT} {number}"}
        for number in range(10)
    ]
    ti = Mapped(xcoms={})
    ended = run_to_end(
        infer(tmp_path, input=rows, prompt="text", passthrough=["id"], max_failed_rows=1, row_retries=0), ti
    )
    shown = pages.data(address(store(ti, ended.result)))
    assert (shown["ours"], shown["platform"], shown["conn_id"]) == (True, "Lamini", "lamini_default")
    assert shown["task"]["state"] == "success"
    assert shown["task"]["seconds"] == 12.5
    assert {name: shown["counts"][name] for name in ("rows", "ok", "failed")} == {
        "rows": 10,
        "ok": 9,
        "failed": 1,
    }
    (reason,) = shown["counts"]["failures"]
    (failed,) = shown["failed_rows"]
    assert (failed["index"], failed["columns"], failed["reason"]) == (3, {"id": "n3"}, reason)
    assert failed["error"]
    assert "broken" not in json.dumps(failed)
    assert [row["index"] for row in shown["rows"]] == [0, 1, 2, 3, 4]
    assert shown["rows"][0]["columns"] == {"id": "n0"}
    assert SCRIPT in shown["rows"][0]["output"]  # as text of JSON, never as HTML
    assert shown["facts"]["model"] == BASE
    assert shown["facts"]["output"] == str(tmp_path)
    assert shown["facts"]["seconds"] >= 0
    assert not shown["unfinished"]
    assert shown["facts"]["report"] == f"{tmp_path}/report.html"
    assert "report html" not in shown["facts"]  # one report is enough
    assert shown["kind"] == "batch_completions"
    assert len(shown["jobs"]) == 3  # chunks, from several processes of the task
    states = pages.data(address(ti, "/jobs"))["jobs"]
    assert {job["state"] for job in states} == {"succeeded"}
    assert {job["job_id"] for job in states} == {job["job_id"] for job in shown["jobs"]}
    assert KEY not in json.dumps([shown, states])


def test_a_user_who_may_not_read_the_connection_sees_the_jobs_without_states(
    pages: Pages,
    store: Any,
    platform: TunablePlatform,  # noqa: ARG001
):
    record = TaskRecord(platform="lamini", conn_id="lamini_default", kind="lamini/tuning", job_ids=("7",))
    ti = store(Mapped(xcoms={RECORD: record.payload()}))
    assert pages.get(address(ti), role="user").json()["jobs"] == [{"job_id": "7"}]
    refused = pages.get(address(ti, "/jobs"), role="user")
    assert refused.status_code == 403
    assert "lamini_default" in refused.json()["detail"]
    assert "no such job" in pages.data(address(ti, "/jobs"))["jobs"][0]["error"].lower()


@pytest.mark.usefixtures("platform")
def test_manifest_and_report_are_shown_as_text(pages: Pages, store: Any, tmp_path: Path):
    ti = Mapped(xcoms={})
    ended = run_to_end(infer(tmp_path, input=[SCRIPT]), ti)
    assert pages.data(address(store(ti, ended.result)))["files"] == ["manifest", "report"]
    manifest = pages.data(address(ti, "/files/manifest"))
    assert manifest == {
        "uri": f"{tmp_path}/manifest.json",
        "text": (tmp_path / "manifest.json").read_text(),
        "cut": False,
    }
    response = pages.get(address(ti, "/files/report"))
    assert response.headers["content-type"] == "application/json"  # never HTML
    assert response.json()["text"] == (tmp_path / "report.md").read_text()
    assert ended.result["report"] == response.json()["uri"]


@pytest.mark.usefixtures("platform")
def test_files_need_the_same_rights_as_the_page(pages: Pages, store: Any, tmp_path: Path):
    ti = Mapped(xcoms={})
    ended = run_to_end(infer(tmp_path, input=["a"]), ti)
    path = address(store(ti, ended.result), "/files/report")
    assert [pages.get(path, role=role).status_code for role in (None, "", "viewer")] == [401, 403, 200]


@pytest.mark.usefixtures("platform")
def test_a_large_file_is_cut(pages: Pages, store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    ti = Mapped(xcoms={})
    ended = run_to_end(infer(tmp_path, input=["a"]), ti)
    (tmp_path / "report.md").write_text("ü" * files.MAX_BYTES)
    monkeypatch.setattr(files, "MAX_BYTES", 99_999)
    shown = pages.data(address(store(ti, ended.result), "/files/report"))
    assert (shown["text"], shown["cut"]) == ("ü" * 49_999 + "\N{REPLACEMENT CHARACTER}", True)


@pytest.mark.usefixtures("platform")
@pytest.mark.parametrize("name", ["manifest", "report"])
def test_files_of_another_task_or_run_are_not_shown(pages: Pages, store: Any, tmp_path: Path, name: str):
    owner = Mapped(xcoms={}, map_index=1)
    run_to_end(infer(tmp_path, input=["secret"]), owner)
    for other in (Mapped(xcoms=owner.xcoms), Mapped(xcoms=owner.xcoms, map_index=1, run_id="later")):
        assert pages.data(address(store(other)))["files"] == []
        refused = pages.get(address(other, f"/files/{name}"))
        assert refused.status_code == 404
        assert refused.json()["detail"] == f"The API server sees no {name} of this task in {tmp_path}."


def test_only_files_that_have_a_part_of_the_page_are_read(pages: Pages, store: Any):
    ti = store(Mapped(xcoms={RECORD: TaskRecord(platform="lamini").payload()}))
    for name in ("_ledger.json", "..%2Fmanifest", "scores"):
        assert pages.get(address(ti, f"/files/{name}")).status_code in (404, 422)
    assert pages.get(address(ti, "/files/report")).json()["detail"] == "This task has no such file."


@pytest.mark.usefixtures("platform")
def test_without_rows_the_report_is_not_shown_because_it_has_outputs(
    pages: Pages, store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("AIRFLOW__AIRFLOW_PROVIDER_LAMINI__PAGE_ROWS", "0")
    ti = Mapped(xcoms={})
    ended = run_to_end(infer(tmp_path, input=["a"]), ti)
    assert pages.data(address(store(ti, ended.result)))["files"] == ["manifest"]
    assert pages.get(address(ti, "/files/report")).status_code == 404


def test_a_store_that_cannot_be_read_is_named_for_a_file_too(pages: Pages, store: Any):
    record = TaskRecord(platform="lamini", output="s3://bucket/folder")
    refused = pages.get(address(store(Mapped(xcoms={RECORD: record.payload()})), "/files/manifest"))
    assert refused.status_code == 502
    assert "cannot" in refused.json()["detail"]


@pytest.fixture
def refresh(knowledge: object, tmp_path: Path) -> Any:  # noqa: ARG001 - the operator sends requests to it
    """Makes an operator that builds an index over one document, and then adds what is new."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text("alpha")
    return lambda: LaminiMemoryRagRefreshOperator(
        task_id="infer",
        files=str(tmp_path / "docs"),
        model_name=BASE,
        manifest=str(tmp_path / "index.json"),
        **WAITING,
    )


def test_the_manifest_of_an_index_is_shown_at_the_run_that_has_written_it_last(
    pages: Pages, store: Any, tmp_path: Path, refresh: Any
):
    first, second = Mapped(xcoms={}), Mapped(xcoms={}, run_id="later")
    store(first, run_to_end(refresh, first).result)
    assert pages.data(address(first))["files"] == ["manifest"]
    assert pages.data(address(first, "/files/manifest")) == {
        "uri": f"{tmp_path}/index.json",
        "text": (tmp_path / "index.json").read_text(),
        "cut": False,
    }
    assert pages.get(address(first, "/files/report")).status_code == 404
    (tmp_path / "docs" / "b.md").write_text("beta")
    store(second, run_to_end(refresh, second).result)
    assert "b.md" in pages.data(address(second, "/files/manifest"))["text"]
    shown = pages.data(address(first))
    assert shown["files"] == []
    assert "a later run has written it" in shown["notes"][0]
    assert pages.get(address(first, "/files/manifest")).status_code == 404


def test_the_manifest_of_an_index_is_shown_while_it_is_built(
    pages: Pages, store: Any, refresh: Any, knowledge: Any
):
    knowledge.script = [("CREATED", *["TRAINING MODEL"] * 1000)]
    ti = Mapped(xcoms={})
    begin(refresh, ti)
    store(ti, state="deferred")
    assert '"submission"' in pages.data(address(ti, "/files/manifest"))["text"]


@pytest.mark.parametrize(
    "content",
    [None, "", "secret", '{"index": "secret"}', "{" * 100_000, '{"format": "airflow-provider-lamini/'],
    ids=str,
)
def test_a_file_that_is_no_manifest_of_the_task_is_not_shown_if_a_record_names_it(
    pages: Pages, store: Any, tmp_path: Path, content: str | None
):
    path = tmp_path / "secret.json"
    if content is not None:
        path.write_text(content)
    record = TaskRecord(platform="lamini", manifest=str(path))
    ti = store(Mapped(xcoms={RECORD: record.payload()}))
    assert pages.data(address(ti))["files"] == []
    refused = pages.get(address(ti, "/files/manifest"))
    assert refused.status_code == 404
    assert refused.json()["detail"] == f"The API server sees no manifest of this task in {path}."


def test_a_store_with_a_manifest_that_cannot_be_read_leaves_a_note(pages: Pages, store: Any):
    record = TaskRecord(platform="lamini", manifest="s3://bucket/index.json")
    ti = store(Mapped(xcoms={RECORD: record.payload()}))
    assert "cannot" in pages.data(address(ti))["notes"][0]
    assert pages.get(address(ti, "/files/manifest")).status_code == 502


@pytest.mark.usefixtures("platform")
def test_a_task_that_has_failed_still_shows_what_it_has_written(pages: Pages, store: Any, tmp_path: Path):
    ti = Mapped(xcoms={})
    make = infer(tmp_path, input=["a", "b"], check="builtins.callable", max_failed_rows=0, row_retries=0)
    with pytest.raises(TooManyFailedRowsError):
        run_to_end(make, ti)
    shown = pages.data(address(store(ti, state="failed")))
    assert shown["counts"]["failures"] == {"check_failed": 2}
    assert [row["reason"] for row in shown["failed_rows"]] == ["check_failed", "check_failed"]


def test_a_task_that_waits_shows_how_far_it_is(
    pages: Pages, platform: TunablePlatform, store: Any, tmp_path: Path
):
    from tests.support.tasks import begin, resume

    ti = Mapped(xcoms={})
    make = infer(tmp_path, input=["a", "b", "c", "d", "e", "f"], chunk_size=2, max_in_flight=1)
    deferral = begin(make, ti)
    from airflow.providers.common.compat.sdk import TaskDeferred

    with pytest.raises(TaskDeferred):
        resume(make, deferral, deferral.wait(), ti)
    shown = pages.data(address(store(ti, state="deferred")))
    assert shown["facts"]["rows written"] == "2 of 6"
    assert shown["unfinished"]
    assert [row["index"] for row in shown["rows"]] == [0, 1]
    assert len(shown["jobs"]) == 2
    assert platform.url not in json.dumps(shown)


@pytest.mark.usefixtures("platform")
def test_answers_without_files_are_shown_from_the_result(pages: Pages, store: Any):
    ti = Mapped(xcoms={})
    ended = run_to_end(
        lambda: LaminiCompletionOperator(task_id="infer", prompt=["one", SCRIPT], model_name=BASE), ti
    )
    shown = pages.data(address(store(ti, ended.result)))
    assert [row["index"] for row in shown["rows"]] == [0, 1]
    assert SCRIPT in shown["rows"][1]["output"]
    assert shown["facts"]["model"] == BASE
    assert shown["jobs"] == []


def test_a_training_job_is_shown_with_its_state_and_the_result(
    pages: Pages, emissary: EmissaryClient, store: Any, tmp_path: Path
):
    project = emissary.project()
    dataset = emissary.dataset(project)
    ti = Mapped(xcoms={})
    make = lambda: EmissaryTrainOperator(  # noqa: E731
        task_id="infer",
        project_id=project,
        base_model=BASE,
        dataset_id=dataset,
        state_path=str(tmp_path),
        **WAITING,
    )
    ended = run_to_end(make, ti)
    shown = pages.data(address(store(ti, ended.result)))
    assert shown["platform"] == "Emissary"
    assert shown["facts"]["training job id"] == ended.result["training_job_id"]
    (job,) = pages.data(address(ti, "/jobs"))["jobs"]
    assert (job["job_id"], job["state"]) == (ended.result["job_id"], "succeeded")


@pytest.mark.usefixtures("platform")
@pytest.mark.parametrize("output_format", ["jsonl", "parquet"])
def test_vectors_are_left_out_of_the_results(pages: Pages, store: Any, tmp_path: Path, output_format: str):
    ti = Mapped(xcoms={})
    make = lambda: LaminiEmbeddingOperator(  # noqa: E731
        task_id="infer",
        input=[{"id": "a", "text": "one"}],
        prompt="text",
        passthrough=["id"],
        model_name=VECTORS,
        output=str(tmp_path),
        output_format=output_format,
    )
    ended = run_to_end(make, ti)
    (row,) = pages.data(address(store(ti, ended.result)))["rows"]
    assert row == {"index": 0, "output": None, "error": None, "reason": None, "columns": {"id": "a"}}


@pytest.mark.parametrize(
    "xcoms", [{}, {"return_value": {"output": "/etc", "manifest": "/etc/manifest.json"}}]
)
def test_a_task_of_another_provider_shows_nothing(pages: Pages, store: Any, xcoms: dict[str, Any]):
    shown = pages.data(address(store(Mapped(xcoms=xcoms))))
    assert (shown["ours"], set(shown)) == (False, {"task", "ours"})


def test_a_task_instance_that_does_not_exist_is_not_found(pages: Pages):
    for path in (address(Mapped(xcoms={})), "api/dags/~/runs/~/tasks/~/-1"):
        response = pages.get(path)
        assert (response.status_code, response.json()["detail"]) == (404, "There is no such task instance.")


def test_the_page_of_a_task_in_a_loop_shows_the_iteration_that_started_last(
    pages: Pages, platform: TunablePlatform, store: Any
):
    pytest.importorskip("airflow.models.dynamic_region", reason="Airflow has loops since 3.4")
    assert platform.url
    for prompt in ("first", "second"):
        ti = Mapped(map_index=-1, xcoms={})
        ask = LaminiCompletionOperator(task_id="infer", prompt=[prompt], model_name=BASE)
        ended = run_to_end(lambda ask=ask: ask, ti)
        store(ti, ended.result, region_id=uuid4())
    shown = pages.data(address(ti))
    assert "second" in str(shown["rows"])
    assert "first" not in str(shown["rows"])
    assert shown["notes"] == ["The task runs in a loop. This is the iteration that started last."]


def test_rows_of_another_task_are_not_shown_even_if_its_folder_is_named(
    pages: Pages,
    store: Any,
    tmp_path: Path,
    platform: TunablePlatform,  # noqa: ARG001
):
    owner = Mapped(xcoms={}, map_index=1)
    run_to_end(infer(tmp_path, input=["secret"]), owner)
    shown = pages.data(address(store(Mapped(xcoms=owner.xcoms))))
    assert (shown["rows"], shown["failed_rows"], shown["counts"]) == ([], [], {})
    assert "belong to another task or run" in shown["notes"][0]
    assert "secret" not in json.dumps(shown)


def test_a_deferred_evaluation_shows_the_rows_of_its_models(
    pages: Pages,
    store: Any,
    tmp_path: Path,
    platform: TunablePlatform,
):
    def evaluate() -> LaminiEvaluateOperator:
        rows = [{"input": text, "output": text} for text in ("a", "b", "c")]
        return LaminiEvaluateOperator(
            task_id="evaluate", model_name=BASE, input=rows, output=str(tmp_path), chunk_size=2, **WAITING
        )

    ti = Mapped(xcoms={}, task_id="evaluate")
    control = Control(platform.url, KEY)
    with closing(control):
        control.hold("completions", after_rows=0)
        begin(evaluate, ti)
        shown = pages.data(address(store(ti, state="deferred")))
        control.release()
    assert shown["facts"]["rows written (model)"] == "0 of 3"
    assert shown["unfinished"]
    assert shown["notes"] == []


def test_an_evaluation_that_has_ended_shows_the_rows_of_the_model_to_judge(
    pages: Pages,
    store: Any,
    tmp_path: Path,
    platform: TunablePlatform,  # noqa: ARG001
):
    rows = [{"input": text, "output": text} for text in ("a", "b", "c")]
    ti = Mapped(xcoms={}, task_id="evaluate")
    ended = run_to_end(
        lambda: LaminiEvaluateOperator(
            task_id="evaluate",
            model_name=BASE,
            base_model_name=BASE,
            input=rows,
            output=str(tmp_path),
            **WAITING,
        ),
        ti,
    )
    shown = pages.data(address(store(ti, ended.result)))
    assert [row["index"] for row in shown["rows"]] == [0, 1, 2]
    assert (shown["counts"]["rows"], shown["notes"]) == (3, [])
    assert shown["files"] == ["report"]
    assert pages.data(address(ti, "/files/report"))["text"] == (tmp_path / "report.md").read_text()
    other = store(Mapped(xcoms=ti.xcoms, task_id="other"))
    assert pages.get(address(other, "/files/report")).status_code == 404
    assert shown["facts"]["model (base)"] == BASE


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("/nowhere/at/all", "sees no rows"),
        ("s3://bucket/folder", "cannot"),
        ("bad\nfolder", "not a path"),
        ("/dev", "sees no rows"),
    ],
)
def test_a_folder_that_cannot_be_read_leaves_a_note(pages: Pages, store: Any, output: str, words: str):
    record = TaskRecord(platform="lamini", conn_id="lamini_default", output=output)
    ti = store(
        Mapped(xcoms={RECORD: record.payload(), "return_value": {"model": "m", "counts": {"rows": 3}}})
    )
    shown = pages.data(address(ti))
    assert words in " ".join(shown["notes"])
    assert (shown["counts"], shown["facts"]) == ({"rows": 3}, {"model": "m"})


def test_no_row_is_shown_if_the_configuration_says_so(
    pages: Pages,
    store: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    platform: TunablePlatform,  # noqa: ARG001
):
    monkeypatch.setenv("AIRFLOW__AIRFLOW_PROVIDER_LAMINI__PAGE_ROWS", "0")
    ti = Mapped(xcoms={})
    ended = run_to_end(infer(tmp_path, input=["a"]), ti)
    shown = pages.data(address(store(ti, ended.result)))
    assert (shown["rows"], shown["failed_rows"], shown["counts"]["rows"]) == ([], [], 1)


@pytest.mark.parametrize(
    "value",
    [
        None,
        "text",
        {"version": 2, "job_ids": []},
        {"version": 1, "output": 7, "job_ids": []},
        {"version": 1, "job_ids": "7"},
        {"version": 1, "job_ids": [7]},
    ],
)
def test_a_record_that_is_none_of_this_release_is_not_used(value: object):
    assert TaskRecord.from_payload(value) is None


def test_a_record_survives_and_keeps_the_last_jobs():
    ids = tuple(map(str, range(3 * MAX_JOBS)))
    record = TaskRecord(
        platform="acme", conn_id="a", output="/o", output_conn_id="b", kind="acme/x", job_ids=ids
    )
    read = TaskRecord.from_payload(json.loads(json.dumps(record.payload())))
    assert read is not None
    assert read.job_ids == ids[-MAX_JOBS:]
    refreshed = TaskRecord(platform="acme", manifest="s3://b/index.json", manifest_conn_id="c")
    assert TaskRecord.from_payload(json.loads(json.dumps(refreshed.payload()))) == refreshed


def test_odd_results_are_cut_to_a_bounded_size():
    odd = {
        "counts": {"rows": float("nan"), "failures": {"x" * 9999: 1}, "sums": {"total_tokens": float("inf")}},
        **{f"field {number}": "y" * 9999 for number in range(1000)},
    }
    shown = [task_module._counts_of(odd), task_module._facts(odd), task_module._tokens(odd["counts"], odd)]
    assert len(json.dumps(shown, allow_nan=False)) < 60 * 700
    row = task_module._row(
        {"index": 1, "output": ["z" * 10**6], **{f"c{n}": "w" * 10**6 for n in range(100)}}
    )
    assert len(json.dumps(row)) < 10_000


def test_the_beginning_of_a_huge_part_is_enough(tmp_path: Path):
    """A sparse file of 10 GB in a process with little memory."""
    line = json.dumps({"index": 0, "output": "a", "finish_reason": None, "error": None})
    with (tmp_path / "part-00000.jsonl").open("w") as part:
        part.write(f"{line}\n" * 3)
        part.truncate(10_000_000_000)
    code = (
        "import sys; from airflow_provider_lamini.rows.output.reading import first_rows;"
        "from airflow_provider_lamini.rows.storage.folder import OutputFolder;"
        "print(len(first_rows(OutputFolder(sys.argv[1]), ['part-00000.jsonl'], 3)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=dict(os.environ),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (2_000_000_000, 2_000_000_000)),
    )
    assert done.stdout.strip() == "3", done.stderr


def test_a_row_that_is_longer_than_a_preview_ends_it(tmp_path: Path):
    lines = [json.dumps({"index": 0, "output": "a"}), json.dumps({"index": 1, "output": "b" * 2 * MAX_READ})]
    (tmp_path / "part-00000.jsonl").write_text("\n".join(lines) + "\n")
    assert first_rows(OutputFolder(str(tmp_path)), ["part-00000.jsonl"], 9) == [{"index": 0, "output": "a"}]


def test_only_the_first_pages_of_a_large_parquet_part_are_read(tmp_path: Path):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    count = 200_000
    table = pa.table(
        {
            "index": pa.array(range(count)),
            "embedding": pa.array([[0.5] * 8] * count, type=pa.list_(pa.float32(), 8)),
            "error": pa.nulls(count, pa.string()),
        }
    )
    path = tmp_path / "part-00000.parquet"
    parquet.write_table(table, path)
    folder = OutputFolder(str(tmp_path))
    read: list[int] = []
    opened = folder.open

    def counting(name: str) -> Any:
        stream = opened(name)
        plain = stream.read

        class Counted:
            closed = False
            read = staticmethod(lambda size=-1: (read.append(size), plain(size))[1])
            seek, tell, seekable = stream.seek, stream.tell, stream.seekable
            close = stream.close
            readable = staticmethod(lambda: True)
            writable = staticmethod(lambda: False)

            def __enter__(self) -> Any:
                return self

            def __exit__(self, *_: object) -> None:
                stream.close()

        return Counted()

    folder.open = counting  # type: ignore[method-assign]
    rows = first_rows(folder, ["part-00000.parquet"], 2)
    assert rows == [{"index": 0, "error": None}, {"index": 1, "error": None}]
    assert max(read) <= 2_000_000
    assert sum(read) < path.stat().st_size


def test_the_address_of_a_task_page_is_that_of_its_tab(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.test/team/")
    run = "manual__2026-11-27T10%3A00%3A00%2B00%3A00"
    assert (
        task_page(Mapped(xcoms={}))
        == f"/team/dags/nightly/runs/{run}/tasks/infer/mapped/2/plugin/llm_results"
    )
    assert (
        task_page(Mapped(xcoms={}, map_index=-1))
        == f"/team/dags/nightly/runs/{run}/tasks/infer/plugin/llm_results"
    )


def test_a_cost_is_shown_with_what_is_not_in_it():
    sums = {"total_tokens": 4, "cost": 0.00012345678, "rows_without_cost": 2}
    assert task_module._tokens({"sums": sums}, {}) == {
        "total tokens": 4,
        "cost": "0.000123457, without 2 rows whose cost is not known",
    }
    unpriced = {"total_tokens": 4, "rows_without_cost": 2}
    assert task_module._tokens({"sums": unpriced}, {})["cost"] == "not known for 2 rows"
    chat = {"tokens": {"total_tokens": 4}, "cost": 0.5}
    assert task_module._tokens({}, chat) == {"total tokens": 4, "cost": "0.5"}
    assert "cost" not in task_module._facts(chat)
    assert "cost" not in task_module._tokens({"sums": {"total_tokens": 4, "cost": "<b>"}}, {})
