"""The inputs, outputs, model and counts that each operator reports, to OpenLineage and in its asset events."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException, Asset

from airflow_provider_lamini.api.errors import PlatformError
from airflow_provider_lamini.operators.results_to_table import ResultsToTableOperator
from tests.bad_input.conftest import emissary_stub, stub, world  # noqa: F401 - fixtures
from tests.bad_input.world import MODEL, ROWS, operator_classes
from tests.operators.test_lineage import NO_DATA, enabled  # noqa: F401 - a fixture
from tests.support.databases import CONN_ID, sqlite
from tests.support.tasks import TI, outlet_events
from tests.test_golden import GOLDEN

pytest.importorskip("airflow.providers.openlineage")
pytestmark = pytest.mark.usefixtures("enabled")

ASSET = Asset("lamini://models/support")
ROW = {"rows": 1, "ok": 1, "failed": 0, "retried": 0, "reused": 0}
MINILM = "sentence-transformers/all-MiniLM-L6-v2"
TUNED = "{model_name}"


@dataclass(frozen=True)
class Reported:
    """What an operator reports. Fields of its result are in braces, and paths of the test.

    :param inputs: names of what it reads
    :param outputs: names of what it writes, each with its number of rows
    :param model: the model of the facet and of the event
    :param counts: what the facet and the event count
    :param arguments: arguments besides the minimal ones
    :param event: other fields of the event
    """

    inputs: list[str] = field(default_factory=list)
    outputs: dict[str, int | None] = field(default_factory=dict)
    model: str | None = None
    counts: dict[str, int] = field(default_factory=dict)
    arguments: dict[str, Any] = field(default_factory=dict)
    event: dict[str, Any] = field(default_factory=dict)


TABLE: list[tuple[str, Reported]] = [
    ("BatchInferenceOperator", Reported(["models/m"], {"{out}": 1}, "m", ROW)),
    ("ChatOperator", Reported(["models/m"], {}, "m", ROW)),
    ("CompletionOperator", Reported(["models/m"], {}, "m", ROW)),
    (
        "ClassifierTrainOperator",
        Reported(
            ["models/m"],
            {"classifiers/{model_id}": None},
            "m",
            {"examples": 2},
            event={"model_id": "{model_id}", "project": "p"},
        ),
    ),
    (
        "ClassifierTrainOperator",
        Reported(
            ["{here}/examples.jsonl", "models/m"],
            {"classifiers/{model_id}": None},
            "m",
            {"examples": 2},
            {"examples": "{here}/examples.jsonl", "prompt": "input", "answer": "output"},
        ),
    ),
    ("ClassifyOperator", Reported(["classifiers/model-c1"], {"{out}": 1}, "model-c1", ROW)),
    ("ClassifyOperator", Reported(["classifiers/model-c1"], {}, "model-c1", ROW, {"output": None})),
    (
        "ChatOperator",
        Reported(["models/m"], {}, "m", ROW | {"rows": 2, "ok": 2}, {"messages": ["a b", "c"]}),
    ),
    (
        "MemoryRagQueryOperator",
        Reported(
            ["indexes/1"],
            {},
            None,
            ROW | {"rows": 2, "failed": 1},
            {"output": None, "input": ["a b", ""], "on_bad_row": "error", "max_failed_rows": None},
        ),
    ),
    ("DownloadModelOperator", Reported([], {"models/m": None}, event={"model_name": "m"})),
    ("EmbeddingOperator", Reported([f"models/{MINILM}"], {"{out}": 1}, MINILM, ROW)),
    ("EmbeddingOperator", Reported(["models/m"], {"{out}": 1}, "m", ROW, {"model_name": "m"})),
    ("EmbeddingOperator", Reported([f"models/{MINILM}"], {}, MINILM, ROW, {"output": None})),
    ("EvaluateOperator", Reported(["models/m"], {"{out}": 1}, "m", ROW)),
    (
        "EvaluateOperator",
        Reported(
            ["models/m", "models/b"],
            {"{out}": 2},
            "m",
            ROW | {"rows": 2, "ok": 2},
            {"base_model_name": "b"},
            {"model_name": "m", "base_model_name": "b"},
        ),
    ),
    ("EvaluateClassifierOperator", Reported([f"classifiers/{MODEL}"], {}, MODEL, {"rows": 1})),
    (
        "ResumeJobOperator",
        Reported([], {f"models/{TUNED}": None}, event={"model_name": TUNED, "job_id": "1"}),
    ),
    (
        "MemoryRagBuildOperator",
        Reported(
            ["{docs}", "models/m"],
            {"indexes/{index_id}": None},
            "m",
            {"files": 1, "bytes": 19},
            event={"index_id": "{index_id}"},
        ),
    ),
    ("MemoryRagQueryOperator", Reported(["indexes/1"], {"{out}": 1}, None, ROW, event={"index_id": "1"})),
    (
        "MemoryRagQueryOperator",
        Reported(["indexes/1", "models/m"], {"{out}": 1}, "m", ROW, {"model_name": "m"}, {"index_id": "1"}),
    ),
    (
        "MemoryRagQueryOperator",
        Reported(["indexes/1"], {}, None, ROW, {"output": None}, {"index_id": "1"}),
    ),
    (
        "MemoryRagRefreshOperator",
        Reported(
            ["{docs}", "models/m"],
            {"{manifest}": None, "indexes/{index_id}": None},
            "m",
            {"files": 1, "added": 1, "changed": 0, "removed": 0},
            event={"index_id": "{index_id}", "manifest": "{manifest}", "action": "built"},
        ),
    ),
    (
        "TrainOperator",
        Reported(
            ["models/m"],
            {f"models/{TUNED}": None, "datasets/{dataset_id}": 1},
            "m",
            {"rows": 1, "bytes": 33},
            event={"model_name": TUNED, "dataset_id": "{dataset_id}", "base_model": "m"},
        ),
    ),
    (
        "TrainOperator",
        Reported(
            ["models/m", "datasets/ds-9"],
            {f"models/{TUNED}": None},
            "m",
            arguments={"input": None, "dataset_id": "ds-9"},
            event={"model_name": TUNED, "dataset_id": "ds-9"},
        ),
    ),
    (
        "UploadDatasetOperator",
        Reported(
            [],
            {"datasets/{dataset_id}": 1},
            None,
            {"rows": 1, "bytes": 33},
            event={"dataset_id": "{dataset_id}"},
        ),
    ),
    (
        "EmissaryUploadDatasetOperator",
        Reported(
            [],
            {"datasets/{dataset_id}": 1},
            None,
            {"rows": 1, "bytes": 38},
            event={"dataset_id": "{dataset_id}", "project_id": "ms-1"},
        ),
    ),
    (
        "EmissaryTrainOperator",
        Reported(["models/base", "datasets/ds-1"], {"models/{training_job_id}": None}, "base"),
    ),
    (
        "EmissaryGRPOTrainOperator",
        Reported(["models/base", "datasets/ds-1"], {"models/{training_job_id}": None}, "base"),
    ),
    ("EmissaryChooseCheckpointOperator", Reported(["models/tr-1"], {}, "tr-1", event={"checkpoint": 200})),
    (
        "EmissaryDeployOperator",
        Reported(
            ["models/tr-1"], {"deployments/{model_name}": None}, "tr-1", event={"model_name": "{model_name}"}
        ),
    ),
    (
        "EmissaryDeployOperator",
        Reported(
            ["models/tr-1", "engines/engine-1"],
            {"deployments/{model_name}": None},
            "tr-1",
            arguments={"engine_id": "engine-1"},
            event={"engine_id": "engine-1"},
        ),
    ),
    (
        "EmissaryEngineOperator",
        Reported(["models/base"], {"engines/{engine_id}": None}, "base", event={"engine_id": "{engine_id}"}),
    ),
    ("EmissaryBatchInferenceOperator", Reported(["deployments/live"], {"{out}": 1}, "live", ROW)),
    (
        "EmissaryBatchInferenceOperator",
        Reported(
            ["deployments/live", "engines/engine-1"],
            {"{out}": 1},
            "live",
            ROW,
            {"project_id": None, "engine_id": "engine-1"},
        ),
    ),
]


def test_the_table_has_every_operator_with_data():
    operators = {name for name in operator_classes() if not name.endswith("Sensor")}
    assert {name for name, _ in TABLE} == operators - NO_DATA


def reported_by(operator, result):
    """What OpenLineage receives: names of inputs, outputs with rows, and the facet."""
    instance = SimpleNamespace(get_template_context=lambda: {"ti": TI})
    hook = "get_openlineage_facets_on_failure" if result is None else "get_openlineage_facets_on_complete"
    found = getattr(operator, hook)(instance)
    outputs = {
        data.name: getattr(data.outputFacets.get("outputStatistics"), "rowCount", None)
        for data in found.outputs
    }
    return [data.name for data in found.inputs], outputs, found.run_facets["airflow_provider_lamini"]


def filled(value, names):
    """The value with names in braces replaced, in keys too."""
    text = json.dumps(value)
    for name, found in names.items():
        text = text.replace("{" + name + "}", str(found))
    return json.loads(text)


def run(world, name, arguments):  # noqa: F811 - the fixture
    """Run an operator that has an outlet.

    :return: the operator, what it has returned, the ``extra`` of its asset event
    """
    fields = operator_classes()[name].template_fields
    state = {"state_path": "{here}/state"} if "state_path" in fields else {}
    operator = world.make(name, state | arguments | {"outlets": [ASSET]})
    events = outlet_events()
    result = type(operator).execute.__wrapped__(operator, {"ti": TI, "outlet_events": events})
    return operator, result, events[ASSET].extra


@pytest.mark.parametrize(
    ("name", "expected"), TABLE, ids=[f"{name}-{n}" for n, (name, _) in enumerate(TABLE)]
)
def test_a_task_that_succeeds_reports_what_it_has_read_used_and_made(world, name, expected):  # noqa: F811
    world.note_files()
    world.put("examples.jsonl", b'{"input": "buy", "output": "spam"}\n{"input": "hello", "output": "ham"}\n')
    world.platform.datasets["ds-9"] = ROWS
    if name == "EmissaryBatchInferenceOperator":
        world.emissary.deployments["dp-1"].engine = expected.arguments.get("engine_id")
    operator, result, extra = run(world, name, expected.arguments)
    names = world.paths | {key: value for key, value in result.items() if isinstance(value, str)}
    inputs, outputs, facet = reported_by(operator, result)
    assert inputs == filled(expected.inputs, names)
    assert outputs == filled(expected.outputs, names)
    assert (facet.model, extra.get("model")) == (expected.model, expected.model)
    assert (facet.counts, extra.get("counts", {})) == (expected.counts, expected.counts)
    assert extra.items() >= filled(expected.event, names).items()
    assert extra["platform"] == facet.platform


WITHOUT_RECORD = {
    "ClassifierTrainOperator": {"examples": 2},
    "EmissaryUploadDatasetOperator": {"rows": 1, "bytes": 38},
    "MemoryRagBuildOperator": {"files": 1, "bytes": 19},
    "TrainOperator": {"rows": 1, "bytes": 33},
}
"""What operators that keep it in their submission record count."""


@pytest.mark.parametrize("name", WITHOUT_RECORD)
def test_without_a_record_the_process_that_has_sent_the_data_knows_the_numbers(world, name):  # noqa: F811
    world.note_files()
    operator, result, extra = run(world, name, {"deferrable": False, "state_path": None})
    assert extra["counts"] == reported_by(operator, result)[2].counts == WITHOUT_RECORD[name]
    assert result.items() >= WITHOUT_RECORD[name].items()


def test_the_event_of_a_removal_names_what_is_gone(world):  # noqa: F811
    _, result, extra = run(world, "EmissaryUndeployOperator", {})
    assert extra["deployment_ids"] == result["deployment_ids"] == ["dp-1"]


@pytest.mark.parametrize("name", sorted(NO_DATA))
def test_the_event_of_an_operator_without_data_names_the_platform_alone(world, name):  # noqa: F811
    _, _, extra = run(world, name, {})
    assert extra["platform"] == ("emissary" if name.startswith("Emissary") else "lamini")
    assert not {"model", "counts", "usage"} & set(extra)


FAILURES = (AirflowException, AirflowFailException, PlatformError)
CHECKED = {"check": "builtins.callable", "max_failed_rows": 0, "row_retries": 0}
"""Lets every answer fail: a text is not callable."""
FAILED = {"rows": 1, "ok": 0, "failed": 1, "retried": 0, "reused": 0}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("BatchInferenceOperator", Reported(["models/m"], {"{out}": 1}, "m", FAILED, CHECKED)),
        ("MemoryRagQueryOperator", Reported(["indexes/1"], {"{out}": 1}, None, FAILED, CHECKED)),
        ("EmissaryBatchInferenceOperator", Reported(["deployments/live"], {"{out}": 1}, "live", FAILED, CHECKED)),
        ("ChatOperator", Reported(["models/m"], {}, "m", FAILED, {"check": "builtins.callable"})),
        ("CompletionOperator", Reported(["models/m"], {}, "m", FAILED, {"check": "builtins.callable"})),
        ("MemoryRagQueryOperator", Reported(["indexes/1"], {}, None, FAILED, CHECKED | {"output": None})),
        (
            "EvaluateOperator",
            Reported(
                ["models/m"], {"{out}": 1}, "m", ROW, {"thresholds": {"exact_match": 0.5}}
            ),
        ),
        ("EmbeddingOperator", Reported([f"models/{MINILM}"], {"{out}": None}, MINILM, {}, {"input": "{here}/none.jsonl"})),
        ("ClassifierTrainOperator", Reported(["models/m"], {}, "m", {}, {"examples": {"eggs": ["a"]}})),
        ("TrainOperator", Reported(["models/m"], {}, "m", {}, {"input": [{"wrong": 1}]})),
        (
            "EmissaryDeployOperator",
            Reported(["models/tr-1", "engines/engine-9"], {}, "tr-1", {}, {"engine_id": "engine-9"}),
        ),
    ],
)  # fmt: skip
def test_a_task_that_fails_reports_as_much_as_is_known(world, name, expected):  # noqa: F811
    world.note_files()
    operator = world.make(name, expected.arguments)
    with pytest.raises(FAILURES):
        type(operator).execute.__wrapped__(operator, {"ti": TI})
    inputs, outputs, facet = reported_by(operator, None)
    wanted = filled(expected.inputs, world.paths)
    assert [item for item in inputs if not item.endswith("none.jsonl")] == wanted
    assert outputs == filled(expected.outputs, world.paths)
    assert (facet.model, facet.counts, facet.made) == (expected.model, expected.counts, {})


def test_loading_into_a_table_reports_the_rows(tmp_path, monkeypatch):
    database = sqlite(tmp_path)
    database.run("CREATE TABLE answers (id INTEGER, answer TEXT)")
    database.connect(monkeypatch)
    events = outlet_events()
    operator = ResultsToTableOperator(
        task_id="load",
        results=f"{GOLDEN / 'output'}/manifest.json",
        conn_id=CONN_ID,
        table="answers",
        columns={"id": "id", "answer": "output"},
        key=["id"],
        failed_rows="load",
        outlets=[ASSET],
    )
    result = type(operator).execute.__wrapped__(operator, {"ti": TI, "outlet_events": events})
    inputs, _, facet = reported_by(operator, result)
    assert inputs == [str(GOLDEN / "output")]
    assert facet.counts == events[ASSET].extra["counts"] == {"rows": 2, "loaded": 2}
