"""Rows for datasets, training and evaluation that cannot be used: refused before anything is sent, or left out and counted."""

from __future__ import annotations

import json
import math

import pytest

from airflow_provider_lamini.exceptions import InvalidArgumentError
from airflow_provider_lamini.operators.classifier_train import LaminiClassifierTrainOperator
from airflow_provider_lamini.operators.emissary.upload_dataset import EmissaryUploadDatasetOperator
from airflow_provider_lamini.operators.evaluate_classifier import LaminiEvaluateClassifierOperator
from airflow_provider_lamini.operators.train import LaminiTrainOperator
from airflow_provider_lamini.operators.upload_dataset import LaminiUploadDatasetOperator
from tests.support.databases import CONN_ID, sqlite
from tests.support.tasks import WAITING, log_lines, maker, run_to_end
from tests.support.tuning_platform import LinkedTask

pytestmark = pytest.mark.any_airflow

OPERATORS = {
    "upload": (LaminiUploadDatasetOperator, "tuning", {"input"}),
    "emissary upload": (EmissaryUploadDatasetOperator, "emissary", {"input", "project_id", *WAITING}),
    "train": (LaminiTrainOperator, "tuning", {"input", "model_name", *WAITING}),
    "classifier": (
        LaminiClassifierTrainOperator,
        "knowledge",
        {"examples", "model_name", "project", *WAITING},
    ),
    "evaluate": (LaminiEvaluateClassifierOperator, "tuning", {"input", "model_id"}),
}
FAILURES = {"no_prompt": 1, "no_expected_answer": 2, "bad_row": 1}
GOOD = ["a0", "a2", "a4", "a6", "a8"]

each_operator = pytest.mark.parametrize("operator", OPERATORS)
each_source = pytest.mark.parametrize("source", ["list", "jsonl", "csv", "parquet", "query"])


@pytest.fixture
def server(request, operator):
    return request.getfixturevalue(OPERATORS[operator][1])


@pytest.fixture
def task(operator, server, tmp_path):  # noqa: ARG001 - the connection points to it
    """Returns a function that takes rows and arguments and returns a factory of operators."""
    operator_class, _, names = OPERATORS[operator]
    known = {"model_name": "base", "project": "mail", "project_id": "ms-1", "model_id": "model-1", **WAITING}
    options = {name: known[name] for name in names & set(known)}
    if operator == "classifier":
        options["classes"] = {f"a{number}": f"the class {number}" for number in range(9)}
    if operator != "evaluate":
        options["state_path"] = str(tmp_path / "state")

    def make(rows, **arguments):
        name = "examples" if "examples" in names else "input"
        given = {name: None, **rows} if isinstance(rows, dict) and "input_sql" in rows else {name: rows}
        columns = {"prompt": "{id} {body}", "answer": "label"}
        return maker(operator_class, task_id="one", **options, **columns)(**given, **arguments)

    return make


def answers_sent(operator, server):
    """The answers of the rows that the platform has got, in order; ``None`` if it has got none."""
    if operator == "evaluate":
        sent = server.sent("/v1/eval/run")
        return [row["target"] for row in sent[0]["eval_data"]] if sent else None
    if operator == "classifier":
        sent = server.sent("/v2/classifier/initialize")
        return list(sent[0]["examples"]) if sent else None
    if not server.datasets:
        return None
    (dataset,) = server.datasets.values()
    if operator == "emissary upload":
        lines = dataset.fields["content"].splitlines()
        return [json.loads(line)["completion"] for line in lines]
    return [row["output"] for row in dataset]


def in_a_database(rows, folder, monkeypatch):
    """The arguments for a query of rows, of which number 7 has a value that JSON cannot represent."""
    pytest.importorskip("airflow.providers.sqlite")
    database = sqlite(folder)
    database.run("CREATE TABLE mails (id, body TEXT, label TEXT)")
    database.fill("mails", [(row["id"], row["body"], row["label"]) for row in rows])
    database.run("UPDATE mails SET id = x'ff' WHERE body = 'text 7'")
    database.connect(monkeypatch)
    return {"input_sql": "SELECT id, body, label FROM mails ORDER BY rowid", "input_conn_id": CONN_ID}


@pytest.fixture
def nine_rows(source, tmp_path, monkeypatch):
    """An input of nine rows, of which the odd ones cannot be used: no prompt, no answer (null, blank), and broken."""
    rows = [{"id": number, "body": f"text {number}", "label": f"a{number}"} for number in range(9)]
    rows[1]["body"] = rows[3]["label"] = None
    rows[5]["label"] = "\t "
    rows[7]["id"] = math.nan
    path = tmp_path / f"in.{source}"
    if source == "list":
        return rows
    if source == "query":
        return in_a_database(rows, tmp_path, monkeypatch)
    if source == "jsonl":
        lines = [json.dumps(row) for row in rows]
        lines[7] = lines[7][:12]
        path.write_text("\n".join(lines) + "\n")
    elif source == "csv":
        lines = [",".join("NULL" if value is None else str(value) for value in row.values()) for row in rows]
        lines[7] += ",one value too many"
        path.write_text("\n".join(["id,body,label", *lines]) + "\n")
    else:
        pa = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        columns = {name: [row[name] for row in rows] for name in ("body", "label")}
        parquet.write_table(pa.table({"id": pa.array([float(row["id"]) for row in rows]), **columns}), path)
    return str(path)


