"""The page of jobs against a local platform: what it lists, and who may see it."""

from __future__ import annotations

import json
import re
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from airflow_provider_lamini.jobs.listed import MAX_LISTED, MAX_POINTS, ListedJob, curve, newest
from airflow_provider_lamini.jobs.state import JobState, JobStatus
from airflow_provider_lamini.plugins import bounded, jobs
from airflow_provider_lamini.plugins.bounded import Bounded, PageError
from tests.support import tuning_api
from tests.support.scripted_tuning import BASE, KEY
from tests.support.toy_server import KEY as TOY_KEY
from tests.support.toy_server import toy_server

if TYPE_CHECKING:
    from tests.plugins.conftest import Pages
    from tests.support.emissary_api import EmissaryClient
    from tests.support.scripted_tuning import TunablePlatform

TOY = str(Path(__file__).parents[1] / "toy_platform")
LAMINI, EMISSARY = "api/connections/lamini_default", "api/connections/emissary_default"
DATA = ["api/connections", LAMINI, f"{LAMINI}/scopes", f"{LAMINI}/jobs", f"{LAMINI}/job"]
QUERY = {"kind": "tuning", "job_id": "1"}


@pytest.mark.parametrize("path", DATA)
def test_data_of_connections_need_a_login_and_the_right_to_read_connections(
    pages: Pages, platform: TunablePlatform, path: str
):
    assert pages.get(path, role=None, **QUERY).status_code == 401
    assert pages.get(path, role="viewer", **QUERY).status_code == 403
    assert pages.get(path, role="user", **QUERY).status_code == 403
    assert pages.get(path, role="op", **QUERY).status_code in (200, 404)
    requests = platform.http.get("/_control/stats").json()["requests"]
    assert sum(count for request, count in requests.items() if "/v1/train" in request) <= 2


def test_tuning_jobs_are_listed_with_state_and_times_and_a_link(pages: Pages, platform: TunablePlatform):
    before = time.time() - 2
    job_id = tuning_api.start_job(platform, custom_model_name="support-model")
    tuning_api.wait_for_jobs(platform, job_id, "COMPLETED")
    shown = pages.data(LAMINI)
    assert shown["platform"] == "Lamini"
    assert [each["kind"] for each in shown["lists"]] == ["tuning", "classifier", "model_download"]
    assert "batch_completions" in [each["kind"] for each in shown["kinds"]]
    listed = pages.data(f"{LAMINI}/jobs", kind="tuning")
    assert listed["total"] == 1
    (job,) = listed["jobs"]
    assert before <= job.pop("created_at") <= time.time()
    assert job == {
        "kind": "tuning",
        "title": "tuning",
        "job_id": str(job_id),
        "name": "support-model",
        "state": "succeeded",
        "ended": True,
        "word": "COMPLETED",
        "progress": None,
        "share": None,
        "detail": None,
        "updated_at": None,
        "url": f"https://web.test/train/{job_id}",
    }


def test_a_running_tuning_job_shows_its_step_and_its_loss_curve(pages: Pages, platform: TunablePlatform):
    platform.trainer.allowed = 3
    job_id = str(tuning_api.start_job(platform))
    found: dict = {}

    def has_three_losses() -> bool:
        found.update(pages.data(f"{LAMINI}/job", kind="tuning", job_id=job_id))
        return len(found["losses"]) == 3

    tuning_api.wait_until(has_three_losses)
    assert [step for step, _ in found["losses"]] == [1, 2, 3]
    assert found["axis"] == "step"
    assert found["job"]["state"] == "running"
    assert found["job"]["progress"] == "step 3"
    assert "loss" in found["job"]["detail"]


