"""The link from a task to its job's page."""

from __future__ import annotations

from importlib import import_module

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_1_PLUS

from airflow_provider_lamini.exceptions import InvalidArgumentError, TooManyFailedRowsError
from airflow_provider_lamini.get_provider_info import get_provider_info
from airflow_provider_lamini.links import (
    JobLink,
    ManifestLink,
    ReportLink,
    ResultsLink,
    push_job_url,
    task_page,
)
from airflow_provider_lamini.operators.batch_inference import LaminiBatchInferenceOperator
from airflow_provider_lamini.operators.memory_rag_refresh import LaminiMemoryRagRefreshOperator
from airflow_provider_lamini.operators.results_to_table import ResultsToTableOperator
from airflow_provider_lamini.operators.row_operator import RowOperator
from airflow_provider_lamini.runs.storage_links import console_url
from airflow_provider_lamini.runs.task_record import KEY as RECORD
from tests.bad_input.world import operator_classes
from tests.support.knowledge_platform import knowledge  # noqa: F401 - a fixture
from tests.support.platforms import engine, platform, shared_platform  # noqa: F401 - fixtures
from tests.support.tasks import WAITING, run_to_end
from tests.support.tuning_platform import LinkedTask
from tests.support.upstream import TEXT_MODEL

AZURE = {"account_name": "acc", "subscription_id": "sub", "resource_group": "group"}
PORTAL = (
    "https://portal.azure.com/#view/Microsoft_Azure_Storage/ContainerMenuBlade/~/overview/storageAccountId/%2Fsubscriptions"
    "%2Fsub%2FresourceGroups%2Fgroup%2Fproviders%2FMicrosoft.Storage%2FstorageAccounts%2F{}/path/box"
)


def test_links_of_operators_are_registered_with_airflow():
    """Otherwise the web server does not deserialize them from a Dag."""
    registered = set()
    for path in get_provider_info()["extra-links"]:
        module, name = path.rsplit(".", 1)
        registered.add(getattr(import_module(module), name))
    used = {
        type(link) for operator in operator_classes().values() for link in operator.operator_extra_links
    } | {type(link) for link in ResultsToTableOperator.operator_extra_links}
    assert used == registered == {JobLink, ResultsLink, ManifestLink, ReportLink}


@pytest.mark.parametrize("name", operator_classes())
def test_each_operator_that_writes_to_storage_links_to_it(name):
    operator = operator_classes()[name]
    links = {type(link) for link in operator.operator_extra_links}
    writes = "output_folder" in operator.template_fields
    assert (ResultsLink in links) is writes
    writes_rows_or_scores = writes and (issubclass(operator, RowOperator) or "Evaluate" in name)
    assert (ManifestLink in links) is (
        (writes_rows_or_scores and "Evaluate" not in name) or "Refresh" in name
    )
    assert (ReportLink in links) is writes_rows_or_scores


@pytest.mark.parametrize(
    ("uri", "extra", "folder", "url"),
    [
        ("/data/out", {}, True, None),
        ("file:///data/out", {}, True, None),
        ("https://store.test/out", {}, True, None),
        ("s3://b/a b/c/", {}, True, "https://console.aws.amazon.com/s3/buckets/b?prefix=a%20b/c/"),
        ("s3://conn@b/c/m.json", {}, False, "https://console.aws.amazon.com/s3/object/b?prefix=c/m.json"),
        ("s3://b", {}, True, "https://console.aws.amazon.com/s3/buckets/b?prefix="),
        ("s3://b/c", {"endpoint_url": "http://minio:9000"}, True, None),
        ("s3://b/c?#&d", {}, False, "https://console.aws.amazon.com/s3/object/b?prefix=c%3F%23%26d"),
        ("gs://b/c/", {}, True, "https://console.cloud.google.com/storage/browser/b/c"),
        (
            "gs://b/c/m.json",
            {},
            False,
            "https://console.cloud.google.com/storage/browser/_details/b/c/m.json",
        ),
        ("abfs://box@acc.dfs.core.windows.net/c", {}, True, None),
        ("abfs://conn@box/c", AZURE, True, PORTAL.format("acc")),
        ("abfss://box@other.dfs.core.windows.net/c", AZURE, True, PORTAL.format("other")),
    ],
)
def test_the_console_of_a_store_shows_a_folder_or_a_file(uri, extra, folder, url):
    assert console_url(uri, extra, folder=folder) == url


class Try(LinkedTask):
    """A task instance with all that identifies a try."""

    dag_id, task_id, run_id, map_index, try_number, max_tries = "nightly", "infer", "run-1", -1, 1, 1


def run(operator, ti, *, fails=None):
    execute = type(operator).execute.__wrapped__
    if fails is None:
        return execute(operator, {"ti": ti})
    with pytest.raises(fails):
        execute(operator, {"ti": ti})
    return None


@pytest.fixture
def store(tmp_path, monkeypatch):
    """A folder that stands for a bucket of S3: it has the same files under a URI of S3."""
    from airflow_provider_lamini.runs import storage_links

    plain = storage_links.console_url

    def as_bucket(uri, extra, *, folder):
        return plain(uri.replace(f"file://{tmp_path}", "s3://bucket"), extra, folder=folder)

    monkeypatch.setattr(storage_links, "console_url", as_bucket)
    return f"file://{tmp_path}"


