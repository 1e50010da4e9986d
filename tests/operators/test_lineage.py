"""What operators report to OpenLineage and to Airflow's hook lineage, with OpenLineage's provider and without it."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
from airflow.providers.common.compat.sdk import AirflowException, TaskDeferred

from airflow_provider_lamini.exceptions import BudgetExceededError, TooManyFailedRowsError
from airflow_provider_lamini.operators.chat import LaminiChatOperator
from airflow_provider_lamini.operators.emissary.batch_inference import EmissaryBatchInferenceOperator
from airflow_provider_lamini.operators.emissary.upload_dataset import EmissaryUploadDatasetOperator
from airflow_provider_lamini.operators.memory_rag_refresh import LaminiMemoryRagRefreshOperator
from airflow_provider_lamini.operators.results_to_table import ResultsToTableOperator
from airflow_provider_lamini.operators.train import LaminiTrainOperator
from airflow_provider_lamini.results import merge_shards, read_outputs
from airflow_provider_lamini.rows.storage.data_names import file_data
from airflow_provider_lamini.runs.lineage import lineage_at_end, sql_data
from airflow_provider_lamini.runs.outlets import event_extra
from tests.bad_input.world import operator_classes
from tests.support.databases import CONN_ID, postgres, sqlite
from tests.support.platforms import connect
from tests.support.tasks import TI, WAITING, begin, execute, log_lines, resume, run_to_end
from tests.support.tuning_platform import LinkedTask

pytest.importorskip("airflow.providers.openlineage")

NO_DATA = {
    "CancelJobOperator",
    "EmissaryProjectOperator",
    "EmissaryDeleteProjectOperator",
    "EmissaryDeleteOperator",
    "EmissaryUndeployOperator",
    "EmissaryReactivateOperator",
    "EmissaryDeactivateEngineOperator",
}
"""Operators that neither read nor make anything."""


@pytest.fixture
def enabled(monkeypatch, tmp_path):
    """OpenLineage has somewhere to send its events."""
    transport = {"type": "file", "log_file_path": str(tmp_path / "events"), "append": True}
    monkeypatch.setenv("AIRFLOW__OPENLINEAGE__TRANSPORT", json.dumps(transport))
    conf = pytest.importorskip("airflow.providers.openlineage.conf")
    cached = [function for function in vars(conf).values() if hasattr(function, "cache_clear")]
    for function in cached:  # a process of Airflow has one configuration
        function.cache_clear()
    yield
    for function in cached:
        function.cache_clear()


@pytest.fixture
def collector(monkeypatch):
    """A hook lineage collector that collects, as with a reader in a plugin."""
    try:
        from airflow.sdk import lineage, plugins_manager
    except ImportError:  # Airflow 2.11
        from airflow.lineage import hook as lineage
    else:
        readers = [lineage.HookLineageReader]
        monkeypatch.setattr(plugins_manager, "get_hook_lineage_readers_plugins", lambda: readers)
    collecting = lineage.HookLineageCollector()
    monkeypatch.setattr(lineage, "get_hook_lineage_collector", lambda: collecting)
    from airflow.providers.common.compat.lineage.hook import get_hook_lineage_collector

    return get_hook_lineage_collector()


class Task:
    """A task whose operator objects are kept: each process of it has its own."""

    def __init__(self, make):
        self._make = make
        self.operators = []

    def __call__(self):
        self.operators.append(self._make())
        return self.operators[-1]

    def on_complete(self):
        return self.operators[-1].get_openlineage_facets_on_complete(self._instance())

    def on_failure(self, ti=TI):
        return self.operators[-1].get_openlineage_facets_on_failure(self._instance(ti))

    @staticmethod
    def _instance(ti=TI):
        return SimpleNamespace(get_template_context=lambda: {"ti": ti})


def named(datasets):
    return [(data.namespace, data.name) for data in datasets]


def run_facet(found):
    return found.run_facets["airflow_provider_lamini"]


@pytest.fixture
def rows_file(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps({"prompt": f"row {number}"}) + "\n" for number in range(25)))
    return file


@pytest.mark.usefixtures("enabled")
def test_a_run_over_rows_tells_after_a_deferral_what_it_read_used_and_wrote(
    inference, platform, rows_file, out
):
    task = Task(inference(input=str(rows_file)))
    ended = run_to_end(task)
    assert len(ended.deferrals) >= 1
    assert len(task.operators) == len(ended.deferrals) + 1
    found = task.on_complete()
    address = platform.url.removeprefix("http://")
    assert named(found.inputs) == [
        ("file", str(rows_file)),
        (f"lamini://{address}", f"models/{platform.models[0]}"),
    ]
    assert named(found.outputs) == [("file", str(out))]
    assert found.outputs[0].outputFacets["outputStatistics"].rowCount == 25
    assert found.inputs[1].facets["datasetType"].datasetType == "MODEL"
    facet = run_facet(found)
    assert (facet.platform, facet.url, facet.model) == ("lamini", platform.url, platform.models[0])
    assert facet.counts == {"rows": 25, "ok": 25, "failed": 0, "retried": 0, "reused": 0}
    assert set(facet.jobIds) >= set(ended.events[-1]["ended"])
    assert found.run_facets["externalQuery"].externalQueryId == facet.jobIds[-1]
    assert found.job_facets["airflow_provider_lamini"].model == platform.models[0]


@pytest.mark.usefixtures("enabled")
def test_a_run_that_fails_after_a_deferral_tells_its_counts(inference, out):
    task = Task(inference(input=["fine", "", "fine too"], on_bad_row="error", max_failed_rows=1))
    deferral = begin(task)
    event = deferral.wait()
    task_with_less = Task(inference(input=["fine", "", "fine too"], on_bad_row="error", max_failed_rows=0))
    with pytest.raises(TooManyFailedRowsError):
        resume(task_with_less, deferral, event)
    found = task_with_less.on_failure()
    assert named(found.outputs) == [("file", str(out))]
    assert run_facet(found).counts["failed"] == 1
    assert run_facet(found).counts["rows"] == 3
    assert run_facet(found).jobIds == list(event["ended"])


@pytest.mark.usefixtures("enabled")
def test_a_task_whose_trigger_has_died_tells_what_its_ledger_knows(inference, out):
    """Airflow then fails the task in a process that runs nothing of the operator."""
    task = Task(inference())
    deferral = begin(task)
    task()
    found = task.on_failure()
    assert named(found.outputs) == [("file", str(out))]
    assert set(run_facet(found).jobIds) == set(deferral.trigger["job_ids"])


@pytest.fixture
def train(tuning, tmp_path):
    tuning.history = []
    (tmp_path / "pairs.jsonl").write_text('{"input": "q", "output": "a"}\n')
    return lambda **given: Task(
        lambda: LaminiTrainOperator(
            task_id="train",
            model_name="base",
            input=str(tmp_path / "pairs.jsonl"),
            state_path=str(tmp_path / "state"),
            **WAITING | given,
        )
    )


@pytest.mark.usefixtures("enabled")
def test_a_training_tells_its_model_after_a_deferral(train, tuning, tmp_path):
    task = train()
    result = run_to_end(task, LinkedTask()).result
    found = task.on_complete()
    namespace = f"lamini://{tuning.url.removeprefix('http://')}"
    assert named(found.inputs) == [("file", str(tmp_path / "pairs.jsonl")), (namespace, "models/base")]
    model, dataset = result["model_name"], result["dataset_id"]
    assert named(found.outputs) == [(namespace, f"models/{model}"), (namespace, f"datasets/{dataset}")]
    assert run_facet(found).made == {"model_name": model, "dataset_id": dataset}
    assert run_facet(found).jobIds == [str(result["job_id"])]


@pytest.mark.usefixtures("enabled")
def test_a_failed_training_tells_its_job_and_the_dataset_that_was_uploaded_for_it(train, tuning):
    tuning.script = [("CREATED", "FAILED")]
    task = train(max_resumes=0)
    with pytest.raises(AirflowException):
        run_to_end(task, LinkedTask())
    found = task.on_failure()
    (dataset,) = found.outputs
    assert dataset.name == f"datasets/{run_facet(found).made['dataset_id']}"
    assert list(run_facet(found).made) == ["dataset_id"]
    assert len(run_facet(found).jobIds) == 1


@pytest.mark.usefixtures("enabled")
def test_a_training_whose_trigger_has_died_tells_the_job_of_its_record(train):
    task = train()
    deferral = begin(task, LinkedTask())
    task()
    assert run_facet(task.on_failure(LinkedTask())).jobIds == deferral.trigger["job_ids"]


@pytest.mark.usefixtures("enabled")
def test_a_refresh_whose_trigger_has_died_tells_the_job_of_its_manifest(knowledge, tmp_path):
    knowledge.script = [("CREATED", *["TRAINING MODEL"] * 1000)]
    (tmp_path / "page.md").write_text("A page.")
    files = {"files": str(tmp_path / "page.md"), "manifest": str(tmp_path / "index.json")}
    task = Task(lambda: LaminiMemoryRagRefreshOperator(task_id="refresh", model_name="m", **files, **WAITING))
    deferral = begin(task, LinkedTask())
    task()
    assert run_facet(task.on_failure(LinkedTask())).jobIds == deferral.trigger["job_ids"]


@pytest.mark.usefixtures("enabled")
def test_an_operator_without_jobs_tells_its_tokens(platform):
    operator = LaminiChatOperator(task_id="chat", messages="hello", model_name=platform.models[0])
    result = execute(operator)
    facet = run_facet(operator.get_openlineage_facets_on_complete(None))
    assert facet.usage == result["tokens"]
    assert facet.model == platform.models[0]
    assert facet.jobIds == []


@pytest.mark.usefixtures("enabled")
def test_usage_and_cost_of_a_run_are_those_of_all_its_tries(inference, platform, monkeypatch):
    prices = {platform.models[0]: {"input": 1000, "output": 3000}}
    connect(monkeypatch, platform, extra={"retry_budget": 2, "prices": prices})
    given = {"input": ["a b"] * 25, "endpoint": "chat", "chunk_size": 5, "max_in_flight": 1}
    first = Task(inference(max_total_tokens=1, **given))
    with pytest.raises(BudgetExceededError):
        run_to_end(first)
    part = run_facet(first.on_failure()).usage
    done = part["prompt_tokens"] / 2
    assert 0 < done < 25
    assert part == {**usage_of(done), "cost": pytest.approx(0.008 * done)}
    task = Task(inference(**given))
    result = run_to_end(task).result
    whole = {**usage_of(25), "cost": pytest.approx(0.2)}
    assert run_facet(task.on_complete()).usage == whole
    assert event_extra(task.operators[-1].task_lineage, result)["usage"] == whole


@pytest.mark.usefixtures("enabled")
def test_a_cost_comes_with_the_number_of_rows_that_are_not_in_it(inference, platform, monkeypatch):
    first, second = platform.models[:2]
    connect(monkeypatch, platform, extra={"prices": {first: {"input": 1000, "output": 3000}}})
    given = [{"prompt": "a b", "own": model} for model in (first, second, second)]
    task = Task(inference(input=given, endpoint="chat", overrides={"model_name": "own"}))
    result = run_to_end(task).result
    usage = {**usage_of(3), "cost": pytest.approx(0.008), "rows_without_cost": 2}
    assert run_facet(task.on_complete()).usage == usage
    assert event_extra(task.operators[-1].task_lineage, result)["usage"] == usage


def usage_of(rows):
    """The tokens of rows with two words, which the engine answers with as many."""
    return {"prompt_tokens": 2 * rows, "completion_tokens": 2 * rows, "total_tokens": 4 * rows}


@pytest.mark.usefixtures("enabled")
def test_emissary_tells_the_same(emissary, tmp_path, out):
    emissary.new("deployment", ("Deployed",), name="live")
    task = Task(
        lambda: EmissaryBatchInferenceOperator(
            task_id="infer",
            input=["a", "b"],
            output=str(out),
            model_name="live",
            project_id="ms-1",
            **WAITING,
        )
    )
    run_to_end(task)
    found = task.on_complete()
    assert [name for _, name in named(found.inputs)] == ["deployments/live"]
    assert found.inputs[0].namespace.startswith("emissary://127.0.0.1")
    assert run_facet(found).platform == "emissary"
    assert run_facet(found).usage["total_tokens"] > 0

    upload = Task(
        lambda: EmissaryUploadDatasetOperator(
            task_id="upload",
            project_id="ms-1",
            input=[{"input": "q", "output": "a"}],
            state_path=str(tmp_path / "state"),
            **WAITING,
        )
    )
    dataset = run_to_end(upload).result["dataset_id"]
    (made,) = upload.on_complete().outputs
    assert made.name == f"datasets/{dataset}"
    assert made.outputFacets["outputStatistics"].rowCount == 1


@pytest.mark.stack
@pytest.mark.usefixtures("enabled")
def test_tables_are_named_as_openlineage_names_them(monkeypatch):
    pytest.importorskip("airflow.providers.postgres")
    with postgres() as server:
        server.connect(monkeypatch)
        reads, _ = sql_data(
            CONN_ID, "SELECT t.id FROM crm.tickets t JOIN people p ON p.id = t.who ORDER BY 1"
        )
        load = ResultsToTableOperator(
            task_id="load", results="/out", conn_id=CONN_ID, table="crm.answers", columns=["id"], key=["id"]
        )
        lineage = lineage_at_end(load, load.lineage_fields, None, {"loaded": 7})
    namespace = f"postgres://127.0.0.1:{server.connection['port']}"
    assert {(data.namespace, data.name) for data in reads} == {
        (namespace, "postgres.crm.tickets"),
        (namespace, "postgres.public.people"),
    }
    assert {data.uri for data in reads} == {
        f"{namespace}/postgres/crm/tickets",
        f"{namespace}/postgres/public/people",
    }
    (table,) = lineage.outputs
    assert (table.namespace, table.name, table.rows) == (namespace, "postgres.crm.answers", 7)
    assert [data.name for data in lineage.inputs] == ["/out"]


@pytest.mark.usefixtures("enabled")
def test_a_database_that_cannot_say_its_tables_costs_no_other_lineage(monkeypatch):
    pytest.importorskip("airflow.providers.postgres")
    monkeypatch.setenv("AIRFLOW_CONN_GONE", "postgresql://me@127.0.0.1:1/shop?connect_timeout=1")
    load = ResultsToTableOperator(
        task_id="load", results="/out", conn_id="gone", table="crm.answers", columns=["id"], key=["id"]
    )
    lineage = lineage_at_end(load, load.lineage_fields, None, {"loaded": 7})
    assert lineage.outputs == ()
    assert [data.name for data in lineage.inputs] == ["/out"]
    assert lineage.counts == {"loaded": 7}


@pytest.mark.usefixtures("enabled")
def test_lineage_that_cannot_be_collected_does_not_fail_the_task(inference, monkeypatch):
    monkeypatch.setattr("airflow_provider_lamini.runs.lineage.url_namespace", lambda *_: 1 / 0)
    task = Task(inference())
    with log_lines() as lines:
        assert run_to_end(task).result["counts"]["ok"] == 25
    assert any("Could not collect this task's lineage" in line for line in lines)


@pytest.mark.usefixtures("enabled")
def test_the_beginning_of_a_task_tells_its_files_without_any_look_up(inference, monkeypatch, rows_file, out):
    monkeypatch.delenv("AIRFLOW_CONN_LAMINI_DEFAULT")
    found = inference(input=str(rows_file))().get_openlineage_facets_on_start()
    assert named(found.inputs) == [("file", str(rows_file))]
    assert named(found.outputs) == [("file", str(out))]
    assert found.job_facets["airflow_provider_lamini"].platform == "lamini"


@pytest.mark.parametrize("name", [name for name in operator_classes() if not name.endswith("Sensor")])
def test_every_operator_with_data_reports_it(name):
    operator = operator_classes()[name]
    assert hasattr(operator, "get_openlineage_facets_on_complete") is (name not in NO_DATA)
    if name not in NO_DATA:
        fields = operator.lineage_fields
        assert {*fields.uses, *fields.tables} <= set(operator.template_fields)
        assert not fields.platform or f"{fields.platform}_conn_id" in operator.template_fields


@pytest.mark.parametrize(
    ("uri", "namespace", "name"),
    [
        ("/data/rows.jsonl", "file", "/data/rows.jsonl"),
        ("file:///data/rows.jsonl", "file", "/data/rows.jsonl"),
        ("/data/2026-*/part-*.jsonl", "file", "/data"),
        ("s3://bucket/a/b.csv", "s3://bucket", "a/b.csv"),
        ("s3://my_conn@bucket/a/", "s3://bucket", "a"),
        ("s3a://bucket", "s3://bucket", "/"),
        ("gs://bucket/what#%20.jsonl", "gs://bucket", "what#%20.jsonl"),
        (
            "abfs://rows@account.dfs.core.windows.net/day/x.parquet",
            "abfss://rows@account.dfs.core.windows.net",
            "day/x.parquet",
        ),
        ("abfs://conn@container/x.parquet", "abfss://container", "x.parquet"),
        ("https://example.com/rows.csv?token=secret", "https://example.com", "rows.csv"),
        ("hdfs://name:8020/rows/*.json", "hdfs://name:8020", "rows"),
    ],
)
def test_files_are_named_as_openlineage_names_them(uri, namespace, name):
    data = file_data(uri)
    assert (data.namespace, data.name) == (namespace, name.partition("?token")[0])


def test_reads_and_writes_reach_the_hook_lineage(collector, inference, rows_file, out):
    run_to_end(inference(input=str(rows_file)))
    assert [info.asset.uri for info in collector.collected_assets.inputs] == [f"file://{rows_file}"]
    assert [info.asset.uri for info in collector.collected_assets.outputs] == [f"file://{out}"]


def test_each_file_and_folder_of_several_tasks_reaches_the_hook_lineage_also_if_one_fails(
    collector, inference, tmp_path
):
    files = [str(tmp_path / f"{name}.jsonl") for name in "ab"]
    for file in files:
        Path(file).write_text('{"prompt": "one"}\n{"prompt": "two"}\n')
    first, second, third, merged = (str(tmp_path / name) for name in ("first", "second", "third", "all"))
    ended = run_to_end(inference(input=files, output=first, chunk_size=1))
    assert len(ended.deferrals) > 1
    copied = run_to_end(inference(input=files[:1], output=second, reuse_from=first)).result
    assert copied["counts"]["reused"] == 2
    with pytest.raises(TooManyFailedRowsError):
        run_to_end(inference(input=files[1:], output=third, check="builtins.callable"))
    merge_shards([first, second], merged)

    def collected(side):
        return Counter(info.asset.uri.removeprefix("file://") for info in side)

    assert collected(collector.collected_assets.outputs) == {first: 1, second: 1, third: 1, merged: 1}
    assert collected(collector.collected_assets.inputs) == {files[0]: 2, files[1]: 2, first: 1}


def test_queries_and_loaded_tables_reach_the_hook_lineage(collector, inference, tmp_path, monkeypatch, out):
    pytest.importorskip("airflow.providers.sqlite")
    pytest.importorskip("airflow.providers.common.sql.hooks.lineage")
    database = sqlite(tmp_path)
    database.connect(monkeypatch)
    database.run("CREATE TABLE tickets (id INTEGER, prompt TEXT)", "CREATE TABLE answers (answer TEXT)")
    database.fill("tickets", [(1, "one two")])
    query = "SELECT id, prompt FROM tickets ORDER BY id"
    run_to_end(inference(input=None, input_sql=query, input_conn_id=CONN_ID))
    load = ResultsToTableOperator(
        task_id="load",
        results=str(out),
        conn_id=CONN_ID,
        table="answers",
        columns={"answer": "output"},
        key=[],
    )
    execute(load)
    statements = [info.value["sql"] for info in collector.collected_assets.extra if info.key == "sql_job"]
    assert statements == [query, "INSERT INTO answers VALUES (NULL)"]


def test_reading_results_reaches_the_hook_lineage(collector, inference, out):
    run_to_end(inference())
    before = len(collector.collected_assets.inputs)
    assert len(list(read_outputs(str(out)))) == 25
    assert [info.asset.uri for info in collector.collected_assets.inputs[before:]] == [f"file://{out}"]


def test_without_openlineage_nothing_is_collected_imported_or_raised(inference, monkeypatch):
    for name in [
        name for name in sys.modules if name.startswith(("openlineage", "airflow.providers.openlineage"))
    ]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "openlineage", None)
    monkeypatch.setitem(sys.modules, "airflow.providers.openlineage", None)
    task = Task(inference())
    assert task().get_openlineage_facets_on_start() is None
    assert run_to_end(task).result["counts"]["ok"] == 25
    assert task.on_complete() is None
    assert task.on_failure() is None
    assert not [name for name in sys.modules if name.startswith("openlineage.")]


@pytest.mark.usefixtures("enabled")
def test_a_deferral_is_no_end(inference):
    task = Task(inference())
    with pytest.raises(TaskDeferred):
        execute(task())
    assert task.operators[-1].task_lineage is None