def test_training_jobs_of_a_project_are_listed_with_progress_and_their_loss_curve(
    pages: Pages, emissary: EmissaryClient
):
    project = emissary.project("Support")
    dataset = emissary.dataset(project)
    training = emissary.trained(project, base_model=BASE, train_dataset_id=dataset, name="tickets")
    assert pages.data(f"{EMISSARY}/scopes", kind="training")["scopes"] == [{"id": project, "name": "Support"}]
    listed = pages.data(f"{EMISSARY}/jobs", kind="training", scope=project)
    (job,) = listed["jobs"]
    assert (job["job_id"], job["name"], job["state"]) == (f"{project}/{training}", "tickets", "succeeded")
    assert job["created_at"] <= job["updated_at"] <= time.time()
    shown = pages.data(f"{EMISSARY}/job", kind="training", job_id=job["job_id"])
    assert shown["axis"] == "time"
    assert len(shown["losses"]) > 1
    (listed_dataset,) = pages.data(f"{EMISSARY}/jobs", kind="dataset", scope=project)["jobs"]
    assert listed_dataset["state"] == "succeeded"
    assert pages.data(f"{EMISSARY}/jobs", kind="deployment", scope=project)["jobs"] == []
    assert pages.data(f"{EMISSARY}/jobs", kind="engine")["jobs"] == []


def test_a_batch_which_no_list_has_is_found_by_its_id(pages: Pages, platform: TunablePlatform):
    body = {"model_name": BASE, "prompt": ["a", "b"]}
    batch = platform.http.post("/v1/batch_completions", json=body).json()["id"]

    def job() -> dict:
        return pages.data(f"{LAMINI}/job", kind="batch_completions", job_id=batch)["job"]

    tuning_api.wait_until(lambda: job()["ended"])
    assert (job()["progress"], job()["share"]) == ("2 of 2 rows", 1.0)


@pytest.mark.usefixtures("platform")
def test_classifier_jobs_and_downloads_are_listed(pages: Pages):
    assert pages.data(f"{LAMINI}/scopes", kind="classifier") == {"scopes": [], "total": 0}
    downloads = pages.data(f"{LAMINI}/jobs", kind="model_download")["jobs"]
    assert {job["state"] for job in downloads} == {"succeeded"}


def test_the_list_of_connections_has_only_those_to_platforms(pages: Pages):
    from airflow.models.connection import Connection
    from airflow.utils.session import create_session

    entries = [
        Connection(conn_id="stored_lamini", conn_type="lamini", host="https://a.test", password=KEY),
        Connection(conn_id="stored_postgres", conn_type="postgres"),
    ]
    with create_session() as session:
        session.add_all(entries)
    try:
        response = pages.get("api/connections")
        assert response.json() == {"connections": [{"conn_id": "stored_lamini", "platform": "Lamini"}]}
        refused = pages.get("api/connections/stored_postgres")
        assert (refused.status_code, "type 'postgres'" in refused.json()["detail"]) == (400, True)
    finally:
        with create_session() as session:
            for entry in entries:
                session.delete(session.merge(entry))


def test_a_platform_of_another_distribution_is_listed_with_nothing_added(
    pages: Pages, monkeypatch: pytest.MonkeyPatch
):
    with toy_server() as server:
        monkeypatch.syspath_prepend(TOY)
        fields = {"conn_type": "toy", "host": server.url, "password": TOY_KEY}
        monkeypatch.setenv("AIRFLOW_CONN_TOY_DEFAULT", json.dumps(fields))
        (shown,) = pages.data("api/connections/toy_default")["lists"]
        assert shown == {"kind": "training", "title": "Trainings", "has_scopes": False}
        server.runs["r1"] = {"run": "r1", "phase": "cooking", "percent": 40}
        (job,) = pages.data("api/connections/toy_default/jobs", kind="training")["jobs"]
        assert (job["state"], job["progress"], job["word"]) == ("running", "40%", "cooking")


@pytest.mark.parametrize(
    ("path", "query", "status", "words"),
    [
        ("api/connections/nothing", {}, 404, "There is no connection 'nothing'"),
        (f"{LAMINI}/jobs", {"kind": "telepathy"}, 404, "does not list jobs of the kind 'telepathy'"),
        (f"{LAMINI}/job", {"kind": "telepathy", "job_id": "1"}, 404, "no jobs of the kind"),
        (f"{LAMINI}/job", {"kind": "tuning", "job_id": "999"}, 404, "no such job|not found|does not exist"),
        (f"{LAMINI}/job", {"kind": "tuning", "job_id": "../../x"}, 404, ""),
        (f"{EMISSARY}/jobs", {"kind": "training"}, 400, "Choose a project first"),
        (f"{EMISSARY}/job", {"kind": "training", "job_id": "no-project"}, 400, "project/id"),
        (f"{EMISSARY}/jobs", {"kind": "training", "scope": ".."}, 400, ""),
    ],
)
@pytest.mark.usefixtures("platform")
def test_what_cannot_be_shown_is_said_in_one_sentence(
    pages: Pages, path: str, query: dict[str, str], status: int, words: str
):
    response = pages.get(path, **query)
    assert response.status_code == status, response.text
    assert re.search(words, response.json()["detail"], re.IGNORECASE)