def links_of(ti):
    """What the links of a task show: its XComs without the record for its page, and without empty ones."""
    return {key: value for key, value in ti.xcoms.items() if key != RECORD and value}


CONSOLE = "https://console.aws.amazon.com/s3"


@pytest.mark.usefixtures("platform")
def test_results_are_linked_at_once_and_manifest_and_report_when_they_are_written(store):
    ti = Try()
    operator = LaminiBatchInferenceOperator(
        task_id="infer", input=["a"], model_name=TEXT_MODEL, output=f"{store}/run", max_failed_rows=0
    )
    run(operator, ti)
    assert links_of(ti) == {
        ResultsLink.key: f"{CONSOLE}/buckets/bucket?prefix=run/",
        ManifestLink.key: f"{CONSOLE}/object/bucket?prefix=run/manifest.json",
        ReportLink.key: f"{CONSOLE}/object/bucket?prefix=run/report.html",
    }


@pytest.mark.usefixtures("platform")
def test_a_task_that_fails_links_to_what_it_has_written(store):
    ti = Try()
    operator = LaminiBatchInferenceOperator(
        task_id="infer", input=["a"], model_name=TEXT_MODEL, output=f"{store}/run", check="builtins.callable"
    )
    run(operator, ti, fails=TooManyFailedRowsError)
    assert set(links_of(ti)) == {ResultsLink.key, ManifestLink.key, ReportLink.key}
    wrong, ti = (
        LaminiBatchInferenceOperator(task_id="infer", input=["a"], model_name="", output=f"{store}/wrong"),
        Try(),
    )
    run(wrong, ti, fails=InvalidArgumentError)
    assert set(links_of(ti)) == {ResultsLink.key}


@pytest.mark.usefixtures("platform")
def test_local_files_are_linked_only_where_the_task_has_a_page_of_its_own(tmp_path):
    ti = Try()
    operator = LaminiBatchInferenceOperator(
        task_id="infer", input=["a"], model_name=TEXT_MODEL, output=str(tmp_path / "out")
    )
    run(operator, ti)
    page = task_page(ti)
    own = {ResultsLink.key: page, ManifestLink.key: f"{page}#manifest", ReportLink.key: f"{page}#report"}
    assert links_of(ti) == (own if AIRFLOW_V_3_1_PLUS else {})


@pytest.mark.usefixtures("knowledge")
def test_the_manifest_of_an_index_is_linked_once_it_is_written(tmp_path, store):
    (tmp_path / "a.md").write_text("alpha")

    def refresh(manifest):
        ti = Try(xcoms={})
        arguments = {"task_id": "infer", "files": str(tmp_path / "a.md"), "model_name": "base-model"}
        run_to_end(lambda: LaminiMemoryRagRefreshOperator(**arguments, manifest=manifest, **WAITING), ti)
        return links_of(ti)

    page = {ManifestLink.key: f"{task_page(Try())}#manifest"} if AIRFLOW_V_3_1_PLUS else {}
    assert refresh(str(tmp_path / "index.json")) == page
    assert refresh(f"{store}/in-bucket.json") == {
        ManifestLink.key: f"{CONSOLE}/object/bucket?prefix=in-bucket.json"
    }
    ti = Try(xcoms={})
    wrong = LaminiMemoryRagRefreshOperator(
        task_id="infer",
        files=str(tmp_path / "none"),
        model_name="base-model",
        manifest=str(tmp_path / "i.json"),
    )
    run(wrong, ti, fails=InvalidArgumentError)
    assert links_of(ti) == {}


@pytest.mark.usefixtures("platform")
def test_a_manifest_that_is_not_written_is_not_linked(tmp_path):
    ti = Try()
    wrong = LaminiBatchInferenceOperator(
        task_id="infer", input=["a"], model_name="", output=str(tmp_path / "out")
    )
    run(wrong, ti, fails=InvalidArgumentError)
    assert set(links_of(ti)) <= {ResultsLink.key}


@pytest.mark.usefixtures("platform")
def test_airflow_finds_a_url_for_each_link_when_a_process_ends_although_it_may_be_empty(tmp_path):
    ti = Try()
    operator = LaminiBatchInferenceOperator(
        task_id="infer", input=["a"], model_name="", output=str(tmp_path / "out")
    )
    run(operator, ti, fails=InvalidArgumentError)
    assert {link.xcom_key for link in operator.operator_extra_links} <= set(ti.xcoms)


def test_the_url_is_stored_where_airflow_looks_for_it():
    task = LinkedTask()
    push_job_url({"ti": task}, "https://web.test/train/1")
    push_job_url({"ti": task}, None)
    assert (
        task.xcoms
        == {JobLink().xcom_key: "https://web.test/train/1"}
        == {"airflow_provider_lamini_job_url": "https://web.test/train/1"}
    )
    assert JobLink().name == "Platform job"