@each_operator
@each_source
def test_bad_rows_are_left_out_counted_and_listed(operator, server, task, nine_rows):
    make = task(nine_rows, on_bad_row="error", max_failed_rows="50%")
    with log_lines() as lines:
        result = run_to_end(make, LinkedTask()).result
    assert answers_sent(operator, server) == GOOD
    assert result["failures"] == FAILURES
    (line,) = [line for line in lines if "4 rows were left out" in line]
    assert "2 no_expected_answer, 1 bad_row, 1 no_prompt" in line
    assert "row 1 (" in line
    assert "text 3" not in line


@each_operator
@each_source
def test_more_bad_rows_than_may_be_are_refused_before_anything_is_sent(operator, server, task, nine_rows):
    make = task(nine_rows, on_bad_row="error", max_failed_rows=3)
    with pytest.raises(
        InvalidArgumentError, match=r"4 of 9 rows .* cannot be sent \(2 no_expected_answer, 1 bad_row"
    ):
        run_to_end(make, LinkedTask())
    assert answers_sent(operator, server) is None


@each_operator
@each_source
def test_by_default_a_bad_row_is_refused_before_anything_is_sent(operator, server, task, nine_rows):
    with pytest.raises(InvalidArgumentError, match=r"row 1|line [89]|row 7"):
        run_to_end(task(nine_rows, max_failed_rows="100%"), LinkedTask())
    assert answers_sent(operator, server) is None


@each_operator
@pytest.mark.parametrize("limit", [None, "100%"])
def test_an_input_without_a_single_good_row_is_refused(operator, server, task, limit):
    rows = [{"id": None, "body": "x", "label": "a1"}, {"id": 1, "body": "x", "label": " "}]
    with pytest.raises(InvalidArgumentError, match="so none is left"):
        run_to_end(task(rows, on_bad_row="error", max_failed_rows=limit), LinkedTask())
    assert answers_sent(operator, server) is None


@each_operator
def test_a_column_that_no_row_has_is_refused_by_either_policy(operator, server, task):
    rows = [{"id": 1, "body": "x", "class": "a1"}] * 2
    with pytest.raises(InvalidArgumentError, match="no column 'label'"):
        run_to_end(task(rows, on_bad_row="error", max_failed_rows=None), LinkedTask())
    assert answers_sent(operator, server) is None


@each_operator
@pytest.mark.parametrize("blank", [" \n", "\u200b"])
def test_a_row_whose_only_prompt_column_is_blank_has_no_prompt(operator, server, task, blank):
    rows = [{"body": "x", "label": "a1"}, {"body": blank, "label": "a2"}]
    with pytest.raises(InvalidArgumentError, match=r"row 1 \(item 1 of the list\) makes an empty input"):
        run_to_end(task(rows, prompt="Sort {body}!"), LinkedTask())
    make = task(rows, prompt="Sort {body}!", on_bad_row="error", max_failed_rows=1)
    assert run_to_end(make, LinkedTask()).result["failures"] == {"no_prompt": 1}
    assert answers_sent(operator, server) == ["a1"]


@each_operator
@pytest.mark.parametrize(("name", "wrong"), [("on_bad_row", "warn"), ("max_failed_rows", "some")])
def test_another_policy_is_refused(task, name, wrong):
    with pytest.raises(InvalidArgumentError, match=name):
        run_to_end(task([{"id": 1, "body": "x", "label": "a1"}], **{name: wrong}), LinkedTask())


@pytest.mark.parametrize("operator", ["upload", "emissary upload", "train", "classifier"])
@pytest.mark.parametrize("source", ["jsonl"])
def test_a_retry_knows_what_was_left_out(task, nine_rows):
    make = task(nine_rows, on_bad_row="error", max_failed_rows=4)
    first = run_to_end(make, LinkedTask()).result
    assert run_to_end(make, LinkedTask()).result["failures"] == first["failures"] == FAILURES


@pytest.mark.parametrize("operator", ["classifier"])
def test_texts_of_a_mapping_are_left_out_too(server, task):
    examples = {"a1": ["x", "", None], "a2": [7, "y"]}
    make = task(examples, on_bad_row="error", max_failed_rows=3)
    assert run_to_end(make, LinkedTask()).result["failures"] == {"no_prompt": 2, "bad_row": 1}
    assert server.sent("/v2/classifier/initialize")[0]["examples"] == {"a1": ["x"], "a2": ["y"]}
    with pytest.raises(InvalidArgumentError, match="3 of 5 rows of the mapping cannot be sent"):
        run_to_end(task(examples, on_bad_row="error", max_failed_rows=2), LinkedTask(run_id="run-2"))