def test_a_wrong_key_is_reported_without_the_key(
    pages: Pages, platform: TunablePlatform, monkeypatch: pytest.MonkeyPatch
):
    fields = {"conn_type": "lamini", "host": platform.url, "password": "another-key-0123456789"}
    monkeypatch.setenv("AIRFLOW_CONN_WRONG_KEY", json.dumps(fields))
    response = pages.get("api/connections/wrong_key/jobs", kind="tuning")
    assert response.status_code == 502
    assert "401" in response.json()["detail"]
    assert "another-key" not in response.text


def test_a_platform_that_does_not_answer_ends_in_one_message_in_time(
    pages: Pages, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(jobs, "SECONDS", 0.3)
    monkeypatch.setattr(jobs, "BOUNDED", Bounded(seconds=2))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        host = f"http://127.0.0.1:{silent.getsockname()[1]}"
        fields = {"conn_type": "lamini", "host": host, "password": KEY}
        monkeypatch.setenv("AIRFLOW_CONN_SILENT", json.dumps(fields))
        started = time.monotonic()
        response = pages.get("api/connections/silent/jobs", kind="tuning")
    assert time.monotonic() - started < 5
    assert response.status_code == 504
    assert response.json()["detail"].startswith(f"Lamini at {host} did not answer")
    assert KEY not in response.text


def test_work_that_hangs_holds_no_thread_of_the_server_and_others_are_told_to_wait(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(bounded, "MAX_WAIT", 0.05)
    shared = Bounded(at_once=1, seconds=0.05)
    with pytest.raises(PageError, match=r"The store did not answer within 0\.05 s"):
        shared.run(lambda: time.sleep(0.5), "The store")
    with pytest.raises(PageError, match="Too many pages"):
        shared.run(lambda: 1, "The store")
    monkeypatch.setattr(bounded, "MAX_WAIT", 5)
    assert shared.run(lambda: 1, "The store") == 1


def test_long_lists_and_curves_are_cut():
    def listed(number: int) -> ListedJob:
        return ListedJob(status=JobStatus(str(number), JobState.RUNNING, "x"), created_at=float(number % 7))

    page = newest(map(listed, range(10 * MAX_LISTED)))
    assert (len(page.jobs), page.total) == (MAX_LISTED, 10 * MAX_LISTED)
    assert page.jobs[0].created_at == 6
    points = curve([*((number, 1.0) for number in range(12_345)), (None, 1.0), (1.0, float("nan"))])
    assert len(points) <= MAX_POINTS
    assert points[-1] == (12_344, 1.0)
    assert curve([]) == []


@pytest.mark.parametrize(
    "path", ["jobs", "static/jobs.js", "static/report.js", "static/common.js", "static/pages.css"]
)
def test_the_pages_are_files_of_ours_that_load_nothing_from_elsewhere(pages: Pages, path: str):
    response = pages.get(path, role=None)
    assert response.status_code == 200
    policy = response.headers["Content-Security-Policy"]
    assert "default-src 'none'; script-src 'self'" in policy
    assert "unsafe" not in policy
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    without_namespaces = response.text.replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?://|//[a-z]+\.", without_namespaces)
    assert not re.search(r"innerHTML|insertAdjacentHTML|document\.write|outerHTML|eval\(", response.text)
    assert not re.search(r'(?:src|href)="/', response.text)  # relative, so that they work below any path


def test_there_is_nothing_else_below_the_pages_address(pages: Pages):
    for path in ("docs", "openapi.json", "static/../pages.py", "static/%2e%2e/pages.py", "nothing"):
        assert pages.get(path).status_code == 404
